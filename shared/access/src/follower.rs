//! What a process holds of the rules, and the task that keeps it true.
//!
//! A process decides on what it holds: a question costs no trip, and none waits for the store. Every 250 ms it asks for what is new. Where
//! the store is another one, or has forgotten, it writes back what it holds, reads all rules, and only then counts as current. Of another store
//! it does so after a quiet time only: a rule may have been answered and lost with the old one before this process heard of it, and whoever
//! wrote it finds the new one at another moment.
//!
//! The store's clock is the only one that counts. Between two answers it goes on by the process' own steady one.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use signalbox_protocol::{clock, id::TokenId};
use signalbox_redis::Unavailable;
use tokio::{
    sync::{Notify, broadcast, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    Change, Log, Rule, RuleKey, Rules, Subject, Terms, Verdict, Word,
    log::{At, Entry, News, Place, Written},
};

/// How many words may wait for one listener.
const WORDS: usize = 256;

/// How often it is tried to take a grant back.
const GRANT_TURNS: usize = 120;

/// How long one who must know what was written just now waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long what was heard is good for.
const FRESH: Duration = Duration::from_secs(2);

/// How often the store may change while it is read, before it is asked again later.
const MOST_TURNS: usize = 4;

/// Why a rule was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// There are as many rules as there may be.
    #[error("there are as many rules as limits.rules allows; lift some")]
    Full,
    /// There is no such rule in force.
    #[error("there is no such rule in force")]
    NoSuchRule,
    /// The store does not answer: it may or may not have been written.
    #[error("the store does not answer; the rule may or may not be in force")]
    Unavailable,
}

impl From<Unavailable> for ApplyError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// The store's time at a moment of ours.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) store_ms: u64,
    pub(crate) at: Instant,
    /// Whether it was the store that said so.
    pub(crate) told: bool,
}

/// What this process holds. Made once, shared by all that judge.
pub struct Control {
    pub(crate) log: Log,
    most: usize,
    rules: watch::Sender<Arc<Rules>>,
    words: broadcast::Sender<Arc<Word>>,
    // A std mutex: held to read or write two numbers.
    pub(crate) heard: Mutex<Heard>,
    settled: AtomicBool,
    /// Until when others may still write back to another store what they hold.
    // A std mutex: held to read or write one moment.
    quiet_until: Mutex<Option<Instant>>,
    /// How far was read when this was made.
    start: Mutex<Option<Place>>,
    /// Somebody cannot wait for the next look.
    wanted: Arc<Notify>,
    /// The number of the look that began last, and of the last one that came to its end.
    begun: AtomicU64,
    ended: watch::Sender<u64>,
}

impl Control {
    /// Of a shared log nothing is known yet: [`Control::follow`] must run. There may be `most` rules.
    pub fn new(log: Log, most: usize) -> Arc<Self> {
        let heard = Heard { store_ms: clock::now_ms(), at: Instant::now(), told: false };
        let (mut start, mut rules) = (None, Rules::default());
        if let Log::Memory(log) = &log {
            let (at, all) = log.load();
            rules = rules.merged(all, at.now_ms).unwrap_or_default();
            start = Some(at.place);
        }
        Arc::new(Self {
            settled: AtomicBool::new(start.is_some()),
            quiet_until: Mutex::default(),
            start: Mutex::new(start),
            log,
            most,
            rules: watch::Sender::new(Arc::new(rules)),
            words: broadcast::Sender::new(WORDS),
            heard: Mutex::new(heard),
            wanted: Arc::default(),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
        })
    }

    /// The rules as they are held now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// The rules, and word of every change of them.
    pub fn watch(&self) -> watch::Receiver<Arc<Rules>> {
        self.rules.subscribe()
    }

    /// The words that are said from now on.
    pub fn words(&self) -> broadcast::Receiver<Arc<Word>> {
        self.words.subscribe()
    }

    /// Milliseconds since 1970 by the store's clock.
    pub fn now_ms(&self) -> u64 {
        let heard = self.heard();
        heard.store_ms + heard.at.elapsed().as_millis() as u64
    }

    fn heard(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all that was written is held, as far as can be known: new connections wait until it is.
    pub fn is_current(&self) -> bool {
        let is_fresh = || self.lag().is_some_and(|lag| lag <= FRESH);
        self.is_settled() && (!self.log.is_shared() || is_fresh())
    }

    /// Whether the rules were read, and written back where the store had forgotten them, by others too. While the store is away this stays as it
    /// was: what is held is decided on. When it is found again nothing is known until it was asked whether it is the same.
    pub fn is_settled(&self) -> bool {
        let heard_since = |since| self.lag().is_none_or(|lag| lag <= since);
        self.settled.load(Ordering::Acquire) && self.log.since_disturbance().is_none_or(heard_since)
    }

    /// How long ago the store was heard; none if it never was.
    pub fn lag(&self) -> Option<Duration> {
        let heard = self.heard();
        heard.told.then(|| heard.at.elapsed())
    }

    /// Whether somebody may be here, by what is held now.
    ///
    /// # Errors
    /// [`Verdict`].
    pub fn judge(&self, subject: &Subject<'_>) -> Result<(), Verdict> {
        self.rules.borrow().judge(subject, self.now_ms())
    }

    /// Writes a rule. It is held here when this returns, and elsewhere when the next question is answered.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn apply(&self, change: Change) -> Result<Rule, ApplyError> {
        let written = self.log.apply(&change, self.most).await?;
        self.written(written)
    }

    /// Takes a grant back whose peer was removed from its room; goes on trying for a while where the store does not answer.
    pub async fn take_grant_back(&self, token: &TokenId, life_ms: u64, by: &str) {
        let Ok(grant) = TokenId::parse(token.grant()) else { return };
        for _ in 0..GRANT_TURNS {
            let terms = Terms { by: by.into(), ..Terms::default() };
            match self.apply(Change { key: RuleKey::Token(grant.clone()), life_ms, terms }).await {
                Err(ApplyError::Unavailable) => sleep(crate::POLL).await,
                Err(error) => return tracing::error!(event = "grant_not_taken_back", %error),
                Ok(_) => return,
            }
        }
        tracing::error!(event = "grant_not_taken_back", error = "the store did not answer");
    }

    /// Lifts a rule.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn lift(&self, key: &RuleKey, by: Terms) -> Result<Rule, ApplyError> {
        let written = self.log.lift(key, &by).await?;
        self.written(written)
    }

    fn written(&self, written: Written) -> Result<Rule, ApplyError> {
        match written {
            Written::Done(rule) => {
                self.take(vec![rule.clone()]);
                Ok(rule)
            }
            Written::Full => Err(ApplyError::Full),
            Written::None => Err(ApplyError::NoSuchRule),
        }
    }

    /// Says a word to whoever is connected.
    ///
    /// # Errors
    /// [`ApplyError::Unavailable`].
    pub async fn say(&self, word: &Word) -> Result<(), ApplyError> {
        Ok(self.log.say(word).await?)
    }

    /// Waits until whatever was answered elsewhere before this call is held here. Costs a look at once, which all who wait share.
    ///
    /// # Errors
    /// [`Unavailable`]: the store does not answer.
    pub async fn catch_up(&self) -> Result<(), Unavailable> {
        if !self.log.is_shared() {
            return Ok(());
        }
        // One that has begun may have asked before that answer.
        let begun = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.subscribe();
        self.wanted.notify_one();
        let caught_up = timeout(PATIENCE, ended.wait_for(|ended| *ended > begun)).await;
        caught_up.ok().and_then(Result::ok).map(drop).ok_or(Unavailable)
    }

    fn take(&self, rules: Vec<Rule>) {
        let now = self.now_ms();
        self.rules.send_if_modified(|held| {
            let merged = held.merged(rules, now);
            let changed = merged.is_some();
            if let Some(merged) = merged {
                *held = Arc::new(merged);
            }
            changed
        });
    }

    /// Takes the time from an answer. One of another store than before says first that nobody is let in until others have written back, too.
    fn hear(&self, at: &At, before: Option<&Place>) {
        if before.is_some_and(|before| before.lineage != at.place.lineage) {
            *self.quiet_until() = Some(Instant::now() + self.log.quiet());
            self.settled.store(false, Ordering::Release);
        }
        let heard = Heard { store_ms: at.now_ms, at: Instant::now(), told: true };
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    /// Follows the log for as long as somebody holds the rules.
    pub fn follow(control: &Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let start = control.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        follow(Arc::downgrade(control), start)
    }

    pub(crate) async fn look(&self, place: &mut Option<Place>) -> Result<(), Unavailable> {
        let Some(known) = place else { return self.reload(place, false).await };
        let is_quiet = self.is_quiet();
        let (at, news) = self.log.poll(known).await?;
        self.hear(&at, Some(known));
        match news {
            News::Same => {}
            News::More(entries) => {
                self.take_entries(entries);
                *place = Some(at.place);
            }
            News::Behind => self.reload(place, false).await?,
            News::Other => self.reload(place, true).await?,
        }
        // A look that began in the quiet time may have missed what was written back at its end.
        if !is_quiet && !self.is_quiet() {
            *self.quiet_until() = None;
            self.settled.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn quiet_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_quiet(&self) -> bool {
        self.quiet_until().is_some_and(|until| Instant::now() < until)
    }

    fn take_entries(&self, entries: Vec<Entry>) {
        let mut rules = Vec::new();
        for entry in entries {
            match entry {
                Entry::Rule(rule) => rules.push(rule),
                // An error only says that nobody listens.
                Entry::Word(word) => drop(self.words.send(Arc::new(word))),
                Entry::Unknown => {
                    tracing::warn!(event = "rule_unknown", "a rule of another release is not followed");
                }
            }
        }
        self.take(rules);
    }

    /// Reads all rules, after writing back those that are held where the store may lack them.
    async fn reload(&self, place: &mut Option<Place>, store_forgot: bool) -> Result<(), Unavailable> {
        for _ in 0..MOST_TURNS {
            let now = self.now_ms();
            let held: Vec<_> =
                if store_forgot { self.rules().remembered(now).cloned().collect() } else { Vec::new() };
            let mut written = None;
            if !held.is_empty() {
                self.settled.store(false, Ordering::Release);
                tracing::warn!(
                    event = "rules_restored",
                    rules = held.len(),
                    "the store may have forgotten rules"
                );
                written = Some(self.log.restore(&held).await?.place);
            }
            let (at, rules) = self.log.load().await?;
            self.hear(&at, place.as_ref());
            let is_where_it_was_written = written
                .is_none_or(|written| written.lineage == at.place.lineage && written.life == at.place.life);
            if is_where_it_was_written {
                self.take(rules);
                *place = Some(at.place);
                let is_over = self.quiet_until().is_none();
                self.settled.store(is_over, Ordering::Release);
                return Ok(());
            }
        }
        Err(Unavailable)
    }
}

async fn follow(control: Weak<Control>, mut place: Option<Place>) {
    while let Some(held) = control.upgrade() {
        let number = held.begun.fetch_add(1, Ordering::SeqCst) + 1;
        // What fails is tried again with the next look; meanwhile what is held is decided on.
        if held.look(&mut place).await.is_ok() {
            held.ended.send_replace(number);
        }
        let seen = place.as_ref().map_or(0, |place| place.number);
        let wait = held.log.worth_a_look(seen);
        let wanted = held.wanted.clone();
        drop(held);
        tokio::select! {
            () = wait => {}
            () = wanted.notified() => {}
        }
    }
}
