#![no_main]
//! The parser of a published key set, as a signaling node uses it. The keys of an accepted set are
//! few and public, and each has its own name. A token is valid only with a key of the set.

use std::collections::HashSet;

use serde_json::{Value, json};
use signalbox_fuzz::token::{TokenRecipe, VALID_FROM, public_key, valid_claims};
use signalbox_token::{KeyAlgorithm, TokenKind, TokenVerifier, parse_jwks};

/// Recipes for room tokens that the trusted keys sign under their own names.
const RECIPES: [([u8; 4], KeyAlgorithm); 2] =
    [(*b"9@00", KeyAlgorithm::EdDSA), (*b"<@00", KeyAlgorithm::ES256)];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(keys) = parse_jwks(text.as_bytes()) else { return };
    let names: HashSet<_> = keys.iter().map(|key| key.kid().to_owned()).collect();
    assert!(names.len() == keys.len() && keys.len() <= 32, "{text}");
    assert!(names.iter().all(|kid| !kid.is_empty() && kid.len() <= 128), "{text}");
    let json = text.trim_matches(|c: char| c == '\u{feff}' || c.is_whitespace());
    let set: Value = serde_json::from_str(json).expect("a set is JSON, apart from what editors add");
    let members = set["keys"].as_array().expect("keys").iter().filter_map(Value::as_object);
    assert!(
        members.clone().all(|key| !key.contains_key("d") && !key.contains_key("k")),
        "a private or symmetric key was accepted: {text}"
    );
    let verifier = TokenVerifier::with_published_keys([]);
    verifier.replace_published_keys(keys);
    for (recipe, algorithm) in RECIPES {
        let Some((recipe, _)) = TokenRecipe::from_input(&recipe) else { unreachable!("four bytes") };
        let token = recipe.build_token(&valid_claims(TokenKind::Room));
        let expected = json!(public_key(algorithm));
        // The naive check: the set has the same point under the same name.
        let is_in_set = members
            .clone()
            .any(|key| ["kid", "x", "y"].iter().all(|name| key.get(*name) == expected.get(name)));
        let is_valid = verifier.verify_room_token(&token, VALID_FROM).is_ok();
        assert!(is_in_set || !is_valid, "a token of a key that is not in the set: {text}");
    }
});
