//! Webhooks: what happens in rooms, told over HTTP to those who want to hear it (docs/WEBHOOKS.md).
//!
//! - `event`, `schedule`: pure: what is told to whom, in which order, and when it is given up
//! - `sign`: Standard Webhooks signatures
//! - `store` over `redis` and `memory`: where events wait, and where those lie that were given up
//! - `worker`: the task that tells
//!
//! Owns: that an event a node has recorded is told at least once, or becomes a dead letter, or is counted as lost: never nothing. One process
//! at a time tells the events of a partition. Must not: take a URL from anybody but the operator's configuration, or follow a redirect.

mod event;
mod memory;
mod metrics;
mod redis;
mod schedule;
mod sign;
mod store;
mod worker;

use std::{sync::Arc, time::Duration};

use signalbox_config::{Settings, WebhookEndpoint, WebhookKeys};
use signalbox_http::{Ask, AskError};
use signalbox_protocol::id::random_hex;
use signalbox_redis::Unavailable;
use signalbox_redis::keys::PARTITIONS;
use signalbox_rooms::feed::FeedSender;
use tokio::sync::{Notify, watch};

use self::{
    event::Endpoint,
    memory::MemoryStore,
    metrics::Metrics,
    redis::{Kept, RedisStore},
    schedule::{Bounds, Schedule},
    store::Store,
};
use crate::link::SharedLink;

pub(crate) use self::{event::EntryId, store::Letter};

/// How long a process that tells a partition's events is waited for when it says nothing.
const LEASE: Duration = Duration::from_secs(5);

/// How long a stopping process waits for the answers it has asked for.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Why webhooks cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// Nothing to sign with.
    #[error(
        "webhooks.endpoints is set without {0}, which signs; make one with: echo whsec_$(openssl rand -base64 32)"
    )]
    NoSecret(String),
    /// No client.
    #[error("webhooks: {0}")]
    Client(#[from] AskError),
    /// A fault of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Where events come from.
pub enum Source {
    /// Nodes record them in Redis; the feed only says that there are some.
    Redis(SharedLink),
    /// The feed of this process.
    Feed,
}

/// The webhooks of one process. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    store: Store,
    ask: Ask,
    deadline: Duration,
    metrics: Metrics,
    /// Something was put among the events.
    wake: Notify,
    stop: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    /// The ids and hosts of the endpoints.
    endpoints: Vec<(String, String)>,
}

/// An endpoint with what it is signed with.
fn endpoint(rule: &WebhookEndpoint, secrets: &WebhookKeys) -> Result<Endpoint, WebhooksError> {
    let name = || rule.secrets_env.as_deref().unwrap_or("SIGNALBOX_WEBHOOK_SECRETS").to_owned();
    let secrets = secrets.of(rule).ok_or_else(|| WebhooksError::NoSecret(name()))?;
    Ok(Endpoint::new(rule, secrets.clone()))
}

impl Webhooks {
    /// Begins to tell, if there is somebody to be told. Call once, inside a runtime.
    ///
    /// # Errors
    /// [`WebhooksError`], for the operator.
    pub fn start(
        settings: &Settings,
        secrets: &WebhookKeys,
        source: Source,
        feed: &FeedSender,
    ) -> Result<Option<Self>, WebhooksError> {
        let rules = &settings.webhooks;
        if rules.endpoints.is_empty() {
            return Ok(None);
        }
        let endpoints: Vec<Endpoint> =
            rules.endpoints.iter().map(|rule| endpoint(rule, secrets)).collect::<Result<_, _>>()?;
        let most = most_recorded(rules.backlog);
        let dead_ms = rules.dead_kept.as_ms();
        let store = match source {
            Source::Redis(link) => Store::Redis(RedisStore {
                link,
                me: random_hex(),
                kept: Kept {
                    lease_ms: LEASE.as_millis() as u64,
                    events: most,
                    events_ms: rules.give_up.as_ms() + 60_000,
                    dead: rules.dead,
                    dead_ms,
                },
            }),
            Source::Feed => Store::Memory(MemoryStore::new(most, rules.dead as usize, dead_ms)),
        };
        let bounds = Bounds {
            give_up_ms: rules.give_up.as_ms(),
            attempts: rules.attempts,
            parallel: rules.parallel as usize,
            backlog: rules.backlog as usize,
        };
        let inner = Arc::new(Inner {
            store,
            ask: Ask::new(None)?,
            deadline: rules.deadline.0,
            metrics: Metrics::new()?,
            wake: Notify::new(),
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
        worker::start(inner.clone(), Schedule::new(endpoints, bounds), feed);
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
    pub(crate) fn host(&self, endpoint: &str) -> Option<&str> {
        self.0.endpoints.iter().find(|(id, _)| id == endpoint).map(|(_, host)| &**host)
    }

    /// Dead letters from a place on, of all partitions, at most so many; and where to go on if there may be more.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn dead(
        &self,
        (first, mut after): (usize, Option<EntryId>),
        most: usize,
    ) -> Result<(Vec<Letter>, Option<(usize, EntryId)>), Unavailable> {
        let mut found: Vec<Letter> = Vec::new();
        for partition in first..PARTITIONS {
            let letters = self.0.store.dead(partition, after.take(), most - found.len()).await?;
            found.extend(letters);
            if found.len() >= most {
                let next = found.last().map(|letter| (letter.partition, letter.entry));
                return Ok((found, next));
            }
        }
        Ok((found, None))
    }

    /// Dead letters that fit are told again, to the endpoint that did not take them; how many. `partition`: where alone they can be.
    ///
    /// # Errors
    /// [`Unavailable`]: some may be told again. To ask again does no harm.
    pub(crate) async fn replay(
        &self,
        partition: Option<usize>,
        fits: impl Fn(&Letter) -> bool,
    ) -> Result<usize, Unavailable> {
        const PAGE: usize = 256;
        let mut count = 0;
        let partitions = partition.map_or(0..PARTITIONS, |partition| partition..partition + 1);
        for partition in partitions {
            let mut after = None;
            loop {
                let page = self.0.store.dead(partition, after, PAGE).await?;
                let is_last = page.len() < PAGE;
                after = page.last().map(|letter| letter.entry);
                let fitting: Vec<Letter> = page.into_iter().filter(|letter| fits(letter)).collect();
                if !fitting.is_empty() {
                    count += self.0.store.replay(partition, &fitting).await?;
                }
                if is_last {
                    break;
                }
            }
        }
        self.0.wake.notify_one();
        Ok(count)
    }
}

/// As many as nodes record: twice those that are held, see `HookBounds`.
fn most_recorded(backlog: u32) -> usize {
    2 * backlog as usize
}
