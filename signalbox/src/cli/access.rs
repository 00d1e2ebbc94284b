//! `signalbox revoke`, `ban`, `unban`, `deny`, `allow`, `notice`, `shutdown`, `limits`, `rules`: each one call of the API.

use std::{io::Read as _, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::{ApiCommand, ApiRequest, append_query, json_object};

/// The longest that a rule is in force.
const MAX_RULE_DURATION: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// `30s`, `2h`, `7d`: whole seconds, at most 31 days.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let lasts =
        humantime::parse_duration(text).map_err(|_| "write it like 30s, 15m, 12h or 7d".to_owned())?;
    if lasts.subsec_nanos() > 0 || lasts.is_zero() || lasts > MAX_RULE_DURATION {
        return Err("must be whole seconds, from 1s to 31d".to_owned());
    }
    Ok(lasts)
}

fn to_seconds_json(span: Option<Duration>) -> Value {
    span.map_or(Value::Null, |span| json!(span.as_secs()))
}

/// Of something that is over by itself.
#[derive(Args)]
struct FixedTerms {
    /// How long, like 30m, 12h or 7d; at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,
    /// Why, for those who read the rules later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Of something that lasts until it is ended.
#[derive(Args)]
struct OpenTerms {
    /// How long, like 30m, 12h or 7d; 31d unless given
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Why, for those who read the rules later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    target: RevokeTarget,
    /// With --key: what it has issued too
    #[arg(long, requires = "key")]
    issued: bool,
    /// Why, for those who read the rules later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct RevokeTarget {
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

impl ApiCommand for RevokeArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        let RevokeTarget { token_file, grant, user, room, key, all } = &self.target;
        let token = token_file.as_ref().map(read_token_file).transpose()?;
        let flag = |on: bool| if on { Value::Bool(true) } else { Value::Null };
        let body = json_object([
            ("token", json!(token)),
            ("grant", json!(grant)),
            ("user", json!(user)),
            ("room", json!(room)),
            ("key", json!(key)),
            ("all", flag(*all)),
            ("issued", flag(self.issued)),
            ("reason", json!(self.reason)),
        ]);
        Ok(ApiRequest::post("/api/revocations", body))
    }
}

/// A token is a secret, which does not belong on a command line.
fn read_token_file(path: &PathBuf) -> Result<String, String> {
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
pub(crate) struct BanArgs {
    /// The user, as its tokens name it
    user: String,
    /// From this room only
    #[arg(long)]
    room: Option<String>,
    #[command(flatten)]
    terms: FixedTerms,
}

impl ApiCommand for BanArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        let body = json_object([
            ("user", json!(self.user)),
            ("room", json!(self.room)),
            ("for", to_seconds_json(Some(self.terms.duration))),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(ApiRequest::post("/api/bans", body))
    }
}

#[derive(Args)]
pub(crate) struct UnbanArgs {
    /// The user
    user: String,
    /// The ban from this room; the one from all rooms unless given
    #[arg(long)]
    room: Option<String>,
}

impl ApiCommand for UnbanArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        Ok(ApiRequest::lift_rule(&format!("ban:{}:{}", self.room.as_deref().unwrap_or("*"), self.user)))
    }
}

#[derive(Args)]
pub(crate) struct DenyArgs {
    /// An address or a range, like 203.0.113.7 or 2001:db8::/48
    range: String,
    #[command(flatten)]
    terms: FixedTerms,
}

impl ApiCommand for DenyArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        let body = json_object([
            ("cidr", json!(self.range)),
            ("for", to_seconds_json(Some(self.terms.duration))),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(ApiRequest::post("/api/denials", body))
    }
}

#[derive(Args)]
pub(crate) struct AllowArgs {
    /// The address or range that was denied, as `signalbox rules --kind deny` shows it
    range: String,
}

impl ApiCommand for AllowArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        Ok(ApiRequest::lift_rule(&format!("deny:{}", self.range)))
    }
}

#[derive(Args)]
pub(crate) struct NoticeArgs {
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

impl ApiCommand for NoticeArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        let body = json_object([
            ("message", json!(self.message)),
            ("code", json!(self.code)),
            ("room", json!(self.room)),
            ("user", json!(self.user)),
        ]);
        Ok(ApiRequest::post("/api/notices", body))
    }
}

#[derive(Args)]
pub(crate) struct ShutdownArgs {
    /// Let everybody in again
    #[arg(long, conflicts_with_all = ["retry", "duration", "reason"])]
    end: bool,
    /// When clients are to ask again, up to 1h; 30s unless given
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    retry: Option<Duration>,
    #[command(flatten)]
    terms: OpenTerms,
}

impl ApiCommand for ShutdownArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        if self.end {
            return Ok(ApiRequest::lift_rule("shutdown"));
        }
        let body = json_object([
            ("retry", to_seconds_json(self.retry)),
            ("for", to_seconds_json(self.terms.duration)),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(ApiRequest { method: "PUT", ..ApiRequest::post("/api/shutdown", body) })
    }
}

#[derive(Args)]
pub(crate) struct LimitsArgs {
    #[command(flatten)]
    changed: ChangedLimits,
    #[command(flatten)]
    terms: OpenTerms,
}

/// What `--reset` goes without.
const RESET_CONFLICTS: [&str; 8] =
    ["room_peers", "user_peers", "connections", "burst", "rate", "backlog", "duration", "reason"];

#[derive(Args)]
#[group(required = true, multiple = true)]
struct ChangedLimits {
    /// Back to the configured ones
    #[arg(long, conflicts_with_all = RESET_CONFLICTS)]
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

impl ApiCommand for LimitsArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        let ChangedLimits { reset, room_peers, user_peers, connections, burst, rate, backlog } = self.changed;
        if reset {
            return Ok(ApiRequest::lift_rule("limits"));
        }
        let body = json_object([
            ("roomPeers", json!(room_peers)),
            ("userPeers", json!(user_peers)),
            ("connections", json!(connections)),
            ("burst", json!(burst)),
            ("rate", json!(rate)),
            ("backlog", json!(backlog)),
            ("for", to_seconds_json(self.terms.duration)),
            ("reason", json!(self.terms.reason)),
        ]);
        Ok(ApiRequest { method: "PUT", ..ApiRequest::post("/api/limits", body) })
    }
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct RulesArgs {
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

impl ApiCommand for RulesArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        if let Some(RulesCommand::Lift { key }) = &self.command {
            return Ok(ApiRequest::lift_rule(key));
        }
        Ok(ApiRequest::get(append_query(
            "/api/rules?limit=1000",
            [("kind", self.kind.as_ref()), ("cursor", self.cursor.as_ref())],
        )))
    }
}
