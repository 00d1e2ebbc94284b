//! What must be right in a token whose signature holds, and what it says about the user. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};
use signalbox_config::Provider;
use signalbox_protocol::{
    id::{Role, UserId},
    text::is_display_name,
};

use super::NotBelieved;

/// How far the clocks of two machines may differ, seconds.
const SKEW_S: f64 = 60.0;

/// The longest life, and the greatest age, seconds.
const LONGEST_S: f64 = 24.0 * 60.0 * 60.0;

/// What is believed about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The user.
    pub user: UserId,
    /// The name to show, where there is one that can be shown.
    pub name: Option<Arc<str>>,
    /// The role; none is the usual one.
    pub role: Option<Role>,
}

/// Judges the claims at the time `now_s` (since 1970).
pub(super) fn judge(rules: &Provider, claims: &Map<String, Value>, now_s: u64) -> Result<Said, NotBelieved> {
    for_us(rules, claims)?;
    in_time(claims, now_s as f64)?;
    let user = match claims.get(&rules.user_claim) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Number(number)) if number.is_u64() => number.to_string(),
        _ => return Err(NotBelieved::User),
    };
    let user =
        UserId::parse(&format!("{}{}", rules.user_prefix, spelt(&user))).map_err(|_| NotBelieved::User)?;
    let name = claims.get(&rules.name_claim).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && is_display_name(name)).map(Arc::from);
    Ok(Said { user, name, role: role(rules, claims) })
}

/// `aud` (RFC 7519, section 4.1.3). A token for several must have been given to us (`azp`): another of them could show it.
fn for_us(rules: &Provider, claims: &Map<String, Value>) -> Result<(), NotBelieved> {
    let is_ours = |value: &Value| value.as_str() == Some(&rules.audience);
    let ours = match claims.get("aud") {
        Some(Value::Array(list)) if list.len() > 1 => {
            list.iter().any(is_ours) && claims.get("azp").is_some_and(is_ours)
        }
        Some(Value::Array(list)) => list.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    };
    if ours { Ok(()) } else { Err(NotBelieved::Audience) }
}

/// `exp`, `nbf`, `iat`: numbers, with fractions if they like (RFC 7519, section 2).
fn in_time(claims: &Map<String, Value>, now_s: f64) -> Result<(), NotBelieved> {
    let time = |name: &str, wrong: NotBelieved| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().filter(|at| at.is_finite()).map(Some).ok_or(wrong),
    };
    let exp = time("exp", NotBelieved::Expired)?.filter(|exp| *exp > now_s).ok_or(NotBelieved::Expired)?;
    let nbf = time("nbf", NotBelieved::NotYet)?.unwrap_or(now_s);
    let iat = time("iat", NotBelieved::NotYet)?.unwrap_or(now_s);
    if nbf > now_s + SKEW_S || iat > now_s + SKEW_S {
        return Err(NotBelieved::NotYet);
    }
    if now_s - iat > LONGEST_S || exp - iat.min(now_s) > LONGEST_S {
        return Err(NotBelieved::TooOld);
    }
    Ok(())
}

/// A user's name in our alphabet: what is not in it, and `~`, is written `~` and two hexadecimal digits a byte, so that two names
/// never become one.
fn spelt(name: &str) -> String {
    let mut spelt = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._@:+-".contains(&byte) {
            spelt.push(byte as char);
        } else {
            spelt.push_str(&format!("~{byte:02X}"));
        }
    }
    spelt
}

fn role(rules: &Provider, claims: &Map<String, Value>) -> Option<Role> {
    let found = rules.role_claim.as_deref().and_then(|path| claim(claims, path));
    let has = |wanted: &str| match found {
        Some(Value::Array(values)) => values.iter().any(|value| value.as_str() == Some(wanted)),
        Some(value) => value.as_str() == Some(wanted),
        None => false,
    };
    let mapped = rules.role_map.iter().find(|(value, _)| has(value)).map(|(_, role)| role);
    mapped.or(rules.default_role.as_ref()).cloned()
}

/// A claim by its name, which may hold dots itself, or by a path of names.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    claims.get(path).or_else(|| {
        let mut names = path.split('.');
        let first = claims.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn rules(more: Value) -> Provider {
        let mut rules = json!({ "issuer": "i", "audience": "us" });
        rules.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(rules).unwrap()
    }

    fn judged(rules: &Provider, change: Value) -> Result<Said, NotBelieved> {
        let mut claims =
            json!({ "iss": "i", "aud": "us", "sub": "alice", "iat": NOW - 10, "exp": NOW + 300 });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        judge(rules, claims.as_object().unwrap(), NOW)
    }

    #[test]
    fn each_defect_of_a_claim_is_named() {
        let rules = rules(json!({}));
        assert_eq!(judged(&rules, json!({})).unwrap().user.as_str(), "alice");
        for (change, expected) in [
            (json!({ "aud": "them" }), NotBelieved::Audience),
            (json!({ "aud": null }), NotBelieved::Audience),
            (json!({ "aud": ["them"] }), NotBelieved::Audience),
            (json!({ "aud": ["us", "them"] }), NotBelieved::Audience),
            (json!({ "aud": ["us", "them"], "azp": "them" }), NotBelieved::Audience),
            (json!({ "aud": ["a", "b"], "azp": "us" }), NotBelieved::Audience),
            (json!({ "exp": NOW }), NotBelieved::Expired),
            (json!({ "exp": null }), NotBelieved::Expired),
            (json!({ "exp": "soon" }), NotBelieved::Expired),
            (json!({ "nbf": NOW + 61 }), NotBelieved::NotYet),
            (json!({ "nbf": "x" }), NotBelieved::NotYet),
            (json!({ "iat": NOW + 61 }), NotBelieved::NotYet),
            (json!({ "iat": NOW - 86_401 }), NotBelieved::TooOld),
            (json!({ "exp": NOW + 86_400 }), NotBelieved::TooOld),
            (json!({ "iat": null, "exp": NOW + 86_401 }), NotBelieved::TooOld),
            (json!({ "sub": "" }), NotBelieved::User),
            (json!({ "sub": null }), NotBelieved::User),
            (json!({ "sub": { "id": 1 } }), NotBelieved::User),
            (json!({ "sub": -1 }), NotBelieved::User),
            (json!({ "sub": "x".repeat(129) }), NotBelieved::User),
        ] {
            assert_eq!(judged(&rules, change.clone()), Err(expected), "{change}");
        }
        for good in [
            json!({ "aud": ["us"] }),
            json!({ "aud": ["us", "them"], "azp": "us" }),
            json!({ "exp": NOW as f64 + 0.5 }),
            json!({ "nbf": NOW + 60, "iat": NOW + 60 }),
            json!({ "iat": null }),
        ] {
            assert!(judged(&rules, good.clone()).is_ok(), "{good}");
        }
    }

    #[test]
    fn two_names_never_become_one_user() {
        let rules = rules(json!({ "user_prefix": "idp:" }));
        let user = |sub: Value| judged(&rules, json!({ "sub": sub })).unwrap().user.as_str().to_owned();
        assert_eq!(user(json!("auth0|123")), "idp:auth0~7C123");
        assert_eq!(user(json!("auth0~7C123")), "idp:auth0~7E7C123");
        assert_eq!(user(json!("zoë")), "idp:zo~C3~AB");
        assert_eq!(user(json!(42)), "idp:42");
    }

    #[test]
    fn a_role_comes_from_a_claim_by_the_map() {
        let map = json!({ "role_claim": "realm.roles", "role_map": { "a-staff": "host", "b-user": "speaker" },
            "default_role": "viewer" });
        let rules = rules(map);
        let role = |change: Value| judged(&rules, change).unwrap().role.unwrap().as_str().to_owned();
        assert_eq!(role(json!({ "realm": { "roles": ["b-user", "a-staff"] } })), "host");
        assert_eq!(role(json!({ "realm": { "roles": "b-user" } })), "speaker");
        assert_eq!(role(json!({ "realm.roles": "b-user" })), "speaker");
        for other in [json!({}), json!({ "realm": 1 }), json!({ "realm": { "roles": ["host"] } })] {
            assert_eq!(role(other), "viewer");
        }
    }

    #[test]
    fn a_name_that_cannot_be_shown_is_left_out() {
        let rules = rules(json!({}));
        let name = |name: Value| judged(&rules, json!({ "name": name })).unwrap().name;
        assert_eq!(name(json!("Alice")).as_deref(), Some("Alice"));
        for bad in [json!(""), json!("a\nb"), json!("x".repeat(65)), json!(7), json!("\u{202e}x")] {
            assert_eq!(name(bad), None);
        }
    }
}
