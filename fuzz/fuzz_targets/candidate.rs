#![no_main]
//! The candidate parser and filter: written as read, filtered twice is filtered once, and nothing but what may be told.

use signalbox_fuzz::{candidate_rules, find_addresses, split_input};
use signalbox_policy::{Candidate, CandidateOutcome, MediaRules, RolePolicy};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = split_input(data) else { return };
    if let Ok(candidate) = Candidate::parse(text) {
        assert_eq!(Candidate::parse(&candidate.to_string()).as_ref(), Ok(&candidate));
    }
    let candidates = candidate_rules(choice);
    let relay_only = candidates.relay_only;
    let Some(rules) = RolePolicy::new(MediaRules::ALL, candidates) else { return };
    // Text that is no object is a bare candidate, so that the fuzzer need not write JSON.
    let json = if text.starts_with('{') {
        text.to_owned()
    } else {
        serde_json::json!({ "candidate": text }).to_string()
    };
    let Ok(CandidateOutcome::Forward(once)) = rules.filter_candidate(&json) else { return };
    assert_eq!(
        rules.filter_candidate(&once),
        Ok(CandidateOutcome::Forward(once.clone())),
        "a second time changes nothing"
    );
    let init: serde_json::Value = serde_json::from_str(&once).expect("JSON");
    let told = init["candidate"].as_str().expect("a candidate");
    let members = ["candidate", "sdpMid", "sdpMLineIndex", "usernameFragment"];
    assert!(init.as_object().expect("an object").keys().all(|name| members.contains(&name.as_str())));
    if relay_only && !told.is_empty() {
        assert!(told.to_lowercase().contains(" typ relay"), "{told}");
        assert!(
            find_addresses(told)
                .all(|ip| told.split(' ').nth(4) == Some(&ip.to_string()) || is_connection_address(told, ip)),
            "{told}"
        );
    }
});

fn is_connection_address(told: &str, ip: std::net::IpAddr) -> bool {
    told.split(' ').nth(4).is_some_and(|word| find_addresses(word).any(|address| address == ip))
}
