//! The checks of the claims of a token with a valid signature, and the user whom they describe.
//! Pure.

use std::sync::Arc;

use serde_json::{Map, Value};
use signalbox_config::ProviderSettings;
use signalbox_protocol::{
    CredentialRoot,
    display_text::is_display_name,
    id::{Role, UserId},
};

use super::ExchangeRefusal;

/// How far the clocks of two machines may differ, seconds.
const CLOCK_SKEW_S: f64 = 60.0;

/// The longest life and the greatest age of a token, seconds.
const MAX_TOKEN_AGE_S: f64 = 24.0 * 60.0 * 60.0;

/// The user whom a valid token describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProviderUser {
    /// The user.
    pub(crate) user: UserId,
    /// The display name, if the token has a valid one.
    pub(crate) name: Option<Arc<str>>,
    /// The role; `None` is the default role.
    pub(crate) role: Option<Role>,
    /// The root of the user's credentials: the provider.
    pub(crate) root: CredentialRoot,
}

/// Checks the claims at the time `now_s` (since 1970).
pub(super) fn verify_claims(
    rules: &ProviderSettings,
    claims: &Map<String, Value>,
    now_s: u64,
) -> Result<ProviderUser, ExchangeRefusal> {
    check_audience(rules, claims)?;
    check_times(claims, now_s as f64)?;
    let user = match find_claim(claims, &rules.user_claim) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) if number.is_u64() => number.to_string(),
        _ => return Err(ExchangeRefusal::NoUser),
    };
    let user = escape_user_name(&user);
    let user = match rules.user_prefix.as_str() {
        "" => escape_foreign_prefix(user),
        prefix => format!("{prefix}{user}"),
    };
    let user = UserId::parse(&user).map_err(|_| ExchangeRefusal::NoUser)?;
    let name = find_claim(claims, &rules.name_claim).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && is_display_name(name)).map(Arc::from);
    let root = CredentialRoot::Provider(rules.issuer.as_str().into());
    Ok(ProviderUser { user, name, role: map_role(rules, claims), root })
}

/// The claims that name the client to which a token was issued: OpenID Connect Core, section 2; RFC
/// 9068, section 2.2; Microsoft Entra ID, version 1; Okta.
const PARTY_CLAIMS: [&str; 4] = ["azp", "client_id", "appid", "cid"];

/// Checks `aud` (RFC 7519, section 4.1.3) and the authorized party. A token for several audiences
/// needs an authorized party, because another audience could present it.
fn check_audience(rules: &ProviderSettings, claims: &Map<String, Value>) -> Result<(), ExchangeRefusal> {
    let audiences = match claims.get("aud") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let is_ours = |value: &Value| value.as_str() == Some(&rules.audience);
    if !audiences.iter().any(is_ours) {
        return Err(ExchangeRefusal::WrongAudience);
    }
    let (is_only, parties) = (audiences.len() == 1, &rules.authorized_parties);
    if is_only && parties.is_empty() {
        return Ok(());
    }
    // Without such a claim the only audience is the client itself.
    let party =
        PARTY_CLAIMS.iter().find_map(|name| claims.get(*name)).or(audiences.first().filter(|_| is_only));
    let is_authorized =
        |party: &Value| is_ours(party) || parties.iter().any(|listed| party.as_str() == Some(listed));
    if party.is_some_and(is_authorized) { Ok(()) } else { Err(ExchangeRefusal::WrongParty) }
}

/// Checks `exp`, `nbf` and `iat`: numbers that may have fractions (RFC 7519, section 2).
fn check_times(claims: &Map<String, Value>, now_s: f64) -> Result<(), ExchangeRefusal> {
    let time = |name: &str, wrong: ExchangeRefusal| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().filter(|at| at.is_finite()).map(Some).ok_or(wrong),
    };
    let exp =
        time("exp", ExchangeRefusal::Expired)?.filter(|exp| *exp > now_s).ok_or(ExchangeRefusal::Expired)?;
    let nbf = time("nbf", ExchangeRefusal::NotYetValid)?.unwrap_or(now_s);
    let iat = time("iat", ExchangeRefusal::NotYetValid)?.unwrap_or(now_s);
    if nbf > now_s + CLOCK_SKEW_S || iat > now_s + CLOCK_SKEW_S {
        return Err(ExchangeRefusal::NotYetValid);
    }
    if now_s - iat > MAX_TOKEN_AGE_S || exp - iat.min(now_s) > MAX_TOKEN_AGE_S {
        return Err(ExchangeRefusal::TooOld);
    }
    Ok(())
}

/// A name of a user in the alphabet of user ids. Any other byte, and `~`, becomes `~` and two
/// hexadecimal digits, so that two names never become one user.
fn escape_user_name(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._@:+-".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("~{byte:02X}"));
        }
    }
    escaped
}

/// A name of a provider without a prefix. The colon of a prefix that belongs to guests or invites is
/// escaped too.
fn escape_foreign_prefix(name: String) -> String {
    let is_foreign =
        [UserId::GUEST_PREFIX, UserId::INVITE_PREFIX].iter().any(|prefix| name.starts_with(prefix));
    if is_foreign { name.replacen(':', "~3A", 1) } else { name }
}

fn map_role(rules: &ProviderSettings, claims: &Map<String, Value>) -> Option<Role> {
    let found = rules.role_claim.as_deref().and_then(|path| find_claim(claims, path));
    let has = |wanted: &str| match found {
        Some(Value::Array(values)) => values.iter().any(|value| value.as_str() == Some(wanted)),
        Some(Value::Object(members)) => {
            members.get(wanted).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)))
        }
        Some(value) => value.as_str() == Some(wanted),
        None => false,
    };
    let mapped = rules.role_map.iter().find(|(value, _)| has(value)).map(|(_, role)| role);
    mapped.or(rules.default_role.as_ref()).cloned()
}

/// A claim by its name, or by a path of names with dots between. Each name may hold dots too, like
/// the id of a client or a URL.
fn find_claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        let step =
            |(at, _): (usize, &str)| find_claim(claims.get(&path[..at])?.as_object()?, &path[at + 1..]);
        path.match_indices('.').find_map(step)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn provider(more: Value) -> ProviderSettings {
        let mut rules = json!({ "issuer": "i", "audience": "us" });
        rules.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(rules).unwrap()
    }

    fn verify(rules: &ProviderSettings, change: Value) -> Result<ProviderUser, ExchangeRefusal> {
        let mut claims =
            json!({ "iss": "i", "aud": "us", "sub": "alice", "iat": NOW - 10, "exp": NOW + 300 });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        verify_claims(rules, claims.as_object().unwrap(), NOW)
    }

    #[test]
    fn each_bad_claim_has_its_own_refusal() {
        let rules = provider(json!({}));
        assert_eq!(verify(&rules, json!({})).unwrap().user.as_str(), "alice");
        for (change, expected) in [
            (json!({ "aud": "them" }), ExchangeRefusal::WrongAudience),
            (json!({ "aud": null }), ExchangeRefusal::WrongAudience),
            (json!({ "aud": ["them"] }), ExchangeRefusal::WrongAudience),
            (json!({ "aud": [] }), ExchangeRefusal::WrongAudience),
            (json!({ "aud": ["us", "them"] }), ExchangeRefusal::WrongParty),
            (json!({ "aud": ["us", "them"], "azp": "them" }), ExchangeRefusal::WrongParty),
            (json!({ "aud": ["a", "b"], "azp": "us" }), ExchangeRefusal::WrongAudience),
            (json!({ "exp": NOW }), ExchangeRefusal::Expired),
            (json!({ "exp": null }), ExchangeRefusal::Expired),
            (json!({ "exp": "soon" }), ExchangeRefusal::Expired),
            (json!({ "nbf": NOW + 61 }), ExchangeRefusal::NotYetValid),
            (json!({ "nbf": "x" }), ExchangeRefusal::NotYetValid),
            (json!({ "iat": NOW + 61 }), ExchangeRefusal::NotYetValid),
            (json!({ "iat": NOW - 86_401 }), ExchangeRefusal::TooOld),
            (json!({ "exp": NOW + 86_400 }), ExchangeRefusal::TooOld),
            (json!({ "iat": null, "exp": NOW + 86_401 }), ExchangeRefusal::TooOld),
            (json!({ "sub": "" }), ExchangeRefusal::NoUser),
            (json!({ "sub": null }), ExchangeRefusal::NoUser),
            (json!({ "sub": { "id": 1 } }), ExchangeRefusal::NoUser),
            (json!({ "sub": -1 }), ExchangeRefusal::NoUser),
            (json!({ "sub": "x".repeat(129) }), ExchangeRefusal::NoUser),
        ] {
            assert_eq!(verify(&rules, change.clone()), Err(expected), "{change}");
        }
        for good in [
            json!({ "aud": ["us"] }),
            json!({ "aud": ["us", "them"], "azp": "us" }),
            json!({ "exp": NOW as f64 + 0.5 }),
            json!({ "nbf": NOW + 60, "iat": NOW + 60 }),
            json!({ "iat": null }),
        ] {
            assert!(verify(&rules, good.clone()).is_ok(), "{good}");
        }
    }

    #[test]
    fn token_for_several_audiences_needs_an_authorized_party() {
        let (open, listed) =
            (provider(json!({})), provider(json!({ "authorized_parties": ["web-app", "phone-app"] })));
        // The claims, whether they are accepted without a list, and with it.
        for (claims, without, with) in [
            (json!({ "aud": "us" }), true, true),
            (json!({ "aud": "us", "azp": "them" }), true, false),
            (json!({ "aud": "us", "azp": "phone-app" }), true, true),
            (json!({ "aud": ["us"], "azp": "web-app" }), true, true),
            (json!({ "aud": ["us", "account"], "azp": "web-app" }), false, true),
            (json!({ "aud": ["account", "us"], "azp": "phone-app" }), false, true),
            (json!({ "aud": ["us", "account"], "azp": "us" }), true, true),
            (json!({ "aud": ["us", "account"], "azp": "web-app2" }), false, false),
            (json!({ "aud": ["us", "account"], "azp": "WEB-APP" }), false, false),
            (json!({ "aud": ["us", "account"], "azp": ["web-app"] }), false, false),
            (json!({ "aud": ["us", "account"], "azp": null, "client_id": "web-app" }), false, false),
            (json!({ "aud": ["us", "account"] }), false, false),
            (json!({ "aud": ["us", "web-app"] }), false, false),
            (json!({ "aud": ["account"], "azp": "web-app" }), false, false),
            (json!({ "aud": ["us", "account"], "client_id": "web-app" }), false, true),
            (json!({ "aud": "us", "appid": "web-app" }), true, true),
            (json!({ "aud": "us", "appid": "them" }), true, false),
            (json!({ "aud": "us", "cid": "web-app" }), true, true),
            (json!({ "aud": "us", "cid": "them" }), true, false),
            (json!({ "aud": ["us", "account"], "azp": "them", "client_id": "web-app" }), false, false),
        ] {
            assert_eq!(verify(&open, claims.clone()).is_ok(), without, "without a list: {claims}");
            assert_eq!(verify(&listed, claims.clone()).is_ok(), with, "with a list: {claims}");
        }
    }

    #[test]
    fn role_claim_of_every_shape_is_read() {
        let role = |path: &str, claims: Value| {
            let map = json!({ "role_claim": path, "role_map": { "lead": "host" }, "default_role": "viewer" });
            verify(&provider(map), claims).unwrap().role.unwrap().as_str().to_owned()
        };
        let url = "https://app.example/roles";
        for (path, claims) in [
            ("roles", json!({ "roles": "lead" })),
            ("roles", json!({ "roles": ["other", "lead"] })),
            ("realm_access.roles", json!({ "realm_access": { "roles": ["lead"] } })),
            (
                "resource_access.my-app.roles",
                json!({ "resource_access": { "my-app": { "roles": ["lead"] } } }),
            ),
            (
                "resource_access.my.app.roles",
                json!({ "resource_access": { "my.app": { "roles": ["lead"] } } }),
            ),
            (url, json!({ (url): ["lead"] })),
            (
                "https://app.example/claims.roles",
                json!({ "https://app.example/claims": { "roles": ["lead"] } }),
            ),
            ("urn:project:roles", json!({ "urn:project:roles": { "lead": { "1": "example" } } })),
            ("roles", json!({ "roles": { "lead": true } })),
            ("app.roles", json!({ "app": { "roles": { "lead": [] } } })),
        ] {
            assert_eq!(role(path, claims.clone()), "host", "{path} {claims}");
        }
        for (path, claims) in [
            ("roles", json!({ "roles": { "lead": false } })),
            ("roles", json!({ "roles": { "lead": null } })),
            ("roles", json!({ "roles": { "list": ["lead"] } })),
            ("roles", json!({ "roles": "lead other" })),
            ("roles", json!({ "roles": [["lead"]] })),
            (
                "resource_access.my-app.roles",
                json!({ "resource_access": { "other": { "roles": ["lead"] } } }),
            ),
            ("realm_access.roles", json!({ "realm_access": ["roles", "lead"] })),
            ("a..b", json!({ "a": { "b": "lead" } })),
            (".", json!({ "": "lead" })),
        ] {
            assert_eq!(role(path, claims.clone()), "viewer", "{path} {claims}");
        }
    }

    #[test]
    fn user_and_name_may_be_in_an_object() {
        let rules = provider(json!({ "user_claim": "act.id", "name_claim": "https://app.example/name" }));
        let claims = json!({ "act": { "id": "alice" }, "https://app.example/name": "Alice" });
        let user = verify(&rules, claims).unwrap();
        assert_eq!((user.user.as_str(), user.name.as_deref()), ("alice", Some("Alice")));
    }

    #[test]
    fn different_provider_names_become_different_users() {
        let rules = provider(json!({ "user_prefix": "idp:" }));
        let user = |sub: Value| verify(&rules, json!({ "sub": sub })).unwrap().user.as_str().to_owned();
        assert_eq!(user(json!("auth0|123")), "idp:auth0~7C123");
        assert_eq!(user(json!("auth0~7C123")), "idp:auth0~7E7C123");
        assert_eq!(user(json!("zoë")), "idp:zo~C3~AB");
        assert_eq!(user(json!(42)), "idp:42");
        assert_eq!(user(json!("guest:a")), "idp:guest:a");
        let rules = provider(json!({}));
        let user = |sub: &str| verify(&rules, json!({ "sub": sub })).unwrap().user.as_str().to_owned();
        for (sub, expected) in [
            ("guest:a:b", "guest~3Aa:b"),
            ("guest~3Aa:b", "guest~7E3Aa:b"),
            ("invite:a", "invite~3Aa"),
            ("guests:a", "guests:a"),
            ("Guest:a", "Guest:a"),
        ] {
            assert_eq!(user(sub), expected);
        }
    }

    #[test]
    fn role_map_turns_a_claim_into_a_role() {
        let map = json!({ "role_claim": "realm.roles", "role_map": { "a-staff": "host", "b-user": "speaker" },
            "default_role": "viewer" });
        let rules = provider(map);
        let role = |change: Value| verify(&rules, change).unwrap().role.unwrap().as_str().to_owned();
        assert_eq!(role(json!({ "realm": { "roles": ["b-user", "a-staff"] } })), "host");
        assert_eq!(role(json!({ "realm": { "roles": "b-user" } })), "speaker");
        assert_eq!(role(json!({ "realm.roles": "b-user" })), "speaker");
        for other in [json!({}), json!({ "realm": 1 }), json!({ "realm": { "roles": ["host"] } })] {
            assert_eq!(role(other), "viewer");
        }
    }

    #[test]
    fn unprintable_display_name_is_dropped() {
        let rules = provider(json!({}));
        let name = |name: Value| verify(&rules, json!({ "name": name })).unwrap().name;
        assert_eq!(name(json!("Alice")).as_deref(), Some("Alice"));
        for bad in [json!(""), json!("a\nb"), json!("x".repeat(65)), json!(7), json!("\u{202e}x")] {
            assert_eq!(name(bad), None);
        }
    }
}
