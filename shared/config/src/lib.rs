//! Configuration: flag > environment > file > default, checked at boot, printed by `--check-config`.
//!
//! Owns: every setting ([`Settings`]), every secret ([`Secrets`]), the flags all binaries share ([`Flags`]), and the only
//! reading of the environment. Must not: open sockets, or files other than the configuration's own and
//! those that a setting names.

pub mod address;
mod check;
mod hooks;
mod load;
mod model;
pub mod origin;
mod redis_url;
mod secrets;
pub mod telemetry;
pub mod units;
mod webhook_secrets;

pub use check::is_web;
pub use hooks::{Usage, WebhookEndpoint, Webhooks};
pub use load::{ConfigError, Environment, Flags, Loaded};
pub use model::{
    ApiKeyTable, Auth, CandidateTable, Ice, Limits, LobbyRule, Log, PERMISSIONS, Provider, Redis, RoleTable,
    RoleTemplate, Rooms, Server, Settings, Timing, TurnServer, UserAlgorithm,
};
pub use redis_url::{HostPort, RedisHosts, RedisUrl};
pub use secrets::{ApiKey, ApiKeys, Secrets};
pub use webhook_secrets::{WebhookKeys, WebhookSecrets};
