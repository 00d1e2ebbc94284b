//! The scopes and rooms of an API key or a management token.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use signalbox_protocol::id::RoomId;

/// A set of API operations that an application may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(as = ScopeName, description = "A scope of an API key or a management token.")
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Issue tokens and invites for users.
    Tokens,
    /// Read and change rooms, list their peers, change roles, mute and unmute peers.
    Rooms,
    /// Admit, reject and remove peers, ban users from a room, send messages into a room.
    Moderate,
    /// Revoke tokens, ban users from all rooms, deny addresses, shut down, change limits, send
    /// notices.
    Security,
    /// Read the usage.
    Usage,
    /// Follow the events of rooms and peers.
    Events,
    /// Read and change webhooks.
    Webhooks,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::Tokens,
        Self::Rooms,
        Self::Moderate,
        Self::Security,
        Self::Usage,
        Self::Events,
        Self::Webhooks,
    ];

    /// The name in a management token and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Rooms => "rooms",
            Self::Moderate => "moderate",
            Self::Security => "security",
            Self::Usage => "usage",
            Self::Events => "events",
            Self::Webhooks => "webhooks",
        }
    }

    /// The scope with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// The scopes of an API key without configured scopes: all except `security`.
    pub fn api_key_default() -> Self {
        Scope::ALL.into_iter().filter(|scope| *scope != Scope::Security).collect()
    }

    /// Whether the set contains a scope.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// The scopes that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// The names of the scopes, as in a management token.
    pub fn to_names(self) -> Arc<[Arc<str>]> {
        self.iter().map(|scope| Arc::from(scope.as_str())).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | 1 << scope as u8))
    }
}

/// A set of rooms: one room name, or a prefix with `*` at its end. `*` alone matches all rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomPattern {
    prefix: Arc<str>,
    is_prefix: bool,
}

impl RoomPattern {
    /// The pattern that matches one room.
    pub fn exact(room: &RoomId) -> Self {
        Self { prefix: room.as_str().into(), is_prefix: false }
    }

    /// Whether some room matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        let covers = |wide: &Self, narrow: &Self| {
            if wide.is_prefix { narrow.prefix.starts_with(&*wide.prefix) } else { narrow == wide }
        };
        covers(self, other) || covers(other, self)
    }

    /// Whether the pattern matches a room.
    pub fn matches(&self, room: &RoomId) -> bool {
        if self.is_prefix { room.as_str().starts_with(&*self.prefix) } else { room.as_str() == &*self.prefix }
    }
}

impl TryFrom<String> for RoomPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (prefix, is_prefix) = text.strip_suffix('*').map_or((&*text, false), |prefix| (prefix, true));
        let checked =
            if is_prefix && RoomId::may_begin_with(prefix) { None } else { RoomId::parse(prefix).err() };
        if let Some(rule) = checked {
            return Err(format!(
                "`{text}` must be a room name, or the start of one followed by *: a name {rule}"
            ));
        }
        Ok(Self { prefix: prefix.into(), is_prefix })
    }
}

impl From<RoomPattern> for String {
    fn from(pattern: RoomPattern) -> Self {
        format!("{}{}", pattern.prefix, if pattern.is_prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_set_contains_exactly_its_scopes() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            let only: ScopeSet = [scope].into_iter().collect();
            assert!(Scope::ALL.into_iter().all(|other| only.contains(other) == (other == scope)));
            assert_eq!(ScopeSet::api_key_default().contains(scope), scope != Scope::Security);
            assert_eq!(
                only.intersection(ScopeSet::api_key_default()).iter().count(),
                usize::from(scope != Scope::Security)
            );
        }
        assert_eq!(Scope::parse("Tokens"), None);
    }

    #[test]
    fn a_room_pattern_matches_one_room_or_a_prefix() {
        let matches = |pattern: &str, room: &str| {
            RoomPattern::try_from(pattern.to_owned()).unwrap().matches(&RoomId::parse(room).unwrap())
        };
        assert!(matches("acme-*", "acme-1") && matches("acme-*", "acme-") && matches("*", "x"));
        assert!(matches("lobby", "lobby"));
        assert!(!matches("acme-*", "acme") && !matches("acme-*", "Acme-1") && !matches("lobby", "lobby2"));
        for (one, other, expected) in [
            ("acme-*", "acme-1", true),
            ("acme-*", "acme-*", true),
            ("acme-*", "a*", true),
            ("*", "lobby", true),
            ("lobby", "lobby", true),
            ("acme-*", "acme", false),
            ("acme-*", "acne-*", false),
            ("lobby", "lobby2", false),
        ] {
            let pattern = |text: &str| RoomPattern::try_from(text.to_owned()).unwrap();
            assert_eq!(pattern(one).overlaps(&pattern(other)), expected, "{one} {other}");
            assert_eq!(pattern(other).overlaps(&pattern(one)), expected, "{other} {one}");
        }
        assert!(matches(".*", ".a") && matches("..*", "..."));
        for bad in ["", ".", "..", "a*b", "**", "a b", "é*"] {
            assert!(RoomPattern::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
