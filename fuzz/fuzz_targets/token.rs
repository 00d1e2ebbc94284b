#![no_main]
//! The verifier. The fuzzer knows no key, so no token is good but those of the seeds, each as its kind and at its time; and where
//! it is lent the key (an input that begins with `{`), a good token says what a naive reading of its claims says.

use std::collections::HashMap;

use serde_json::{Value, value::RawValue};
use signalbox_fuzz::{KEY, signed};
use signalbox_shared::token::{Secret, SharedSecret, Verifier};

/// Good from 1 000 to 2 000 seconds after 1970.
const GOOD: [&str; 3] = [
    include_str!("../seeds/token/room"),
    include_str!("../seeds/token/user"),
    include_str!("../seeds/token/management"),
];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let verifier = Verifier::hs256(&[SharedSecret::new(Secret::new(KEY)).expect("strong enough")]);
    let good = |token: &str, now: u64| {
        let [room, user] = [verifier.room(token, now).is_ok(), verifier.user(token, now).is_ok()];
        [room, user, verifier.management(token, now).is_ok()]
    };
    assert_eq!(good(text, 1_500), GOOD.map(|seed| text == seed), "a forgery");
    assert_eq!((good(text, 2_000), good(text, 999)), ([false; 3], [false; 3]), "not its time");
    if text.starts_with('{') && verifier.room(&signed(text), 1_500).is_ok() {
        // Other members may hold any JSON, numbers that no type can hold included.
        let claims: HashMap<String, &RawValue> = serde_json::from_str(text).expect("claims are JSON");
        let claim = |name| serde_json::from_str::<Value>(claims[name].get()).expect("a claim is JSON");
        assert!(
            claim("iss") == "signalbox" && claim("aud") == "signalbox-signal" && claim("sub").is_string()
        );
        assert!(claim("exp").as_u64() > Some(1_500) && claim("nbf").as_u64() <= Some(1_500), "{text}");
    }
});
