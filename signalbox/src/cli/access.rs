//! The commands about access rules and notices: `signalbox revoke`, `ban`, `unban`, `deny`,
//! `allow`, `notice`, `shutdown`, `limits` and `rules`. Each sends one request to the API.

use std::{io::Read as _, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use signalbox_config::canonical_secret;

use super::api::{ApiCommand, ApiRequest, append_query, json_object};

/// The longest time for which an access rule is valid.
const MAX_RULE_DURATION: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// Parses `30s`, `2h` or `7d`: whole seconds, at most 31 days.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|_| "write it like 30s, 15m, 12h or 7d".to_owned())?;
    if duration.subsec_nanos() > 0 || duration.is_zero() || duration > MAX_RULE_DURATION {
        return Err("must be whole seconds, from 1s to 31d".to_owned());
    }
    Ok(duration)
}

fn to_seconds_json(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Null, |duration| json!(duration.as_secs()))
}

/// The time and the reason of a rule that needs a time.
#[derive(Args)]
struct FixedTerms {
    /// How long the rule is valid, like 30m, 12h or 7d; at most 31d
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,
    /// The reason, which is stored with the access rule
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// The time and the reason of a rule that the operator usually ends.
#[derive(Args)]
struct OpenTerms {
    /// How long the rule is valid, like 30m, 12h or 7d; at most 31d, which is also the default
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// The reason, which is stored with the access rule
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    target: RevokeTarget,
    /// With --key or --root: also revoke every token that comes from it, by invites too
    #[arg(long)]
    issued: bool,
    /// The reason, which is stored with the access rule
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct RevokeTarget {
    /// Revoke the token in this file and the rest of its grant; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Revoke one grant: the part of `jti` before the dot, in the tokens of the grant
    #[arg(long)]
    grant: Option<String>,
    /// Revoke everything that was issued to a user until now
    #[arg(long)]
    user: Option<String>,
    /// Revoke everything that was issued for a room until now
    #[arg(long)]
    room: Option<String>,
    /// Revoke an API key
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Revoke another root of credentials: provider:ISSUER, guest or app
    #[arg(long)]
    root: Option<String>,
    /// Revoke everything that was issued until now
    #[arg(long)]
    all: bool,
}

impl ApiCommand for RevokeArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        let RevokeTarget { token_file, grant, user, room, key, root, all } = &self.target;
        if self.issued && key.is_none() && root.is_none() {
            return Err("--issued needs --key or --root".to_owned());
        }
        let token = token_file.as_ref().map(read_token_file).transpose()?;
        let flag = |is_set: bool| if is_set { Value::Bool(true) } else { Value::Null };
        let body = json_object([
            ("token", json!(token)),
            ("grant", json!(grant)),
            ("user", json!(user)),
            ("room", json!(room)),
            ("key", json!(key)),
            ("root", json!(root)),
            ("all", flag(*all)),
            ("issued", flag(self.issued)),
            ("reason", json!(self.reason)),
        ]);
        Ok(ApiRequest::post("/api/revocations", body))
    }
}

/// A token is read from a file, because other users of the machine can read a command line.
fn read_token_file(path: &PathBuf) -> Result<String, String> {
    let mut text = String::new();
    let result = if path.as_os_str() == "-" {
        std::io::stdin().take(64 * 1024).read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    result.map_err(|error| format!("--token-file {}: {error}", path.display()))?;
    canonical_secret(&text).map_err(|problem| format!("--token-file {}: {problem}", path.display()))
}

#[derive(Args)]
pub(crate) struct BanArgs {
    /// The user, as in `sub` of its tokens
    user: String,
    /// Ban the user from this room only
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
    /// The user, as in `sub` of its tokens
    user: String,
    /// Lift the ban from this room; without it, the ban from all rooms
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
    /// The denied address or range, as `signalbox rules --kind deny` lists it
    range: String,
}

impl ApiCommand for AllowArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        Ok(ApiRequest::lift_rule(&format!("deny:{}", self.range)))
    }
}

#[derive(Args)]
pub(crate) struct NoticeArgs {
    /// The text for people; at most 512 characters
    message: String,
    /// The code for programs: 1 to 32 of a-z 0-9 - _
    #[arg(long, default_value = "notice")]
    code: String,
    /// Send it only to the peers of this room
    #[arg(long, conflicts_with = "user")]
    room: Option<String>,
    /// Send it only to the peers of this user
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
    /// End the shutdown and admit clients again
    #[arg(long, conflicts_with_all = ["retry", "duration", "reason"])]
    end: bool,
    /// The time after which clients may try again, like 30s; at most 1h, and 30s by default
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

/// `--reset` excludes all other arguments.
const RESET_CONFLICTS: [&str; 8] =
    ["room_peers", "user_peers", "connections", "burst", "rate", "backlog", "duration", "reason"];

#[derive(Args)]
#[group(required = true, multiple = true)]
struct ChangedLimits {
    /// Restore the configured limits
    #[arg(long, conflicts_with_all = RESET_CONFLICTS)]
    reset: bool,
    /// The most peers in a room
    #[arg(long, value_name = "N")]
    room_peers: Option<u32>,
    /// The most peers of one user in a room
    #[arg(long, value_name = "N")]
    user_peers: Option<u32>,
    /// The most connections of one signaling node
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// Frames that a connection may send at once
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Frames a second after the burst
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Entries that may wait in the mailbox of one peer
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
    /// List only rules of this kind: token, user-before, room-before, all-before, ban, deny, key,
    /// limits, shutdown
    #[arg(long)]
    kind: Option<String>,
    /// The `cursor` of the previous page
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Subcommand)]
enum RulesCommand {
    /// Lift the access rule with this key
    Lift {
        /// The key, as `signalbox rules` lists it
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
