//! The task that delivers: it takes leases, reads the recorded events, sends the due events, and
//! writes the outcomes.
//!
//! Owns: the pace. It has one call to the store at a time, so a reply is never older than its own
//! state. Must not: wait for an endpoint; each attempt is a task with a deadline. Next:
//! `delivery_schedule.rs` decides.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use signalbox_config::WebhookSecrets;
use signalbox_http::{HeaderName, HeaderValue, HttpClientError, RequestLimits};
use signalbox_protocol::clock;
use signalbox_redis::redis_keys::{self, PARTITIONS};
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

/// The time between two polls of all partitions. The feed announces the events in between.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The time between two polls while the store is unavailable.
const STORE_RETRY_DELAY: Duration = Duration::from_millis(250);

/// The longest response body that is read, bytes.
const MAX_RESPONSE_BYTES: usize = 1_024;

/// The state of a partition in this process.
#[derive(Default)]
struct PartitionState {
    /// When the lease of this process ends; `None` without a lease.
    lease_until: Option<Instant>,
    /// The replication id of its server.
    replication_id: Option<Arc<str>>,
    /// The last entry that was read.
    last_entry: Option<super::StreamEntryId>,
}

struct DeliveryWorker {
    context: Arc<WebhookContext>,
    schedule: DeliverySchedule,
    partitions: Vec<PartitionState>,
    endpoint_ids: Vec<String>,
    /// Partitions with new events.
    changed_partitions: BTreeSet<usize>,
    /// When the changed partitions are polled.
    poll_changed_at: Instant,
    poll_all_at: Instant,
    outcome_sender: mpsc::UnboundedSender<(DeliveryAttempt, DeliveryOutcome)>,
}

/// Starts the task; it ends after the stop signal.
pub(super) fn start_worker(
    context: Arc<WebhookContext>,
    schedule: DeliverySchedule,
    feed: Receiver<Arc<str>>,
) {
    let (outcome_sender, outcomes) = mpsc::unbounded_channel();
    let endpoint_ids = schedule.endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
    let now = Instant::now();
    let worker = DeliveryWorker {
        context,
        schedule,
        partitions: (0..PARTITIONS).map(|_| PartitionState::default()).collect(),
        endpoint_ids,
        changed_partitions: BTreeSet::new(),
        poll_changed_at: now,
        poll_all_at: now,
        outcome_sender,
    };
    tokio::spawn(worker.run(outcomes, feed));
}

impl DeliveryWorker {
    async fn run(
        mut self,
        mut outcomes: mpsc::UnboundedReceiver<(DeliveryAttempt, DeliveryOutcome)>,
        mut feed: Receiver<Arc<str>>,
    ) {
        let context = self.context.clone();
        let mut stop = context.stop.subscribe();
        let mut is_feed_closed = false;
        loop {
            self.start_attempts();
            let next = self.next_wakeup();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some((attempt, outcome)) = outcomes.recv() => {
                    self.record_outcome(&attempt, outcome);
                    while let Ok((attempt, outcome)) = outcomes.try_recv() {
                        self.record_outcome(&attempt, outcome);
                    }
                }
                line = feed.recv(), if !is_feed_closed => {
                    is_feed_closed = matches!(line, Err(RecvError::Closed));
                    self.handle_feed_line(line);
                    while let Ok(line) = feed.try_recv() {
                        self.handle_feed_line(Ok(line));
                    }
                }
                () = context.new_events.notified() => self.poll_all_at = Instant::now(),
                () = sleep_until(next) => {}
            }
            self.flush_writes().await;
            self.poll_store().await;
            context.metrics.waiting.set(self.schedule.len() as i64);
        }
        self.shut_down(outcomes, feed).await;
    }

    /// When the next poll or attempt is due, if no event arrives before.
    fn next_wakeup(&self) -> Instant {
        let due = self.schedule.next_due().map(|due| {
            let wait =
                due.saturating_sub(self.context.store.now_ms()).clamp(1, POLL_INTERVAL.as_millis() as u64);
            Instant::now() + Duration::from_millis(wait)
        });
        let poll_changed = (!self.changed_partitions.is_empty()).then_some(self.poll_changed_at);
        [due, poll_changed].into_iter().flatten().fold(self.poll_all_at, Instant::min)
    }

    fn start_attempts(&mut self) {
        let now_ms = self.context.store.now_ms();
        for attempt in self.schedule.start_due_attempts(now_ms) {
            let lease_until = self.partitions[attempt.event.partition].lease_until;
            // While Redis is unavailable the lease may end, and another process may take it.
            if lease_until.is_none_or(|until| until <= Instant::now()) {
                self.schedule.postpone(&attempt, now_ms + 500);
                continue;
            }
            let (context, outcome_sender) = (self.context.clone(), self.outcome_sender.clone());
            let endpoint = &self.schedule.endpoints[attempt.endpoint];
            let (url, secrets) = (endpoint.settings.url.clone(), endpoint.secrets.clone());
            tokio::spawn(async move {
                let outcome = send_event(&context, &url, &secrets, &attempt.event).await;
                // The worker may have stopped.
                let _ = outcome_sender.send((attempt, outcome));
            });
        }
    }

    fn record_outcome(&mut self, attempt: &DeliveryAttempt, outcome: DeliveryOutcome) {
        let metrics = &self.context.metrics;
        let endpoint = &self.endpoint_ids[attempt.endpoint];
        match outcome {
            DeliveryOutcome::Delivered => metrics.delivered.with_label_values(&[endpoint]).inc(),
            DeliveryOutcome::EndpointGone => metrics.failures.with_label_values(&[&**endpoint, "gone"]).inc(),
            DeliveryOutcome::Retry { why, .. } => {
                metrics.failures.with_label_values(&[&**endpoint, why.as_str()]).inc();
                let WebhookEvent { id, room, .. } = &*attempt.event;
                tracing::debug!(event = "webhook_failed", endpoint, id, %room, %why);
            }
        }
        self.schedule.finish_attempt(attempt, outcome, self.context.store.now_ms(), random_fraction());
    }

    fn handle_feed_line(&mut self, line: Result<Arc<str>, RecvError>) {
        match (line, &*self.context.store) {
            (Ok(line), WebhookStore::Memory(store)) => {
                self.changed_partitions.extend(store.record_line(&line))
            }
            (Ok(line), WebhookStore::Redis(_)) => {
                let header = serde_json::from_str::<EventHeader>(&line).ok();
                let room = header.and_then(|header| signalbox_protocol::id::RoomId::parse(&header.room).ok());
                self.changed_partitions.extend(room.map(|room| redis_keys::partition_of_room(&room)));
            }
            (Err(RecvError::Lagged(count)), WebhookStore::Memory(_)) => {
                self.context.metrics.count_lost("feed", count)
            }
            (Err(_), _) => self.poll_all_at = Instant::now() + POLL_INTERVAL / 10,
        }
    }

    /// Polls all partitions once in a while, and the changed ones at once.
    async fn poll_store(&mut self) {
        let now = Instant::now();
        let poll_all = now >= self.poll_all_at;
        let queries: Vec<PartitionQuery> = (0..PARTITIONS)
            .filter(|partition| {
                poll_all || (now >= self.poll_changed_at && self.changed_partitions.contains(partition))
            })
            .map(|partition| {
                let state = &self.partitions[partition];
                PartitionQuery { partition, after: state.last_entry, is_new: state.lease_until.is_none() }
            })
            .collect();
        if queries.is_empty() {
            return;
        }
        queries.iter().for_each(|query| _ = self.changed_partitions.remove(&query.partition));
        if poll_all {
            // Jitter, so that processes that were started together do not poll together.
            self.poll_all_at = now + POLL_INTERVAL.mul_f64(0.9 + 0.1 * random_fraction());
        }
        match self.context.store.poll(&queries).await {
            Ok(results) => {
                for (query, replication_id, found) in results {
                    self.apply_poll_result(query, replication_id, found, now).await;
                }
            }
            Err(_) => {
                self.changed_partitions.extend(queries.iter().map(|query| query.partition));
                self.poll_changed_at = now + STORE_RETRY_DELAY;
            }
        }
    }

    async fn apply_poll_result(
        &mut self,
        query: PartitionQuery,
        replication_id: Arc<str>,
        found: Option<PartitionEvents>,
        queried_at: Instant,
    ) {
        let partition = query.partition;
        let Some(found) = found else { return self.lose_partition(partition, &replication_id).await };
        let state = &mut self.partitions[partition];
        state.lease_until = Some(queried_at + PARTITION_LEASE);
        let earlier_id = state.replication_id.replace(replication_id.clone());
        let is_other_server = earlier_id.is_some_and(|earlier| earlier != replication_id);
        self.context.metrics.count_lost("unread", found.lost);
        if found.lease_was_free && !query.is_new && !is_other_server {
            // The lease had expired. Another process may have had it and may have delivered the
            // events of this process.
            self.schedule.drop_partition(partition);
            self.partitions[partition] = PartitionState::default();
            self.changed_partitions.insert(partition);
            return;
        }
        let progress: HashMap<String, Option<u32>> = found.progress.into_iter().collect();
        let now_ms = self.context.store.now_ms();
        let is_last_page = found.entries.is_empty();
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
        if !is_last_page {
            self.changed_partitions.insert(partition);
        } else if is_other_server || found.count > self.schedule.count_known_entries(partition) {
            // Unknown entries are before the last one that was read: the clock of a server was set
            // back.
            self.partitions[partition].last_entry = None;
        }
    }

    /// Drops a partition that another process delivers. If the store may have lost its events, they
    /// are written again.
    async fn lose_partition(&mut self, partition: usize, replication_id: &Arc<str>) {
        let state = std::mem::take(&mut self.partitions[partition]);
        let events = self.schedule.drop_partition(partition);
        let is_other_server = state.replication_id.is_some_and(|earlier| earlier != *replication_id);
        if is_other_server && !events.is_empty() {
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

    /// Writes the outcomes to the store. A failed write is repeated later.
    async fn flush_writes(&mut self) {
        let pending: BTreeMap<usize, PendingWrites> = self.schedule.take_pending_writes();
        let (store, endpoints) = (&self.context.store, &self.endpoint_ids);
        let calls = pending.into_iter().filter(|(_, writes)| !writes.is_empty()).map(
            |(partition, writes)| async move {
                let result = store.write_outcomes(partition, &writes, endpoints).await;
                (partition, writes, result)
            },
        );
        for (partition, writes, result) in join_all(calls).await {
            match result {
                Ok(Some(dropped)) => {
                    self.report_dead_letters(&writes);
                    self.context.metrics.count_lost("dead_letters", dropped);
                }
                // Another process has the lease, or the store has lost the lease. The next poll
                // shows which.
                Ok(None) => {
                    self.schedule.restore_writes(partition, writes);
                    self.changed_partitions.insert(partition);
                }
                Err(_) => self.schedule.restore_writes(partition, writes),
            }
        }
    }

    fn report_dead_letters(&self, writes: &PendingWrites) {
        let mut counts: BTreeMap<(&str, _), u64> = BTreeMap::new();
        for dead in &writes.dead_letters {
            *counts.entry((&dead.endpoint_id, dead.cause)).or_default() += 1;
        }
        for ((endpoint, cause), count) in counts {
            let cause = cause.as_str();
            self.context.metrics.dead_letters.with_label_values(&[cause]).inc_by(count);
            tracing::warn!(target: "signalbox_auth::audit", endpoint, cause, count, "webhooks_dead");
        }
    }

    /// Waits for the running attempts, writes their outcomes, and releases the leases.
    async fn shut_down(
        mut self,
        mut outcomes: mpsc::UnboundedReceiver<(DeliveryAttempt, DeliveryOutcome)>,
        feed: Receiver<Arc<str>>,
    ) {
        let end = Instant::now() + STOP_DEADLINE;
        while self.schedule.has_attempts_in_flight() {
            match timeout_at(end, outcomes.recv()).await {
                Ok(Some((attempt, outcome))) => self.record_outcome(&attempt, outcome),
                Ok(None) | Err(_) => break,
            }
        }
        self.flush_writes().await;
        let leased: Vec<usize> =
            (0..PARTITIONS).filter(|partition| self.partitions[*partition].lease_until.is_some()).collect();
        self.context.store.release_leases(&leased).await;
        self.context.stopped.send_replace(Some(Arc::new(Mutex::new(Some(feed)))));
    }
}

async fn send_event(
    context: &WebhookContext,
    url: &str,
    secrets: &WebhookSecrets,
    event: &WebhookEvent,
) -> DeliveryOutcome {
    let now_s = clock::now_s();
    let signature = signature::signature_header(secrets, &event.id, now_s, &event.line);
    let header =
        |name, value: String| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?));
    let headers: Option<Vec<_>> = [
        header("webhook-id", event.id.clone()),
        header("webhook-timestamp", now_s.to_string()),
        header("webhook-signature", signature),
    ]
    .into_iter()
    .collect();
    let limits = RequestLimits { deadline: context.deadline, max_body_bytes: MAX_RESPONSE_BYTES };
    let body = event.line.as_bytes().to_vec().into();
    let response =
        context.http.post(url, "application/json", &headers.unwrap_or_default(), body, limits).await;
    let retry = |why, after| DeliveryOutcome::Retry { why, after };
    match response {
        Ok((status, _)) if status.is_success() => DeliveryOutcome::Delivered,
        Ok((status, _)) if status.as_u16() == 410 => DeliveryOutcome::EndpointGone,
        Ok((status, headers)) => retry(DeliveryFailure::Status(status.as_u16()), parse_retry_after(&headers)),
        Err(HttpClientError::TimedOut(_)) => retry(DeliveryFailure::Timeout, None),
        Err(HttpClientError::Untrusted) => retry(DeliveryFailure::Untrusted, None),
        Err(_) => retry(DeliveryFailure::Unreachable, None),
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3) in seconds. A date is ignored, because it needs clocks
/// that agree.
fn parse_retry_after(headers: &signalbox_http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A random number from 0 to 1.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all pauses are the same, which is harmless.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
