#![no_main]
//! A set of published keys, as a signaling node reads it. What is taken is bounded and public, each key has a name of its own, and a token
//! is good by the keys of the set alone.

use std::collections::HashSet;

use serde_json::{Value, json};
use signalbox_fuzz::token::{TokenRecipe, VALID_FROM, public_key, valid_claims};
use signalbox_token::{KeyAlgorithm, TokenKind, TokenVerifier, parse_jwks};

/// Room tokens by the known keys, under their names.
const RECIPES: [([u8; 4], KeyAlgorithm); 2] =
    [(*b"9@00", KeyAlgorithm::EdDSA), (*b"<@00", KeyAlgorithm::ES256)];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(keys) = parse_jwks(text.as_bytes()) else { return };
    let names: HashSet<_> = keys.iter().map(|key| key.kid().to_owned()).collect();
    assert!(names.len() == keys.len() && keys.len() <= 32, "{text}");
    assert!(names.iter().all(|kid| !kid.is_empty() && kid.len() <= 128), "{text}");
    let set: Value = serde_json::from_str(text).expect("a set is JSON");
    let members = set["keys"].as_array().expect("keys").iter().filter_map(Value::as_object);
    assert!(
        members.clone().all(|key| !key.contains_key("d") && !key.contains_key("k")),
        "a secret was taken: {text}"
    );
    let verifier = TokenVerifier::with_published_keys([]);
    verifier.replace_published_keys(keys);
    for (recipe, algorithm) in RECIPES {
        let Some((recipe, _)) = TokenRecipe::from_input(&recipe) else { unreachable!("four bytes") };
        let token = recipe.build_token(&valid_claims(TokenKind::Room));
        let ours = json!(public_key(algorithm));
        // By the naive reading: the same point under the same name.
        let is_held =
            members.clone().any(|key| ["kid", "x", "y"].iter().all(|name| key.get(*name) == ours.get(name)));
        let is_good = verifier.verify_room_token(&token, VALID_FROM).is_ok();
        assert!(is_held || !is_good, "a token of a key that is not in the set: {text}");
    }
});
