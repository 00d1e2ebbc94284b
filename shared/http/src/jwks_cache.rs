//! A cache of a published key set (RFC 7517): one fetch at a time, again when the keys are old or
//! lack a key that a token names.
//!
//! Owns: the keys, their age, the pauses between fetches, and the bounded wait of callers for a
//! fetch. Must not: know where the keys come from, parse them, or verify a token; a
//! [`KeySetSource`] fetches them. Next: `signal-service/src/token_keys.rs` fetches in the
//! background, the providers of `auth-service` fetch when a token needs a key.
//!
//! A source that does not answer changes nothing: the keys stay in use, up to `max_age`. A fetch
//! runs in a task of its own, so a caller that gives up does not stop it. All times are
//! milliseconds of one clock, which the caller reads.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Fetches a key set.
pub trait KeySetSource: Send + Sync + 'static {
    /// The keys of a set.
    type Keys: Send + Sync;

    /// Fetches the set within a deadline of its own. It logs a failure and returns none.
    fn fetch_keys(&self) -> impl Future<Output = Option<Self::Keys>> + Send;
}

/// The bounds of a cache.
#[derive(Debug, Clone, Copy)]
pub struct JwksCacheSettings {
    /// The age after which the keys are fetched again.
    pub refresh_after: Duration,
    /// The age up to which the keys are used while the source does not answer; none is for ever.
    pub max_age: Option<Duration>,
    /// The shortest time from one fetch to the next, however many tokens name an unknown key.
    pub min_fetch_interval: Duration,
    /// The longest pause after a failed fetch of [`JwksCache::run_refreshes`].
    pub max_retry_delay: Duration,
    /// How early a caller may start the wait for a fetch that `min_fetch_interval` does not allow
    /// yet.
    pub max_start_delay: Duration,
    /// The longest wait of a caller.
    pub max_wait: Duration,
    /// The number of callers that may wait at the same time.
    pub max_waiting: usize,
}

/// A cached key set.
pub struct JwksCache<S: KeySetSource> {
    source: S,
    settings: JwksCacheSettings,
    // A std mutex: held for a few instructions.
    state: Mutex<FetchState<S::Keys>>,
    /// Counts the fetches that have ended.
    finished_fetches: watch::Sender<u64>,
    waiting_callers: AtomicUsize,
}

struct FetchState<K> {
    keys: Option<Arc<K>>,
    /// The time of the last successful fetch; 0 before the first one.
    fetched_ms: u64,
    started_ms: Option<u64>,
    is_fetching: bool,
    failures: u32,
    /// When the background task fetches next.
    next_fetch_ms: u64,
}

/// A caller that waits. A drop ends the wait.
struct WaitGuard<'a>(&'a AtomicUsize);

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running fetch. A drop ends it, even if its task is cancelled.
struct RunningFetch<S: KeySetSource>(Arc<JwksCache<S>>);

impl<S: KeySetSource> Drop for RunningFetch<S> {
    fn drop(&mut self) {
        self.0.lock_state().is_fetching = false;
        self.0.finished_fetches.send_modify(|count| *count += 1);
    }
}

impl<S: KeySetSource> JwksCache<S> {
    /// An empty cache.
    pub fn new(source: S, settings: JwksCacheSettings) -> Arc<Self> {
        let state = FetchState {
            keys: None,
            fetched_ms: 0,
            started_ms: None,
            is_fetching: false,
            failures: 0,
            next_fetch_ms: 0,
        };
        Arc::new(Self {
            source,
            settings,
            state: Mutex::new(state),
            finished_fetches: watch::Sender::new(0),
            waiting_callers: AtomicUsize::new(0),
        })
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    fn lock_state(&self) -> MutexGuard<'_, FetchState<S::Keys>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys, unless none have come or they are older than `max_age`.
    pub fn keys(&self, now_ms: u64) -> Option<Arc<S::Keys>> {
        let is_usable = self.settings.max_age.is_none_or(|max_age| self.age(now_ms) <= max_age);
        self.lock_state().keys.clone().filter(|_| is_usable)
    }

    /// The time since the last successful fetch; before the first one the time on the clock.
    pub fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.lock_state().fetched_ms))
    }

    /// Whether the keys should be fetched again.
    pub fn is_refresh_due(&self, now_ms: u64) -> bool {
        self.lock_state().keys.is_none() || self.age(now_ms) > self.settings.refresh_after
    }

    /// Waits for the fetch that runs, or for a new one. Returns whether a fetch has succeeded within
    /// the bounds. If not, a key that is missing may exist.
    pub async fn refresh(self: &Arc<Self>, now_ms: u64) -> bool {
        let waiting = self.waiting_callers.fetch_add(1, Ordering::Relaxed);
        let _guard = WaitGuard(&self.waiting_callers);
        let mut finished = self.finished_fetches.subscribe();
        if waiting >= self.settings.max_waiting || !self.start_fetch(now_ms) {
            return false;
        }
        let has_ended = timeout(self.settings.max_wait, finished.changed()).await;
        has_ended.is_ok_and(|changed| changed.is_ok()) && self.lock_state().failures == 0
    }

    /// Fetches the keys whenever they are due, for ever. `now_ms` reads the clock.
    pub async fn run_refreshes(self: Arc<Self>, now_ms: impl Fn() -> u64) {
        let mut finished = self.finished_fetches.subscribe();
        loop {
            let pause = {
                let state = self.lock_state();
                // While a fetch runs its end decides about the next one.
                let due_ms = if state.is_fetching { u64::MAX } else { state.next_fetch_ms };
                Duration::from_millis(due_ms.saturating_sub(now_ms()))
            };
            tokio::select! {
                _ = finished.changed() => {}
                () = sleep(pause) => {
                    self.start_fetch(now_ms());
                }
            }
        }
    }

    /// Starts a fetch if none runs. Returns false if `min_fetch_interval` does not allow one soon. The
    /// source that has just failed is not waited for.
    fn start_fetch(self: &Arc<Self>, now_ms: u64) -> bool {
        let mut state = self.lock_state();
        if state.is_fetching {
            return true;
        }
        let min_interval_ms = self.settings.min_fetch_interval.as_millis() as u64;
        let start_ms = state.started_ms.map_or(now_ms, |started| now_ms.max(started + min_interval_ms));
        let delay = Duration::from_millis(start_ms - now_ms);
        let has_failed = state.failures > 0 && !delay.is_zero();
        if has_failed || delay > self.settings.max_start_delay {
            return false;
        }
        (state.is_fetching, state.started_ms) = (true, Some(start_ms));
        drop(state);
        let running = RunningFetch(self.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            let started = Instant::now();
            let fetched = running.0.source.fetch_keys().await;
            running.0.record_fetch(fetched, start_ms, started.elapsed().as_millis() as u64);
        });
        true
    }

    fn record_fetch(&self, fetched: Option<S::Keys>, start_ms: u64, duration_ms: u64) {
        let JwksCacheSettings { refresh_after, min_fetch_interval, max_retry_delay, .. } = self.settings;
        let end_ms = start_ms + duration_ms;
        let mut state = self.lock_state();
        let pause = match fetched {
            Some(keys) => {
                (state.keys, state.fetched_ms, state.failures) = (Some(Arc::new(keys)), end_ms, 0);
                refresh_after
            }
            None => {
                state.failures = state.failures.saturating_add(1);
                (min_fetch_interval * state.failures.min(8)).min(max_retry_delay).min(refresh_after)
            }
        };
        let earliest_ms = start_ms + min_fetch_interval.as_millis() as u64;
        state.next_fetch_ms = earliest_ms.max(end_ms + pause.as_millis() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const SETTINGS: JwksCacheSettings = JwksCacheSettings {
        refresh_after: Duration::from_secs(300),
        max_age: Some(Duration::from_secs(3_600)),
        min_fetch_interval: Duration::from_secs(10),
        max_retry_delay: Duration::from_secs(15),
        max_start_delay: Duration::ZERO,
        max_wait: Duration::from_secs(2),
        max_waiting: 2,
    };

    /// A source whose keys are the number of the fetch.
    #[derive(Default)]
    struct FakeSource {
        fetches: AtomicUsize,
        is_down: AtomicBool,
        is_slow: AtomicBool,
    }

    impl KeySetSource for FakeSource {
        type Keys = usize;

        async fn fetch_keys(&self) -> Option<usize> {
            let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
            if self.is_slow.load(Ordering::Relaxed) {
                sleep(Duration::from_secs(5)).await;
            }
            (!self.is_down.load(Ordering::Relaxed)).then_some(number)
        }
    }

    fn keys(cache: &JwksCache<FakeSource>, now_ms: u64) -> Option<usize> {
        cache.keys(now_ms).map(|keys| *keys)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_one_fetch_and_the_next_waits_for_the_interval() {
        let cache = JwksCache::new(FakeSource::default(), SETTINGS);
        assert!(cache.is_refresh_due(1) && keys(&cache, 1).is_none());
        assert_eq!(tokio::join!(cache.refresh(1), cache.refresh(1), cache.refresh(1)), (true, true, false));
        assert_eq!(keys(&cache, 1), Some(1), "the third caller was one too many");
        assert!(!cache.refresh(10_000).await, "too early");
        assert!(cache.refresh(10_001).await);
        assert_eq!(keys(&cache, 10_001), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_stay_in_use_up_to_their_maximum_age_while_the_source_is_down() {
        let cache = JwksCache::new(FakeSource::default(), SETTINGS);
        assert!(cache.refresh(0).await && !cache.is_refresh_due(300_000));
        cache.source().is_down.store(true, Ordering::Relaxed);
        assert!(cache.is_refresh_due(300_001) && !cache.refresh(300_001).await, "the fetch has failed");
        assert_eq!((keys(&cache, 3_600_000), keys(&cache, 3_600_001)), (Some(1), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_does_not_stop_the_fetch() {
        let cache = JwksCache::new(FakeSource::default(), SETTINGS);
        cache.source().is_slow.store(true, Ordering::Relaxed);
        assert!(!cache.refresh(0).await, "a wait is bounded");
        sleep(Duration::from_secs(4)).await;
        assert_eq!(keys(&cache, 6_000), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_may_wait_for_a_fetch_that_starts_soon() {
        let settings = JwksCacheSettings { max_start_delay: Duration::from_millis(500), ..SETTINGS };
        let cache = JwksCache::new(FakeSource::default(), settings);
        assert!(cache.refresh(0).await);
        assert!(!cache.refresh(9_499).await && cache.refresh(9_500).await);
        assert_eq!(keys(&cache, 10_000), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_has_just_failed_is_not_waited_for() {
        let settings = JwksCacheSettings { max_start_delay: Duration::from_secs(10), ..SETTINGS };
        let cache = JwksCache::new(FakeSource::default(), settings);
        cache.source().is_down.store(true, Ordering::Relaxed);
        let start = Instant::now();
        assert!(!cache.refresh(0).await && !cache.refresh(5_000).await);
        assert_eq!((start.elapsed(), cache.source().fetches.load(Ordering::Relaxed)), (Duration::ZERO, 1));
        cache.source().is_down.store(false, Ordering::Relaxed);
        assert!(cache.refresh(10_000).await);
        assert_eq!(keys(&cache, 20_000), Some(2), "an answer ends that");
    }

    #[tokio::test(start_paused = true)]
    async fn the_background_task_fetches_ahead_and_retries_with_a_growing_pause() {
        let cache = JwksCache::new(FakeSource::default(), SETTINGS);
        let start = Instant::now();
        let task = tokio::spawn(cache.clone().run_refreshes(move || start.elapsed().as_millis() as u64));
        let fetches = || cache.source().fetches.load(Ordering::Relaxed);
        sleep(Duration::from_secs(299)).await;
        assert_eq!(fetches(), 1);
        cache.source().is_down.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(fetches(), 2, "the keys were due");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(fetches(), 3, "after the interval");
        sleep(Duration::from_secs(14)).await;
        assert_eq!(fetches(), 3, "the pause grows, up to the longest one");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(fetches(), 4);
        task.abort();
    }
}
