//! The keys of a provider (RFC 7517), found by discovery where no address is configured (OpenID Connect Discovery 1.0, section 4).
//!
//! One question at a time for each provider. Keys that are held go on while the provider does not answer.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use signalbox_config as config;
use signalbox_config::is_trusted_key_url;
use signalbox_http::{HttpClient, RequestLimits};
use tokio::sync::Mutex;

use super::ExchangeRefusal;

const KEY_REQUEST_LIMITS: RequestLimits =
    RequestLimits { deadline: Duration::from_secs(3), max_body_bytes: 128 * 1024 };

/// How long a set is kept before it is asked for again.
const REFRESH_AFTER_MS: u64 = 5 * 60 * 1_000;

/// Between two questions at least: a token that names an unknown key must not make us ask each time.
const MIN_REQUEST_GAP_MS: u64 = 10_000;

/// How long a set is used while the provider does not answer.
const MAX_STALE_MS: u64 = 24 * 60 * 60 * 1_000;

/// The most keys that are read of a set.
const MAX_KEYS: usize = 64;

/// RSA keys shorter than this are not keys (RFC 7518, section 3.3), bytes.
const MIN_RSA_BYTES: usize = 256;

/// See the module.
pub(super) struct ProviderKeyCache {
    http: HttpClient,
    issuer: String,
    jwks_url: Option<String>,
    cached: Mutex<CachedKeySet>,
}

#[derive(Default)]
struct CachedKeySet {
    keys: Arc<[ProviderKey]>,
    /// When they came; none before the first time.
    fetched_ms: Option<u64>,
    /// When they were last asked for.
    requested_ms: Option<u64>,
}

struct ProviderKey {
    kid: Option<String>,
    /// The one algorithm that the provider names, or none: then all of its kind.
    algorithm: Option<Algorithm>,
    kind: KeyType,
    key: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Okp,
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct ProviderJwkSet {
    keys: Vec<Value>,
}

impl ProviderKeyCache {
    pub(super) fn new(http: HttpClient, rules: &config::ProviderSettings) -> Self {
        Self {
            http,
            issuer: rules.issuer.clone(),
            jwks_url: rules.jwks_url.clone(),
            cached: Mutex::default(),
        }
    }

    /// The key for a token.
    pub(super) async fn find_key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now_ms: u64,
    ) -> Result<DecodingKey, ExchangeRefusal> {
        // Held while the provider is asked: whoever else needs its keys waits for the one answer.
        let mut held = self.cached.lock().await;
        let age_ms = held.fetched_ms.map(|at| now_ms.saturating_sub(at));
        let found = pick_key(&held.keys, kid, algorithm);
        let old = age_ms.is_none_or(|age| age > REFRESH_AFTER_MS);
        let may_ask = held.requested_ms.is_none_or(|at| now_ms.saturating_sub(at) >= MIN_REQUEST_GAP_MS);
        if (old || found.is_none()) && may_ask {
            held.requested_ms = Some(now_ms);
            if let Some(keys) = self.fetch_keys().await {
                held.keys = keys;
                held.fetched_ms = Some(now_ms);
            }
        }
        if held.fetched_ms.is_none_or(|at| now_ms.saturating_sub(at) > MAX_STALE_MS) {
            return Err(ExchangeRefusal::KeysUnavailable);
        }
        pick_key(&held.keys, kid, algorithm).cloned().ok_or(ExchangeRefusal::UnknownKey)
    }

    async fn fetch_keys(&self) -> Option<Arc<[ProviderKey]>> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover_jwks_url().await?,
        };
        let set: ProviderJwkSet = self.fetch_json(&url).await?;
        Some(set.keys.into_iter().take(MAX_KEYS).filter_map(parse_key).collect())
    }

    async fn discover_jwks_url(&self) -> Option<String> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let found: DiscoveryDocument = self.fetch_json(&url).await?;
        // Section 4.3: it must be the issuer's own. Where its keys are it may say, but not that they come in the open.
        if found.issuer == self.issuer && is_trusted_key_url(&found.jwks_uri) {
            return Some(found.jwks_uri);
        }
        tracing::warn!(event = "provider_unfit", issuer = self.issuer, "its discovery document is another's");
        None
    }

    async fn fetch_json<T: serde::de::DeserializeOwned>(&self, url: &str) -> Option<T> {
        let why = match self.http.get(url, KEY_REQUEST_LIMITS).await {
            Ok(answer) if answer.status.is_success() => match serde_json::from_slice(&answer.body) {
                Ok(found) => return Some(found),
                Err(_) => "its answer is not what it should be".to_owned(),
            },
            Ok(answer) => format!("it answered {}", answer.status.as_u16()),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            event = "provider_away",
            issuer = self.issuer,
            why,
            "the keys of a provider cannot be had"
        );
        None
    }
}

/// The key that a token names, or the only one that could be meant.
fn pick_key<'a>(keys: &'a [ProviderKey], kid: Option<&str>, algorithm: Algorithm) -> Option<&'a DecodingKey> {
    let fits = |key: &&ProviderKey| match key.algorithm {
        Some(only) => only == algorithm,
        None => key_type_of(algorithm) == Some(key.kind),
    };
    let mut fitting = keys.iter().filter(fits);
    match kid {
        Some(kid) => fitting.find(|key| key.kid.as_deref() == Some(kid)).map(|key| &key.key),
        None => {
            let only = fitting.next()?;
            fitting.next().is_none().then_some(&only.key)
        }
    }
}

fn key_type_of(algorithm: Algorithm) -> Option<KeyType> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match algorithm {
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => Some(KeyType::Rsa),
        ES256 => Some(KeyType::P256),
        ES384 => Some(KeyType::P384),
        EdDSA => Some(KeyType::Okp),
        _ => None,
    }
}

/// A public signing key of a kind that is known; anything else is passed over (RFC 7517, section 5).
fn parse_key(key: Value) -> Option<ProviderKey> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm {
        Some(KeyAlgorithm::UNKNOWN_ALGORITHM) => return None,
        Some(named) => Some(named.to_string().parse::<Algorithm>().ok()?),
        None => None,
    };
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let n = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
            (n.len() >= MIN_RSA_BYTES).then_some(KeyType::Rsa)?
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            jsonwebtoken::jwk::EllipticCurve::P256 => KeyType::P256,
            jsonwebtoken::jwk::EllipticCurve::P384 => KeyType::P384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => KeyType::Okp,
        _ => return None,
    };
    if algorithm.is_some_and(|algorithm| key_type_of(algorithm) != Some(kind)) {
        return None;
    }
    Some(ProviderKey { key: DecodingKey::from_jwk(&jwk).ok()?, kid: jwk.common.key_id, algorithm, kind })
}
