#![no_main]
//! The SDP policy: what a watcher's description passes with sends nothing; what is rewritten for `relay` tells no other address.

use signalbox_fuzz::{addresses, candidate_rules, choice_and_text, may_send_media, not_relay, watcher};
use signalbox_policy::{MediaRules, Rules};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, sdp)) = choice_and_text(data) else { return };
    if watcher().is_some_and(|rules| rules.description(sdp).is_ok()) {
        assert!(!may_send_media(sdp), "passed for a role without publish");
    }
    let candidates = candidate_rules(choice);
    let relay_only = candidates.relay_only;
    let Some(rules) = Rules::new(MediaRules::ALL, candidates) else { return };
    let Ok(once) = rules.description(sdp) else { return };
    assert_eq!(rules.description(&once).expect("it parses again"), once, "a second time changes nothing");
    if relay_only {
        assert!(not_relay(&once).is_empty());
        let hidden = not_relay(sdp);
        let others = once.lines().filter(|line| !line.starts_with("a=candidate:"));
        assert!(others.flat_map(addresses).all(|ip| !hidden.contains(&ip)), "an address is left");
    }
});
