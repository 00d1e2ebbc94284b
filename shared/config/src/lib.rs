//! Configuration: flag > environment > file > default, checked at boot, printed by `--check-config`.
//!
//! Owns: every setting ([`ServiceSettings`]), every secret ([`SecretSettings`]), the flags all binaries share ([`CommonFlags`]), and the only
//! reading of the environment. Must not: open sockets, or files other than the configuration's own and
//! those that a setting names.

pub mod address_ranges;
mod checks;
mod loader;
mod model;
pub mod origin;
mod redis_url;
mod secrets;
pub mod telemetry;
pub mod units;
mod webhook_secrets;
mod webhooks;

pub use checks::is_trusted_key_url;
pub use loader::{CommonFlags, ConfigError, EnvVars, LoadedConfig};
pub use model::{
    ApiKeySettings, AuthSettings, CandidateSettings, IceSettings, LimitSettings, LobbyPolicy, LogSettings,
    PERMISSIONS, ProviderSettings, RedisSettings, RoleSettings, RoleTemplate, RoomDefaults, ServerSettings,
    ServiceSettings, TimingSettings, TurnServer, UserAlgorithm,
};
pub use redis_url::{HostPort, RedisHosts, RedisUrl};
pub use secrets::{ApiKey, ApiKeys, SecretSettings};
pub use webhook_secrets::{EndpointSecrets, WebhookSecrets};
pub use webhooks::{UsageSettings, WebhookEndpoint, WebhookSettings};
