//! The task that tells: it takes leases, reads what was recorded, asks the schedule, sends, and writes down how it went.
//!
//! Owns: the pace. One call to the store at a time, so that an answer is never older than what is known here. Must not: wait for an
//! endpoint; attempts are tasks of their own, each with a deadline.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use signalbox_config::WebhookSecrets;
use signalbox_http::{AskError, HeaderName, HeaderValue, Patience};
use signalbox_protocol::clock;
use signalbox_redis::keys::{self, PARTITIONS};
use signalbox_rooms::feed::FeedSender;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc,
    },
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    Inner, LAST_WORDS, LEASE,
    event::{Event, Failure, Head, Verdict},
    schedule::{Effects, Job, Schedule},
    sign,
    store::{Asked, Found, Recorded, Store},
};

/// Between two looks at everything. What happens meanwhile the feed tells of.
const LOOK: Duration = Duration::from_secs(1);

/// Between two attempts while the store is away.
const AGAIN: Duration = Duration::from_millis(250);

/// The longest answer that is read, bytes.
const MOST_ANSWER: usize = 1_024;

/// A partition, as this process knows it.
#[derive(Default)]
struct Part {
    /// Until when this process tells its events.
    held_until: Option<Instant>,
    /// The history of its server.
    lineage: Option<Arc<str>>,
    /// The last entry that was read.
    last: Option<super::EntryId>,
}

struct Worker {
    inner: Arc<Inner>,
    schedule: Schedule,
    parts: Vec<Part>,
    endpoints: Vec<String>,
    /// Partitions in which something was recorded, and when they are looked at.
    news: BTreeSet<usize>,
    news_at: Instant,
    look_at: Instant,
    attempts: mpsc::UnboundedSender<(Job, Verdict)>,
}

/// Starts the task; it ends when it is told to stop.
pub(super) fn start(inner: Arc<Inner>, schedule: Schedule, feed: &FeedSender) {
    let (attempts, outcomes) = mpsc::unbounded_channel();
    let endpoints = schedule.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
    let parts = (0..PARTITIONS).map(|_| Part::default()).collect();
    let (news, news_at, look_at) = (BTreeSet::new(), Instant::now(), Instant::now());
    let worker = Worker { inner, schedule, parts, endpoints, news, news_at, look_at, attempts };
    tokio::spawn(worker.run(outcomes, feed.subscribe()));
}

impl Worker {
    async fn run(
        mut self,
        mut outcomes: mpsc::UnboundedReceiver<(Job, Verdict)>,
        mut feed: Receiver<Arc<str>>,
    ) {
        let inner = self.inner.clone();
        let mut stop = inner.stop.subscribe();
        let mut is_over = false;
        loop {
            self.begin_attempts();
            let next = self.next_moment();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some((job, verdict)) = outcomes.recv() => {
                    self.note(&job, verdict);
                    while let Ok((job, verdict)) = outcomes.try_recv() {
                        self.note(&job, verdict);
                    }
                }
                line = feed.recv(), if !is_over => {
                    is_over = matches!(line, Err(RecvError::Closed));
                    self.hear(line);
                    while let Ok(line) = feed.try_recv() {
                        self.hear(Ok(line));
                    }
                }
                () = inner.wake.notified() => self.look_at = Instant::now(),
                () = sleep_until(next) => {}
            }
            self.write_down().await;
            self.look().await;
            inner.metrics.waiting.set(self.schedule.len() as i64);
        }
        self.end(outcomes).await;
    }

    /// When there is something to do that nobody says.
    fn next_moment(&self) -> Instant {
        let due = self.schedule.next_due().map(|due| {
            let wait = due.saturating_sub(self.inner.store.now_ms()).clamp(1, LOOK.as_millis() as u64);
            Instant::now() + Duration::from_millis(wait)
        });
        let news = (!self.news.is_empty()).then_some(self.news_at);
        [due, news].into_iter().flatten().fold(self.look_at, Instant::min)
    }

    fn begin_attempts(&mut self) {
        let now_ms = self.inner.store.now_ms();
        for job in self.schedule.start(now_ms) {
            // While Redis is away another process may have the lease.
            if self.parts[job.event.partition].held_until.is_none_or(|until| until <= Instant::now()) {
                self.schedule.put_off(&job, now_ms + 500);
                continue;
            }
            let (inner, done) = (self.inner.clone(), self.attempts.clone());
            let endpoint = &self.schedule.endpoints[job.endpoint];
            let (url, secrets) = (endpoint.rule.url.clone(), endpoint.secrets.clone());
            tokio::spawn(async move {
                let verdict = attempt(&inner, &url, &secrets, &job.event).await;
                // The worker may have stopped.
                let _ = done.send((job, verdict));
            });
        }
    }

    fn note(&mut self, job: &Job, verdict: Verdict) {
        let metrics = &self.inner.metrics;
        let endpoint = &self.endpoints[job.endpoint];
        match verdict {
            Verdict::Taken => metrics.told.with_label_values(&[endpoint]).inc(),
            Verdict::Gone => metrics.failures.with_label_values(&[&**endpoint, "gone"]).inc(),
            Verdict::Later { why, .. } => {
                metrics.failures.with_label_values(&[&**endpoint, why.word()]).inc();
                tracing::debug!(event = "webhook_failed", endpoint, id = job.event.id, room = %job.event.room, %why);
            }
        }
        self.schedule.done(job, verdict, self.inner.store.now_ms(), jitter());
    }

    fn hear(&mut self, line: Result<Arc<str>, RecvError>) {
        match (line, &self.inner.store) {
            (Ok(line), Store::Memory(store)) => self.news.extend(store.record(&line)),
            (Ok(line), Store::Redis(_)) => {
                let head = serde_json::from_str::<Head>(&line).ok();
                let room = head.and_then(|head| signalbox_protocol::id::RoomId::parse(&head.room).ok());
                self.news.extend(room.map(|room| keys::partition(&room)));
            }
            (Err(RecvError::Lagged(count)), Store::Memory(_)) => self.inner.metrics.lose("feed", count),
            (Err(_), _) => self.look_at = Instant::now() + LOOK / 10,
        }
    }

    /// Looks at all partitions once in a while, and at those with news.
    async fn look(&mut self) {
        let now = Instant::now();
        let everywhere = now >= self.look_at;
        let asked: Vec<Asked> = (0..PARTITIONS)
            .filter(|partition| everywhere || (now >= self.news_at && self.news.contains(partition)))
            .map(|partition| {
                let part = &self.parts[partition];
                Asked { partition, after: part.last, is_new: part.held_until.is_none() }
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        asked.iter().for_each(|asked| _ = self.news.remove(&asked.partition));
        if everywhere {
            // Processes that were started together do not ask together.
            self.look_at = now + LOOK.mul_f64(0.9 + 0.1 * jitter());
        }
        match self.inner.store.poll(&asked).await {
            Ok(polled) => {
                for (asked, lineage, found) in polled {
                    self.take(asked, lineage, found, now).await;
                }
            }
            Err(_) => {
                self.news.extend(asked.iter().map(|asked| asked.partition));
                self.news_at = now + AGAIN;
            }
        }
    }

    async fn take(&mut self, asked: Asked, lineage: Arc<str>, found: Option<Found>, asked_at: Instant) {
        let partition = asked.partition;
        let Some(found) = found else { return self.lose(partition, &lineage).await };
        let part = &mut self.parts[partition];
        part.held_until = Some(asked_at + LEASE);
        let is_another = part.lineage.replace(lineage.clone()).is_some_and(|before| before != lineage);
        self.inner.metrics.lose("unread", found.lost);
        if found.was_free && !asked.is_new && !is_another {
            // It ran out meanwhile, and somebody else may have had it: what is held here may be told already.
            self.schedule.forget(partition);
            self.parts[partition] = Part::default();
            self.news.insert(partition);
            return;
        }
        let progress: HashMap<String, Option<u32>> = found.progress.into_iter().collect();
        let now_ms = self.inner.store.now_ms();
        let was_whole = found.entries.is_empty();
        for Recorded { entry, line, only } in found.entries {
            self.parts[partition].last = Some(entry);
            match Event::read(partition, entry, &line, only) {
                Some(event) => self.schedule.take(event, now_ms, |endpoint| {
                    progress.get(&format!("{entry} {endpoint}")).copied().unwrap_or(Some(0))
                }),
                None => {
                    tracing::error!(event = "webhook_unreadable", partition, bytes = line.len());
                    self.schedule.skip(partition, entry);
                }
            }
        }
        if !was_whole {
            // There may be another page.
            self.news.insert(partition);
        } else if is_another || found.count > self.schedule.known(partition) {
            // What is there and not known lies before what was read last: a clock went back.
            self.parts[partition].last = None;
        }
    }

    /// Another process tells this partition's events. If the store may have forgotten them, they are put there again.
    async fn lose(&mut self, partition: usize, lineage: &Arc<str>) {
        let part = std::mem::take(&mut self.parts[partition]);
        let events = self.schedule.forget(partition);
        let forgotten = part.lineage.is_some_and(|before| before != *lineage);
        if forgotten && !events.is_empty() {
            let events: Vec<Recorded> = events
                .iter()
                .map(|event| Recorded {
                    entry: event.entry,
                    line: event.line.clone(),
                    only: event.only.clone(),
                })
                .collect();
            if self.inner.store.restore(partition, &events).await.is_err() {
                self.inner.metrics.lose("unread", events.len() as u64);
            }
        }
    }

    /// Writes down how events went. What cannot be written stays until it can.
    async fn write_down(&mut self) {
        let effects: BTreeMap<usize, Effects> = self.schedule.effects();
        let (store, endpoints) = (&self.inner.store, &self.endpoints);
        let writes = effects.into_iter().filter(|(_, effects)| !effects.is_empty()).map(
            |(partition, effects)| async move {
                let written = store.finish(partition, &effects, endpoints).await;
                (partition, effects, written)
            },
        );
        for (partition, effects, written) in join_all(writes).await {
            match written {
                Ok(Some(gone)) => {
                    self.tell_of_the_dead(&effects);
                    self.inner.metrics.lose("dead_letters", gone);
                }
                // Another process may tell them now, or the store has forgotten who did: the next look says which.
                Ok(None) => {
                    self.schedule.put_back(partition, effects);
                    self.news.insert(partition);
                }
                Err(_) => self.schedule.put_back(partition, effects),
            }
        }
    }

    fn tell_of_the_dead(&self, effects: &Effects) {
        let mut counts: BTreeMap<(&str, _), u64> = BTreeMap::new();
        for dead in &effects.dead {
            *counts.entry((&dead.endpoint, dead.cause)).or_default() += 1;
        }
        for ((endpoint, cause), count) in counts {
            let cause = cause.word();
            self.inner.metrics.dead.with_label_values(&[cause]).inc_by(count);
            tracing::warn!(target: "signalbox_auth::audit", endpoint, cause, count, "webhooks_dead");
        }
    }

    /// Waits for the answers under way, writes them down, and gives the leases up.
    async fn end(mut self, mut outcomes: mpsc::UnboundedReceiver<(Job, Verdict)>) {
        let end = Instant::now() + LAST_WORDS;
        while self.schedule.is_busy() {
            match timeout_at(end, outcomes.recv()).await {
                Ok(Some((job, verdict))) => self.note(&job, verdict),
                Ok(None) | Err(_) => break,
            }
        }
        self.write_down().await;
        let held: Vec<usize> =
            (0..PARTITIONS).filter(|partition| self.parts[*partition].held_until.is_some()).collect();
        self.inner.store.release(&held).await;
        self.inner.stopped.send_replace(true);
    }
}

async fn attempt(inner: &Inner, url: &str, secrets: &WebhookSecrets, event: &Event) -> Verdict {
    let now = clock::now_s();
    let signature = sign::signature(secrets, &event.id, now, &event.line);
    let header =
        |name, value: String| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?));
    let headers: Option<Vec<_>> = [
        header("webhook-id", event.id.clone()),
        header("webhook-timestamp", now.to_string()),
        header("webhook-signature", signature),
    ]
    .into_iter()
    .collect();
    let patience = Patience { deadline: inner.deadline, most_bytes: MOST_ANSWER };
    let body = event.line.as_bytes().to_vec().into();
    let told = inner.ask.tell(url, "application/json", &headers.unwrap_or_default(), body, patience).await;
    let later = |why, after| Verdict::Later { why, after };
    match told {
        Ok((status, _)) if status.is_success() => Verdict::Taken,
        Ok((status, _)) if status.as_u16() == 410 => Verdict::Gone,
        Ok((status, headers)) => later(Failure::Status(status.as_u16()), retry_after(&headers)),
        Err(AskError::Late(_)) => later(Failure::Late, None),
        Err(_) => later(Failure::Unreachable, None),
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3) in seconds. A date is passed over: it needs clocks that agree.
fn retry_after(headers: &signalbox_http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// From 0 to 1.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all pauses are the same, which is no harm to one process.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
