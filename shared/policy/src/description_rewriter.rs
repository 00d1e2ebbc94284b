//! Removes from a description the addresses that the candidate rules of a role exclude.
//!
//! Owns: every line that contains an address. Must not: change any other line. Whatever the rule
//! is, `c=`, `o=`, `a=rtcp` and the ports of m-lines get the values of a description without
//! candidates (RFC 8840, section 4.1.1: `0.0.0.0`, port 9), because an ICE agent needs none of
//! them.

use std::{borrow::Cow, collections::HashSet, net::IpAddr};

use crate::{
    PolicyRefusal, SdpSection,
    address::unspecified_address,
    candidate::{Candidate, CandidateHost},
    candidate_rules::{AttributeOutcome, CandidateRules},
    sdp_line::SdpLine,
};

/// Attributes that may contain an address and that ICE in browsers does not use: RFC 8839, section
/// 5.2; RFC 4570, RFC 6947, RFC 7006, RFC 5939.
const REMOVED_ATTRIBUTES: [&str; 9] =
    ["remote-candidates", "source-filter", "altc", "ccap", "acap", "bcap", "mcap", "alt", "sescap"];

pub(crate) fn rewrite_description<'a>(
    rules: &CandidateRules,
    sdp: &'a str,
    lines: &[SdpLine<'a>],
) -> Result<Cow<'a, str>, PolicyRefusal> {
    let mut output = String::with_capacity(sdp.len() + 64);
    let mut hidden = HiddenAddresses::default();
    let mut section = None;
    for line in lines {
        if line.kind == b'm' {
            section = Some(section.map_or(0, |index| index + 1));
        }
        let rewritten = rewrite_line(rules, line, &mut hidden).map_err(|reason| {
            let refusal = PolicyRefusal::malformed(reason).on_line(line.number);
            section.map_or(refusal.clone(), |index| refusal.in_section(SdpSection::new(index, None)))
        })?;
        if let Some(text) = rewritten {
            output.push_str(&text);
            output.push_str(&line.raw_line[line.text.len()..]);
        }
    }
    hidden.check_absent(&output)?;
    Ok(if output == sdp { Cow::Borrowed(sdp) } else { Cow::Owned(output) })
}

/// The line to forward, or `None` if it must not be forwarded.
fn rewrite_line<'a>(
    rules: &CandidateRules,
    line: &SdpLine<'a>,
    hidden: &mut HiddenAddresses,
) -> Result<Option<Cow<'a, str>>, &'static str> {
    let text: Cow<'a, str> = match (line.kind, line.attribute()) {
        (b'c', _) => rewrite_connection(line.value, hidden).ok_or("c= is not an address")?.into(),
        (b'o', _) => rewrite_origin(line.value, hidden).ok_or("o= is not an origin")?.into(),
        (b'm', _) => rewrite_m_line(line.value).ok_or("not an m-line")?.into(),
        (_, Some(("candidate", Some(_)))) => {
            let candidate = Candidate::parse(line.text).map_err(|error| error.0)?;
            match rules.filter_parsed(&candidate) {
                AttributeOutcome::Keep => line.text.into(),
                AttributeOutcome::Rewrite(rewritten) => {
                    hidden.add_related(&candidate);
                    rewritten.to_string().into()
                }
                AttributeOutcome::Drop => {
                    hidden.add_candidate(&candidate);
                    return Ok(None);
                }
            }
        }
        (_, Some(("rtcp", Some(value)))) => rewrite_rtcp(value, hidden).into(),
        (_, Some((name, _))) if is_removed_attribute(name) => return Ok(None),
        _ => line.text.into(),
    };
    Ok(Some(text))
}

fn is_removed_attribute(name: &str) -> bool {
    let name = name.trim_end();
    let word = name.split(' ').next().unwrap_or_default();
    REMOVED_ATTRIBUTES.iter().any(|removed| removed.eq_ignore_ascii_case(word))
}

fn rewrite_connection(value: &str, hidden: &mut HiddenAddresses) -> Option<String> {
    let [_, family, address] = split_words(value)?;
    hidden.add_text(address.split('/').next().unwrap_or(address));
    Some(format!("c=IN {}", unspecified_with_family(family)))
}

fn rewrite_origin(value: &str, hidden: &mut HiddenAddresses) -> Option<String> {
    let [user, id, version, _, family, address] = split_words(value)?;
    hidden.add_text(address);
    Some(format!("o={user} {id} {version} IN {}", unspecified_with_family(family)))
}

fn rewrite_m_line(value: &str) -> Option<String> {
    let mut words = value.splitn(3, ' ');
    let (media, port, rest) = (words.next()?, words.next()?, words.next()?);
    let port = if port == "0" { "0" } else { "9" };
    Some(format!("m={media} {port} {rest}"))
}

fn rewrite_rtcp(value: &str, hidden: &mut HiddenAddresses) -> String {
    match split_words(value) {
        Some([_, _, family, address]) => {
            hidden.add_text(address);
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

/// The addresses and names that were removed from a description.
#[derive(Default)]
struct HiddenAddresses {
    addresses: HashSet<IpAddr>,
    names: HashSet<String>,
}

impl HiddenAddresses {
    fn add_candidate(&mut self, candidate: &Candidate<'_>) {
        self.add_host(candidate.host);
        self.add_related(candidate);
    }

    fn add_related(&mut self, candidate: &Candidate<'_>) {
        if let Some(host) = candidate.related_host {
            self.add_host(host);
        }
    }

    fn add_text(&mut self, address: &str) {
        match address.parse() {
            Ok(address) => self.add_host(CandidateHost::Ip(address)),
            Err(_) => self.add_host(CandidateHost::DnsName(address)),
        }
    }

    fn add_host(&mut self, host: CandidateHost<'_>) {
        match host {
            CandidateHost::Ip(address) => {
                self.addresses.insert(address.to_canonical());
            }
            CandidateHost::Mdns(name) | CandidateHost::DnsName(name) => {
                self.names.insert(name.to_ascii_lowercase());
            }
        }
    }

    /// Rejects a description if another line repeats a removed address. Candidates are not
    /// searched: each was checked, and a TURN server may have the same address as a removed host.
    fn check_absent(&self, text: &str) -> Result<(), PolicyRefusal> {
        for line in text.lines().filter(|line| !line.starts_with("a=candidate:")) {
            let v4 = line.split(|c: char| !c.is_ascii_digit() && c != '.');
            let v6 = line.split(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':');
            let addresses = v4.chain(v6).filter_map(|word| word.parse::<IpAddr>().ok());
            let has_address = addresses
                .filter(|ip| !ip.is_unspecified())
                .any(|ip| self.addresses.contains(&ip.to_canonical()));
            let mut names = line.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
            // A name without a dot may be any word of the line.
            let has_name =
                names.any(|word| word.contains('.') && self.names.contains(&word.to_ascii_lowercase()));
            if has_address || has_name {
                return Err(PolicyRefusal::malformed(
                    "another line repeats an address that the rules of the role hide",
                ));
            }
        }
        Ok(())
    }
}
