//! Tokens about users that others have signed: an OpenID provider, or the application itself.
//!
//! - [`TokenExchange`]: the provider, the key and the signature of a token
//! - `claims`: pure: the checks of the claims, and the user that they describe
//! - `provider_keys`: the cached keys of a provider
//!
//! Owns: the verification, by RFC 8725 and OpenID Connect Core, section 3.1.3.7. Must not: issue a
//! token (`auth/exchange.rs`), or fetch a key from an address that a token names; the configuration
//! names the addresses. Next: `claims.rs`.

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

/// The longest token that is parsed, bytes.
const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// Why a token about a user is rejected. The caller sees the text, which never holds a part of the
/// token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeRefusal {
    #[error("it is not a signed JWT")]
    Malformed,
    #[error("its header has a member that is not accepted")]
    ForbiddenHeader,
    #[error("its typ is not that of an ID or access token")]
    UnknownType,
    #[error("its iss is not a provider of this server")]
    UnknownIssuer,
    #[error("its provider does not use its algorithm")]
    WrongAlgorithm,
    #[error("its provider has no such key")]
    UnknownKey,
    #[error("its signature is wrong")]
    BadSignature,
    #[error("its aud does not name the audience of its provider in auth.providers")]
    WrongAudience,
    #[error(
        "the client it was issued to (azp) is not in authorized_parties of its provider in auth.providers"
    )]
    WrongParty,
    #[error("it has expired, or has no exp")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it is older than a day, or it lives longer")]
    TooOld,
    #[error("it does not name a user in the configured claim")]
    NoUser,
    #[error("the keys of its provider are unavailable now; try again")]
    KeysUnavailable,
}

/// The providers whose tokens are accepted. One for each process.
pub(crate) struct TokenExchange {
    providers: Vec<IdentityProvider>,
}

struct IdentityProvider {
    settings: config::ProviderSettings,
    algorithms: Vec<Algorithm>,
    keys: ProviderKeySource,
}

enum ProviderKeySource {
    /// The secret of the application (HS256).
    SharedSecret(DecodingKey),
    /// The key set of the provider, fetched when it is needed.
    Fetched(ProviderKeyCache),
}

/// Why the configured providers cannot be used: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// A provider uses HS256, and its secret is missing.
    #[error("a provider in auth.providers uses HS256, and SIGNALBOX_USER_SECRET is not set; set it")]
    NoSecret,
    /// The HTTP client cannot be built.
    #[error("auth.providers: {0}")]
    Client(#[from] HttpClientError),
}

impl TokenExchange {
    /// Reads the configuration. No key is fetched before a token needs it.
    ///
    /// # Errors
    /// [`ProvidersError`]
    pub(crate) fn new(
        settings: &ServiceSettings,
        secret: Option<&SharedSecret>,
    ) -> Result<Self, ProvidersError> {
        let (mut shared_client, client_settings) = (None, &settings.http_client);
        let mut providers = Vec::new();
        for rules in &settings.auth.providers {
            let keys = if rules.is_application() {
                ProviderKeySource::SharedSecret(DecodingKey::from_secret(
                    secret.ok_or(ProvidersError::NoSecret)?.expose(),
                ))
            } else {
                let client: &HttpClient = match &shared_client {
                    Some(client) => client,
                    None => shared_client.insert(HttpClient::from_settings(client_settings)?),
                };
                ProviderKeySource::Fetched(ProviderKeyCache::new(client.clone(), client_settings, rules))
            };
            let algorithms = rules.algorithms.iter().copied().map(library_algorithm).collect();
            providers.push(IdentityProvider { settings: rules.clone(), algorithms, keys });
        }
        Ok(Self { providers })
    }

    /// The user whom a valid token describes, at the time `now_ms` (since 1970).
    ///
    /// # Errors
    /// [`ExchangeRefusal`]: the first check that failed.
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
        let is_valid = jsonwebtoken::crypto::verify(
            parts.signature,
            parts.signed_part.as_bytes(),
            &key,
            parts.algorithm,
        );
        if !is_valid.unwrap_or(false) {
            return Err(ExchangeRefusal::BadSignature);
        }
        claims::verify_claims(&provider.settings, &parts.claims, now_ms / 1_000)
    }
}

/// A token, split into its parts, before any verification.
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
        // These members bring a key, or change how the token is read (RFC 8725, section 3.10; RFC
        // 7515, section 4.1.11).
        if [crit, b64, zip, enc, jwk, jku, x5u].into_iter().any(Option::is_some) {
            return Err(ExchangeRefusal::ForbiddenHeader);
        }
        // `application/` may be left out (RFC 7515, section 4.1.9).
        let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !["jwt", "at+jwt"].contains(&typ.strip_prefix("application/").unwrap_or(&typ)) {
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
