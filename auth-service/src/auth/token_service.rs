//! The objects that the token routes share beside the context.
//!
//! Owns: the signing keys, the policy of grants, the providers, the credential store and the
//! lifetimes of refresh tokens. Must not: change a room. Next: `token.rs` and the other
//! routes of this folder.

use std::sync::Arc;

use signalbox_config::{ConfigReload, LiveValue, LoadedConfig, ServiceSettings};
use signalbox_rooms::room_service::RoomService;
use signalbox_token::SharedSecret;
use signalbox_turn::IceDirectory;

use super::{
    credential_store::CredentialStore,
    issuer::GrantPolicy,
    keys::SigningKeys,
    providers::{ProvidersError, TokenExchange},
};
use crate::context::service_context::ServiceContext;

/// The lifetimes of refresh tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefreshLifetimes {
    /// Of one refresh token, ms.
    pub(crate) token_life_ms: u64,
    /// Of a refresh family, ms.
    pub(crate) family_life_ms: u64,
}

impl RefreshLifetimes {
    fn new(settings: &ServiceSettings) -> Self {
        Self {
            token_life_ms: settings.auth.refresh_ttl.as_ms(),
            family_life_ms: settings.auth.refresh_ttl_max.as_ms(),
        }
    }
}

/// The token service of one process.
pub(crate) struct TokenService {
    pub(crate) context: Arc<ServiceContext>,
    pub(crate) grant_policy: LiveValue<GrantPolicy>,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) exchange: LiveValue<TokenExchange>,
    pub(crate) store: CredentialStore,
    /// The rooms, for the creation that a credential is for; `None` if this process has no rooms.
    pub(crate) rooms: Option<Arc<dyn RoomService>>,
    pub(crate) refresh_lifetimes: LiveValue<RefreshLifetimes>,
    pub(crate) ice: IceDirectory,
    /// The longest time for which a token or handle of a grant is valid, without its refresh
    /// tokens.
    pub(crate) max_live_grant_ms: u64,
}

/// What [`TokenService::new`] needs beside the settings.
pub(crate) struct TokenServiceParts {
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) user_secret: Option<SharedSecret>,
    pub(crate) store: CredentialStore,
    pub(crate) rooms: Option<Arc<dyn RoomService>>,
    pub(crate) ice: IceDirectory,
}

impl TokenService {
    /// # Errors
    /// [`ProvidersError`] if the configured providers cannot be used.
    pub(crate) fn new(
        settings: &ServiceSettings,
        context: Arc<ServiceContext>,
        parts: TokenServiceParts,
    ) -> Result<Self, ProvidersError> {
        Ok(Self {
            context,
            grant_policy: LiveValue::new(GrantPolicy::new(settings)),
            keys: parts.keys,
            exchange: LiveValue::new(TokenExchange::new(settings, parts.user_secret.as_ref())?),
            store: parts.store,
            rooms: parts.rooms,
            refresh_lifetimes: LiveValue::new(RefreshLifetimes::new(settings)),
            ice: parts.ice,
            max_live_grant_ms: settings.max_credential_life_ms(),
        })
    }

    /// Puts the providers, the policy and the TURN servers of a new configuration in force.
    ///
    /// # Errors
    /// [`ProvidersError`]; then nothing has changed.
    pub(crate) fn reload(&self, reload: &ConfigReload) -> Result<(), ProvidersError> {
        let LoadedConfig { settings, secrets, .. } = &reload.config;
        // Unchanged providers keep the keys that are cached.
        if reload.concerns(&["auth.providers", "SIGNALBOX_USER_SECRET"]) {
            self.exchange.replace(TokenExchange::new(settings, secrets.user_secret.as_ref())?);
        }
        self.grant_policy.replace(GrantPolicy::new(settings));
        self.refresh_lifetimes.replace(RefreshLifetimes::new(settings));
        self.ice.reload(settings, &secrets.turn_secrets);
        Ok(())
    }
}
