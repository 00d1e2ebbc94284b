//! The keys of a provider (RFC 7517). Without a configured address, discovery finds them (OpenID
//! Connect Discovery 1.0, section 4).
//!
//! Owns: the requests to a provider and the choice of a key. Must not: decide when to fetch;
//! `signalbox_http::JwksCache` does. Cached keys stay in use while the provider does not answer.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use signalbox_config::{self as config, is_trusted_key_url};
use signalbox_http::{HttpClient, JwksCache, JwksCacheSettings, KeySetSource, RequestLimits};
use signalbox_protocol::file_text::file_text;

use super::ExchangeRefusal;

const KEY_REQUEST_LIMITS: RequestLimits =
    RequestLimits { deadline: Duration::from_secs(3), max_body_bytes: 128 * 1024 };

/// The bounds of the cache. While the provider does not answer, a set is used for a day. Tokens
/// with unknown keys cause at most one fetch in a second.
const CACHE_SETTINGS: JwksCacheSettings = JwksCacheSettings {
    refresh_after: Duration::from_secs(5 * 60),
    max_age: Some(Duration::from_secs(24 * 60 * 60)),
    min_fetch_interval: MIN_FETCH_INTERVAL,
    max_retry_delay: Duration::from_secs(10),
    max_start_delay: MIN_FETCH_INTERVAL,
    // Discovery and the set are two requests, each with its own deadline.
    max_wait: Duration::from_secs(8),
    max_waiting: usize::MAX,
};

/// The shortest time from one fetch to the next.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest RSA modulus that is accepted (RFC 7518, section 3.3), bytes.
const MIN_RSA_BYTES: usize = 256;

/// The cached keys of one provider.
pub(super) struct ProviderKeyCache(Arc<JwksCache<ProviderKeySet>>);

/// The key set of one provider.
struct ProviderKeySet {
    http: HttpClient,
    client_settings: config::HttpClientSettings,
    issuer: String,
    jwks_url: Option<String>,
}

struct ProviderKey {
    kid: Option<String>,
    /// The only algorithm of the key; `None` allows every algorithm of its type.
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
    pub(super) fn new(
        http: HttpClient,
        client_settings: &config::HttpClientSettings,
        rules: &config::ProviderSettings,
    ) -> Self {
        let (issuer, jwks_url) = (rules.issuer.clone(), rules.jwks_url.clone());
        let client_settings = client_settings.clone();
        Self(JwksCache::new(ProviderKeySet { http, client_settings, issuer, jwks_url }, CACHE_SETTINGS))
    }

    /// The key for a token. The set is fetched first if it is due, or lacks the key.
    ///
    /// # Errors
    /// [`ExchangeRefusal::UnknownKey`] if the provider has answered without the key;
    /// [`ExchangeRefusal::KeysUnavailable`] if it has not answered.
    pub(super) async fn find_key(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now_ms: u64,
    ) -> Result<DecodingKey, ExchangeRefusal> {
        let cached = self.0.keys(now_ms);
        let found = cached.as_deref().and_then(|keys| pick_key(keys, kid, algorithm));
        if let Some(key) = found.filter(|_| !self.0.is_refresh_due(now_ms)) {
            return Ok(key.clone());
        }
        let was_fetched = self.0.refresh(now_ms).await;
        let keys = self.0.keys(now_ms).ok_or(ExchangeRefusal::KeysUnavailable)?;
        let missing =
            if was_fetched { ExchangeRefusal::UnknownKey } else { ExchangeRefusal::KeysUnavailable };
        pick_key(&keys, kid, algorithm).cloned().ok_or(missing)
    }
}

impl KeySetSource for ProviderKeySet {
    type Keys = Vec<ProviderKey>;

    async fn fetch_keys(&self) -> Option<Vec<ProviderKey>> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover_jwks_url().await?,
        };
        let set: ProviderJwkSet = self.fetch_json(&url).await?;
        let keys: Vec<ProviderKey> = set.keys.into_iter().filter_map(parse_key).collect();
        if keys.is_empty() {
            self.log_unavailable("its key set has no usable key");
            return None;
        }
        Some(keys)
    }
}

impl ProviderKeySet {
    async fn discover_jwks_url(&self) -> Option<String> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let found: DiscoveryDocument = self.fetch_json(&url).await?;
        // Section 4.3: the document must name this issuer. It may name any address for the keys,
        // but not an unencrypted one.
        if found.issuer == self.issuer && is_trusted_key_url(&found.jwks_uri, &self.client_settings) {
            return Some(found.jwks_uri);
        }
        tracing::warn!(
            event = "provider_unfit",
            issuer = self.issuer,
            "the discovery document names another issuer, or an http:// address of a host that is not in http_client.unencrypted_hosts; the keys are not fetched"
        );
        None
    }

    async fn fetch_json<T: serde::de::DeserializeOwned>(&self, url: &str) -> Option<T> {
        let why = match self.http.get(url, KEY_REQUEST_LIMITS).await {
            Ok(answer) if answer.status.is_success() => {
                let text = file_text(&answer.body).ok();
                match text.and_then(|text| serde_json::from_str(text).ok()) {
                    Some(found) => return Some(found),
                    None => "its answer is not the expected JSON".to_owned(),
                }
            }
            Ok(answer) => format!("it answered {}", answer.status.as_u16()),
            Err(error) => error.to_string(),
        };
        self.log_unavailable(&why);
        None
    }

    fn log_unavailable(&self, why: &str) {
        tracing::warn!(
            event = "provider_unavailable",
            issuer = self.issuer,
            why,
            "the keys of a provider cannot be fetched"
        );
    }
}

/// The key that a token names. A token without `kid` gets the only key of its algorithm.
fn pick_key<'a>(keys: &'a [ProviderKey], kid: Option<&str>, algorithm: Algorithm) -> Option<&'a DecodingKey> {
    let supports = |key: &&ProviderKey| match key.algorithm {
        Some(only) => only == algorithm,
        None => key_type_of(algorithm) == Some(key.kind),
    };
    let mut candidates = keys.iter().filter(supports);
    match kid {
        Some(kid) => candidates.find(|key| key.kid.as_deref() == Some(kid)).map(|key| &key.key),
        None => {
            let only = candidates.next()?;
            candidates.next().is_none().then_some(&only.key)
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

/// Parses a public signing key of a supported type; any other key is skipped (RFC 7517, section 5).
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
