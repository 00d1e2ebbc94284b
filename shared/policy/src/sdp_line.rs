//! The lines of a description, each in the one form that all parsers read alike.
//!
//! Owns: which text is accepted as a line. Must not: know the meaning of a line, except for the
//! words that browsers read in different ways. In Chromium 156 or Firefox 153, a NUL or a lone CR
//! ends a line, blanks and tabs at both ends are trimmed, unreadable lines are skipped, or the
//! names of attributes and media may have any case. All this is rejected here.

use crate::PolicyRefusal;

/// A section of a browser has about a hundred lines.
const MAX_LINES: usize = 4_096;
/// More sections than a call needs: a browser has one for each transceiver.
const MAX_SECTIONS: usize = 128;

/// Attributes without a value that the rules depend on. No other attribute may begin with one of
/// them.
const FLAG_ATTRIBUTES: [&str; 5] = ["sendrecv", "sendonly", "recvonly", "inactive", "bundle-only"];

/// Attributes with a value that the rules depend on. Each must be in lower case.
const VALUE_ATTRIBUTES: [&str; 10] =
    ["mid", "group", "content", "simulcast", "rid", "ssrc", "msid", "candidate", "remote-candidates", "rtcp"];

/// One line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SdpLine<'a> {
    /// The number of the line, from 1.
    pub(crate) number: usize,
    /// The letter before `=`.
    pub(crate) kind: u8,
    /// The text after `=`.
    pub(crate) value: &'a str,
    /// The text without the line end.
    pub(crate) text: &'a str,
    /// The text with the line end.
    pub(crate) raw_line: &'a str,
}

impl<'a> SdpLine<'a> {
    /// The name and the value of an attribute line.
    pub(crate) fn attribute(&self) -> Option<(&'a str, Option<&'a str>)> {
        if self.kind != b'a' {
            return None;
        }
        Some(match self.value.split_once(':') {
            Some((name, value)) => (name, Some(value)),
            None => (self.value, None),
        })
    }
}

/// Splits a description into lines and checks their form and order.
pub(crate) fn read_lines(sdp: &str) -> Result<Vec<SdpLine<'_>>, PolicyRefusal> {
    // Blank lines may follow the last line, as in Firefox.
    let body = sdp.trim_end_matches(['\r', '\n']);
    let end = (body.len() + sdp[body.len()..].find('\n').map_or(sdp.len() - body.len(), |at| at + 1))
        .min(sdp.len());
    let mut lines = Vec::new();
    let mut sections = 0;
    for raw_line in sdp[..end].split_inclusive('\n') {
        let number = lines.len() + 1;
        let line = parse_line(raw_line, number).map_err(|refusal| refusal.on_line(number))?;
        sections += usize::from(line.kind == b'm');
        if number > MAX_LINES || sections > MAX_SECTIONS {
            return Err(PolicyRefusal::malformed("more than 4096 lines or 128 m-lines"));
        }
        let kinds: &[u8] = if sections == 0 { b"vosiuepcbtrzka" } else { b"micbka" };
        if !kinds.contains(&line.kind) || (number == 1) != (line.text == "v=0") {
            return Err(PolicyRefusal::malformed("not a line that is allowed here (RFC 8866, section 5)")
                .on_line(number));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(PolicyRefusal::malformed("an SDP begins with v=0"));
    }
    Ok(lines)
}

fn parse_line(raw_line: &str, number: usize) -> Result<SdpLine<'_>, PolicyRefusal> {
    let text = raw_line.strip_suffix('\n').map_or(raw_line, |text| text.strip_suffix('\r').unwrap_or(text));
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(PolicyRefusal::malformed("has a byte that is not printable ASCII"));
    }
    let [kind @ b'a'..=b'z', b'=', ..] = text.as_bytes() else {
        return Err(PolicyRefusal::malformed("does not have the form x=…"));
    };
    let line = SdpLine { number, kind: *kind, value: &text[2..], text, raw_line };
    if line.kind != b's' && (line.value.is_empty() || line.value.starts_with(' ')) {
        return Err(PolicyRefusal::malformed("is empty, or has a blank after ="));
    }
    if line.kind == b'a' && !has_plain_spelling(line.value) {
        return Err(PolicyRefusal::malformed("an attribute in an unusual spelling"));
    }
    Ok(line)
}

/// Whether an attribute is a name, alone or with `:` and a value. A name that the rules depend on
/// must be in lower case.
fn has_plain_spelling(value: &str) -> bool {
    let name = value.split(':').next().unwrap_or_default();
    // Firefox skips delimiters and reads `a=:sendrecv` as a direction.
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return false;
    }
    let begins_with =
        |flag: &str| value.get(..flag.len()).is_some_and(|start| start.eq_ignore_ascii_case(flag));
    if let Some(flag) = FLAG_ATTRIBUTES.iter().find(|flag| begins_with(flag)) {
        return value == *flag;
    }
    let Some(spelling) = VALUE_ATTRIBUTES.iter().find(|attribute| attribute.eq_ignore_ascii_case(name))
    else {
        return true;
    };
    name == *spelling && value.len() > name.len() + 1
}
