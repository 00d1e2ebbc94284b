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
use signalbox_http::{HeaderName, HeaderValue, HttpClientError, RequestLimits};
use signalbox_protocol::clock;
use signalbox_redis::redis_keys::{self, PARTITIONS};
use signalbox_rooms::feed::FeedSender;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc,
    },
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    PARTITION_LEASE, STOP_DEADLINE, WebhookContext,
    contract::{PartitionEvents, PartitionQuery, RecordedEvent},
    delivery_schedule::{DeliveryAttempt, DeliverySchedule, PendingWrites},
    event::{DeliveryFailure, DeliveryOutcome, EventHeader, WebhookEvent},
    signature,
    webhook_store::WebhookStore,
};

/// Between two looks at everything. What happens meanwhile the feed tells of.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Between two attempts while the store is away.
const STORE_RETRY_DELAY: Duration = Duration::from_millis(250);

/// The longest answer that is read, bytes.
const MAX_RESPONSE_BYTES: usize = 1_024;

/// A partition, as this process knows it.
#[derive(Default)]
struct PartitionState {
    /// Until when this process tells its events.
    lease_until: Option<Instant>,
    /// The history of its server.
    replication_id: Option<Arc<str>>,
    /// The last entry that was read.
    last_entry: Option<super::StreamEntryId>,
}

struct DeliveryWorker {
    context: Arc<WebhookContext>,
    schedule: DeliverySchedule,
    partitions: Vec<PartitionState>,
    endpoint_ids: Vec<String>,
    /// Partitions in which something was recorded, and when they are looked at.
    changed_partitions: BTreeSet<usize>,
    poll_changed_at: Instant,
    poll_all_at: Instant,
    outcome_sender: mpsc::UnboundedSender<(DeliveryAttempt, DeliveryOutcome)>,
}

/// Starts the task; it ends when it is told to stop.
pub(super) fn start_worker(inner: Arc<WebhookContext>, schedule: DeliverySchedule, feed: &FeedSender) {
    let (attempts, outcomes) = mpsc::unbounded_channel();
    let endpoints = schedule.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
    let parts = (0..PARTITIONS).map(|_| PartitionState::default()).collect();
    let (news, news_at, look_at) = (BTreeSet::new(), Instant::now(), Instant::now());
    let worker = DeliveryWorker {
        context: inner,
        schedule,
        partitions: parts,
        endpoint_ids: endpoints,
        changed_partitions: news,
        poll_changed_at: news_at,
        poll_all_at: look_at,
        outcome_sender: attempts,
    };
    tokio::spawn(worker.run(outcomes, feed.subscribe()));
}

impl DeliveryWorker {
    async fn run(
        mut self,
        mut outcomes: mpsc::UnboundedReceiver<(DeliveryAttempt, DeliveryOutcome)>,
        mut feed: Receiver<Arc<str>>,
    ) {
        let inner = self.context.clone();
        let mut stop = inner.stop.subscribe();
        let mut is_over = false;
        loop {
            self.start_attempts();
            let next = self.next_wakeup();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some((job, verdict)) = outcomes.recv() => {
                    self.record_outcome(&job, verdict);
                    while let Ok((job, verdict)) = outcomes.try_recv() {
                        self.record_outcome(&job, verdict);
                    }
                }
                line = feed.recv(), if !is_over => {
                    is_over = matches!(line, Err(RecvError::Closed));
                    self.handle_feed_line(line);
                    while let Ok(line) = feed.try_recv() {
                        self.handle_feed_line(Ok(line));
                    }
                }
                () = inner.new_events.notified() => self.poll_all_at = Instant::now(),
                () = sleep_until(next) => {}
            }
            self.flush_writes().await;
            self.poll_store().await;
            inner.metrics.waiting.set(self.schedule.len() as i64);
        }
        self.shut_down(outcomes).await;
    }

    /// When there is something to do that nobody says.
    fn next_wakeup(&self) -> Instant {
        let due = self.schedule.next_due().map(|due| {
            let wait =
                due.saturating_sub(self.context.store.now_ms()).clamp(1, POLL_INTERVAL.as_millis() as u64);
            Instant::now() + Duration::from_millis(wait)
        });
        let news = (!self.changed_partitions.is_empty()).then_some(self.poll_changed_at);
        [due, news].into_iter().flatten().fold(self.poll_all_at, Instant::min)
    }

    fn start_attempts(&mut self) {
        let now_ms = self.context.store.now_ms();
        for job in self.schedule.start_due_attempts(now_ms) {
            // While Redis is away another process may have the lease.
            if self.partitions[job.event.partition].lease_until.is_none_or(|until| until <= Instant::now()) {
                self.schedule.postpone(&job, now_ms + 500);
                continue;
            }
            let (inner, done) = (self.context.clone(), self.outcome_sender.clone());
            let endpoint = &self.schedule.endpoints[job.endpoint];
            let (url, secrets) = (endpoint.settings.url.clone(), endpoint.secrets.clone());
            tokio::spawn(async move {
                let verdict = send_event(&inner, &url, &secrets, &job.event).await;
                // The worker may have stopped.
                let _ = done.send((job, verdict));
            });
        }
    }

    fn record_outcome(&mut self, job: &DeliveryAttempt, verdict: DeliveryOutcome) {
        let metrics = &self.context.metrics;
        let endpoint = &self.endpoint_ids[job.endpoint];
        match verdict {
            DeliveryOutcome::Delivered => metrics.delivered.with_label_values(&[endpoint]).inc(),
            DeliveryOutcome::EndpointGone => metrics.failures.with_label_values(&[&**endpoint, "gone"]).inc(),
            DeliveryOutcome::Retry { why, .. } => {
                metrics.failures.with_label_values(&[&**endpoint, why.as_str()]).inc();
                tracing::debug!(event = "webhook_failed", endpoint, id = job.event.id, room = %job.event.room, %why);
            }
        }
        self.schedule.finish_attempt(job, verdict, self.context.store.now_ms(), random_fraction());
    }

    fn handle_feed_line(&mut self, line: Result<Arc<str>, RecvError>) {
        match (line, &self.context.store) {
            (Ok(line), WebhookStore::Memory(store)) => {
                self.changed_partitions.extend(store.record_line(&line))
            }
            (Ok(line), WebhookStore::Redis(_)) => {
                let head = serde_json::from_str::<EventHeader>(&line).ok();
                let room = head.and_then(|head| signalbox_protocol::id::RoomId::parse(&head.room).ok());
                self.changed_partitions.extend(room.map(|room| redis_keys::partition_of_room(&room)));
            }
            (Err(RecvError::Lagged(count)), WebhookStore::Memory(_)) => {
                self.context.metrics.count_lost("feed", count)
            }
            (Err(_), _) => self.poll_all_at = Instant::now() + POLL_INTERVAL / 10,
        }
    }

    /// Looks at all partitions once in a while, and at those with news.
    async fn poll_store(&mut self) {
        let now = Instant::now();
        let everywhere = now >= self.poll_all_at;
        let asked: Vec<PartitionQuery> = (0..PARTITIONS)
            .filter(|partition| {
                everywhere || (now >= self.poll_changed_at && self.changed_partitions.contains(partition))
            })
            .map(|partition| {
                let part = &self.partitions[partition];
                PartitionQuery { partition, after: part.last_entry, is_new: part.lease_until.is_none() }
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        asked.iter().for_each(|asked| _ = self.changed_partitions.remove(&asked.partition));
        if everywhere {
            // Processes that were started together do not ask together.
            self.poll_all_at = now + POLL_INTERVAL.mul_f64(0.9 + 0.1 * random_fraction());
        }
        match self.context.store.poll(&asked).await {
            Ok(polled) => {
                for (asked, lineage, found) in polled {
                    self.apply_poll_result(asked, lineage, found, now).await;
                }
            }
            Err(_) => {
                self.changed_partitions.extend(asked.iter().map(|asked| asked.partition));
                self.poll_changed_at = now + STORE_RETRY_DELAY;
            }
        }
    }

    async fn apply_poll_result(
        &mut self,
        asked: PartitionQuery,
        lineage: Arc<str>,
        found: Option<PartitionEvents>,
        asked_at: Instant,
    ) {
        let partition = asked.partition;
        let Some(found) = found else { return self.lose_partition(partition, &lineage).await };
        let part = &mut self.partitions[partition];
        part.lease_until = Some(asked_at + PARTITION_LEASE);
        let is_another = part.replication_id.replace(lineage.clone()).is_some_and(|before| before != lineage);
        self.context.metrics.count_lost("unread", found.lost);
        if found.lease_was_free && !asked.is_new && !is_another {
            // It ran out meanwhile, and somebody else may have had it: what is held here may be told already.
            self.schedule.drop_partition(partition);
            self.partitions[partition] = PartitionState::default();
            self.changed_partitions.insert(partition);
            return;
        }
        let progress: HashMap<String, Option<u32>> = found.progress.into_iter().collect();
        let now_ms = self.context.store.now_ms();
        let was_whole = found.entries.is_empty();
        for RecordedEvent { entry, line, only_endpoint: only } in found.entries {
            self.partitions[partition].last_entry = Some(entry);
            match WebhookEvent::parse(partition, entry, &line, only) {
                Some(event) => self.schedule.add_event(event, now_ms, |endpoint| {
                    progress.get(&format!("{entry} {endpoint}")).copied().unwrap_or(Some(0))
                }),
                None => {
                    tracing::error!(event = "webhook_unreadable", partition, bytes = line.len());
                    self.schedule.skip_entry(partition, entry);
                }
            }
        }
        if !was_whole {
            // There may be another page.
            self.changed_partitions.insert(partition);
        } else if is_another || found.count > self.schedule.count_known_entries(partition) {
            // What is there and not known lies before what was read last: a clock went back.
            self.partitions[partition].last_entry = None;
        }
    }

    /// Another process tells this partition's events. If the store may have forgotten them, they are put there again.
    async fn lose_partition(&mut self, partition: usize, lineage: &Arc<str>) {
        let part = std::mem::take(&mut self.partitions[partition]);
        let events = self.schedule.drop_partition(partition);
        let forgotten = part.replication_id.is_some_and(|before| before != *lineage);
        if forgotten && !events.is_empty() {
            let events: Vec<RecordedEvent> = events
                .iter()
                .map(|event| RecordedEvent {
                    entry: event.entry_id,
                    line: event.line.clone(),
                    only_endpoint: event.only_endpoint.clone(),
                })
                .collect();
            if self.context.store.restore_events(partition, &events).await.is_err() {
                self.context.metrics.count_lost("unread", events.len() as u64);
            }
        }
    }

    /// Writes down how events went. What cannot be written stays until it can.
    async fn flush_writes(&mut self) {
        let effects: BTreeMap<usize, PendingWrites> = self.schedule.take_pending_writes();
        let (store, endpoints) = (&self.context.store, &self.endpoint_ids);
        let writes = effects.into_iter().filter(|(_, effects)| !effects.is_empty()).map(
            |(partition, effects)| async move {
                let written = store.write_outcomes(partition, &effects, endpoints).await;
                (partition, effects, written)
            },
        );
        for (partition, effects, written) in join_all(writes).await {
            match written {
                Ok(Some(gone)) => {
                    self.report_dead_letters(&effects);
                    self.context.metrics.count_lost("dead_letters", gone);
                }
                // Another process may tell them now, or the store has forgotten who did: the next look says which.
                Ok(None) => {
                    self.schedule.restore_writes(partition, effects);
                    self.changed_partitions.insert(partition);
                }
                Err(_) => self.schedule.restore_writes(partition, effects),
            }
        }
    }

    fn report_dead_letters(&self, effects: &PendingWrites) {
        let mut counts: BTreeMap<(&str, _), u64> = BTreeMap::new();
        for dead in &effects.dead_letters {
            *counts.entry((&dead.endpoint_id, dead.cause)).or_default() += 1;
        }
        for ((endpoint, cause), count) in counts {
            let cause = cause.as_str();
            self.context.metrics.dead_letters.with_label_values(&[cause]).inc_by(count);
            tracing::warn!(target: "signalbox_auth::audit", endpoint, cause, count, "webhooks_dead");
        }
    }

    /// Waits for the answers under way, writes them down, and gives the leases up.
    async fn shut_down(mut self, mut outcomes: mpsc::UnboundedReceiver<(DeliveryAttempt, DeliveryOutcome)>) {
        let end = Instant::now() + STOP_DEADLINE;
        while self.schedule.has_attempts_in_flight() {
            match timeout_at(end, outcomes.recv()).await {
                Ok(Some((job, verdict))) => self.record_outcome(&job, verdict),
                Ok(None) | Err(_) => break,
            }
        }
        self.flush_writes().await;
        let held: Vec<usize> =
            (0..PARTITIONS).filter(|partition| self.partitions[*partition].lease_until.is_some()).collect();
        self.context.store.release_leases(&held).await;
        self.context.stopped.send_replace(true);
    }
}

async fn send_event(
    inner: &WebhookContext,
    url: &str,
    secrets: &WebhookSecrets,
    event: &WebhookEvent,
) -> DeliveryOutcome {
    let now = clock::now_s();
    let signature = signature::signature_header(secrets, &event.id, now, &event.line);
    let header =
        |name, value: String| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?));
    let headers: Option<Vec<_>> = [
        header("webhook-id", event.id.clone()),
        header("webhook-timestamp", now.to_string()),
        header("webhook-signature", signature),
    ]
    .into_iter()
    .collect();
    let patience = RequestLimits { deadline: inner.deadline, max_body_bytes: MAX_RESPONSE_BYTES };
    let body = event.line.as_bytes().to_vec().into();
    let told = inner.http.post(url, "application/json", &headers.unwrap_or_default(), body, patience).await;
    let later = |why, after| DeliveryOutcome::Retry { why, after };
    match told {
        Ok((status, _)) if status.is_success() => DeliveryOutcome::Delivered,
        Ok((status, _)) if status.as_u16() == 410 => DeliveryOutcome::EndpointGone,
        Ok((status, headers)) => later(DeliveryFailure::Status(status.as_u16()), parse_retry_after(&headers)),
        Err(HttpClientError::TimedOut(_)) => later(DeliveryFailure::Timeout, None),
        Err(_) => later(DeliveryFailure::Unreachable, None),
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3) in seconds. A date is passed over: it needs clocks that agree.
fn parse_retry_after(headers: &signalbox_http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// From 0 to 1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all pauses are the same, which is no harm to one process.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
