//! `signalbox revoke`, `ban`, `unban`, `deny`, `allow`, `notice`, `shutdown`, `limits`, `rules`: each one call of the API.

use std::{io::Read as _, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Request, Server, percent};

/// What is absent is not sent.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let given = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// `30s`, `2h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write it like 30s, 15m, 12h or 7d".to_owned())
}

fn seconds(span: Option<Duration>) -> Value {
    span.map_or(Value::Null, |span| json!(span.as_secs()))
}

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    what: What,
    /// With --key: what it has issued too
    #[arg(long, requires = "key")]
    issued: bool,
    /// Why, for those who read the rules later
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The token in this file, and all that come from the same grant; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A grant: what stands before the dot in the `jti` of its tokens
    #[arg(long)]
    grant: Option<String>,
    /// Everything that was issued to a user until now
    #[arg(long)]
    user: Option<String>,
    /// Everything that was issued for a room until now
    #[arg(long)]
    room: Option<String>,
    /// An API key
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Everything that was issued until now
    #[arg(long)]
    all: bool,
}

impl Revoke {
    pub(super) fn request(&self) -> Result<Request, String> {
        let What { token_file, grant, user, room, key, all } = &self.what;
        let token = token_file.as_ref().map(read).transpose()?;
        let flag = |on: bool| if on { Value::Bool(true) } else { Value::Null };
        let body = object([
            ("token", json!(token)),
            ("grant", json!(grant)),
            ("user", json!(user)),
            ("room", json!(room)),
            ("key", json!(key)),
            ("all", flag(*all)),
            ("issued", flag(self.issued)),
            ("reason", json!(self.reason)),
        ]);
        Ok(Request::post("/api/revocations", body))
    }
}

/// A token is a secret, which does not belong on a command line.
fn read(path: &PathBuf) -> Result<String, String> {
    let mut text = String::new();
    let outcome = if path.as_os_str() == "-" {
        std::io::stdin().take(64 * 1024).read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    outcome.map_err(|error| format!("--token-file: {error}"))?;
    Ok(text.trim().to_owned())
}

#[derive(Args)]
pub(crate) struct Ban {
    user: String,
    /// How long, like 30m, 12h or 7d; at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Duration,
    /// From this room only
    #[arg(long)]
    room: Option<String>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Ban {
    pub(super) fn request(&self) -> Request {
        let body = object([
            ("user", json!(self.user)),
            ("room", json!(self.room)),
            ("for", seconds(Some(self.lasts))),
            ("reason", json!(self.reason)),
        ]);
        Request::post("/api/bans", body)
    }
}

#[derive(Args)]
pub(crate) struct Unban {
    user: String,
    /// The ban from this room
    #[arg(long)]
    room: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Unban {
    pub(super) fn request(&self) -> Request {
        Request::lift(&format!("ban:{}:{}", self.room.as_deref().unwrap_or("*"), self.user))
    }
}

#[derive(Args)]
pub(crate) struct Deny {
    /// An address or a range, like 203.0.113.7 or 2001:db8::/48
    range: String,
    /// How long, like 30m, 12h or 7d; at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Duration,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Deny {
    pub(super) fn request(&self) -> Request {
        let body = object([
            ("cidr", json!(self.range)),
            ("for", seconds(Some(self.lasts))),
            ("reason", json!(self.reason)),
        ]);
        Request::post("/api/denials", body)
    }
}

#[derive(Args)]
pub(crate) struct Allow {
    /// The address or range that was denied
    range: String,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Allow {
    pub(super) fn request(&self) -> Request {
        Request::lift(&format!("deny:{}", self.range))
    }
}

#[derive(Args)]
pub(crate) struct Notice {
    /// For people
    message: String,
    /// For clients
    #[arg(long, default_value = "notice")]
    code: String,
    /// To the peers of this room
    #[arg(long, conflicts_with = "user")]
    room: Option<String>,
    /// To the peers of this user
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Notice {
    pub(super) fn request(&self) -> Request {
        let body = object([
            ("message", json!(self.message)),
            ("code", json!(self.code)),
            ("room", json!(self.room)),
            ("user", json!(self.user)),
        ]);
        Request::post("/api/notices", body)
    }
}

#[derive(Args)]
pub(crate) struct Shutdown {
    /// Let everybody in again
    #[arg(long, conflicts_with_all = ["retry", "lasts", "reason"])]
    end: bool,
    /// When clients are to ask again
    #[arg(long, value_name = "TIME", value_parser = duration)]
    retry: Option<Duration>,
    /// How long; until it is ended unless given, at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Shutdown {
    pub(super) fn request(&self) -> Request {
        if self.end {
            return Request::lift("shutdown");
        }
        let body = object([
            ("retry", seconds(self.retry)),
            ("for", seconds(self.lasts)),
            ("reason", json!(self.reason)),
        ]);
        Request { method: "PUT", ..Request::post("/api/shutdown", body) }
    }
}

#[derive(Args)]
pub(crate) struct Limits {
    /// Back to the configured ones
    #[arg(long)]
    reset: bool,
    /// Most peers in a room
    #[arg(long, value_name = "N")]
    room_peers: Option<u32>,
    /// Most peers of one user in a room
    #[arg(long, value_name = "N")]
    user_peers: Option<u32>,
    /// Most connections of one node
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Frames a connection may send at once
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Frames a second after that
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Entries that may wait in one peer's mailbox
    #[arg(long, value_name = "N")]
    backlog: Option<u32>,
    /// How long; until they are reset unless given, at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

impl Limits {
    pub(super) fn request(&self) -> Request {
        if self.reset {
            return Request::lift("limits");
        }
        let body = object([
            ("roomPeers", json!(self.room_peers)),
            ("userPeers", json!(self.user_peers)),
            ("connections", json!(self.connections)),
            ("burst", json!(self.burst)),
            ("rate", json!(self.rate)),
            ("backlog", json!(self.backlog)),
            ("for", seconds(self.lasts)),
            ("reason", json!(self.reason)),
        ]);
        Request { method: "PUT", ..Request::post("/api/limits", body) }
    }
}

#[derive(Args)]
pub(crate) struct Rules {
    #[command(subcommand)]
    command: Option<RulesCommand>,
    /// Of one kind only: token, user-before, room-before, all-before, ban, deny, key, limits, shutdown
    #[arg(long)]
    kind: Option<String>,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

#[derive(Subcommand)]
enum RulesCommand {
    /// Lift the rule of this key
    Lift {
        /// As it is listed
        key: String,
    },
}

impl Rules {
    pub(super) fn request(&self) -> Request {
        if let Some(RulesCommand::Lift { key }) = &self.command {
            return Request::lift(key);
        }
        let mut path = "/api/rules?limit=1000".to_owned();
        for (name, value) in [("kind", &self.kind), ("cursor", &self.cursor)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", percent(value)));
            }
        }
        Request { method: "GET", path, body: None }
    }
}
