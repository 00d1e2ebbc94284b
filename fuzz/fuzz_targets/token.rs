#![no_main]
//! The verifier: the fuzzer knows no key, so nothing but the seeds' own token is good, and that at its time only.

use signalbox_shared::token::{Secret, SharedSecret, Verifier};

/// A token of this verifier's key, made for the corpus; good from 1 000 to 2 000 seconds after 1970.
const GOOD: &str = include_str!("../seeds/token/good");

libfuzzer_sys::fuzz_target!(|token: &str| {
    let secret = Secret::new("fuzz:7f0c1d92ab4e63588d11c0e7a9f2b645");
    let verifier = Verifier::hs256(&[SharedSecret::new(secret).expect("strong enough")]);
    if verifier.room(token, 1_500).is_ok() {
        assert_eq!(token, GOOD.trim_end(), "a forgery");
    }
    assert!(verifier.room(token, 2_000).is_err() && verifier.room(token, 999).is_err());
});
