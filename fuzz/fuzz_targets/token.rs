#![no_main]
//! The verifier, with a key of each algorithm. A text is no good token, since the fuzzer knows no key; a token that is made by a recipe is
//! good exactly where it is genuine and its claims are, as the kind that it says and at its time only.

use std::collections::HashMap;

use serde_json::{Value, value::RawValue};
use signalbox_fuzz::token::{FROM, Recipe, UNTIL, good_as, good_claims};
use signalbox_token::TokenKind;

const NOW: u64 = (FROM + UNTIL) / 2;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // A text that looks like a token is one; anything else begins with its recipe.
    if let Some(text) = std::str::from_utf8(data).ok().filter(|text| text.starts_with("ey")) {
        assert_eq!(good_as(text, NOW), [], "a forgery");
        return;
    }
    let Some((recipe, claims)) = Recipe::read(data) else { return };
    if claims.is_empty() {
        let token = recipe.make(&good_claims(recipe.kind));
        let expected: &[TokenKind] = if recipe.is_genuine() { &[recipe.kind] } else { &[] };
        assert_eq!(good_as(&token, NOW), expected, "{recipe:?}");
        assert_eq!((good_as(&token, UNTIL), good_as(&token, FROM - 1)), (vec![], vec![]), "not its time");
        return;
    }
    let good = good_as(&recipe.make(claims), NOW);
    if good.is_empty() {
        return;
    }
    assert!(good == [recipe.kind] && recipe.is_genuine(), "{recipe:?} {good:?}");
    // Other members may hold any JSON, numbers that no type can hold included.
    let members: HashMap<String, &RawValue> = serde_json::from_str(claims).expect("claims are JSON");
    let claim = |name| serde_json::from_str::<Value>(members[name].get()).expect("a claim is JSON");
    assert!(claim("iss") == "signalbox" && claim("aud") == recipe.kind.aud() && claim("sub").is_string());
    assert!(claim("exp").as_u64() > Some(NOW) && claim("nbf").as_u64() <= Some(NOW), "{claims}");
    assert!(claim("iat").as_u64() <= Some(NOW + 60) && !claim("jti").as_str().unwrap_or("").is_empty());
});
