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

use signalbox_http::{Ask, AskError};
use signalbox_protocol::problem::Problem;
use signalbox_token::{BadJwks, MAX_JWKS_BYTES, RoomClaims, TokenError, Verifier, VerifyKey, parse_jwks};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::metrics::Metrics;

/// Between two looks, at least, however many tokens with unknown keys there are: they cost an attacker nothing.
const THROTTLE: Duration = Duration::from_secs(1);

/// How long an upgrade with an unknown key waits for a look.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many upgrades wait at once; more are refused without it.
const MOST_WAITING: usize = 256;

/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Between two looks while they fail, at most.
const MOST_PAUSE: Duration = Duration::from_secs(5);

/// Where the published set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// At the auth service.
    Url(String),
    /// In a file that somebody keeps up to date.
    File(PathBuf),
}

/// Checks tokens.
pub struct TokenKeys {
    verifier: Verifier,
    published: Option<Arc<Published>>,
}

impl From<Verifier> for TokenKeys {
    /// Keys that somebody else keeps up to date, or that never change.
    fn from(verifier: Verifier) -> Self {
        Self { verifier, published: None }
    }
}

impl TokenKeys {
    /// Keys from a source, kept for `ttl`. The verifier gets them; it must be a changing one.
    ///
    /// # Errors
    /// [`AskError`], if there can be no TLS.
    pub fn published(verifier: Verifier, source: Source, ttl: Duration) -> Result<Self, AskError> {
        let published = Published::new(verifier.clone(), source, ttl)?;
        Ok(Self { verifier, published: Some(Arc::new(published)) })
    }

    /// Starts looking.
    pub(crate) fn start(&self, metrics: &Metrics) {
        if let Some(published) = &self.published {
            tokio::spawn(published.clone().follow(metrics.clone()));
        }
    }

    /// Whether there is anything to check with.
    ///
    /// # Errors
    /// 503 `unavailable` until the first set has come.
    pub fn ready(&self) -> Result<(), Problem> {
        match &self.published {
            Some(published) if !published.had.load(Ordering::Acquire) => {
                let detail =
                    "the keys that tokens are checked with have not come yet; keep the token and try again";
                Err(Problem::new(503, "unavailable", detail))
            }
            _ => Ok(()),
        }
    }

    /// How old the set is, seconds: since the last good look, or since the start. None without a source.
    pub(crate) fn age_s(&self) -> Option<f64> {
        self.published.as_ref().map(|published| published.state().good.elapsed().as_secs_f64())
    }

    /// Checks a room token. One whose key is not held waits up to half a second for another look at the published set.
    ///
    /// # Errors
    /// 401 with the code of the defect; 503 `unavailable` while no set has come and the token may be good.
    pub async fn room(&self, token: &str, now_s: u64) -> Result<RoomClaims, Problem> {
        let verdict = self.verifier.room(token, now_s);
        let (Err(TokenError::BadSignature), Some(published)) = (&verdict, &self.published) else {
            return verdict.map_err(TokenError::problem);
        };
        if !self.verifier.lacks_the_key_of(token) {
            return verdict.map_err(TokenError::problem);
        }
        let looked = published.another_look().await;
        self.ready()?;
        let verdict = if looked { self.verifier.room(token, now_s) } else { verdict };
        verdict.map_err(TokenError::problem)
    }
}

/// A set that is looked at again and again.
struct Published {
    verifier: Verifier,
    source: Source,
    ask: Ask,
    ttl: Duration,
    /// Whether a set has ever come.
    had: AtomicBool,
    /// Somebody wants a look.
    wanted: Notify,
    /// Counts the looks that have ended.
    looks: watch::Sender<u64>,
    waiting: AtomicUsize,
    // A std mutex, held for a few instructions.
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// When the last look began.
    began: Option<Instant>,
    /// Whether it goes on.
    looking: bool,
    /// When the last good one ended; at first, the start.
    good: Instant,
}

/// Why a look brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NoKeys {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the file cannot be read: {0}")]
    File(String),
    #[error("the set {0}")]
    Bad(#[from] BadJwks),
    #[error("the set holds no key for EdDSA or ES256")]
    Empty,
}

/// A place among those who wait, given back when it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Published {
    fn new(verifier: Verifier, source: Source, ttl: Duration) -> Result<Self, AskError> {
        let state = State { began: None, looking: false, good: Instant::now() };
        Ok(Self {
            verifier,
            source,
            ask: Ask::new(None)?,
            ttl,
            had: AtomicBool::new(false),
            wanted: Notify::new(),
            looks: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a look that ends soon. False where none will.
    async fn another_look(&self) -> bool {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let mut looks = self.looks.subscribe();
        let state = *self.state();
        let soon = state.looking
            || state.began.is_none_or(|began| began + self.throttle() <= Instant::now() + PATIENCE);
        if before >= MOST_WAITING || !soon {
            return false;
        }
        self.wanted.notify_one();
        timeout(PATIENCE, looks.changed()).await.is_ok()
    }

    fn throttle(&self) -> Duration {
        THROTTLE.min(self.fresh())
    }

    /// A set is asked for again before its time is over.
    fn fresh(&self) -> Duration {
        self.ttl * 3 / 4
    }

    /// Looks until the process ends. Each change between reachable and not is one line of the log.
    async fn follow(self: Arc<Self>, metrics: Metrics) {
        let mut failures = 0_u32;
        let mut kids = Vec::new();
        loop {
            let began = Instant::now();
            {
                let mut state = self.state();
                (state.began, state.looking) = (Some(began), true);
            }
            let looked = self.look().await;
            metrics.looked_for_keys(looked.is_ok());
            let pause = match looked {
                Ok(keys) => {
                    if failures > 0 {
                        tracing::info!(event = "jwks_back", failures);
                    }
                    failures = 0;
                    self.take(keys, &mut kids);
                    self.fresh()
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(event = "jwks_away", %error, "the keys that are held go on");
                    }
                    failures = failures.saturating_add(1);
                    (THROTTLE * failures.min(8)).min(MOST_PAUSE).min(self.fresh())
                }
            };
            self.state().looking = false;
            self.looks.send_modify(|count| *count += 1);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
            sleep_until(began + self.throttle()).await;
        }
    }

    fn take(&self, keys: Vec<VerifyKey>, kids: &mut Vec<String>) {
        let new: Vec<_> = keys.iter().map(|key| key.kid().to_owned()).collect();
        self.verifier.hold(keys);
        self.had.store(true, Ordering::Release);
        self.state().good = Instant::now();
        if *kids != new {
            tracing::info!(event = "jwks_changed", kids = new.join(" "));
            *kids = new;
        }
    }

    async fn look(&self) -> Result<Vec<VerifyKey>, NoKeys> {
        let text = match &self.source {
            Source::Url(url) => {
                let patience = signalbox_http::Patience { deadline: DEADLINE, most_bytes: MAX_JWKS_BYTES };
                let answer = self.ask.get(url, patience).await?;
                if answer.status != 200 {
                    return Err(NoKeys::Status(answer.status.as_u16()));
                }
                answer.body.to_vec()
            }
            Source::File(path) => read(path.clone()).await?,
        };
        let keys = parse_jwks(&text)?;
        if keys.is_empty() { Err(NoKeys::Empty) } else { Ok(keys) }
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, NoKeys> {
    let bounded = move || {
        use std::io::Read as _;
        let mut text = Vec::new();
        // One byte more than is taken shows that it is too long.
        std::fs::File::open(path)?.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let unreadable = |error: std::io::Error| NoKeys::File(error.to_string());
    match tokio::task::spawn_blocking(bounded).await {
        Ok(read) => read.map_err(unreadable),
        Err(_) => Err(NoKeys::File("the thread has ended".to_owned())),
    }
}
