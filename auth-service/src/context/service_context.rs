//! The objects that authorization and the access check need: one per process, created before the
//! workers.
//!
//! Owns: the access rules that the service checks, the applications, the verifier of its tokens,
//! the metrics and the signal to stop. Must not: know a route, or the use of a token or a room.
//! Next: [`crate::auth::token_service`] and [`crate::management::management_service`] hold one.

use std::sync::Arc;

use signalbox_access::AccessControl;
use signalbox_config::{ApiKeys, LiveValue, LoadedConfig, ServiceSettings};
use signalbox_http::RequestGate;
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
    pub(crate) applications: LiveValue<ApplicationDirectory>,
    pub(crate) roots: LiveValue<RootDirectory>,
    pub(crate) verifier: TokenVerifier,
    pub(crate) gate: RequestGate,
    pub(crate) body_limit: usize,
    pub(crate) guests: LiveValue<GuestAccess>,
    pub(crate) metrics: AuthMetrics,
    memory_level: MemoryLevelReader,
    stop_signal: watch::Sender<bool>,
}

/// Which guests may get tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestAccess {
    /// None.
    Off,
    /// Those on this machine, because no setting allows guests.
    Local,
    /// All.
    Everywhere,
}

impl GuestAccess {
    fn new(settings: &ServiceSettings, guests_allowed: bool) -> Self {
        match (guests_allowed, settings.auth.guests) {
            (false, _) => Self::Off,
            (true, None) => Self::Local,
            (true, Some(_)) => Self::Everywhere,
        }
    }
}

/// What [`ServiceContext::new`] needs beside the settings.
pub(crate) struct ContextParts {
    pub(crate) access: Arc<AccessControl>,
    pub(crate) api_keys: ApiKeys,
    pub(crate) verifier: TokenVerifier,
    pub(crate) gate: RequestGate,
    pub(crate) guests_allowed: bool,
    pub(crate) memory_level: MemoryLevelReader,
}

impl ServiceContext {
    /// # Errors
    /// Only if two metrics have one name.
    pub(crate) fn new(settings: &ServiceSettings, parts: ContextParts) -> prometheus::Result<Self> {
        Ok(Self {
            access: parts.access,
            applications: LiveValue::new(ApplicationDirectory::new(parts.api_keys, settings)),
            roots: LiveValue::new(RootDirectory::new(settings, parts.guests_allowed)),
            verifier: parts.verifier,
            gate: parts.gate,
            body_limit: settings.limits.body.0,
            guests: LiveValue::new(GuestAccess::new(settings, parts.guests_allowed)),
            metrics: AuthMetrics::new()?,
            memory_level: parts.memory_level,
            stop_signal: watch::Sender::new(false),
        })
    }

    /// Puts the callers of a new configuration in force.
    pub(crate) fn reload(&self, config: &LoadedConfig, guests_allowed: bool) {
        let settings = &config.settings;
        self.applications.replace(ApplicationDirectory::new(config.secrets.api_keys.clone(), settings));
        self.roots.replace(RootDirectory::new(settings, guests_allowed));
        self.guests.replace(GuestAccess::new(settings, guests_allowed));
        self.gate.reload(&settings.server);
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
