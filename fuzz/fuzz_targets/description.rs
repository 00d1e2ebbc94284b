#![no_main]
//! The rules for descriptions. A description that passes for a role without `publish` sends no
//! media. With `relay`, a rewritten description contains no address of another candidate.

use signalbox_fuzz::{
    candidate_rules, find_addresses, may_send_media, non_relay_addresses, split_input, watcher_policy,
};
use signalbox_policy::{MediaRules, RolePolicy};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, sdp)) = split_input(data) else { return };
    if watcher_policy().is_some_and(|policy| policy.filter_description(sdp).is_ok()) {
        assert!(!may_send_media(sdp), "passed for a role without publish");
    }
    let candidates = candidate_rules(choice);
    let relay_only = candidates.relay_only;
    let Some(policy) = RolePolicy::new(MediaRules::ALL, candidates) else { return };
    let Ok(once) = policy.filter_description(sdp) else { return };
    let twice = policy.filter_description(&once).expect("it parses again");
    assert_eq!(twice, once, "filtering twice is filtering once");
    if relay_only {
        assert!(non_relay_addresses(&once).is_empty());
        let hidden = non_relay_addresses(sdp);
        let others = once.lines().filter(|line| !line.starts_with("a=candidate:"));
        assert!(others.flat_map(find_addresses).all(|ip| !hidden.contains(&ip)), "a hidden address is left");
    }
});
