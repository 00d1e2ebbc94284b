//! Every setting, with its unit and its default. docs/CONFIGURATION.md is this file for people.
//!
//! Here: the whole, the process and the store. Next: a file for each section that is longer.

mod auth;
mod limits;
mod provider;
mod roles;
mod rooms;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    hooks::{Usage, Webhooks},
    units::Span,
};
use crate::telemetry::LogFormat;
use signalbox_protocol::id::CallerId;

pub use auth::{ApiKeyTable, Auth};
pub use limits::{Limits, Timing};
pub use provider::{Provider, UserAlgorithm};
pub use roles::{CandidateTable, LobbyRule, PERMISSIONS, RoleTable, RoleTemplate};
pub use rooms::{Ice, Rooms, TurnServer};

/// The settings of all services; each reads the sections it needs. Secrets stand beside it, in [`super::Secrets`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The listening socket and who may talk to it.
    pub server: Server,
    /// Tokens and callers.
    pub auth: Auth,
    /// What each API key may do.
    pub api_keys: BTreeMap<CallerId, ApiKeyTable>,
    /// What each role may do.
    pub roles: RoleTable,
    /// Rooms and who makes them.
    pub rooms: Rooms,
    /// What a client is told about ICE.
    pub ice: Ice,
    /// How much of everything.
    pub limits: Limits,
    /// How long everything.
    pub timing: Timing,
    /// The shared store.
    pub redis: Redis,
    /// What is told to others over HTTP.
    pub webhooks: Webhooks,
    /// What is counted for the operator.
    pub usage: Usage,
    /// Logging.
    pub log: Log,
}

impl Settings {
    /// The longest that anything of one grant may be good, milliseconds: its tokens, and the handles of a peer that joined with one.
    pub fn longest_live_ms(&self) -> u64 {
        let handles = self.timing.room_life.as_ms() + self.timing.resume_window.as_ms();
        self.auth.token_ttl_max.as_ms().max(handles)
    }

    /// The same, with refresh tokens: how long what was taken back of it must be remembered.
    pub fn longest_grant_ms(&self) -> u64 {
        self.longest_live_ms().max(self.auth.refresh_ttl_max.as_ms())
    }
}

/// The listening socket and who may talk to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// Origins besides the site's own, as `https://app.example`; `*` is any and unsafe.
    pub allowed_origins: Vec<String>,
    /// Host names we answer to, without port; empty is any. On loopback it defaults to the loopback names.
    pub allowed_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "ranges")]
    pub trusted_proxies: Vec<IpNet>,
    /// Threads; 0 is one per core.
    pub workers: usize,
}

impl Default for Server {
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
fn ranges<'de, D: serde::Deserializer<'de>>(texts: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(texts)?;
    let range = |text: &String| {
        crate::address::parse_range(text)
            .map_err(|bad| serde::de::Error::custom(format!("server.trusted_proxies {bad}")))
    };
    texts.iter().map(range).collect()
}

/// The shared store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// The longest one command may take.
    pub deadline: Span,
    /// Between two attempts to connect, at most.
    pub reconnect: Span,
    /// A PEM file with the certificates of the authorities that may vouch for a `rediss://` server. Unset: the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for Redis {
    fn default() -> Self {
        Self { deadline: Span::secs(2), reconnect: Span::secs(1), ca_file: None }
    }
}

/// Logging.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A `tracing` filter: `info`, `debug`, `signalbox_signal=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}
