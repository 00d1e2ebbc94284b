//! The lines of a description, each written the one way that all parsers read alike.
//!
//! Owns: what counts as a line. Must not: know what a line means, beyond those words in which browsers differ.
//! Observed in Chromium 156 and Firefox 153: one of them takes a line break after NUL or a lone CR, trims blanks and tabs
//! at either end, skips lines it cannot read, or reads attribute and media names in any case. None of that passes here.

use crate::PolicyRefusal;

/// More lines than any call has: a section of a browser has about a hundred.
const MAX_LINES: usize = 4_096;
/// More sections than a room has peers to hear.
const MAX_SECTIONS: usize = 128;

/// Attributes without a value that decide something here. Nothing else may begin with one of them.
const FLAG_ATTRIBUTES: [&str; 5] = ["sendrecv", "sendonly", "recvonly", "inactive", "bundle-only"];

/// Attributes with a value that decide something here. Each has to be spelled as it stands.
const VALUE_ATTRIBUTES: [&str; 10] =
    ["mid", "group", "content", "simulcast", "rid", "ssrc", "msid", "candidate", "remote-candidates", "rtcp"];

/// One line, without its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SdpLine<'a> {
    /// From 1.
    pub(crate) number: usize,
    /// The letter before `=`.
    pub(crate) kind: u8,
    /// What follows `=`.
    pub(crate) value: &'a str,
    /// The whole of it.
    pub(crate) text: &'a str,
    /// With the line's end.
    pub(crate) raw_line: &'a str,
}

impl<'a> SdpLine<'a> {
    /// Name and value of an attribute line.
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

/// Cuts a description into lines.
pub(crate) fn read_lines(sdp: &str) -> Result<Vec<SdpLine<'_>>, PolicyRefusal> {
    // Line ends may be CRLF or LF; blank lines may follow the last one, as Firefox allows.
    let body = sdp.trim_end_matches(['\r', '\n']);
    let end = (body.len() + sdp[body.len()..].find('\n').map_or(sdp.len() - body.len(), |at| at + 1))
        .min(sdp.len());
    let mut lines = Vec::new();
    let mut sections = 0;
    for whole in sdp[..end].split_inclusive('\n') {
        let number = lines.len() + 1;
        let line = parse_line(whole, number).map_err(|refused| refused.on_line(number))?;
        sections += usize::from(line.kind == b'm');
        if number > MAX_LINES || sections > MAX_SECTIONS {
            return Err(PolicyRefusal::malformed("more than 4096 lines or 128 m-lines"));
        }
        let known: &[u8] = if sections == 0 { b"vosiuepcbtrzka" } else { b"micbka" };
        if !known.contains(&line.kind) || (number == 1) != (line.text == "v=0") {
            return Err(PolicyRefusal::malformed("not a line that may stand here (RFC 8866, section 5)")
                .on_line(number));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(PolicyRefusal::malformed("an SDP begins with v=0"));
    }
    Ok(lines)
}

fn parse_line(whole: &str, number: usize) -> Result<SdpLine<'_>, PolicyRefusal> {
    let text = whole.strip_suffix('\n').map_or(whole, |text| text.strip_suffix('\r').unwrap_or(text));
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(PolicyRefusal::malformed("has a byte that is not printable ASCII"));
    }
    let [kind @ b'a'..=b'z', b'=', ..] = text.as_bytes() else {
        return Err(PolicyRefusal::malformed("is not of the form x=…"));
    };
    let line = SdpLine { number, kind: *kind, value: &text[2..], text, raw_line: whole };
    if line.kind != b's' && (line.value.is_empty() || line.value.starts_with(' ')) {
        return Err(PolicyRefusal::malformed("is empty, or has a blank after ="));
    }
    if line.kind == b'a' && !has_plain_spelling(line.value) {
        return Err(PolicyRefusal::malformed("an attribute in an unusual spelling"));
    }
    Ok(line)
}

/// Whether an attribute is a name, alone or with `:` and a value, and one that decides something is in lower case.
fn has_plain_spelling(value: &str) -> bool {
    let name = value.split(':').next().unwrap_or_default();
    // Firefox skips delimiters: `a=:sendrecv` is a direction to it.
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return false;
    }
    let begins = |flag: &str| value.get(..flag.len()).is_some_and(|start| start.eq_ignore_ascii_case(flag));
    if let Some(flag) = FLAG_ATTRIBUTES.iter().find(|flag| begins(flag)) {
        return value == *flag;
    }
    let Some(known) = VALUE_ATTRIBUTES.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
        return true;
    };
    name == *known && value.len() > name.len() + 1
}
