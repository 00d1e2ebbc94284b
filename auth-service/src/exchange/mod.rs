//! Other people's tokens about users: an OpenID provider's, or the application's own.
//!
//! - [`Exchange`]: which provider, which key, whether its signature holds
//! - `claims`: pure: what must be right in a token whose signature holds, and what it says about the user
//! - `keys`: the keys of a provider, fetched, kept and fetched again
//!
//! Owns: what is believed, by RFC 8725 and OpenID Connect Core, section 3.1.3.7. Must not: give a token (`routes/exchange.rs`), or follow
//! anything that a token names: keys come from where the operator's configuration says.

mod claims;
mod keys;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, de::IgnoredAny};
use signalbox_config::{self as config, Settings, UserAlgorithm};
use signalbox_http::{Ask, AskError};
use signalbox_token::SharedSecret;

pub use claims::Said;
use keys::KeyCache;

/// The longest text that is looked at.
const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// Why a token about a user is not believed. The text goes to the caller, and never holds what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each says it")]
pub enum NotBelieved {
    #[error("it is not a signed JWT")]
    Malformed,
    #[error("its header has a member that is not accepted")]
    Header,
    #[error("its typ is not one of a token about a user")]
    Type,
    #[error("its iss is no provider of this server")]
    Issuer,
    #[error("its algorithm is not one of its provider's")]
    Algorithm,
    #[error("its provider has no such key")]
    UnknownKey,
    #[error("its signature does not hold")]
    Signature,
    #[error("its aud does not name this server, or its azp does not")]
    Audience,
    #[error("it has expired, or has no exp")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("it is older, or lives longer, than a day")]
    TooOld,
    #[error("it does not name a user in the configured claim")]
    User,
    #[error("its provider's keys cannot be had now")]
    NoKeys,
}

/// Who is believed. One for each process.
pub struct Exchange {
    providers: Vec<Provider>,
}

struct Provider {
    rules: config::Provider,
    algorithms: Vec<Algorithm>,
    keys: Keys,
}

enum Keys {
    /// The application's own secret.
    App(DecodingKey),
    /// Fetched from the provider.
    Fetched(Box<KeyCache>),
}

/// Why nobody can be believed: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BadProviders {
    /// There is a provider with HS256.
    #[error("auth.providers has one with HS256, and SIGNALBOX_USER_SECRET is not set")]
    NoSecret,
    /// A fault of ours.
    #[error("auth.providers: {0}")]
    Ask(#[from] AskError),
}

impl Exchange {
    /// Reads the configuration. Nothing is fetched before it is needed.
    ///
    /// # Errors
    /// [`BadProviders`]
    pub fn new(settings: &Settings, secret: Option<&SharedSecret>) -> Result<Self, BadProviders> {
        let mut ask = None;
        let mut providers = Vec::new();
        for rules in &settings.auth.providers {
            let keys = if rules.is_app() {
                Keys::App(DecodingKey::from_secret(secret.ok_or(BadProviders::NoSecret)?.expose()))
            } else {
                let ask: &Ask = match &ask {
                    Some(ask) => ask,
                    None => ask.insert(Ask::new(None)?),
                };
                Keys::Fetched(Box::new(KeyCache::new(ask.clone(), rules)))
            };
            let algorithms = rules.algorithms.iter().copied().map(library).collect();
            providers.push(Provider { rules: rules.clone(), algorithms, keys });
        }
        Ok(Self { providers })
    }

    /// What a token says about a user, if it is believed, at the time `now_ms` (since 1970).
    ///
    /// # Errors
    /// [`NotBelieved`]: the first thing that is wrong with it.
    pub async fn believe(&self, token: &str, now_ms: u64) -> Result<Said, NotBelieved> {
        let parts = Parts::read(token)?;
        let issuer = |provider: &&Provider| provider.rules.issuer == parts.issuer;
        let provider = self.providers.iter().find(issuer).ok_or(NotBelieved::Issuer)?;
        if !provider.algorithms.contains(&parts.algorithm) {
            return Err(NotBelieved::Algorithm);
        }
        let key = match &provider.keys {
            Keys::App(key) => key.clone(),
            Keys::Fetched(cache) => cache.key(parts.kid.as_deref(), parts.algorithm, now_ms).await?,
        };
        let holds =
            jsonwebtoken::crypto::verify(parts.signature, parts.message.as_bytes(), &key, parts.algorithm);
        if !holds.unwrap_or(false) {
            return Err(NotBelieved::Signature);
        }
        claims::judge(&provider.rules, &parts.claims, now_ms / 1_000)
    }
}

/// A token, cut into its parts; nothing of it is believed yet.
struct Parts<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    issuer: String,
    claims: serde_json::Map<String, serde_json::Value>,
    message: &'a str,
    signature: &'a str,
}

#[derive(Deserialize)]
struct Header {
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

impl<'a> Parts<'a> {
    fn read(token: &'a str) -> Result<Self, NotBelieved> {
        let malformed = NotBelieved::Malformed;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(malformed)?;
        let (header, body) = message.split_once('.').ok_or(malformed)?;
        let header: Header = parse(header)?;
        let Header { crit, b64, zip, enc, jwk, jku, x5u, .. } = &header;
        // What would bring a key of its own, or change how the token is read (RFC 8725, section 3.10; RFC 7515, section 4.1.11).
        if [crit, b64, zip, enc, jwk, jku, x5u].into_iter().any(Option::is_some) {
            return Err(NotBelieved::Header);
        }
        let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !["jwt", "at+jwt", "application/at+jwt"].contains(&&*typ) {
            return Err(NotBelieved::Type);
        }
        let algorithm = header.alg.parse().map_err(|_| NotBelieved::Algorithm)?;
        let claims: serde_json::Map<String, serde_json::Value> = parse(body)?;
        let issuer = claims.get("iss").and_then(|iss| iss.as_str()).ok_or(NotBelieved::Issuer)?.to_owned();
        let kid = header.kid.filter(|kid| !kid.is_empty());
        Ok(Self { algorithm, kid, issuer, claims, message, signature })
    }
}

fn parse<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, NotBelieved> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| NotBelieved::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| NotBelieved::Malformed)
}

fn library(algorithm: UserAlgorithm) -> Algorithm {
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
