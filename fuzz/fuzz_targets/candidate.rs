#![no_main]
//! The candidate parser and filter. A parsed candidate is written unchanged, filtering twice is
//! filtering once, and nothing is forwarded that the rules exclude.

use std::net::IpAddr;

use signalbox_fuzz::{candidate_rules, find_addresses, split_input};
use signalbox_policy::{Candidate, CandidateOutcome, MediaRules, RolePolicy};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = split_input(data) else { return };
    if let Ok(candidate) = Candidate::parse(text) {
        assert_eq!(Candidate::parse(&candidate.to_string()).as_ref(), Ok(&candidate));
    }
    let candidates = candidate_rules(choice);
    let relay_only = candidates.relay_only;
    let Some(policy) = RolePolicy::new(MediaRules::ALL, candidates) else { return };
    // Text that is not an object is a bare candidate, so that the fuzzer need not write JSON.
    let json = if text.starts_with('{') {
        text.to_owned()
    } else {
        serde_json::json!({ "candidate": text }).to_string()
    };
    let Ok(CandidateOutcome::Forward(once)) = policy.filter_candidate(&json) else { return };
    let twice = policy.filter_candidate(&once);
    assert_eq!(twice, Ok(CandidateOutcome::Forward(once.clone())), "filtering twice is filtering once");
    let init: serde_json::Value = serde_json::from_str(&once).expect("JSON");
    let forwarded = init["candidate"].as_str().expect("a candidate");
    let members = ["candidate", "sdpMid", "sdpMLineIndex", "usernameFragment"];
    assert!(init.as_object().expect("an object").keys().all(|name| members.contains(&name.as_str())));
    if relay_only && !forwarded.is_empty() {
        assert!(forwarded.to_lowercase().contains(" typ relay"), "{forwarded}");
        assert!(find_addresses(forwarded).all(|ip| is_connection_address(forwarded, ip)), "{forwarded}");
    }
});

fn is_connection_address(candidate: &str, ip: IpAddr) -> bool {
    candidate
        .split(' ')
        .nth(4)
        .is_some_and(|word| word == ip.to_string() || find_addresses(word).any(|address| address == ip))
}
