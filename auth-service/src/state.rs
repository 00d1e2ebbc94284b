//! The service of one process: the context, the token service and the management service.
//!
//! It is made once, before the workers: a state for each worker would count and limit by worker. Must not: know a route.

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use signalbox_access::AccessControl;
use signalbox_config::{ApiKeys, ServiceSettings};
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
    context::service_context::{ContextParts, ServiceContext},
    management::{
        management_service::{ManagementParts, ManagementService},
        usage_reader::UsageReader,
        webhooks::WebhookService,
    },
};

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

/// The auth service of one process.
pub struct AuthState {
    pub(crate) context: Arc<ServiceContext>,
    pub(crate) tokens: Arc<TokenService>,
    pub(crate) management: Arc<ManagementService>,
}

impl AuthState {
    /// Puts the service together.
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
        } = parts;
        let verifier = keys.verifier().clone();
        let context = ContextParts { access, api_keys, verifier, guests_allowed };
        let context = Arc::new(ServiceContext::new(settings, context)?);
        let tokens = TokenServiceParts { keys, user_secret, store, ice };
        let tokens = Arc::new(TokenService::new(settings, context.clone(), tokens)?);
        let management = ManagementParts { tokens: tokens.clone(), rooms, webhooks, usage, feed };
        let management = Arc::new(ManagementService::new(settings, management));
        Ok(Self { context, tokens, management })
    }

    /// The metrics of this service.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        self.context.metrics.update_rules(&self.context.access);
        let webhooks = self.management.webhooks.as_ref().map(WebhookService::metrics);
        self.context.metrics.gather().into_iter().chain(webhooks.into_iter().flatten()).collect()
    }

    /// Closes the feed's sockets, which would hold up the end of the process; new ones are refused.
    pub fn stop(&self) {
        self.context.stop();
    }
}
