//! The service of one process: the context, the token service and the management service.
//!
//! It is created once, before the workers: a state for each worker would count and limit by worker.
//! Must not: know a route.

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use signalbox_access::AccessControl;
use signalbox_config::{ApiKeys, ConfigReload, LiveValue, ServiceSettings};
use signalbox_http::RequestGate;
use signalbox_rooms::{feed::FeedSender, room_service::RoomService};
use signalbox_token::SharedSecret;
use signalbox_turn::IceDirectory;

use crate::{
    auth::{
        credential_store::CredentialStore,
        keys::SigningKeys,
        providers::ProvidersError,
        token_service::{TokenService, TokenServiceParts},
    },
    context::{
        service_context::{ContextParts, ServiceContext},
        store_memory::MemoryLevelReader,
    },
    management::{
        management_service::{ManagementParts, ManagementService},
        usage_reader::UsageReader,
        webhooks::WebhookService,
    },
};

/// What [`AuthState::new`] needs beside the settings.
pub struct AuthParts {
    /// The keys that sign and verify tokens.
    pub keys: Arc<SigningKeys>,
    /// The API keys of applications.
    pub api_keys: ApiKeys,
    /// The secret of the application's own tokens about its users.
    pub user_secret: Option<SharedSecret>,
    /// Whether guests may get tokens.
    pub guests_allowed: bool,
    /// The store of refresh families, tickets and invites.
    pub store: CredentialStore,
    /// The event feed: of this process, or a subscription to Redis (`feed_subscription`).
    pub feed: FeedSender,
    /// The access rules.
    pub access: Arc<AccessControl>,
    /// The ICE configuration of clients.
    pub ice: IceDirectory,
    /// The room service: the node of this process, or a remote one; `None` if this process can
    /// reach no store of rooms.
    pub rooms: Option<Arc<dyn RoomService>>,
    /// The webhooks.
    pub webhooks: LiveValue<WebhookService>,
    /// The hosts, web sites and proxies of the configuration.
    pub gate: RequestGate,
    /// The reader of usage.
    pub usage: UsageReader,
    /// How full the memory of the store is.
    pub memory_level: MemoryLevelReader,
}

/// Why the service cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AuthStateError {
    /// The configured providers cannot be used.
    #[error(transparent)]
    Providers(#[from] ProvidersError),
    /// Two metrics have one name. The tests would show it.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The auth service of one process.
pub struct AuthState {
    pub(crate) context: Arc<ServiceContext>,
    pub(crate) tokens: Arc<TokenService>,
    pub(crate) management: Arc<ManagementService>,
}

impl AuthState {
    /// Builds the service.
    ///
    /// # Errors
    /// [`AuthStateError`]
    pub fn new(settings: &ServiceSettings, parts: AuthParts) -> Result<Self, AuthStateError> {
        let AuthParts {
            keys,
            api_keys,
            user_secret,
            guests_allowed,
            store,
            feed,
            access,
            ice,
            rooms,
            webhooks,
            usage,
            memory_level,
            gate,
        } = parts;
        let verifier = keys.verifier().clone();
        let context = ContextParts { access, api_keys, verifier, gate, guests_allowed, memory_level };
        let context = Arc::new(ServiceContext::new(settings, context)?);
        let tokens = TokenServiceParts { keys, user_secret, store, rooms: rooms.clone(), ice };
        let tokens = Arc::new(TokenService::new(settings, context.clone(), tokens)?);
        let management = ManagementParts { tokens: tokens.clone(), rooms, webhooks, usage, feed };
        let management = Arc::new(ManagementService::new(settings, management));
        Ok(Self { context, tokens, management })
    }

    /// The metrics of this service.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        self.context.metrics.update_rules(&self.context.access);
        self.context.metrics.set_memory_level(self.context.memory_level());
        let webhooks = self.management.webhooks.load().metrics();
        self.context.metrics.gather().into_iter().chain(webhooks).collect()
    }

    /// Puts a new configuration in force.
    ///
    /// # Errors
    /// [`AuthStateError`]; then nothing has changed.
    pub fn reload(&self, reload: &ConfigReload, guests_allowed: bool) -> Result<(), AuthStateError> {
        self.tokens.reload(reload)?;
        self.context.reload(&reload.config, guests_allowed);
        self.management.reload(&reload.config.settings);
        Ok(())
    }

    /// Closes the sockets of the feed, which would delay the end of the process, and refuses new
    /// ones.
    pub fn stop(&self) {
        self.context.stop();
    }
}
