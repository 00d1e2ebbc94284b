//! What the routes share. Made once per process, before the workers: a state per worker would count and bound by worker.

use std::{sync::Arc, time::Duration};

use prometheus::proto::MetricFamily;
use signalbox_access::AccessControl;
use signalbox_config::{ApiKeys, ServiceSettings};
use signalbox_http::TrustedProxies;
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::room_service::RoomService;
use signalbox_token::{SharedSecret, TokenVerifier};
use signalbox_turn::IceDirectory;
use tokio::sync::{Semaphore, watch};

use crate::{
    auth::{
        credential_store::CredentialStore,
        issuer::{GrantPolicy, TokenMinter},
        keys::SigningKeys,
        providers::{ProvidersError, TokenExchange},
    },
    context::{metrics::AuthMetrics, principal::ApplicationDirectory},
    management::{room_settings::RoomApiSettings, usage_reader::UsageReader, webhooks::WebhookService},
};

/// Sockets on the operators' feed at once.
const MAX_FEED_READERS: usize = 64;

/// What the configuration file does not hold.
pub struct AuthParts {
    /// What signs, and checks what was signed.
    pub keys: Arc<SigningKeys>,
    /// The backends that may ask.
    pub api_keys: ApiKeys,
    /// Signs the application's own tokens about its users.
    pub user_secret: Option<SharedSecret>,
    /// Whether anybody may ask.
    pub guests_allowed: bool,
    /// Where refresh tokens, tickets and invites are remembered.
    pub store: CredentialStore,
    /// What operators hear: the process's own, or [`crate::feed::over_redis`].
    pub feed: FeedSender,
    /// What was taken back.
    pub access: Arc<AccessControl>,
    /// What clients are told about ICE.
    pub ice: IceDirectory,
    /// Rooms, as the process's own node or a clerk changes them; none where they live in no store that this process can reach.
    pub rooms: Option<Arc<dyn RoomService>>,
    /// What is told over HTTP, if anything is.
    pub webhooks: Option<WebhookService>,
    /// Where usage is kept.
    pub usage: UsageReader,
}

/// Why the service cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum AuthStateError {
    /// The providers of the configuration will not do.
    #[error(transparent)]
    Providers(#[from] ProvidersError),
    /// A fault of ours, which the tests would show.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How long refresh tokens are good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshLifetimes {
    /// One that is not used, ms.
    pub(crate) token_life_ms: u64,
    /// One after the other, ms.
    pub(crate) family_life_ms: u64,
}

/// The auth service of one process.
pub struct AuthState {
    pub(crate) grant_policy: GrantPolicy,
    pub(crate) minter: TokenMinter,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) verifier: TokenVerifier,
    pub(crate) applications: ApplicationDirectory,
    pub(crate) exchange: TokenExchange,
    pub(crate) store: CredentialStore,
    pub(crate) refresh_lifetimes: RefreshLifetimes,
    pub(crate) guests_allowed: bool,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) body_limit: usize,
    pub(crate) ping_interval: Duration,
    pub(crate) feed: FeedSender,
    pub(crate) access: Arc<AccessControl>,
    pub(crate) ice: IceDirectory,
    pub(crate) rooms: Option<Arc<dyn RoomService>>,
    pub(crate) room_settings: RoomApiSettings,
    pub(crate) proxies: TrustedProxies,
    /// How long something of one grant may be good: what is taken back is remembered for so long.
    pub(crate) max_grant_ms: u64,
    /// How long a token or a handle of one grant may be good, a refresh token aside.
    pub(crate) max_live_grant_ms: u64,
    /// The most peers in a room that can be told in one frame.
    pub(crate) max_room_peers: u32,
    pub(crate) feed_slots: Arc<Semaphore>,
    pub(crate) metrics: AuthMetrics,
    pub(crate) webhooks: Option<WebhookService>,
    pub(crate) usage: UsageReader,
    stop_signal: watch::Sender<bool>,
}

impl AuthState {
    /// Puts the service together.
    ///
    /// # Errors
    /// [`AuthStateError`]
    pub fn new(settings: &ServiceSettings, parts: AuthParts) -> Result<Self, AuthStateError> {
        Ok(Self {
            grant_policy: GrantPolicy::new(settings),
            minter: TokenMinter::new(parts.keys.clone()),
            verifier: parts.keys.verifier().clone(),
            keys: parts.keys,
            applications: ApplicationDirectory::new(parts.api_keys, settings),
            exchange: TokenExchange::new(settings, parts.user_secret.as_ref())?,
            store: parts.store,
            refresh_lifetimes: RefreshLifetimes {
                token_life_ms: settings.auth.refresh_ttl.as_ms(),
                family_life_ms: settings.auth.refresh_ttl_max.as_ms(),
            },
            guests_allowed: parts.guests_allowed,
            allowed_origins: settings.server.allowed_origins.clone(),
            body_limit: settings.limits.body.0,
            ping_interval: settings.timing.ping.0,
            feed: parts.feed,
            ice: parts.ice,
            access: parts.access,
            rooms: parts.rooms,
            room_settings: RoomApiSettings::new(settings),
            proxies: TrustedProxies::new(&settings.server),
            max_grant_ms: settings.max_grant_life_ms(),
            max_live_grant_ms: settings.max_credential_life_ms(),
            max_room_peers: max_room_peers(settings),
            feed_slots: Arc::new(Semaphore::new(MAX_FEED_READERS)),
            metrics: AuthMetrics::new()?,
            webhooks: parts.webhooks,
            usage: parts.usage,
            stop_signal: watch::Sender::new(false),
        })
    }

    /// What this service has counted.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        self.metrics.update_rules(&self.access);
        let webhooks = self.webhooks.as_ref().map(WebhookService::metrics);
        self.metrics.gather().into_iter().chain(webhooks.into_iter().flatten()).collect()
    }

    /// Closes the feed's sockets, which would hold up the end of the process; new ones are refused.
    pub fn stop(&self) {
        self.stop_signal.send_replace(true);
    }

    /// Whether [`AuthState::stop_signal`] was called.
    pub fn is_stopping(&self) -> bool {
        *self.stop_signal.borrow()
    }

    pub(crate) fn subscribe_stop(&self) -> watch::Receiver<bool> {
        self.stop_signal.subscribe()
    }
}

/// As the check of the configuration has it, for a limit that is changed at run time.
fn max_room_peers(settings: &ServiceSettings) -> u32 {
    let largest = settings.limits.outbox.0 / (settings.limits.metadata.0 + 512);
    u32::try_from(largest).unwrap_or(u32::MAX).clamp(1, 1_000)
}
