//! A description without the addresses that a role's rules keep back.
//!
//! Owns: every line that holds an address. Must not: touch any other. `c=`, `o=`, `a=rtcp` and the ports of m-lines are
//! made those of a description without candidates (RFC 8840, section 4.1.1: `0.0.0.0`, port 9), whatever the rule: an ICE
//! agent needs none of them.

use std::borrow::Cow;

use crate::{
    PolicyRefusal, SdpSection,
    address::unspecified_address,
    candidate::Candidate,
    candidate_rules::{AttributeOutcome, CandidateRules},
    hidden_addresses::HiddenAddresses,
    sdp_line::SdpLine,
};

/// Attributes of addresses that ICE in browsers does not use: RFC 8839 section 5.2, RFC 4570, RFC 6947, RFC 7006, RFC 5939.
const REMOVED_ATTRIBUTES: [&str; 9] =
    ["remote-candidates", "source-filter", "altc", "ccap", "acap", "bcap", "mcap", "alt", "sescap"];

pub(crate) fn rewrite_description<'a>(
    rules: &CandidateRules,
    sdp: &'a str,
    lines: &[SdpLine<'a>],
) -> Result<Cow<'a, str>, PolicyRefusal> {
    let mut out = String::with_capacity(sdp.len() + 64);
    let mut taken = HiddenAddresses::default();
    let mut section = None;
    for line in lines {
        if line.kind == b'm' {
            section = Some(section.map_or(0, |index| index + 1));
        }
        let written = rewrite_line(rules, line, &mut taken).map_err(|why| {
            let refused = PolicyRefusal::malformed(why).on_line(line.number);
            section.map_or(refused.clone(), |index| refused.in_section(SdpSection::new(index, None)))
        })?;
        if let Some(text) = written {
            out.push_str(&text);
            out.push_str(&line.raw_line[line.text.len()..]);
        }
    }
    taken.check_absent(&out)?;
    Ok(if out == sdp { Cow::Borrowed(sdp) } else { Cow::Owned(out) })
}

/// The line as it may be told, or `NoSuchRule` where it may not.
fn rewrite_line<'a>(
    rules: &CandidateRules,
    line: &SdpLine<'a>,
    taken: &mut HiddenAddresses,
) -> Result<Option<Cow<'a, str>>, &'static str> {
    let text: Cow<'a, str> = match (line.kind, line.attribute()) {
        (b'c', _) => rewrite_connection(line.value, taken).ok_or("c= is not an address")?.into(),
        (b'o', _) => rewrite_origin(line.value, taken).ok_or("o= is not an origin")?.into(),
        (b'm', _) => rewrite_m_line(line.value).ok_or("not an m-line")?.into(),
        (_, Some(("candidate", Some(_)))) => {
            let candidate = Candidate::parse(line.text).map_err(|error| error.0)?;
            match rules.filter_parsed(&candidate) {
                AttributeOutcome::Keep => line.text.into(),
                AttributeOutcome::Rewrite(bare) => {
                    taken.add_related(&candidate);
                    bare.to_string().into()
                }
                AttributeOutcome::Drop => {
                    taken.add_candidate(&candidate);
                    return Ok(None);
                }
            }
        }
        (_, Some(("rtcp", Some(value)))) => rewrite_rtcp(value, taken).into(),
        (_, Some((name, _))) if is_removed_attribute(name) => return Ok(None),
        _ => line.text.into(),
    };
    Ok(Some(text))
}

fn is_removed_attribute(name: &str) -> bool {
    let name = name.trim_end();
    let word = name.split(' ').next().unwrap_or_default();
    REMOVED_ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn rewrite_connection(value: &str, taken: &mut HiddenAddresses) -> Option<String> {
    let [_, family, address] = split_words(value)?;
    taken.add_text(address.split('/').next().unwrap_or(address));
    Some(format!("c=IN {}", unspecified_with_family(family)))
}

fn rewrite_origin(value: &str, taken: &mut HiddenAddresses) -> Option<String> {
    let [user, id, version, _, family, address] = split_words(value)?;
    taken.add_text(address);
    Some(format!("o={user} {id} {version} IN {}", unspecified_with_family(family)))
}

fn rewrite_m_line(value: &str) -> Option<String> {
    let mut words = value.splitn(3, ' ');
    let (media, port, rest) = (words.next()?, words.next()?, words.next()?);
    let port = if port == "0" { "0" } else { "9" };
    Some(format!("m={media} {port} {rest}"))
}

fn rewrite_rtcp(value: &str, taken: &mut HiddenAddresses) -> String {
    match split_words(value) {
        Some([_, _, family, address]) => {
            taken.add_text(address);
            format!("a=rtcp:9 IN {}", unspecified_with_family(family))
        }
        None => "a=rtcp:9 IN IP4 0.0.0.0".to_owned(),
    }
}

fn unspecified_with_family(family: &str) -> String {
    let v6 = family.eq_ignore_ascii_case("IP6");
    format!("{} {}", if v6 { "IP6" } else { "IP4" }, unspecified_address(v6))
}

fn split_words<const N: usize>(value: &str) -> Option<[&str; N]> {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().try_into().ok()
}
