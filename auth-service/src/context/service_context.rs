//! The objects that authorization and the access check need: one per process, created before the
//! workers.
//!
//! Owns: the access rules that the service checks, the applications, the verifier of its tokens,
//! the metrics and the signal to stop. Must not: know a route, or the use of a token or a room.
//! Next: [`crate::auth::token_service`] and [`crate::management::management_service`] hold one.

use std::sync::Arc;

use signalbox_access::AccessControl;
use signalbox_config::{ApiKeys, ServiceSettings};
use signalbox_http::TrustedProxies;
use signalbox_protocol::problem::Problem;
use signalbox_redis::MemoryLevel;
use signalbox_token::TokenVerifier;
use tokio::sync::watch;

use super::{
    metrics::AuthMetrics,
    principal::{ApplicationDirectory, RootDirectory},
    store_memory::{MemoryLevelReader, memory_refusal},
};

/// The part of the service that every request meets.
pub(crate) struct ServiceContext {
    pub(crate) access: Arc<AccessControl>,
    pub(crate) applications: ApplicationDirectory,
    pub(crate) roots: RootDirectory,
    pub(crate) verifier: TokenVerifier,
    pub(crate) proxies: TrustedProxies,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) body_limit: usize,
    pub(crate) guests_allowed: bool,
    /// Whether only guests on this machine are allowed, because no setting allows guests.
    pub(crate) guests_must_be_local: bool,
    pub(crate) metrics: AuthMetrics,
    memory_level: MemoryLevelReader,
    stop_signal: watch::Sender<bool>,
}

/// What [`ServiceContext::new`] needs beside the settings.
pub(crate) struct ContextParts {
    pub(crate) access: Arc<AccessControl>,
    pub(crate) api_keys: ApiKeys,
    pub(crate) verifier: TokenVerifier,
    pub(crate) guests_allowed: bool,
    pub(crate) memory_level: MemoryLevelReader,
}

impl ServiceContext {
    /// # Errors
    /// Only if two metrics have one name.
    pub(crate) fn new(settings: &ServiceSettings, parts: ContextParts) -> prometheus::Result<Self> {
        Ok(Self {
            access: parts.access,
            applications: ApplicationDirectory::new(parts.api_keys, settings),
            roots: RootDirectory::new(settings, parts.guests_allowed),
            verifier: parts.verifier,
            proxies: TrustedProxies::new(&settings.server),
            allowed_origins: settings.server.allowed_origins.clone(),
            body_limit: settings.limits.body.0,
            guests_allowed: parts.guests_allowed,
            guests_must_be_local: settings.auth.guests.is_none(),
            metrics: AuthMetrics::new()?,
            memory_level: parts.memory_level,
            stop_signal: watch::Sender::new(false),
        })
    }

    /// Signals to all requests that the process is stopping.
    pub(crate) fn stop(&self) {
        self.stop_signal.send_replace(true);
    }

    /// Whether [`ServiceContext::stop`] was called.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop_signal.borrow()
    }

    /// How full the memory of the store is.
    pub(crate) fn memory_level(&self) -> MemoryLevel {
        (self.memory_level)()
    }

    /// Checks that the store may grow by something that no running call needs. `field` is the member of
    /// the request that would make it grow; without one, the whole request would.
    ///
    /// # Errors
    /// 503 `overloaded` above `redis.memory_percent`.
    pub(crate) fn check_store_memory(&self, field: Option<&'static str>) -> Result<(), Problem> {
        if self.memory_level() == MemoryLevel::Normal {
            return Ok(());
        }
        self.metrics.memory_refusals.inc();
        Err(memory_refusal(field))
    }

    pub(crate) fn subscribe_stop(&self) -> watch::Receiver<bool> {
        self.stop_signal.subscribe()
    }
}
