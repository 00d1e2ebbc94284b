//! Who asks: an application backend with an API key, or a guest.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use signalbox_shared::{
    config::{ApiKey, ApiKeys},
    id::CallerId,
    problem::Problem,
};

/// Somebody who may ask.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// A backend that has proven itself.
    ApiKey(&'a ApiKey),
    /// Anybody, where guests are on.
    Guest,
}

impl Caller<'_> {
    /// The kind, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "api_key",
            Self::Guest => "guest",
        }
    }

    /// The name, for logs.
    pub fn id(&self) -> &str {
        match self {
            Self::ApiKey(key) => &key.id,
            Self::Guest => "guest",
        }
    }

    /// The name, for a token.
    pub fn caller_id(&self) -> CallerId {
        // The id of a key has this alphabet since it was read.
        CallerId::parse(self.id()).unwrap_or_else(|_| CallerId::app())
    }
}

/// Judges an `Authorization` header. A wrong one is never taken for an absent one: a backend with a mistyped key must
/// hear of it, not get guest tokens.
///
/// # Errors
/// 401 `caller_unknown` or `guests_off`.
pub fn identify<'a>(
    authorization: Option<&[u8]>,
    keys: &'a ApiKeys,
    guests: bool,
) -> Result<Caller<'a>, Problem> {
    match authorization {
        Some(header) => prove(Some(header), keys).map(Caller::ApiKey),
        None if guests => Ok(Caller::Guest),
        None => {
            Err(Problem::new(401, "guests_off", "guests are off; send an API key as Authorization: Basic"))
        }
    }
}

/// Where only an API key will do.
///
/// # Errors
/// 401 `caller_unknown`.
pub fn prove<'a>(authorization: Option<&[u8]>, keys: &'a ApiKeys) -> Result<&'a ApiKey, Problem> {
    let detail = "the API key is missing or wrong; send Authorization: Basic with base64 of id:secret";
    authorization
        .and_then(|header| find(header, keys))
        .ok_or_else(|| Problem::new(401, "caller_unknown", detail))
}

/// RFC 7617: the scheme in any case, then base64 of `id:secret`.
fn find<'a>(header: &[u8], keys: &'a ApiKeys) -> Option<&'a ApiKey> {
    let (scheme, proof) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let proof = String::from_utf8(STANDARD.decode(proof.trim()).ok()?).ok()?;
    let (id, secret) = proof.split_once(':')?;
    keys.prove(id, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_known_a_guest_or_refused() {
        let secret = signalbox_shared::id::random_hex();
        let keys = ApiKeys::parse(&format!("backend:{secret}")).unwrap();
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let good = basic(&format!("backend:{secret}"));
        for (header, guests, expected) in [
            (Some(good.clone()), false, Ok("backend")),
            (Some(good.replace("Basic", "bASIC")), false, Ok("backend")),
            (Some(basic(&format!("other:{secret}"))), true, Err("caller_unknown")),
            (Some(basic("backend:wrong")), true, Err("caller_unknown")),
            (Some(basic("backend")), true, Err("caller_unknown")),
            (Some("Basic".to_owned()), true, Err("caller_unknown")),
            (Some("Basic ***".to_owned()), true, Err("caller_unknown")),
            (Some(format!("Bearer {secret}")), true, Err("caller_unknown")),
            (Some(String::new()), true, Err("caller_unknown")),
            (None, true, Ok("guest")),
            (None, false, Err("guests_off")),
        ] {
            let caller = identify(header.as_deref().map(str::as_bytes), &keys, guests);
            let outcome = caller.as_ref().map(Caller::id).map_err(|problem| problem.code);
            assert_eq!(outcome, expected, "{header:?}");
        }
        assert_eq!(identify(Some(b"Basic \xff\xfe"), &keys, true).unwrap_err().code, "caller_unknown");
    }
}
