//! What the routes share. Made once per process, before the workers: a state per worker would count and bound by worker.

use std::{sync::Arc, time::Duration};

use prometheus::proto::MetricFamily;
use signalbox_access::Control;
use signalbox_config::{ApiKeys, Settings};
use signalbox_http::Proxies;
use signalbox_rooms::clerk::Rooms;
use signalbox_rooms::feed::FeedSender;
use signalbox_token::{SharedSecret, Verifier};
use signalbox_turn::IceBook;
use tokio::sync::{Semaphore, watch};

use crate::{
    exchange::{BadProviders, Exchange},
    issuer::{Backends, Minter, Policy},
    keys::SigningKeys,
    metrics::Metrics,
    routes::rooms::RoomRules,
    store::AuthStore,
    usage::UsageReader,
    webhooks::Webhooks,
};

/// Sockets on the operators' feed at once.
const FEED_READERS: usize = 64;

/// What the configuration file does not hold.
pub struct AuthParts {
    /// What signs, and checks what was signed.
    pub keys: Arc<SigningKeys>,
    /// The backends that may ask.
    pub api_keys: ApiKeys,
    /// Signs the application's own tokens about its users.
    pub user_secret: Option<SharedSecret>,
    /// Whether anybody may ask.
    pub guests: bool,
    /// Where refresh tokens, tickets and invites are remembered.
    pub store: AuthStore,
    /// What operators hear: the process's own, or [`crate::feed::over_redis`].
    pub feed: FeedSender,
    /// What was taken back.
    pub control: Arc<Control>,
    /// What clients are told about ICE.
    pub ice: IceBook,
    /// Rooms, as the process's own node or a clerk changes them; none where they live in no store that this process can reach.
    pub rooms: Option<Arc<dyn Rooms>>,
    /// What is told over HTTP, if anything is.
    pub webhooks: Option<Webhooks>,
    /// Where usage is kept.
    pub usage: UsageReader,
}

/// Why the service cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// The providers of the configuration will not do.
    #[error(transparent)]
    Providers(#[from] BadProviders),
    /// A fault of ours, which the tests would show.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How long refresh tokens are good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshLives {
    /// One that is not used, ms.
    pub(crate) life_ms: u64,
    /// One after the other, ms.
    pub(crate) longest_ms: u64,
}

/// The auth service of one process.
pub struct AuthState {
    pub(crate) policy: Policy,
    pub(crate) minter: Minter,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) verifier: Verifier,
    pub(crate) backends: Backends,
    pub(crate) exchange: Exchange,
    pub(crate) store: AuthStore,
    pub(crate) refresh: RefreshLives,
    pub(crate) guests: bool,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) body_limit: usize,
    pub(crate) ping: Duration,
    pub(crate) feed: FeedSender,
    pub(crate) control: Arc<Control>,
    pub(crate) ice: IceBook,
    pub(crate) rooms: Option<Arc<dyn Rooms>>,
    pub(crate) room_rules: RoomRules,
    pub(crate) proxies: Proxies,
    /// How long something of one grant may be good: what is taken back is remembered for so long.
    pub(crate) longest_grant_ms: u64,
    /// How long a token or a handle of one grant may be good, a refresh token aside.
    pub(crate) longest_live_ms: u64,
    /// The most peers in a room that can be told in one frame.
    pub(crate) largest_room: u32,
    pub(crate) feed_places: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
    pub(crate) webhooks: Option<Webhooks>,
    pub(crate) usage: UsageReader,
    stop: watch::Sender<bool>,
}

impl AuthState {
    /// Puts the service together.
    ///
    /// # Errors
    /// [`BadState`]
    pub fn new(settings: &Settings, parts: AuthParts) -> Result<Self, BadState> {
        Ok(Self {
            policy: Policy::new(settings),
            minter: Minter::new(parts.keys.clone()),
            verifier: parts.keys.verifier().clone(),
            keys: parts.keys,
            backends: Backends::new(parts.api_keys, settings),
            exchange: Exchange::new(settings, parts.user_secret.as_ref())?,
            store: parts.store,
            refresh: RefreshLives {
                life_ms: settings.auth.refresh_ttl.as_ms(),
                longest_ms: settings.auth.refresh_ttl_max.as_ms(),
            },
            guests: parts.guests,
            allowed_origins: settings.server.allowed_origins.clone(),
            body_limit: settings.limits.body.0,
            ping: settings.timing.ping.0,
            feed: parts.feed,
            ice: parts.ice,
            control: parts.control,
            rooms: parts.rooms,
            room_rules: RoomRules::new(settings),
            proxies: Proxies::new(&settings.server),
            longest_grant_ms: settings.longest_grant_ms(),
            longest_live_ms: settings.longest_live_ms(),
            largest_room: largest_room(settings),
            feed_places: Arc::new(Semaphore::new(FEED_READERS)),
            metrics: Metrics::new()?,
            webhooks: parts.webhooks,
            usage: parts.usage,
            stop: watch::Sender::new(false),
        })
    }

    /// What this service has counted.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        self.metrics.rules_are(&self.control);
        let webhooks = self.webhooks.as_ref().map(Webhooks::metrics);
        self.metrics.gather().into_iter().chain(webhooks.into_iter().flatten()).collect()
    }

    /// Closes the feed's sockets, which would hold up the end of the process; new ones are refused.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether [`AuthState::stop`] was called.
    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }
}

/// As the check of the configuration has it, for a limit that is changed at run time.
fn largest_room(settings: &Settings) -> u32 {
    let largest = settings.limits.outbox.0 / (settings.limits.metadata.0 + 512);
    u32::try_from(largest).unwrap_or(u32::MAX).clamp(1, 1_000)
}
