//! The key of a rule: its subject, as a type and as the text in the store and the API.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use signalbox_protocol::{
    CredentialRoot,
    id::{RoomId, TokenId, UserId},
};

use crate::denied_range;

/// The text is no rule key. Names the invalid part and never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a valid rule key: its {0} is invalid")]
pub struct RuleKeyError(pub &'static str);

/// The subject of a rule. As text: `token:GRANT`, `user-before:USER`, `room-before:ROOM`,
/// `all-before`, `ban:ROOM:USER` (`*` for all rooms), `deny:RANGE`, `key:ID`, `provider:ISSUER`,
/// `app`, `guest`, `limits`, `shutdown`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RuleKey {
    /// All tokens of one grant, with which their `jti` begins.
    Grant(TokenId),
    /// The tokens that were issued to a user before the rule.
    UserBefore(UserId),
    /// The tokens that were issued for a room before the rule.
    RoomBefore(RoomId),
    /// All tokens that were issued before the rule.
    AllBefore,
    /// A user with any token, in one room or in all rooms.
    Ban {
        /// The room. `None`: all rooms.
        room: Option<RoomId>,
        /// The user.
        user: UserId,
    },
    /// A range of client addresses.
    Deny(IpNet),
    /// The root of credentials: an API key, a provider, the application or the guests.
    Root(CredentialRoot),
    /// Changed limits.
    Limits,
    /// All clients.
    Shutdown,
}

/// The kinds of rules, with which their keys begin.
pub const RULE_KINDS: [&str; 12] = [
    "token",
    "user-before",
    "room-before",
    "all-before",
    "ban",
    "deny",
    "key",
    "provider",
    "app",
    "guest",
    "limits",
    "shutdown",
];

impl RuleKey {
    /// The kind: a stable word for metrics and lists.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Grant(_) => "token",
            Self::UserBefore(_) => "user-before",
            Self::RoomBefore(_) => "room-before",
            Self::AllBefore => "all-before",
            Self::Ban { .. } => "ban",
            Self::Deny(_) => "deny",
            Self::Root(root) => root.kind(),
            Self::Limits => "limits",
            Self::Shutdown => "shutdown",
        }
    }

    /// The one room that the rule is about.
    pub fn room(&self) -> Option<&RoomId> {
        match self {
            Self::RoomBefore(room) | Self::Ban { room: Some(room), .. } => Some(room),
            _ => None,
        }
    }

    /// Whether only one rule of this kind can exist. `limits.rules` does not apply to it.
    pub fn is_singleton(&self) -> bool {
        matches!(
            self,
            Self::AllBefore
                | Self::Limits
                | Self::Shutdown
                | Self::Root(CredentialRoot::App | CredentialRoot::Guest)
        )
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Grant(grant) => write!(f, "{kind}:{}", grant),
            Self::UserBefore(user) => write!(f, "{kind}:{user}"),
            Self::RoomBefore(room) => write!(f, "{kind}:{room}"),
            Self::Ban { room: Some(room), user } => write!(f, "{kind}:{room}:{user}"),
            Self::Ban { room: None, user } => write!(f, "{kind}:*:{user}"),
            Self::Deny(range) => write!(f, "{kind}:{range}"),
            Self::Root(root) => write!(f, "{root}"),
            Self::AllBefore | Self::Limits | Self::Shutdown => f.write_str(kind),
        }
    }
}

impl FromStr for RuleKey {
    type Err = RuleKeyError;

    fn from_str(text: &str) -> Result<Self, RuleKeyError> {
        let user = |text: &str| UserId::parse(text).map_err(|_| RuleKeyError("user"));
        let room = |text: &str| RoomId::parse(text).map_err(|_| RuleKeyError("room"));
        match text.split_once(':') {
            None => match text {
                "all-before" => Ok(Self::AllBefore),
                "limits" => Ok(Self::Limits),
                "shutdown" => Ok(Self::Shutdown),
                "app" => Ok(Self::Root(CredentialRoot::App)),
                "guest" => Ok(Self::Root(CredentialRoot::Guest)),
                _ => Err(RuleKeyError("kind")),
            },
            Some(("token", rest)) => parse_grant(rest).map(Self::Grant),
            Some(("user-before", rest)) => user(rest).map(Self::UserBefore),
            Some(("room-before", rest)) => room(rest).map(Self::RoomBefore),
            Some(("ban", rest)) => match rest.split_once(':') {
                Some(("*", user_id)) => Ok(Self::Ban { room: None, user: user(user_id)? }),
                Some((room_id, user_id)) => {
                    Ok(Self::Ban { room: Some(room(room_id)?), user: user(user_id)? })
                }
                None => Err(RuleKeyError("user")),
            },
            Some(("deny", rest)) => {
                denied_range::parse_denied_range(rest).map(Self::Deny).map_err(|_| RuleKeyError("range"))
            }
            Some(("key", _)) => {
                CredentialRoot::parse(text).map(Self::Root).map_err(|_| RuleKeyError("API key"))
            }
            Some(("provider", _)) => {
                CredentialRoot::parse(text).map(Self::Root).map_err(|_| RuleKeyError("provider"))
            }
            Some(_) => Err(RuleKeyError("kind")),
        }
    }
}

/// Parses a grant: the part of a `jti` before the dot.
fn parse_grant(text: &str) -> Result<TokenId, RuleKeyError> {
    TokenId::parse(text).ok().filter(|token| token.grant() == text).ok_or(RuleKeyError("grant"))
}

impl TryFrom<String> for RuleKey {
    type Error = RuleKeyError;
    fn try_from(text: String) -> Result<Self, RuleKeyError> {
        text.parse()
    }
}

impl From<RuleKey> for String {
    fn from(key: RuleKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_key_parses_back_from_its_text() {
        for text in [
            "token:3f9c",
            "token:app:own~1",
            "user-before:a:b@c",
            "room-before:stand-up",
            "all-before",
            "ban:*:mallory@example.org:x",
            "ban:stand-up:mallory",
            "deny:203.0.113.0/24",
            "deny:2001:db8::/48",
            "key:backend",
            "provider:https://id.example/realms/a",
            "app",
            "guest",
            "limits",
            "shutdown",
        ] {
            let key: RuleKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert!(RULE_KINDS.contains(&key.kind()));
        }
    }

    #[test]
    fn an_invalid_rule_key_is_refused() {
        for text in [
            "",
            "x",
            "token",
            "token:",
            "token:a.b",
            "token:a\nb",
            "all-before:x",
            "ban:mallory",
            "ban::m",
            "ban:a b:m",
            "deny:0.0.0.0/0",
            "deny:x",
            "key:a b",
            "key:guest",
            "provider:",
            "guest:x",
            "user-before:",
            "shutdown:",
            ":log",
        ] {
            assert!(text.parse::<RuleKey>().is_err(), "{text}");
        }
    }
}
