//! `signalbox revoke`, `ban`, `unban`, `deny`, `allow`, `notice`, `shutdown`, `limits`, `rules`: each one call of the API.

use std::{io::Read as _, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::{Ask, Request, object, query};

/// The longest that a rule is in force.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// `30s`, `2h`, `7d`: whole seconds, at most 31 days.
fn duration(text: &str) -> Result<Duration, String> {
    let lasts =
        humantime::parse_duration(text).map_err(|_| "write it like 30s, 15m, 12h or 7d".to_owned())?;
    if lasts.subsec_nanos() > 0 || lasts.is_zero() || lasts > LONGEST {
        return Err("must be whole seconds, from 1s to 31d".to_owned());
    }
    Ok(lasts)
}

fn seconds(span: Option<Duration>) -> Value {
    span.map_or(Value::Null, |span| json!(span.as_secs()))
}

/// Of something that is over by itself.
#[derive(Args)]
struct ForATime {
    /// How long, like 30m, 12h or 7d; at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Duration,
    /// Why, for those who read the rules later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Of something that lasts until it is ended.
#[derive(Args)]
struct UntilEnded {
    /// How long, like 30m, 12h or 7d; 31d unless given
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// Why, for those who read the rules later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub(crate) struct Revoke {
    #[command(flatten)]
    what: What,
    /// With --key: what it has issued too
    #[arg(long, requires = "key")]
    issued: bool,
    /// Why, for those who read the rules later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
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

impl Ask for Revoke {
    fn request(&self) -> Result<Request, String> {
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
    outcome.map_err(|error| format!("--token-file {}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[derive(Args)]
pub(crate) struct Ban {
    /// The user, as its tokens name it
    user: String,
    /// From this room only
    #[arg(long)]
    room: Option<String>,
    #[command(flatten)]
    terms: ForATime,
}

impl Ask for Ban {
    fn request(&self) -> Result<Request, String> {
        let body = object([
            ("user", json!(self.user)),
            ("room", json!(self.room)),
            ("for", seconds(Some(self.terms.lasts))),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(Request::post("/api/bans", body))
    }
}

#[derive(Args)]
pub(crate) struct Unban {
    /// The user
    user: String,
    /// The ban from this room; the one from all rooms unless given
    #[arg(long)]
    room: Option<String>,
}

impl Ask for Unban {
    fn request(&self) -> Result<Request, String> {
        Ok(Request::lift(&format!("ban:{}:{}", self.room.as_deref().unwrap_or("*"), self.user)))
    }
}

#[derive(Args)]
pub(crate) struct Deny {
    /// An address or a range, like 203.0.113.7 or 2001:db8::/48
    range: String,
    #[command(flatten)]
    terms: ForATime,
}

impl Ask for Deny {
    fn request(&self) -> Result<Request, String> {
        let body = object([
            ("cidr", json!(self.range)),
            ("for", seconds(Some(self.terms.lasts))),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(Request::post("/api/denials", body))
    }
}

#[derive(Args)]
pub(crate) struct Allow {
    /// The address or range that was denied, as `signalbox rules --kind deny` shows it
    range: String,
}

impl Ask for Allow {
    fn request(&self) -> Result<Request, String> {
        Ok(Request::lift(&format!("deny:{}", self.range)))
    }
}

#[derive(Args)]
pub(crate) struct Notice {
    /// What people read; at most 512 characters
    message: String,
    /// What programs go by: 1 to 32 of a-z 0-9 - _
    #[arg(long, default_value = "notice")]
    code: String,
    /// To the peers of this room
    #[arg(long, conflicts_with = "user")]
    room: Option<String>,
    /// To the peers of this user
    #[arg(long)]
    user: Option<String>,
}

impl Ask for Notice {
    fn request(&self) -> Result<Request, String> {
        let body = object([
            ("message", json!(self.message)),
            ("code", json!(self.code)),
            ("room", json!(self.room)),
            ("user", json!(self.user)),
        ]);
        Ok(Request::post("/api/notices", body))
    }
}

#[derive(Args)]
pub(crate) struct Shutdown {
    /// Let everybody in again
    #[arg(long, conflicts_with_all = ["retry", "lasts", "reason"])]
    end: bool,
    /// When clients are to ask again, up to 1h; 30s unless given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    retry: Option<Duration>,
    #[command(flatten)]
    terms: UntilEnded,
}

impl Ask for Shutdown {
    fn request(&self) -> Result<Request, String> {
        if self.end {
            return Ok(Request::lift("shutdown"));
        }
        let body = object([
            ("retry", seconds(self.retry)),
            ("for", seconds(self.terms.lasts)),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(Request { method: "PUT", ..Request::post("/api/shutdown", body) })
    }
}

#[derive(Args)]
pub(crate) struct Limits {
    #[command(flatten)]
    changed: Changed,
    #[command(flatten)]
    terms: UntilEnded,
}

/// What `--reset` goes without.
const CHANGES: [&str; 8] =
    ["room_peers", "user_peers", "connections", "burst", "rate", "backlog", "lasts", "reason"];

#[derive(Args)]
#[group(required = true, multiple = true)]
struct Changed {
    /// Back to the configured ones
    #[arg(long, conflicts_with_all = CHANGES)]
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
}

impl Ask for Limits {
    fn request(&self) -> Result<Request, String> {
        let Changed { reset, room_peers, user_peers, connections, burst, rate, backlog } = self.changed;
        if reset {
            return Ok(Request::lift("limits"));
        }
        let body = object([
            ("roomPeers", json!(room_peers)),
            ("userPeers", json!(user_peers)),
            ("connections", json!(connections)),
            ("burst", json!(burst)),
            ("rate", json!(rate)),
            ("backlog", json!(backlog)),
            ("for", seconds(self.terms.lasts)),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(Request { method: "PUT", ..Request::post("/api/limits", body) })
    }
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Rules {
    #[command(subcommand)]
    command: Option<RulesCommand>,
    /// Of one kind only: token, user-before, room-before, all-before, ban, deny, key, limits, shutdown
    #[arg(long)]
    kind: Option<String>,
    /// Where the page before ended: its `cursor`
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Subcommand)]
enum RulesCommand {
    /// Lift the rule of this key
    Lift {
        /// As it is listed
        key: String,
    },
}

impl Ask for Rules {
    fn request(&self) -> Result<Request, String> {
        if let Some(RulesCommand::Lift { key }) = &self.command {
            return Ok(Request::lift(key));
        }
        Ok(Request::get(query(
            "/api/rules?limit=1000",
            [("kind", self.kind.as_ref()), ("cursor", self.cursor.as_ref())],
        )))
    }
}
