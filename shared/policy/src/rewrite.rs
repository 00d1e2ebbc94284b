//! A description without the addresses that a role's rules keep back.
//!
//! Owns: every line that holds an address. Must not: touch any other. `c=`, `o=`, `a=rtcp` and the ports of m-lines are
//! made those of a description without candidates (RFC 8840, section 4.1.1: `0.0.0.0`, port 9), whatever the rule: an ICE
//! agent needs none of them.

use std::borrow::Cow;

use crate::{
    Refused, Section,
    address::neutral,
    candidate::Candidate,
    filter::{CandidateRules, Fate},
    leak::Taken,
    lines::Line,
};

/// Attributes of addresses that ICE in browsers does not use: RFC 8839 section 5.2, RFC 4570, RFC 6947, RFC 7006, RFC 5939.
const REMOVED: [&str; 9] =
    ["remote-candidates", "source-filter", "altc", "ccap", "acap", "bcap", "mcap", "alt", "sescap"];

pub(crate) fn description<'a>(
    rules: &CandidateRules,
    sdp: &'a str,
    lines: &[Line<'a>],
) -> Result<Cow<'a, str>, Refused> {
    let mut out = String::with_capacity(sdp.len() + 64);
    let mut taken = Taken::default();
    let mut section = None;
    for line in lines {
        if line.kind == b'm' {
            section = Some(section.map_or(0, |index| index + 1));
        }
        let written = rewrite(rules, line, &mut taken).map_err(|why| {
            let refused = Refused::malformed(why).on_line(line.number);
            section.map_or(refused.clone(), |index| refused.at(Section::new(index, None)))
        })?;
        if let Some(text) = written {
            out.push_str(&text);
            out.push_str(&line.whole[line.text.len()..]);
        }
    }
    taken.check(&out)?;
    Ok(if out == sdp { Cow::Borrowed(sdp) } else { Cow::Owned(out) })
}

/// The line as it may be told, or `None` where it may not.
fn rewrite<'a>(
    rules: &CandidateRules,
    line: &Line<'a>,
    taken: &mut Taken,
) -> Result<Option<Cow<'a, str>>, &'static str> {
    let text: Cow<'a, str> = match (line.kind, line.attribute()) {
        (b'c', _) => connection(line.value, taken).ok_or("c= is not an address")?.into(),
        (b'o', _) => origin(line.value, taken).ok_or("o= is not an origin")?.into(),
        (b'm', _) => m_line(line.value).ok_or("not an m-line")?.into(),
        (_, Some(("candidate", Some(_)))) => {
            let candidate = Candidate::parse(line.text).map_err(|error| error.0)?;
            match rules.fate(&candidate) {
                Fate::Keep => line.text.into(),
                Fate::Rewrite(bare) => {
                    taken.related(&candidate);
                    bare.to_string().into()
                }
                Fate::Drop => {
                    taken.whole(&candidate);
                    return Ok(None);
                }
            }
        }
        (_, Some(("rtcp", Some(value)))) => rtcp(value, taken).into(),
        (_, Some((name, _))) if removed(name) => return Ok(None),
        _ => line.text.into(),
    };
    Ok(Some(text))
}

fn removed(name: &str) -> bool {
    let name = name.trim_end();
    let word = name.split(' ').next().unwrap_or_default();
    REMOVED.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn connection(value: &str, taken: &mut Taken) -> Option<String> {
    let [_, family, address] = words(value)?;
    taken.text(address.split('/').next().unwrap_or(address));
    Some(format!("c=IN {}", any(family)))
}

fn origin(value: &str, taken: &mut Taken) -> Option<String> {
    let [user, id, version, _, family, address] = words(value)?;
    taken.text(address);
    Some(format!("o={user} {id} {version} IN {}", any(family)))
}

fn m_line(value: &str) -> Option<String> {
    let mut words = value.splitn(3, ' ');
    let (media, port, rest) = (words.next()?, words.next()?, words.next()?);
    let port = if port == "0" { "0" } else { "9" };
    Some(format!("m={media} {port} {rest}"))
}

fn rtcp(value: &str, taken: &mut Taken) -> String {
    match words(value) {
        Some([_, _, family, address]) => {
            taken.text(address);
            format!("a=rtcp:9 IN {}", any(family))
        }
        None => "a=rtcp:9 IN IP4 0.0.0.0".to_owned(),
    }
}

fn any(family: &str) -> String {
    let v6 = family.eq_ignore_ascii_case("IP6");
    format!("{} {}", if v6 { "IP6" } else { "IP4" }, neutral(v6))
}

fn words<const N: usize>(value: &str) -> Option<[&str; N]> {
    value.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().try_into().ok()
}
