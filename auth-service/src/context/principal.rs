//! Who asks: an application backend with an API key or a token of one, a user of the application, or a guest.

use std::sync::Arc;

use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_token::{
    UserClaims,
    scope::{RoomPattern, Scope, ScopeSet},
};

/// Somebody who may ask.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    /// A backend that has proven itself with its secret (RFC 7617).
    ApiKey(Application),
    /// A backend with a management token (RFC 6750).
    ManagementToken(Application),
    /// One of the application's users, with a user token.
    User(Arc<UserClaims>),
    /// Anybody, where guests are on.
    Guest,
}

/// An API key, and what it may do.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    /// Its id.
    pub(crate) id: CallerId,
    /// What it allows.
    pub(crate) scopes: ScopeSet,
    /// For which rooms; none is all.
    pub(crate) rooms: Option<RoomPattern>,
}

impl Principal {
    /// The kind, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "api_key",
            Self::ManagementToken(_) => "management",
            Self::User(_) => "user",
            Self::Guest => "guest",
        }
    }

    /// On whose word, for tokens, records and logs: the id of the key, `user` or `guest`.
    pub(crate) fn id(&self) -> CallerId {
        match self {
            Self::ApiKey(backend) | Self::ManagementToken(backend) => backend.id.clone(),
            Self::User(_) => CallerId::user(),
            Self::Guest => CallerId::guest(),
        }
    }

    /// Whether it may act on a room, as far as that is limited to some. Users and guests are limited elsewhere.
    ///
    /// # Errors
    /// 403 `room_not_allowed`.
    pub(crate) fn check_room(&self, room: &RoomId) -> Result<(), Problem> {
        match self {
            Self::ApiKey(backend) | Self::ManagementToken(backend) => backend.check_room(room),
            Self::User(_) | Self::Guest => Ok(()),
        }
    }

    /// The rooms that it may see, where that is limited to some: for lists.
    pub(crate) fn room_pattern(&self) -> Option<&RoomPattern> {
        match self {
            Self::ApiKey(backend) | Self::ManagementToken(backend) => backend.rooms.as_ref(),
            Self::User(_) | Self::Guest => None,
        }
    }
}

impl Application {
    /// Whether it has a scope.
    ///
    /// # Errors
    /// 403 `scope_missing`, `field` being the scope.
    pub(crate) fn require_scope(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        let detail = format!("this API key or management token lacks the scope {}", scope.as_str());
        Err(Problem::new(403, "scope_missing", detail).with_field(scope.as_str()))
    }

    pub(super) fn check_room(&self, room: &RoomId) -> Result<(), Problem> {
        if self.rooms.as_ref().is_none_or(|rooms| rooms.matches(room)) {
            return Ok(());
        }
        let detail = "this API key is limited to other rooms";
        Err(Problem::new(403, "room_not_allowed", detail).with_field("room"))
    }
}
