//! What the targets hold against the code: naive second opinions that share no line with it.

pub mod token;

use std::net::IpAddr;

use signalbox_policy::{CandidateRules, MediaRules, RolePolicy};

/// A role that may only watch.
pub fn watcher_policy() -> Option<RolePolicy> {
    RolePolicy::new(MediaRules::default(), CandidateRules::default())
}

/// RolePolicy on candidates, one for each value of the first byte of an input.
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

/// The first byte chooses, the rest is text.
pub fn split_input(data: &[u8]) -> Option<(u8, &str)> {
    let (choice, text) = data.split_first()?;
    Some((*choice, std::str::from_utf8(text).ok()?))
}

/// A section that some parser might take for media that is sent: lines cut at every kind of break, in any case, trimmed,
/// no direction heeded but one that stands alone, any port but a lone 0 without `bundle-only`.
pub fn may_send_media(sdp: &str) -> bool {
    let lower = sdp.to_lowercase();
    let lines: Vec<_> = lower
        .split(['\r', '\n', '\0', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'])
        .map(str::trim)
        .collect();
    let starts =
        lines.iter().enumerate().filter(|(_, line)| remove_spaces(line).starts_with("m=")).map(|(at, _)| at);
    let starts: Vec<_> = starts.collect();
    starts
        .iter()
        .enumerate()
        .any(|(at, start)| section_may_send(&lines[*start..*starts.get(at + 1).unwrap_or(&lines.len())]))
}

fn section_may_send(lines: &[&str]) -> bool {
    let m_line = remove_spaces(lines[0]);
    let direction =
        |word: &str| lines.iter().any(|line| remove_spaces(line).starts_with(&format!("a={word}")));
    let live = lines[0].split_whitespace().nth(1) != Some("0") || direction("bundle-only");
    let receives =
        (direction("recvonly") || direction("inactive")) && !direction("sendrecv") && !direction("sendonly");
    live && !receives && !m_line.starts_with("m=application")
}

fn remove_spaces(line: &str) -> String {
    line.split_whitespace().collect()
}

/// Every address in a text that is not "no address", however it is fenced in.
pub fn find_addresses(text: &str) -> impl Iterator<Item = IpAddr> {
    let v4 = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    let v6 = text.split(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':');
    v4.chain(v6)
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .filter(|ip| !ip.is_unspecified())
}

/// The connection addresses of the candidates that say another type than `relay`.
pub fn non_relay_addresses(sdp: &str) -> Vec<IpAddr> {
    let lines = sdp.lines().filter(|line| line.starts_with("a=candidate:"));
    let direct =
        lines.filter(|line| !line.split(' ').nth(7).is_some_and(|kind| kind.eq_ignore_ascii_case("relay")));
    direct
        .filter_map(|line| line.split(' ').nth(4)?.parse::<IpAddr>().ok())
        .map(|ip| ip.to_canonical())
        .collect()
}
