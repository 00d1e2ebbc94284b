//! The configuration of every process: a flag overrides the environment, the environment overrides
//! the file, and the file overrides the default. Every value is checked at the start and printed by
//! `--check-config`.
//!
//! Owns: every setting ([`ServiceSettings`]), every secret ([`SecretSettings`]), the flags that all
//! binaries share ([`CommonFlags`]), and the only code that reads the environment. Must not: open a
//! socket, or read a file that neither a flag, the environment nor a setting names. Next:
//! `docs/CONFIGURATION.md` describes the same settings for operators.

pub mod address_ranges;
mod api_keys;
mod checks;
mod environment;
mod error;
mod flags;
mod host_name;
mod live_value;
mod loader;
mod log_writer;
pub mod logging;
mod model;
mod redis_url;
mod reload;
mod secrets;
mod setting_names;
mod setting_sources;
pub mod units;
mod url;
mod value_fault;
mod variable_names;
mod web_origin;
mod webhook_secrets;

pub use api_keys::{ApiKey, ApiKeys};
pub use checks::{canonical_pem, is_trusted_key_url};
pub use environment::{EnvVars, SECRET_VARIABLES, canonical_secret, read_secret};
pub use error::ConfigError;
pub use flags::CommonFlags;
pub use host_name::{HostAuthority, HostName};
pub use live_value::LiveValue;
pub use loader::LoadedConfig;
pub use model::{
    ApiKeySettings, AuthSettings, CandidateSettings, HttpClientSettings, IceSettings, LimitSettings,
    LobbyPolicy, LogSettings, PERMISSIONS, ProviderSettings, RedisSettings, RoleSettings, RoleTemplate,
    RoomDefaults, ServerSettings, ServiceSettings, TimingSettings, TurnServer, UsageSettings, UserAlgorithm,
    WebhookEndpoint, WebhookSettings,
};
pub use redis_url::{HostPort, RedisHosts, RedisUrl, SentinelLogin};
pub use reload::{ConfigReload, TakesEffect, takes_effect};
pub use secrets::SecretSettings;
pub use setting_names::setting_names;
pub use web_origin::WebOrigin;
pub use webhook_secrets::{EndpointSecrets, WebhookSecrets};
