//! Other people's tokens about users: an OpenID provider's, or the application's own.
//!
//! - [`TokenExchange`]: which provider, which key, whether its signature holds
//! - `claims`: pure: what must be right in a token whose signature holds, and what it says about the user
//! - `provider_keys`: the keys of a provider, fetched, kept and fetched again
//!
//! Owns: what is believed, by RFC 8725 and OpenID Connect Core, section 3.1.3.7. Must not: give a token (`auth/exchange.rs`), or follow
//! anything that a token names: keys come from where the operator's configuration says.

mod claims;
mod provider_keys;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, de::IgnoredAny};
use signalbox_config as config;
use signalbox_config::{ServiceSettings, UserAlgorithm};
use signalbox_http::{HttpClient, HttpClientError};
use signalbox_token::SharedSecret;

use provider_keys::ProviderKeyCache;

pub(crate) use claims::ProviderUser;

/// The longest text that is looked at.
const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// Why a token about a user is not believed. The text goes to the caller, and never holds what was
/// sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeRefusal {
    #[error("it is not a signed JWT")]
    Malformed,
    #[error("its header has a member that is not accepted")]
    ForbiddenHeader,
    #[error("its typ is not one of a token about a user")]
    UnknownType,
    #[error("its iss is no provider of this server")]
    UnknownIssuer,
    #[error("its algorithm is not one of its provider's")]
    WrongAlgorithm,
    #[error("its provider has no such key")]
    UnknownKey,
    #[error("its signature does not hold")]
    BadSignature,
    #[error("its aud does not name this server, or its azp does not")]
    WrongAudience,
    #[error("it has expired, or has no exp")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it is older, or lives longer, than a day")]
    TooOld,
    #[error("it does not name a user in the configured claim")]
    NoUser,
    #[error("its provider's keys cannot be had now")]
    KeysUnavailable,
}

/// Who is believed. One for each process.
pub(crate) struct TokenExchange {
    providers: Vec<IdentityProvider>,
}

struct IdentityProvider {
    settings: config::ProviderSettings,
    algorithms: Vec<Algorithm>,
    keys: ProviderKeySource,
}

enum ProviderKeySource {
    /// The application's own secret.
    SharedSecret(DecodingKey),
    /// Fetched from the provider.
    Fetched(ProviderKeyCache),
}

/// Why nobody can be believed: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// There is a provider with HS256.
    #[error("auth.providers has one with HS256, and SIGNALBOX_USER_SECRET is not set")]
    NoSecret,
    /// A fault of ours.
    #[error("auth.providers: {0}")]
    Client(#[from] HttpClientError),
}

impl TokenExchange {
    /// Reads the configuration. Nothing is fetched before it is needed.
    ///
    /// # Errors
    /// [`ProvidersError`]
    pub(crate) fn new(
        settings: &ServiceSettings,
        secret: Option<&SharedSecret>,
    ) -> Result<Self, ProvidersError> {
        let mut ask = None;
        let mut providers = Vec::new();
        for rules in &settings.auth.providers {
            let keys = if rules.is_application() {
                ProviderKeySource::SharedSecret(DecodingKey::from_secret(
                    secret.ok_or(ProvidersError::NoSecret)?.expose(),
                ))
            } else {
                let ask: &HttpClient = match &ask {
                    Some(ask) => ask,
                    None => ask.insert(HttpClient::new(None)?),
                };
                ProviderKeySource::Fetched(ProviderKeyCache::new(ask.clone(), rules))
            };
            let algorithms = rules.algorithms.iter().copied().map(library_algorithm).collect();
            providers.push(IdentityProvider { settings: rules.clone(), algorithms, keys });
        }
        Ok(Self { providers })
    }

    /// What a token says about a user, if it is believed, at the time `now_ms` (since 1970).
    ///
    /// # Errors
    /// [`ExchangeRefusal`]: the first thing that is wrong with it.
    pub(crate) async fn verify(&self, token: &str, now_ms: u64) -> Result<ProviderUser, ExchangeRefusal> {
        let parts = UnverifiedToken::split(token)?;
        let issuer = |provider: &&IdentityProvider| provider.settings.issuer == parts.issuer;
        let provider = self.providers.iter().find(issuer).ok_or(ExchangeRefusal::UnknownIssuer)?;
        if !provider.algorithms.contains(&parts.algorithm) {
            return Err(ExchangeRefusal::WrongAlgorithm);
        }
        let key = match &provider.keys {
            ProviderKeySource::SharedSecret(key) => key.clone(),
            ProviderKeySource::Fetched(cache) => {
                cache.find_key(parts.kid.as_deref(), parts.algorithm, now_ms).await?
            }
        };
        let holds = jsonwebtoken::crypto::verify(
            parts.signature,
            parts.signed_part.as_bytes(),
            &key,
            parts.algorithm,
        );
        if !holds.unwrap_or(false) {
            return Err(ExchangeRefusal::BadSignature);
        }
        claims::verify_claims(&provider.settings, &parts.claims, now_ms / 1_000)
    }
}

/// A token, cut into its parts; nothing of it is believed yet.
struct UnverifiedToken<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    issuer: String,
    claims: serde_json::Map<String, serde_json::Value>,
    signed_part: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
}

impl<'a> UnverifiedToken<'a> {
    fn split(token: &'a str) -> Result<Self, ExchangeRefusal> {
        let malformed = ExchangeRefusal::Malformed;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, body) = message.split_once('.').ok_or(malformed)?;
        let header: JoseHeader = decode_part(header)?;
        let JoseHeader { crit, b64, zip, enc, jwk, jku, x5u, .. } = &header;
        // What would bring a key of its own, or change how the token is read (RFC 8725, section
        // 3.10; RFC 7515, section 4.1.11).
        if [crit, b64, zip, enc, jwk, jku, x5u].into_iter().any(Option::is_some) {
            return Err(ExchangeRefusal::ForbiddenHeader);
        }
        let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !["jwt", "at+jwt", "application/at+jwt"].contains(&&*typ) {
            return Err(ExchangeRefusal::UnknownType);
        }
        let algorithm = header.alg.parse().map_err(|_| ExchangeRefusal::WrongAlgorithm)?;
        let claims: serde_json::Map<String, serde_json::Value> = decode_part(body)?;
        let issuer =
            claims.get("iss").and_then(|iss| iss.as_str()).ok_or(ExchangeRefusal::UnknownIssuer)?.to_owned();
        let kid = header.kid.filter(|kid| !kid.is_empty());
        Ok(Self { algorithm, kid, issuer, claims, signed_part: message, signature })
    }
}

fn decode_part<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, ExchangeRefusal> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| ExchangeRefusal::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| ExchangeRefusal::Malformed)
}

fn library_algorithm(algorithm: UserAlgorithm) -> Algorithm {
    match algorithm {
        UserAlgorithm::HS256 => Algorithm::HS256,
        UserAlgorithm::RS256 => Algorithm::RS256,
        UserAlgorithm::RS384 => Algorithm::RS384,
        UserAlgorithm::RS512 => Algorithm::RS512,
        UserAlgorithm::PS256 => Algorithm::PS256,
        UserAlgorithm::PS384 => Algorithm::PS384,
        UserAlgorithm::PS512 => Algorithm::PS512,
        UserAlgorithm::ES256 => Algorithm::ES256,
        UserAlgorithm::ES384 => Algorithm::ES384,
        UserAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
