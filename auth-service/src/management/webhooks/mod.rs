//! Webhooks: the events of rooms, delivered over HTTP to the configured endpoints
//! (docs/WEBHOOKS.md).
//!
//! - `event`, `delivery_schedule`: pure: which event goes to which endpoint, in which order, and
//!   when an attempt is the last
//! - `signature`: Standard Webhooks signatures
//! - `webhook_store` over `redis` and `memory`, with the types of `contract`: the waiting events
//!   and the dead letters
//! - `delivery_worker`: the task that delivers
//!
//! Owns: each recorded event is delivered at least once, becomes a dead letter, or is counted as
//! lost. One process at a time delivers the events of a partition. Must not: use a URL that is not
//! in the configuration, or follow a redirect. Next: `delivery_worker.rs`.

mod contract;
mod delivery_schedule;
mod delivery_worker;
mod event;
mod memory;
mod metrics;
mod redis;
mod signature;
mod webhook_store;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use signalbox_config::{
    ConfigReload, EndpointSecrets, LiveValue, ServiceSettings, WebhookEndpoint, WebhookSettings,
};
use signalbox_http::{HttpClient, HttpClientError};
use signalbox_redis::{RedisClient, RedisUnavailable, redis_keys::PARTITIONS};
use signalbox_rooms::feed::FeedSender;
use tokio::sync::{Notify, broadcast::Receiver, watch};

use delivery_schedule::{DeliveryLimits, DeliverySchedule};
use event::EndpointTarget;
use memory::MemoryWebhookStore;
use metrics::WebhookMetrics;
use redis::{RedisWebhookStore, RetentionLimits};
use webhook_store::WebhookStore;

pub(crate) use contract::StoredDeadLetter;
pub(crate) use event::StreamEntryId;

/// The lease of a partition: after this time without a renewal, another process may deliver its
/// events.
const PARTITION_LEASE: Duration = Duration::from_secs(5);

/// How long a stopping process waits for the responses of running attempts.
const STOP_DEADLINE: Duration = Duration::from_secs(4);

/// Why the webhooks cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WebhookStartError {
    /// The secret that signs is missing.
    #[error(
        "webhooks.endpoints is set, and the signing secret {0} is not; make one with: echo whsec_$(openssl rand -base64 32)"
    )]
    NoSigningSecret(String),
    /// The HTTP client cannot be built.
    #[error("webhooks: {0}")]
    Client(#[from] HttpClientError),
    /// Two metrics have one name. The tests would show it.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The source of the events.
pub enum WebhookEventSource {
    /// Nodes record events in Redis; the feed only announces them.
    Redis(Arc<RedisClient>),
    /// The feed of this process carries the events.
    Feed,
}

/// The webhooks of one process, from one reload to the next. Cheap to clone.
#[derive(Clone)]
pub struct WebhookService(Arc<WebhookContext>);

struct WebhookContext {
    store: Arc<WebhookStore>,
    http: HttpClient,
    deadline: Duration,
    metrics: Arc<WebhookMetrics>,
    /// Notified when a replay has added events.
    new_events: Notify,
    stop: watch::Sender<bool>,
    /// The feed of the worker, when it has stopped: no line of the feed may be missed by the next.
    stopped: watch::Sender<Option<Arc<FeedReceiver>>>,
    /// The id and the host of each endpoint.
    endpoints: Vec<(String, String)>,
}

/// The lines of the feed that a stopped worker has not read.
type FeedReceiver = Mutex<Option<Receiver<Arc<str>>>>;

/// An endpoint with the secrets that sign its requests.
fn endpoint_target(
    rule: &WebhookEndpoint,
    secrets: &EndpointSecrets,
) -> Result<EndpointTarget, WebhookStartError> {
    let variable = || rule.secrets_env.as_deref().unwrap_or("SIGNALBOX_WEBHOOK_SECRETS").to_owned();
    let secrets = secrets.for_endpoint(rule).ok_or_else(|| WebhookStartError::NoSigningSecret(variable()))?;
    Ok(EndpointTarget::new(rule, secrets.clone()))
}

/// Starts the webhooks, and again with each new configuration. The waiting events and the metrics
/// stay.
pub struct WebhookLauncher {
    store: Arc<WebhookStore>,
    metrics: Arc<WebhookMetrics>,
    feed: FeedSender,
    running: LiveValue<WebhookService>,
}

impl WebhookLauncher {
    /// Starts the delivery. Call inside a runtime.
    ///
    /// # Errors
    /// [`WebhookStartError`], for the operator.
    pub fn start(
        settings: &ServiceSettings,
        secrets: &EndpointSecrets,
        source: WebhookEventSource,
        feed: &FeedSender,
    ) -> Result<Self, WebhookStartError> {
        let endpoints = endpoint_targets(&settings.webhooks, secrets)?;
        let store = Arc::new(open_store(source, &settings.webhooks));
        let metrics = Arc::new(WebhookMetrics::new()?);
        let service = WebhookService::launch((&store, &metrics), settings, endpoints, feed.subscribe())?;
        Ok(Self { store, metrics, feed: feed.clone(), running: LiveValue::new(service) })
    }

    /// The webhooks that run now.
    pub fn running(&self) -> LiveValue<WebhookService> {
        self.running.clone()
    }

    /// Stops the webhooks, waiting a few seconds for their running attempts, and starts them with
    /// the new configuration.
    ///
    /// # Errors
    /// [`WebhookStartError`]; then the old webhooks run on.
    pub async fn reload(&self, reload: &ConfigReload) -> Result<(), WebhookStartError> {
        if !reload.concerns(&["webhooks.", "SIGNALBOX_WEBHOOK_SECRETS"]) {
            return Ok(());
        }
        let settings = &reload.config.settings;
        let endpoints = endpoint_targets(&settings.webhooks, &reload.config.secrets.webhooks)?;
        let feed = self.running.load().stop_and_take_feed().await;
        let feed = feed.unwrap_or_else(|| self.feed.subscribe());
        let service = WebhookService::launch((&self.store, &self.metrics), settings, endpoints, feed)?;
        self.running.replace(service);
        Ok(())
    }

    /// Stops the webhooks that run.
    pub async fn stop(&self) {
        self.running.load().stop().await;
    }
}

/// The endpoints of the configuration with their secrets.
///
/// # Errors
/// [`WebhookStartError::NoSigningSecret`].
pub(crate) fn endpoint_targets(
    rules: &WebhookSettings,
    secrets: &EndpointSecrets,
) -> Result<Vec<EndpointTarget>, WebhookStartError> {
    rules.endpoints.iter().map(|rule| endpoint_target(rule, secrets)).collect()
}

fn open_store(source: WebhookEventSource, rules: &WebhookSettings) -> WebhookStore {
    let (max_events, dead_letter_life_ms) = (max_recorded(rules.backlog), rules.dead_kept.as_ms());
    match source {
        WebhookEventSource::Redis(client) => {
            let limits = RetentionLimits {
                lease_ms: PARTITION_LEASE.as_millis() as u64,
                max_events,
                event_life_ms: rules.give_up.as_ms() + 60_000,
                max_dead_letters: rules.dead,
                dead_letter_life_ms,
            };
            WebhookStore::Redis(RedisWebhookStore::new(client, limits))
        }
        WebhookEventSource::Feed => {
            let max_dead_letters = rules.dead as usize;
            WebhookStore::Memory(MemoryWebhookStore::new(max_events, max_dead_letters, dead_letter_life_ms))
        }
    }
}

impl WebhookService {
    /// Starts the worker if there are endpoints. Otherwise dead letters can still be listed.
    fn launch(
        (store, metrics): (&Arc<WebhookStore>, &Arc<WebhookMetrics>),
        settings: &ServiceSettings,
        endpoints: Vec<EndpointTarget>,
        feed: Receiver<Arc<str>>,
    ) -> Result<Self, WebhookStartError> {
        let rules = &settings.webhooks;
        let limits = DeliveryLimits {
            give_up_ms: rules.give_up.as_ms(),
            max_attempts: rules.attempts,
            max_parallel: rules.parallel as usize,
            max_backlog: rules.backlog as usize,
        };
        let context = Arc::new(WebhookContext {
            store: store.clone(),
            http: HttpClient::from_settings(&settings.http_client)?,
            deadline: rules.deadline.0,
            metrics: metrics.clone(),
            new_events: Notify::new(),
            stop: watch::Sender::new(false),
            // Without an endpoint there is no worker to wait for.
            stopped: watch::Sender::new(endpoints.is_empty().then(Arc::default)),
            endpoints: endpoints
                .iter()
                .map(|endpoint| (endpoint.id.clone(), endpoint.host.clone()))
                .collect(),
        });
        for (endpoint, host) in &context.endpoints {
            tracing::info!(event = "webhook_endpoint", endpoint, host);
        }
        if !endpoints.is_empty() {
            delivery_worker::start_worker(context.clone(), DeliverySchedule::new(endpoints, limits), feed);
        }
        Ok(Self(context))
    }

    /// Starts no new attempt, waits a few seconds for the running ones, and releases the leases.
    pub async fn stop(&self) {
        let _ = self.stop_and_take_feed().await;
    }

    /// The lines of the feed that the stopped worker has not read.
    async fn stop_and_take_feed(&self) -> Option<Receiver<Arc<str>>> {
        self.0.stop.send_replace(true);
        let mut stopped = self.0.stopped.subscribe();
        // The worker has its own deadline.
        let stopped = stopped.wait_for(Option::is_some).await.ok()?;
        stopped.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The metrics of the webhooks.
    pub fn metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.0.metrics.gather()
    }

    /// The host of an endpoint, for the reader of a list.
    pub(crate) fn endpoint_host(&self, endpoint: &str) -> Option<&str> {
        self.0.endpoints.iter().find(|(id, _)| id == endpoint).map(|(_, host)| &**host)
    }

    /// At most `limit` dead letters of all partitions that match, from a position on, and the next
    /// position if there may be more.
    ///
    /// # Errors
    /// [`RedisUnavailable`].
    pub(crate) async fn list_dead_letters(
        &self,
        (first, mut after): (usize, Option<StreamEntryId>),
        limit: usize,
        matches: impl Fn(&StoredDeadLetter) -> bool,
    ) -> Result<(Vec<StoredDeadLetter>, Option<(usize, StreamEntryId)>), RedisUnavailable> {
        let mut found: Vec<StoredDeadLetter> = Vec::new();
        for partition in first..PARTITIONS {
            loop {
                let wanted = limit - found.len();
                let page = self.0.store.list_dead_letters(partition, after.take(), wanted).await?;
                let is_last = page.len() < wanted;
                after = page.last().map(|letter| letter.entry_id).filter(|_| !is_last);
                found.extend(page.into_iter().filter(|letter| matches(letter)));
                if found.len() >= limit {
                    let next = found.last().map(|letter| (letter.partition, letter.entry_id));
                    return Ok((found, next));
                }
                if is_last {
                    break;
                }
            }
        }
        Ok((found, None))
    }

    /// Replays the dead letters that match, each to the endpoint that did not accept it, and
    /// returns their number. Those of an endpoint that is not configured any more stay. With
    /// `partition` only that partition is searched.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: some may be replayed already. A repeated call is harmless.
    pub(crate) async fn replay_dead_letters(
        &self,
        partition: Option<usize>,
        matches: impl Fn(&StoredDeadLetter) -> bool,
    ) -> Result<usize, RedisUnavailable> {
        const REPLAY_PAGE_SIZE: usize = 256;
        let mut count = 0;
        let partitions = partition.map_or(0..PARTITIONS, |partition| partition..partition + 1);
        for partition in partitions {
            let mut after = None;
            loop {
                let page = self.0.store.list_dead_letters(partition, after, REPLAY_PAGE_SIZE).await?;
                let is_last = page.len() < REPLAY_PAGE_SIZE;
                after = page.last().map(|letter| letter.entry_id);
                let is_configured =
                    |letter: &StoredDeadLetter| self.endpoint_host(&letter.letter.endpoint_id).is_some();
                let matching: Vec<StoredDeadLetter> =
                    page.into_iter().filter(|letter| is_configured(letter) && matches(letter)).collect();
                if !matching.is_empty() {
                    count += self.0.store.replay_dead_letters(partition, &matching).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        self.0.new_events.notify_one();
        Ok(count)
    }
}

/// The most events that nodes record for one partition: twice the backlog, see `WebhookLimits`.
fn max_recorded(backlog: u32) -> usize {
    2 * backlog as usize
}
