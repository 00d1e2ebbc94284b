//! Webhooks: what happens in rooms, told over HTTP to those who want to hear it (docs/WEBHOOKS.md).
//!
//! - `event`, `delivery_schedule`: pure: what is told to whom, in which order, and when it is given up
//! - `signature`: Standard Webhooks signatures
//! - `webhook_store` over `redis` and `memory`, which take and give the types of `contract`: where events wait, and where those lie that were given up
//! - `delivery_worker`: the task that tells
//!
//! Owns: that an event a node has recorded is told at least once, or becomes a dead letter, or is counted as lost: never nothing. One process
//! at a time tells the events of a partition. Must not: take a URL from anybody but the operator's configuration, or follow a redirect.

mod contract;
mod delivery_schedule;
mod delivery_worker;
mod event;
mod memory;
mod metrics;
mod redis;
mod signature;
mod webhook_store;

use std::{sync::Arc, time::Duration};

use signalbox_config::{EndpointSecrets, ServiceSettings, WebhookEndpoint};
use signalbox_http::{HttpClient, HttpClientError};
use signalbox_redis::{RedisClient, RedisUnavailable, redis_keys::PARTITIONS};
use signalbox_rooms::feed::FeedSender;
use tokio::sync::{Notify, watch};

use delivery_schedule::{DeliveryLimits, DeliverySchedule};
use event::EndpointTarget;
use memory::MemoryWebhookStore;
use metrics::WebhookMetrics;
use redis::{RedisWebhookStore, RetentionLimits};
use webhook_store::WebhookStore;

pub(crate) use contract::StoredDeadLetter;
pub(crate) use event::StreamEntryId;

/// How long a process that tells a partition's events is waited for when it says nothing.
const PARTITION_LEASE: Duration = Duration::from_secs(5);

/// How long a stopping process waits for the answers it has asked for.
const STOP_DEADLINE: Duration = Duration::from_secs(4);

/// Why webhooks cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum WebhookStartError {
    /// Nothing to sign with.
    #[error(
        "webhooks.endpoints is set without {0}, which signs; make one with: echo whsec_$(openssl rand -base64 32)"
    )]
    NoSigningSecret(String),
    /// No client.
    #[error("webhooks: {0}")]
    Client(#[from] HttpClientError),
    /// A fault of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Where events come from.
pub enum WebhookEventSource {
    /// Nodes record them in Redis; the feed only says that there are some.
    Redis(Arc<RedisClient>),
    /// The feed of this process.
    Feed,
}

/// The webhooks of one process. Cheap to clone.
#[derive(Clone)]
pub struct WebhookService(Arc<WebhookContext>);

struct WebhookContext {
    store: WebhookStore,
    http: HttpClient,
    deadline: Duration,
    metrics: WebhookMetrics,
    /// Something was put among the events.
    new_events: Notify,
    stop: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    /// The ids and hosts of the endpoints.
    endpoints: Vec<(String, String)>,
}

/// An endpoint with what it is signed with.
fn endpoint_target(
    rule: &WebhookEndpoint,
    secrets: &EndpointSecrets,
) -> Result<EndpointTarget, WebhookStartError> {
    let name = || rule.secrets_env.as_deref().unwrap_or("SIGNALBOX_WEBHOOK_SECRETS").to_owned();
    let secrets = secrets.for_endpoint(rule).ok_or_else(|| WebhookStartError::NoSigningSecret(name()))?;
    Ok(EndpointTarget::new(rule, secrets.clone()))
}

impl WebhookService {
    /// Begins to tell, if there is somebody to be told. Call once, inside a runtime.
    ///
    /// # Errors
    /// [`WebhookStartError`], for the operator.
    pub fn start(
        settings: &ServiceSettings,
        secrets: &EndpointSecrets,
        source: WebhookEventSource,
        feed: &FeedSender,
    ) -> Result<Option<Self>, WebhookStartError> {
        let rules = &settings.webhooks;
        if rules.endpoints.is_empty() {
            return Ok(None);
        }
        let endpoints: Vec<EndpointTarget> =
            rules.endpoints.iter().map(|rule| endpoint_target(rule, secrets)).collect::<Result<_, _>>()?;
        let most = max_recorded(rules.backlog);
        let dead_ms = rules.dead_kept.as_ms();
        let store = match source {
            WebhookEventSource::Redis(client) => {
                let limits = RetentionLimits {
                    lease_ms: PARTITION_LEASE.as_millis() as u64,
                    max_events: most,
                    event_life_ms: rules.give_up.as_ms() + 60_000,
                    max_dead_letters: rules.dead,
                    dead_letter_life_ms: dead_ms,
                };
                WebhookStore::Redis(RedisWebhookStore::new(client, limits))
            }
            WebhookEventSource::Feed => {
                WebhookStore::Memory(MemoryWebhookStore::new(most, rules.dead as usize, dead_ms))
            }
        };
        let bounds = DeliveryLimits {
            give_up_ms: rules.give_up.as_ms(),
            max_attempts: rules.attempts,
            max_parallel: rules.parallel as usize,
            max_backlog: rules.backlog as usize,
        };
        let inner = Arc::new(WebhookContext {
            store,
            http: HttpClient::new(None)?,
            deadline: rules.deadline.0,
            metrics: WebhookMetrics::new()?,
            new_events: Notify::new(),
            stop: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            endpoints: endpoints
                .iter()
                .map(|endpoint| (endpoint.id.clone(), endpoint.host.clone()))
                .collect(),
        });
        for (endpoint, host) in &inner.endpoints {
            tracing::info!(event = "webhook_endpoint", endpoint, host);
        }
        delivery_worker::start_worker(inner.clone(), DeliverySchedule::new(endpoints, bounds), feed);
        Ok(Some(Self(inner)))
    }

    /// Tells nothing new, waits a little for answers, and lets another process go on.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let mut stopped = self.0.stopped.subscribe();
        // The worker has a bound of its own.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// What is counted.
    pub fn metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.0.metrics.gather()
    }

    /// The host of an endpoint, for people.
    pub(crate) fn endpoint_host(&self, endpoint: &str) -> Option<&str> {
        self.0.endpoints.iter().find(|(id, _)| id == endpoint).map(|(_, host)| &**host)
    }

    /// Dead letters from a place on, of all partitions, at most so many; and where to go on if there may be more.
    ///
    /// # Errors
    /// [`RedisUnavailable`].
    pub(crate) async fn list_dead_letters(
        &self,
        (first, mut after): (usize, Option<StreamEntryId>),
        most: usize,
    ) -> Result<(Vec<StoredDeadLetter>, Option<(usize, StreamEntryId)>), RedisUnavailable> {
        let mut found: Vec<StoredDeadLetter> = Vec::new();
        for partition in first..PARTITIONS {
            let letters = self.0.store.list_dead_letters(partition, after.take(), most - found.len()).await?;
            found.extend(letters);
            if found.len() >= most {
                let next = found.last().map(|letter| (letter.partition, letter.entry_id));
                return Ok((found, next));
            }
        }
        Ok((found, None))
    }

    /// Dead letters that fit are told again, to the endpoint that did not take them; how many. `partition`: where alone they can be.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: some may be told again. To ask again does no harm.
    pub(crate) async fn replay_dead_letters(
        &self,
        partition: Option<usize>,
        fits: impl Fn(&StoredDeadLetter) -> bool,
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
                let fitting: Vec<StoredDeadLetter> = page.into_iter().filter(|letter| fits(letter)).collect();
                if !fitting.is_empty() {
                    count += self.0.store.replay_dead_letters(partition, &fitting).await?;
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

/// As many as nodes record: twice those that are held, see `WebhookLimits`.
fn max_recorded(backlog: u32) -> usize {
    2 * backlog as usize
}
