//! What tokens are checked with: the shared secret, or public keys that the auth service publishes, or both.
//!
//! Owns: getting the published set, keeping it when the auth service is away (for as long as that takes), and the one more look that a
//! token with an unknown key is worth. Must not: hold anything that signs, or make a known token wait. Next: `door` asks here.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use signalbox_http::{HttpClient, HttpClientError};
use signalbox_protocol::problem::Problem;
use signalbox_token::{
    JwksError, MAX_JWKS_BYTES, RoomClaims, TokenError, TokenVerifier, VerificationKey, parse_jwks,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::node_metrics::NodeMetrics;

/// Between two looks, at least, however many tokens with unknown keys there are: they cost an attacker nothing.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long an upgrade with an unknown key waits for a look.
const MAX_KEY_WAIT: Duration = Duration::from_millis(500);

/// How many upgrades wait at once; more are refused without it.
const MAX_WAITING_UPGRADES: usize = 256;

/// How long one look may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(2);

/// Between two looks while they fail, at most.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Where the published set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// At the auth service.
    Url(String),
    /// In a file that somebody keeps up to date.
    File(PathBuf),
}

/// Checks tokens.
pub struct TokenKeys {
    verifier: TokenVerifier,
    fetcher: Option<Arc<KeySetFetcher>>,
}

impl From<TokenVerifier> for TokenKeys {
    /// Keys that somebody else keeps up to date, or that never change.
    fn from(verifier: TokenVerifier) -> Self {
        Self { verifier, fetcher: None }
    }
}

impl TokenKeys {
    /// Keys from a source, kept for `ttl`. The verifier gets them; it must be a changing one.
    ///
    /// # Errors
    /// [`HttpClientError`], if there can be no TLS.
    pub fn from_source(
        verifier: TokenVerifier,
        source: KeySource,
        ttl: Duration,
    ) -> Result<Self, HttpClientError> {
        let published = KeySetFetcher::new(verifier.clone(), source, ttl)?;
        Ok(Self { verifier, fetcher: Some(Arc::new(published)) })
    }

    /// Starts looking.
    pub(crate) fn start_fetching(&self, metrics: &NodeMetrics) {
        if let Some(published) = &self.fetcher {
            tokio::spawn(published.clone().run_fetches(metrics.clone()));
        }
    }

    /// Whether there is anything to check with.
    ///
    /// # Errors
    /// 503 `unavailable` until the first set has come.
    pub fn check_ready(&self) -> Result<(), Problem> {
        match &self.fetcher {
            Some(published) if !published.has_keys.load(Ordering::Acquire) => {
                let detail =
                    "the keys that tokens are checked with have not come yet; keep the token and try again";
                Err(Problem::new(503, "unavailable", detail))
            }
            _ => Ok(()),
        }
    }

    /// How old the set is, seconds: since the last good look, or since the start. None without a source.
    pub(crate) fn key_set_age_s(&self) -> Option<f64> {
        self.fetcher.as_ref().map(|published| published.lock_state().last_success_at.elapsed().as_secs_f64())
    }

    /// The verifier, which has the keys.
    pub fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    /// Verifies a room token whose signature no held key has made. If its key is unknown it waits up to half a second for another fetch.
    ///
    /// # Errors
    /// 401 with the code of the defect; 503 `unavailable` while no set has come and the token may be good.
    pub async fn verify_with_new_keys(&self, token: &str, now_s: u64) -> Result<RoomClaims, Problem> {
        let bad_signature = || Err(TokenError::BadSignature.to_problem());
        let Some(published) = &self.fetcher else { return bad_signature() };
        if !self.verifier.is_key_missing(token) {
            return bad_signature();
        }
        let looked = published.wait_for_fetch().await;
        self.check_ready()?;
        if !looked {
            return bad_signature();
        }
        self.verifier.verify_room_token(token, now_s).map_err(TokenError::to_problem)
    }
}

/// A set that is looked at again and again.
struct KeySetFetcher {
    verifier: TokenVerifier,
    source: KeySource,
    http_client: HttpClient,
    ttl: Duration,
    /// Whether a set has ever come.
    has_keys: AtomicBool,
    /// Somebody wants a look.
    fetch_requested: Notify,
    /// Counts the looks that have ended.
    finished_fetches: watch::Sender<u64>,
    waiting_upgrades: AtomicUsize,
    // A std mutex, held for a few instructions.
    state: Mutex<FetchState>,
}

#[derive(Clone, Copy)]
struct FetchState {
    /// When the last look began.
    last_started_at: Option<Instant>,
    /// Whether it goes on.
    is_fetching: bool,
    /// When the last good one ended; at first, the start.
    last_success_at: Instant,
}

/// Why a look brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum KeyFetchError {
    #[error("{0}")]
    Http(#[from] HttpClientError),
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the file cannot be read: {0}")]
    File(String),
    #[error("the set {0}")]
    InvalidKeySet(#[from] JwksError),
    #[error("the set holds no key for EdDSA or ES256")]
    NoUsableKey,
}

/// A place among those who wait, given back when it is dropped.
struct WaiterGuard<'a>(&'a AtomicUsize);

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl KeySetFetcher {
    fn new(verifier: TokenVerifier, source: KeySource, ttl: Duration) -> Result<Self, HttpClientError> {
        let state = FetchState { last_started_at: None, is_fetching: false, last_success_at: Instant::now() };
        Ok(Self {
            verifier,
            source,
            http_client: HttpClient::new(None)?,
            ttl,
            has_keys: AtomicBool::new(false),
            fetch_requested: Notify::new(),
            finished_fetches: watch::Sender::new(0),
            waiting_upgrades: AtomicUsize::new(0),
            state: Mutex::new(state),
        })
    }

    fn lock_state(&self) -> std::sync::MutexGuard<'_, FetchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a look that ends soon. False where none will.
    async fn wait_for_fetch(&self) -> bool {
        let before = self.waiting_upgrades.fetch_add(1, Ordering::Relaxed);
        let _waiting = WaiterGuard(&self.waiting_upgrades);
        let mut looks = self.finished_fetches.subscribe();
        let state = *self.lock_state();
        let soon = state.is_fetching
            || state
                .last_started_at
                .is_none_or(|began| began + self.min_fetch_interval() <= Instant::now() + MAX_KEY_WAIT);
        if before >= MAX_WAITING_UPGRADES || !soon {
            return false;
        }
        self.fetch_requested.notify_one();
        timeout(MAX_KEY_WAIT, looks.changed()).await.is_ok()
    }

    fn min_fetch_interval(&self) -> Duration {
        MIN_FETCH_INTERVAL.min(self.refetch_interval())
    }

    /// A set is asked for again before its time is over.
    fn refetch_interval(&self) -> Duration {
        self.ttl * 3 / 4
    }

    /// Looks until the process ends. Each change between reachable and not is one line of the log.
    async fn run_fetches(self: Arc<Self>, metrics: NodeMetrics) {
        let mut failures = 0_u32;
        let mut kids = Vec::new();
        loop {
            let began = Instant::now();
            {
                let mut state = self.lock_state();
                (state.last_started_at, state.is_fetching) = (Some(began), true);
            }
            let looked = self.fetch_keys().await;
            metrics.count_key_fetch(looked.is_ok());
            let pause = match looked {
                Ok(keys) => {
                    if failures > 0 {
                        tracing::info!(event = "jwks_back", failures);
                    }
                    failures = 0;
                    self.install_keys(keys, &mut kids);
                    self.refetch_interval()
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(event = "jwks_away", %error, "the keys that are held go on");
                    }
                    failures = failures.saturating_add(1);
                    (MIN_FETCH_INTERVAL * failures.min(8)).min(MAX_RETRY_DELAY).min(self.refetch_interval())
                }
            };
            self.lock_state().is_fetching = false;
            self.finished_fetches.send_modify(|count| *count += 1);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.fetch_requested.notified() => {}
            }
            sleep_until(began + self.min_fetch_interval()).await;
        }
    }

    fn install_keys(&self, keys: Vec<VerificationKey>, kids: &mut Vec<String>) {
        let new: Vec<_> = keys.iter().map(|key| key.kid().to_owned()).collect();
        self.verifier.replace_published_keys(keys);
        self.has_keys.store(true, Ordering::Release);
        self.lock_state().last_success_at = Instant::now();
        if *kids != new {
            tracing::info!(event = "jwks_changed", kids = new.join(" "));
            *kids = new;
        }
    }

    async fn fetch_keys(&self) -> Result<Vec<VerificationKey>, KeyFetchError> {
        let text = match &self.source {
            KeySource::Url(url) => {
                let patience = signalbox_http::RequestLimits {
                    deadline: FETCH_DEADLINE,
                    max_body_bytes: MAX_JWKS_BYTES,
                };
                let answer = self.http_client.get(url, patience).await?;
                if answer.status != 200 {
                    return Err(KeyFetchError::Status(answer.status.as_u16()));
                }
                answer.body.to_vec()
            }
            KeySource::File(path) => read_key_file(path.clone()).await?,
        };
        let keys = parse_jwks(&text)?;
        if keys.is_empty() { Err(KeyFetchError::NoUsableKey) } else { Ok(keys) }
    }
}

async fn read_key_file(path: PathBuf) -> Result<Vec<u8>, KeyFetchError> {
    let bounded = move || {
        use std::io::Read as _;
        let mut text = Vec::new();
        // One byte more than is taken shows that it is too long.
        std::fs::File::open(path)?.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let unreadable = |error: std::io::Error| KeyFetchError::File(error.to_string());
    match tokio::task::spawn_blocking(bounded).await {
        Ok(read) => read.map_err(unreadable),
        Err(_) => Err(KeyFetchError::File("the thread has ended".to_owned())),
    }
}
