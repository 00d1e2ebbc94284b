//! The keys that verify tokens: the shared secret, or the public keys that the auth service
//! publishes, or both.
//!
//! Owns: the fetch of the published key set, and one more fetch for a token with an unknown key.
//! Must not: hold a key that signs, or let a token with a known key wait. Next: `admission`
//! verifies tokens; `signalbox_http::JwksCache` decides when to fetch.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use signalbox_http::{
    HttpClient, HttpClientError, JwksCache, JwksCacheSettings, KeySetSource, RequestLimits,
};
use signalbox_protocol::problem::Problem;
use signalbox_token::{JwksError, MAX_JWKS_BYTES, TokenError, TokenVerifier, VerificationKey, parse_jwks};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::node_metrics::NodeMetrics;

/// The shortest time from one fetch to the next: tokens with unknown keys cost an attacker nothing.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a token with an unknown key waits until the next fetch begins and has ended.
const MAX_KEY_WAIT: Duration = Duration::from_millis(1_500);

/// The number of upgrades that may wait at the same time; further ones are refused at once.
const MAX_WAITING_UPGRADES: usize = 256;

/// The longest time of one fetch.
const FETCH_DEADLINE: Duration = Duration::from_secs(2);

/// The longest pause between two fetches while they fail.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The place of the published key set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A URL of the auth service.
    Url(String),
    /// A file that the operator updates.
    File(PathBuf),
}

/// The keys that verify tokens.
pub struct TokenKeys {
    verifier: TokenVerifier,
    published: Option<PublishedKeys>,
}

/// The published keys, and the start of the clock of their cache.
struct PublishedKeys {
    cache: Arc<JwksCache<KeySetFetcher>>,
    created_at: Instant,
}

impl PublishedKeys {
    fn now_ms(&self) -> u64 {
        elapsed_ms(self.created_at)
    }
}

fn elapsed_ms(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

impl From<TokenVerifier> for TokenKeys {
    /// Keys that another part of the process replaces, or that never change.
    fn from(verifier: TokenVerifier) -> Self {
        Self { verifier, published: None }
    }
}

impl TokenKeys {
    /// Keys from a source, fetched again before they are `ttl` old. The verifier must accept
    /// published keys.
    pub fn from_source(
        verifier: TokenVerifier,
        source: KeySource,
        http_client: HttpClient,
        ttl: Duration,
    ) -> Self {
        let refresh_after = ttl * 3 / 4;
        let settings = JwksCacheSettings {
            refresh_after,
            max_age: None,
            min_fetch_interval: MIN_FETCH_INTERVAL.min(refresh_after),
            max_retry_delay: MAX_RETRY_DELAY,
            max_start_delay: MIN_FETCH_INTERVAL,
            max_wait: MAX_KEY_WAIT,
            max_waiting: MAX_WAITING_UPGRADES,
        };
        let fetcher = KeySetFetcher {
            verifier: verifier.clone(),
            source,
            http_client,
            metrics: OnceLock::new(),
            log: Mutex::default(),
            running_read: Mutex::default(),
        };
        let cache = JwksCache::new(fetcher, settings);
        Self { verifier, published: Some(PublishedKeys { cache, created_at: Instant::now() }) }
    }

    /// Starts to fetch the published keys in the background.
    pub(crate) fn start_fetching(&self, metrics: &NodeMetrics) {
        if let Some(PublishedKeys { cache, created_at }) = &self.published {
            // The first metrics stay: a process starts one node.
            let _ = cache.source().metrics.set(metrics.clone());
            let created_at = *created_at;
            tokio::spawn(cache.clone().run_refreshes(move || elapsed_ms(created_at)));
        }
    }

    /// Whether there is a key to verify with.
    ///
    /// # Errors
    /// 503 `unavailable` before the first set has come.
    pub fn check_ready(&self) -> Result<(), Problem> {
        match &self.published {
            Some(published) if published.cache.keys(published.now_ms()).is_none() => {
                let detail =
                    "this node has not fetched the keys that verify tokens yet; keep the token and try again";
                Err(Problem::new(503, "unavailable", detail))
            }
            _ => Ok(()),
        }
    }

    /// The age of the set, seconds: since the last successful fetch, or since the start. None
    /// without a source.
    pub(crate) fn key_set_age_s(&self) -> Option<f64> {
        self.published.as_ref().map(|published| published.cache.age(published.now_ms()).as_secs_f64())
    }

    /// The verifier, which has the keys.
    pub fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    /// Fetches the published keys again, at most once a second. Returns whether they were fetched.
    pub(crate) async fn refresh_keys(&self) -> bool {
        match &self.published {
            Some(published) => published.cache.refresh(published.now_ms()).await,
            None => false,
        }
    }

    /// Fetches the keys again, because no known key has signed this token: `refusal`.
    ///
    /// # Errors
    /// `refusal` if another fetch cannot help; 503 `unavailable` if the keys cannot be fetched now,
    /// because the token may be valid.
    pub async fn fetch_missing_key(&self, token: &str, refusal: TokenError) -> Result<(), Problem> {
        let published = self.published.as_ref().filter(|_| self.verifier.is_key_missing(token));
        let Some(published) = published else { return Err(refusal.to_problem()) };
        let was_fetched = published.cache.refresh(published.now_ms()).await;
        self.check_ready()?;
        if was_fetched { Ok(()) } else { Err(TokenError::KeysUnavailable.to_problem()) }
    }
}

/// Fetches the published key set and gives it to the verifier.
struct KeySetFetcher {
    verifier: TokenVerifier,
    source: KeySource,
    http_client: HttpClient,
    metrics: OnceLock<NodeMetrics>,
    // A std mutex: held to compare and log. One fetch runs at a time.
    log: Mutex<FetchLog>,
    /// A read of the file that has not ended within its deadline. A std mutex: held to take or set.
    running_read: Mutex<Option<FileRead>>,
}

/// The last logged state, so that each change is logged once.
#[derive(Default)]
struct FetchLog {
    failures: u32,
    kids: Vec<String>,
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum KeyFetchError {
    #[error("{0}")]
    Http(#[from] HttpClientError),
    #[error("the response has the status {0}")]
    Status(u16),
    #[error("the file cannot be read: {0}")]
    File(String),
    #[error("the set {0}")]
    InvalidKeySet(#[from] JwksError),
    #[error("the set holds no key for EdDSA or ES256")]
    NoUsableKey,
}

impl KeySetSource for KeySetFetcher {
    /// The verifier holds the keys.
    type Keys = ();

    async fn fetch_keys(&self) -> Option<()> {
        let fetched = self.fetch_key_set().await;
        if let Some(metrics) = self.metrics.get() {
            metrics.count_key_fetch(fetched.is_ok());
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(keys) => {
                if log.failures > 0 {
                    tracing::info!(event = "jwks_available", failures = log.failures);
                }
                let kids: Vec<_> = keys.iter().map(|key| key.kid().to_owned()).collect();
                if log.kids != kids {
                    tracing::info!(event = "jwks_changed", kids = kids.join(" "));
                }
                *log = FetchLog { failures: 0, kids };
                self.verifier.replace_published_keys(keys);
                Some(())
            }
            Err(error) => {
                self.verifier.keep_published_keys();
                if log.failures == 0 {
                    tracing::warn!(
                        event = "jwks_unavailable",
                        %error,
                        "the keys of auth.jwks_url could not be fetched; a node without keys admits no peer, and otherwise the known keys stay in use"
                    );
                }
                log.failures = log.failures.saturating_add(1);
                None
            }
        }
    }
}

impl KeySetFetcher {
    async fn fetch_key_set(&self) -> Result<Vec<VerificationKey>, KeyFetchError> {
        let text = match &self.source {
            KeySource::Url(url) => {
                let limits = RequestLimits { deadline: FETCH_DEADLINE, max_body_bytes: MAX_JWKS_BYTES };
                let response = self.http_client.get(url, limits).await?;
                if response.status != 200 {
                    return Err(KeyFetchError::Status(response.status.as_u16()));
                }
                response.body.to_vec()
            }
            KeySource::File(path) => self.read_key_file(path).await?,
        };
        let keys = parse_jwks(&text)?;
        if keys.is_empty() { Err(KeyFetchError::NoUsableKey) } else { Ok(keys) }
    }
}

type FileRead = JoinHandle<std::io::Result<Vec<u8>>>;

impl KeySetFetcher {
    /// Reads the file within the deadline. While a read hangs, for example because a file system is
    /// lost, no second one is started.
    async fn read_key_file(&self, path: &Path) -> Result<Vec<u8>, KeyFetchError> {
        let path = path.to_owned();
        let running = self.running_read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut read = running.unwrap_or_else(|| tokio::task::spawn_blocking(move || read_bounded(&path)));
        match timeout(FETCH_DEADLINE, &mut read).await {
            Ok(Ok(text)) => text.map_err(|error| KeyFetchError::File(error.to_string())),
            Ok(Err(_)) => Err(KeyFetchError::File("the read was cancelled".to_owned())),
            Err(_) => {
                *self.running_read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
                Err(KeyFetchError::File("the read did not end in time".to_owned()))
            }
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    // One byte beyond the bound shows that the file is too long.
    std::fs::File::open(path)?.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use signalbox_tests::{
        provider::{ProviderFault, ProviderKey, TestProvider},
        token::TokenBuilder,
    };

    use super::*;

    /// The rows are all faults of the server of the key set, and none, each with and without keys that
    /// were fetched before.
    #[tokio::test]
    async fn unknown_key_is_refused_only_if_the_key_set_was_fetched_without_it() {
        let known = ProviderKey::new("known", jsonwebtoken::Algorithm::EdDSA);
        let token = TokenBuilder::valid("r", "alice").kid("unknown").sign_ed25519();
        // A key set is fetched without discovery.
        let faults = ProviderFault::ALL.into_iter().filter(|fault| *fault != ProviderFault::ForeignIssuer);
        let rows = faults.map(Some).chain([None]);
        for (fault, has_keys) in rows.flat_map(|fault| [(fault, true), (fault, false)]) {
            let server = TestProvider::start().await;
            server.publish(&[&known]);
            let source = KeySource::Url(format!("{}/jwks", server.issuer));
            let http_client = HttpClient::new(None).unwrap();
            let verifier = TokenVerifier::with_published_keys([]);
            let keys = TokenKeys::from_source(verifier, source, http_client, Duration::from_secs(300));
            if has_keys {
                assert!(keys.refresh_keys().await);
            }
            server.set_fault(fault);
            // Twice: the second token meets the pause between two fetches.
            for _ in 0..2 {
                let outcome = keys.fetch_missing_key(&token, TokenError::BadSignature).await;
                let found = outcome.map_err(|problem| (problem.status, problem.code));
                let expected = if fault.is_some() { Err((503, "unavailable")) } else { Ok(()) };
                assert_eq!(found, expected, "{fault:?}, {has_keys}");
            }
            assert_eq!(keys.check_ready().is_ok(), has_keys || fault.is_none(), "known keys stay");
        }
    }
}
