#![no_main]
//! The verifier with a key of each algorithm. Arbitrary text is not a valid token, because the
//! fuzzer knows no key. A token that a recipe makes is valid exactly if it is genuine and its
//! claims are valid, only as its own kind, and only during its time.

use std::collections::HashMap;

use serde_json::{Value, value::RawValue};
use signalbox_fuzz::token::{TokenRecipe, VALID_FROM, VALID_UNTIL, accepted_kinds, valid_claims};
use signalbox_token::TokenKind;

const NOW: u64 = (VALID_FROM + VALID_UNTIL) / 2;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // A text that begins like a token is checked as it is; any other input is a recipe.
    if let Some(text) = std::str::from_utf8(data).ok().filter(|text| text.starts_with("ey")) {
        assert_eq!(accepted_kinds(text, NOW), [], "a forgery");
        return;
    }
    let Some((recipe, claims)) = TokenRecipe::from_input(data) else { return };
    if claims.is_empty() {
        let token = recipe.build_token(&valid_claims(recipe.kind));
        let expected: &[TokenKind] = if recipe.is_genuine() { &[recipe.kind] } else { &[] };
        assert_eq!(accepted_kinds(&token, NOW), expected, "{recipe:?}");
        let outside = [VALID_FROM - 1, VALID_UNTIL].map(|time| accepted_kinds(&token, time));
        assert_eq!(outside, [vec![], vec![]], "valid outside its time");
        return;
    }
    let kinds = accepted_kinds(&recipe.build_token(claims), NOW);
    if kinds.is_empty() {
        return;
    }
    assert!(kinds == [recipe.kind] && recipe.is_genuine(), "{recipe:?} {kinds:?}");
    // Other members may have any JSON value, also numbers that no Rust type can represent.
    let members: HashMap<String, &RawValue> = serde_json::from_str(claims).expect("claims are JSON");
    let claim = |name| serde_json::from_str::<Value>(members[name].get()).expect("a claim is JSON");
    assert!(claim("iss") == "signalbox" && claim("aud") == recipe.kind.aud() && claim("sub").is_string());
    assert!(claim("exp").as_u64() > Some(NOW) && claim("nbf").as_u64() <= Some(NOW), "{claims}");
    assert!(claim("iat").as_u64() <= Some(NOW + 60) && !claim("jti").as_str().unwrap_or("").is_empty());
});
