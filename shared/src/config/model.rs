//! Every setting, with its unit and its default. docs/CONFIGURATION.md is this file for people.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    hooks::{Usage, Webhooks},
    units::{Size, Span},
};
use crate::{
    id::{CallerId, Region, Role},
    protocol::{IcePolicy, IceServer},
    scope::{RoomPattern, Scope},
    telemetry::LogFormat,
};

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

/// Tokens and callers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether callers without an API key get guest tokens. Unset: only in the embedded mode on loopback.
    pub guests: Option<bool>,
    /// The rooms where guests may be; empty is all.
    pub guest_rooms: Vec<RoomPattern>,
    /// The role of a guest.
    pub guest_role: Role,
    /// The life of a guest's token.
    pub guest_ttl: Span,
    /// Whether a connection is opened with a ticket only: what stands in a URL is then worth nothing afterwards.
    pub tickets_only: bool,
    /// The role where the caller names none.
    pub default_role: Role,
    /// The life of a token where the caller names none.
    pub token_ttl: Span,
    /// The longest life a caller may ask for; at most 24 h.
    pub token_ttl_max: Span,
    /// The life of a refresh token that is not used; at most 30 days.
    pub refresh_ttl: Span,
    /// How long one token can be followed by the next; at most 30 days.
    pub refresh_ttl_max: Span,
    /// Whose tokens are exchanged for user tokens.
    pub providers: Vec<Provider>,
    /// The folder of the private keys that sign tokens (auth service). Unset: `AUTH_SECRET` signs.
    pub keys_dir: Option<PathBuf>,
    /// Where a signaling node gets the public keys: `/.well-known/jwks.json` of the auth service.
    pub jwks_url: Option<String>,
    /// A file with them instead.
    pub jwks_file: Option<PathBuf>,
    /// How long a signaling node keeps them before it asks again. The auth service publishes a key so much before it signs.
    pub jwks_ttl: Span,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            guests: None,
            guest_rooms: vec![],
            guest_role: role("guest"),
            guest_ttl: Span::secs(15 * 60),
            tickets_only: false,
            default_role: role("guest"),
            token_ttl: Span::secs(15 * 60),
            token_ttl_max: Span::secs(60 * 60),
            refresh_ttl: Span::secs(7 * 24 * 60 * 60),
            refresh_ttl_max: Span::secs(30 * 24 * 60 * 60),
            providers: vec![],
            keys_dir: None,
            jwks_url: None,
            jwks_file: None,
            jwks_ttl: Span::secs(5 * 60),
        }
    }
}

/// What an API key may do. A key without a table has the usual scopes ([`crate::scope::Scopes::usual`]) for all rooms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeyTable {
    /// What it allows. Unset: the usual scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// For which rooms. Unset: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<RoomPattern>,
}

/// Somebody whose tokens about users are believed: an OpenID provider, or the application itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The `iss` of its tokens, letter by letter.
    pub issuer: String,
    /// What its tokens' `aud` must name.
    pub audience: String,
    /// Where its keys are. Unset: what its discovery document says (OpenID Connect Discovery 1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Which algorithms it signs with; a key has one of them. `HS256` alone: with `SIGNALBOX_USER_SECRET`.
    #[serde(default = "Provider::usual_algorithms")]
    pub algorithms: Vec<UserAlgorithm>,
    /// The claim that names the user.
    #[serde(default = "Provider::usual_user_claim")]
    pub user_claim: String,
    /// The claim with the name to show.
    #[serde(default = "Provider::usual_name_claim")]
    pub name_claim: String,
    /// The claim that says the role: a text or a list of texts; a dot steps into an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_claim: Option<String>,
    /// Which value of the claim gives which role. Of several the first in the alphabet of values that is found.
    #[serde(default)]
    pub role_map: BTreeMap<String, Role>,
    /// The role of everybody else. Unset: `auth.default_role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<Role>,
    /// What stands before the name of each of its users, so that two providers cannot name the same one.
    #[serde(default)]
    pub user_prefix: String,
}

/// An algorithm that a user's own token may be signed with (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the RFC's own names")]
pub enum UserAlgorithm {
    HS256,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Provider {
    fn usual_algorithms() -> Vec<UserAlgorithm> {
        use UserAlgorithm::{ES256, EdDSA, PS256, RS256};
        vec![RS256, PS256, ES256, EdDSA]
    }

    fn usual_user_claim() -> String {
        "sub".to_owned()
    }

    fn usual_name_claim() -> String {
        "name".to_owned()
    }

    /// The application itself, where it has a secret of its own and no table.
    pub fn app() -> Self {
        Self {
            issuer: "app".to_owned(),
            audience: "signalbox".to_owned(),
            jwks_url: None,
            algorithms: vec![UserAlgorithm::HS256],
            user_claim: Self::usual_user_claim(),
            name_claim: Self::usual_name_claim(),
            role_claim: None,
            role_map: BTreeMap::new(),
            default_role: None,
            user_prefix: String::new(),
        }
    }

    /// Whether its tokens are signed with the application's own secret.
    pub fn is_app(&self) -> bool {
        self.algorithms == [UserAlgorithm::HS256]
    }
}

/// The roles there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoleTable(pub BTreeMap<Role, RoleTemplate>);

/// What a role may do, and which ICE candidates it may show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoleTemplate {
    /// Some of [`PERMISSIONS`].
    pub permissions: Vec<String>,
    /// Its `RTCConfiguration.iceTransportPolicy`; with `relay` no other candidate is forwarded from it or to it. Unset: `ice.policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ice: Option<IcePolicy>,
    /// Which candidates of it are forwarded.
    pub candidates: CandidateTable,
}

/// Which candidates are forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CandidateTable {
    /// Whether host candidates with a private address are dropped. mDNS names pass.
    pub drop_private: bool,
    /// Candidates with an address in one of these are dropped.
    pub deny: Vec<IpNet>,
    /// Where it is not empty, candidates with an address in none of these are dropped.
    pub allow: Vec<IpNet>,
}

/// The permissions there are: send audio and video, send messages, moderate the room, let in from the lobby, end the room, share a
/// screen, open data channels, make rooms.
pub const PERMISSIONS: [&str; 8] =
    ["publish", "message", "moderate", "admit", "end", "share", "data", "create"];

impl Default for RoleTable {
    fn default() -> Self {
        let table: [(&str, &[&str]); 5] = [
            ("host", &PERMISSIONS),
            ("moderator", &["publish", "message", "moderate", "admit", "share", "data"]),
            ("speaker", &["publish", "message", "share", "data"]),
            ("guest", &["publish", "message", "share", "data"]),
            ("viewer", &[]),
        ];
        let entry = |(name, permissions): (&str, &[&str])| {
            let permissions = permissions.iter().map(|p| (*p).to_owned()).collect();
            (role(name), RoleTemplate { permissions, ..RoleTemplate::default() })
        };
        Self(table.into_iter().map(entry).collect())
    }
}

#[expect(clippy::expect_used, reason = "only called with the literal names above, which a test reads")]
fn role(name: &str) -> Role {
    Role::parse(name).expect("a literal role name")
}

/// Rooms and who makes them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// Whether a room that nobody made springs up at the first join.
    pub implicit: bool,
    /// How long a room that was made is there though nobody is in it; at most 24 h.
    pub kept: Span,
    /// Most rooms that one user has made and that are still kept; made with an API key they do not count.
    pub per_user: u32,
    /// The role of a user in the rooms it has made. Unset: `host` where there is one, else its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creator_role: Option<Role>,
    /// Where clients connect, as `wss://rtc.example/ws/signal`, told by `/join`. Unset: the path `/ws/signal` of the same site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_url: Option<String>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            implicit: true,
            kept: Span::secs(24 * 60 * 60),
            per_user: 100,
            creator_role: None,
            signal_url: None,
        }
    }
}

/// What a client is told about ICE.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ice {
    /// `RTCConfiguration.iceTransportPolicy`, where a role does not say otherwise.
    pub policy: IcePolicy,
    /// How long a TURN credential is good.
    pub turn_ttl: Span,
    /// `RTCConfiguration.iceServers`, as it is.
    pub servers: Vec<IceServer>,
    /// TURN servers that credentials are minted for.
    pub turn: Vec<TurnServer>,
}

impl Default for Ice {
    fn default() -> Self {
        Self { policy: IcePolicy::All, turn_ttl: Span::secs(60 * 60), servers: vec![], turn: vec![] }
    }
}

/// TURN servers with the same secret, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnServer {
    /// `turn:` and `turns:` URLs (RFC 7065).
    pub urls: Vec<String>,
    /// Where it is. A client whose token names this region is told of the servers there only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// How much of everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest WebSocket message.
    pub frame: Size,
    /// Longest `sdp`.
    pub sdp: Size,
    /// Longest `candidate`.
    pub candidate: Size,
    /// Longest `data` of a message.
    pub data: Size,
    /// Longest `metadata`.
    pub metadata: Size,
    /// Longest HTTP request body.
    pub body: Size,
    /// Most peers in a room.
    pub room_peers: u32,
    /// Most peers of one user in a room.
    pub user_peers: u32,
    /// Most connections of one node; more are refused with 503.
    pub connections: usize,
    /// Frames a connection may send at once.
    pub burst: u32,
    /// Frames a second a connection may send after the burst.
    pub rate: u32,
    /// Entries that may wait in one peer's mailbox.
    pub backlog: u32,
    /// Bytes that may wait in one peer's mailbox.
    pub backlog_bytes: Size,
    /// Bytes that may wait for one socket; more closes it as a slow consumer.
    pub outbox: Size,
    /// Rules that may be in force: bans, revocations, denied addresses.
    pub rules: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: Size::kib(64),
            sdp: Size::kib(48),
            candidate: Size::kib(2),
            data: Size::kib(16),
            metadata: Size::kib(4),
            body: Size::kib(16),
            room_peers: 100,
            user_peers: 64,
            connections: 15_000,
            burst: 1_000,
            rate: 100,
            backlog: 512,
            backlog_bytes: Size::kib(1024),
            outbox: Size::kib(1024),
            rules: 10_000,
        }
    }
}

/// How long everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// Between two pings to a client.
    pub ping: Span,
    /// How long a peer whose socket is lost may come back before it has left.
    pub resume_window: Span,
    /// How long a node counts as alive after its last word; it renews its lease four times as often.
    pub lease: Span,
    /// The longest life of a room; at most 24 h.
    pub room_life: Span,
    /// A stopping node sends its clients away evenly over this time.
    pub drain_spread: Span,
    /// When a stopping node ends, whoever is still there.
    pub drain: Span,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Span::secs(25),
            resume_window: Span::secs(30),
            lease: Span::secs(2),
            room_life: Span::secs(12 * 60 * 60),
            drain_spread: Span::secs(5),
            drain: Span::secs(8),
        }
    }
}

impl Timing {
    /// How long an entry of a mailbox is kept that its reader does not acknowledge: it may be noticed three leases late that the
    /// reader is away.
    pub fn entry_life(&self) -> Span {
        Span(self.resume_window.0 + 3 * self.lease.0)
    }
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
