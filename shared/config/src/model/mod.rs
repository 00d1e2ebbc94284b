//! Every setting, with its unit and its default. docs/CONFIGURATION.md is this file for people.
//!
//! Here: the whole, the process and the store. Next: a file for each section that is longer.

mod auth_settings;
mod limit_settings;
mod provider_settings;
mod role_settings;
mod room_defaults;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    units::TimeSpan,
    webhooks::{UsageSettings, WebhookSettings},
};
use crate::telemetry::LogFormat;
use signalbox_protocol::id::CallerId;

pub use auth_settings::{ApiKeySettings, AuthSettings};
pub use limit_settings::{LimitSettings, TimingSettings};
pub use provider_settings::{ProviderSettings, UserAlgorithm};
pub use role_settings::{CandidateSettings, LobbyPolicy, PERMISSIONS, RoleSettings, RoleTemplate};
pub use room_defaults::{IceSettings, RoomDefaults, TurnServer};

/// The settings of all services; each reads the sections it needs. Secrets stand beside it, in [`super::SecretSettings`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    /// The listening socket and who may talk to it.
    pub server: ServerSettings,
    /// Tokens and callers.
    pub auth: AuthSettings,
    /// What each API key may do.
    pub api_keys: BTreeMap<CallerId, ApiKeySettings>,
    /// What each role may do.
    pub roles: RoleSettings,
    /// Rooms and who makes them.
    pub rooms: RoomDefaults,
    /// What a client is told about ICE.
    pub ice: IceSettings,
    /// How much of everything.
    pub limits: LimitSettings,
    /// How long everything.
    pub timing: TimingSettings,
    /// The shared store.
    pub redis: RedisSettings,
    /// What is told to others over HTTP.
    pub webhooks: WebhookSettings,
    /// What is counted for the operator.
    pub usage: UsageSettings,
    /// Logging.
    pub log: LogSettings,
}

impl ServiceSettings {
    /// The longest that anything of one grant may be good, milliseconds: its tokens, and the handles of a peer that joined with one.
    pub fn max_credential_life_ms(&self) -> u64 {
        let handles = self.timing.room_life.as_ms() + self.timing.resume_window.as_ms();
        self.auth.token_ttl_max.as_ms().max(handles)
    }

    /// The same, with refresh tokens: how long what was taken back of it must be remembered.
    pub fn max_grant_life_ms(&self) -> u64 {
        self.max_credential_life_ms().max(self.auth.refresh_ttl_max.as_ms())
    }
}

/// The listening socket and who may talk to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// Origins besides the site's own, as `https://app.example`; `*` is any and unsafe.
    pub allowed_origins: Vec<String>,
    /// Host names we answer to, without port; empty is any. On loopback it defaults to the loopback names.
    pub allowed_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "deserialize_ranges")]
    pub trusted_proxies: Vec<IpNet>,
    /// Threads; 0 is one per core.
    pub workers: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            allowed_origins: vec![],
            allowed_hosts: vec![],
            trusted_proxies: vec![],
            workers: 0,
        }
    }
}

/// A bare address is a range of one.
fn deserialize_ranges<'de, D: serde::Deserializer<'de>>(texts: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(texts)?;
    let range = |text: &String| {
        crate::address_ranges::parse_range(text)
            .map_err(|bad| serde::de::Error::custom(format!("server.trusted_proxies {bad}")))
    };
    texts.iter().map(range).collect()
}

/// The shared store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// The longest one command may take.
    pub deadline: TimeSpan,
    /// Between two attempts to connect, at most.
    pub reconnect: TimeSpan,
    /// A PEM file with the certificates of the authorities that may vouch for a `rediss://` server. Unset: the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self { deadline: TimeSpan::secs(2), reconnect: TimeSpan::secs(1), ca_file: None }
    }
}

/// Logging.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A `tracing` filter: `info`, `debug`, `signalbox_signal=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}
