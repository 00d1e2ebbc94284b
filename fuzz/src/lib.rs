//! What the fuzz targets share: inputs, and naive second opinions on the results.
//!
//! Must not: call the code that a second opinion checks.

pub mod token;

use std::net::IpAddr;

use signalbox_policy::{CandidateRules, MediaRules, RolePolicy};

/// The policy of a role that may only watch.
pub fn watcher_policy() -> Option<RolePolicy> {
    RolePolicy::new(MediaRules::default(), CandidateRules::default())
}

/// The candidate rules that the first byte of an input chooses.
pub fn candidate_rules(choice: u8) -> CandidateRules {
    let networks = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect();
    match choice % 4 {
        0 => CandidateRules { relay_only: true, ..CandidateRules::default() },
        1 => CandidateRules { drop_private: true, ..CandidateRules::default() },
        2 => CandidateRules {
            deny: networks(&["203.0.113.0/24", "2001:db8::/32"]),
            ..CandidateRules::default()
        },
        _ => CandidateRules {
            allow: networks(&["198.51.100.0/24"]),
            relay_only: true,
            ..CandidateRules::default()
        },
    }
}

/// Splits an input into its first byte, which chooses the rules, and its text.
pub fn split_input(data: &[u8]) -> Option<(u8, &str)> {
    let (choice, text) = data.split_first()?;
    Some((*choice, std::str::from_utf8(text).ok()?))
}

/// Whether some parser might read a section of the description as media that is sent. The scan is
/// stricter than every parser: any kind of break ends a line, case and white space do not count, a
/// section is live unless its port is a lone 0 without `bundle-only`, and it sends unless only
/// `recvonly` or `inactive` is there.
pub fn may_send_media(sdp: &str) -> bool {
    let lower = sdp.to_lowercase();
    let lines: Vec<_> = lower
        .split(['\r', '\n', '\0', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'])
        .map(str::trim)
        .collect();
    let is_m_line = |line: &str| remove_spaces(line).starts_with("m=");
    let starts: Vec<_> =
        lines.iter().enumerate().filter(|(_, line)| is_m_line(line)).map(|(index, _)| index).collect();
    starts.iter().enumerate().any(|(section, start)| {
        let end = *starts.get(section + 1).unwrap_or(&lines.len());
        section_may_send(&lines[*start..end])
    })
}

fn section_may_send(lines: &[&str]) -> bool {
    let has_attribute =
        |name: &str| lines.iter().any(|line| remove_spaces(line).starts_with(&format!("a={name}")));
    let is_live = lines[0].split_whitespace().nth(1) != Some("0") || has_attribute("bundle-only");
    let only_receives = (has_attribute("recvonly") || has_attribute("inactive"))
        && !has_attribute("sendrecv")
        && !has_attribute("sendonly");
    is_live && !only_receives && !remove_spaces(lines[0]).starts_with("m=application")
}

fn remove_spaces(line: &str) -> String {
    line.split_whitespace().collect()
}

/// Every address in a text, whatever characters surround it, except the unspecified address.
pub fn find_addresses(text: &str) -> impl Iterator<Item = IpAddr> {
    let v4 = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    let v6 = text.split(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':');
    v4.chain(v6)
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .filter(|ip| !ip.is_unspecified())
}

/// The connection addresses of the candidates whose type is not `relay`.
pub fn non_relay_addresses(sdp: &str) -> Vec<IpAddr> {
    let candidates = sdp.lines().filter(|line| line.starts_with("a=candidate:"));
    let is_relay = |line: &str| line.split(' ').nth(7).is_some_and(|kind| kind.eq_ignore_ascii_case("relay"));
    candidates
        .filter(|line| !is_relay(line))
        .filter_map(|line| line.split(' ').nth(4)?.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .collect()
}
