//! Every setting, with its unit and its default. docs/CONFIGURATION.md describes the same settings
//! for operators.
//!
//! Owns: the types of all sections. Must not: check a value beyond its form (`checks`). This file
//! has [`ServiceSettings`] and the short sections `[server]`, `[redis]` and `[log]`; the other
//! sections have files of their own.

mod auth_settings;
mod ice_settings;
mod limit_settings;
mod role_settings;
mod room_defaults;
mod webhook_settings;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    HostName, WebOrigin,
    address_ranges::parse_range,
    logging::LogFormat,
    units::{ByteSize, TimeSpan},
};
use signalbox_protocol::id::CallerId;

pub use auth_settings::{ApiKeySettings, AuthSettings, ProviderSettings, UserAlgorithm};
pub use ice_settings::{IceSettings, TurnServer};
pub(crate) use limit_settings::ENVELOPE_BYTES;
pub use limit_settings::{LimitSettings, TimingSettings};
pub use role_settings::{CandidateSettings, LobbyPolicy, PERMISSIONS, RoleSettings, RoleTemplate};
pub use room_defaults::RoomDefaults;
pub use webhook_settings::{UsageSettings, WebhookEndpoint, WebhookSettings};

/// The settings of all services; each service reads the sections that it needs. Secrets are in
/// [`SecretSettings`](crate::SecretSettings), so that settings may be printed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    /// The listening socket and the clients that may use it.
    pub server: ServerSettings,
    /// Tokens and the callers that get them.
    pub auth: AuthSettings,
    /// Scopes and rooms of API keys.
    pub api_keys: BTreeMap<CallerId, ApiKeySettings>,
    /// The permissions of each role.
    pub roles: RoleSettings,
    /// How rooms are created and how long they are kept.
    pub rooms: RoomDefaults,
    /// The ICE configuration of clients.
    pub ice: IceSettings,
    /// How much of each resource a client may use.
    pub limits: LimitSettings,
    /// Times and deadlines.
    pub timing: TimingSettings,
    /// The connections to the shared store.
    pub redis: RedisSettings,
    /// Requests to other HTTP servers.
    pub http_client: HttpClientSettings,
    /// Events that are sent over HTTP.
    pub webhooks: WebhookSettings,
    /// Joins and peer-minutes that are counted.
    pub usage: UsageSettings,
    /// The log filter and the format of log lines.
    pub log: LogSettings,
}

impl ServiceSettings {
    /// The longest time, in milliseconds, for which a token of a grant, or the handle of a peer
    /// that joined with it, is valid.
    pub fn max_credential_life_ms(&self) -> u64 {
        let handles = self.timing.room_life.as_ms() + self.timing.resume_window.as_ms();
        self.auth.token_ttl_max.as_ms().max(handles)
    }

    /// The longest time, in milliseconds, for which any credential of a grant is valid, refresh
    /// tokens included. The revocation of a grant must be kept this long.
    pub fn max_grant_life_ms(&self) -> u64 {
        self.max_credential_life_ms().max(self.auth.refresh_ttl_max.as_ms())
    }
}

/// The section `[server]`: the listening socket and the clients that may use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port.
    pub listen: SocketAddr,
    /// Address and port of `/metrics`, which the listening socket does not serve. Unset: no metrics
    /// are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// Other web sites that may use the server, like `https://app.example`; `*` is any site and
    /// unsafe.
    pub allowed_origins: Vec<String>,
    /// Host names that the server answers to, without port. Empty: any name, or on a loopback
    /// address the loopback names.
    pub allowed_hosts: Vec<String>,
    /// Proxies, as addresses or ranges, whose `X-Forwarded-For` is trusted.
    #[serde(deserialize_with = "deserialize_ranges")]
    pub trusted_proxies: Vec<IpNet>,
    /// Threads, at most 512; 0 is one per core.
    pub workers: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: None,
            allowed_origins: vec![],
            allowed_hosts: vec![],
            trusted_proxies: vec![],
            workers: 0,
        }
    }
}

impl ServerSettings {
    /// Whether only clients on this machine are expected: the address is a loopback address, and no
    /// setting names a proxy, another host or another web site.
    pub fn is_local(&self) -> bool {
        let is_local_host = |host: &String| HostName::parse_entry(host).is_ok_and(|host| host.is_loopback());
        let is_local_origin =
            |origin: &String| WebOrigin::parse(origin).is_ok_and(|origin| origin.is_local_site());
        self.listen.ip().is_loopback()
            && self.trusted_proxies.is_empty()
            && self.allowed_hosts.iter().all(is_local_host)
            && self.allowed_origins.iter().all(is_local_origin)
    }
}

/// Accepts a bare address as the range of this one address.
fn deserialize_ranges<'de, D: serde::Deserializer<'de>>(texts: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(texts)?;
    let parse = |text: &String| {
        parse_range(text)
            .map_err(|invalid| serde::de::Error::custom(format!("server.trusted_proxies {invalid}")))
    };
    texts.iter().map(parse).collect()
}

/// The section `[redis]`: the connections to the shared store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// The longest time for one command; 50 ms to 2 s.
    pub deadline: TimeSpan,
    /// The longest wait between two attempts to connect; 10 ms to 1 min.
    pub reconnect: TimeSpan,
    /// A PEM file with the certificates of the authorities that are trusted for a `rediss://`
    /// server. Unset: the public authorities.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with the certificate with which this process proves itself to a `rediss://` server
    /// and to Sentinels, and the certificates between it and its authority. Needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// A PEM file with the private key of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The share of `maxmemory`, in percent, above which messages to peers that do not read are
    /// refused; 10 to 90.
    pub memory_percent: u8,
    /// What stands before every key and topic of this deployment, with a colon; up to 32 letters,
    /// digits, `-`, `_` and `.`. Empty: nothing.
    pub prefix: String,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            deadline: TimeSpan::secs(2),
            reconnect: TimeSpan::secs(1),
            ca_file: None,
            cert_file: None,
            key_file: None,
            memory_percent: 70,
            prefix: String::new(),
        }
    }
}

/// The section `[http_client]`: requests to providers, to the auth service for its public keys, and
/// to the receivers of webhooks.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpClientSettings {
    /// A PEM file with the certificates of the authorities that are trusted for an `https://` server.
    /// Unset: the public authorities.
    pub ca_file: Option<PathBuf>,
    /// Hosts, without port, to which a request may go over `http://`.
    pub unencrypted_hosts: Vec<String>,
}

impl HttpClientSettings {
    /// Whether requests to this host, without port and brackets, may go over `http://`.
    pub(crate) fn allows_unencrypted(&self, host: &str) -> bool {
        let Ok(host) = HostName::parse_entry(host) else { return false };
        self.unencrypted_hosts
            .iter()
            .any(|listed| HostName::parse_entry(listed).is_ok_and(|listed| listed == host))
    }
}

/// The section `[log]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// A `tracing` filter like `info`, `debug` or `info,signalbox_signal=debug`.
    pub filter: String,
    /// The format of log lines.
    pub format: LogFormat,
    /// The bytes of log lines that may wait for the reader of standard error; 64KiB to 256MiB. More
    /// lines are dropped and counted.
    pub buffer: ByteSize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text, buffer: ByteSize::kib(4 * 1024) }
    }
}
