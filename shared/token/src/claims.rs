//! What a token says, by kind.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use signalbox_protocol::id::{CallerId, RegionId, Role, RoomId, TokenId, UserId};

/// The `iss` of every token.
pub const ISSUER: &str = "signalbox";

/// The claims of a room token (RFC 7519): bound to one user, one room, one role. A member that stands twice is refused
/// (RFC 7519, section 4), as is any other type than the one here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoomClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always `TokenKind::Room.aud()`.
    pub aud: String,
    /// The user.
    pub sub: UserId,
    /// The room.
    pub room: RoomId,
    /// The role.
    pub role: Role,
    /// What the role may do, as it was when the token was made.
    pub permissions: Arc<[Arc<str>]>,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Whatever the application attached: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<RawValue>>,
    /// On whose word it was made: the id of an API key, `guest`, `user` or `invite`. An application that signs by itself leaves
    /// it out, and is `app`.
    #[serde(default = "CallerId::app")]
    pub caller: CallerId,
    /// Where the peer is, for the choice of a TURN server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// When it was made, seconds since 1970.
    pub iat: u64,
    /// Not good before.
    pub nbf: u64,
    /// Not good from then on.
    pub exp: u64,
    /// Its own name, and the grant it comes from.
    pub jti: TokenId,
}

/// The claims of a user token: one of the application's users, at the rooms API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always `TokenKind::User.aud()`.
    pub aud: String,
    /// The user.
    pub sub: UserId,
    /// The role it has wherever no room says otherwise.
    pub role: Role,
    /// The name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// When it was made, seconds since 1970.
    pub iat: u64,
    /// Not good before.
    pub nbf: u64,
    /// Not good from then on.
    pub exp: u64,
    /// Its own name, and the grant it comes from.
    pub jti: TokenId,
}

/// The claims of a management token: a backend, at the server-side API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagementClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always `TokenKind::Management.aud()`.
    pub aud: String,
    /// The API key it was made with.
    pub sub: CallerId,
    /// What it allows.
    pub scopes: Arc<[Arc<str>]>,
    /// When it was made, seconds since 1970.
    pub iat: u64,
    /// Not good before.
    pub nbf: u64,
    /// Not good from then on.
    pub exp: u64,
    /// Its own name, and the grant it comes from.
    pub jti: TokenId,
}

impl RoomClaims {
    /// What all tokens of one making have in common.
    pub fn grant(&self) -> &str {
        self.jti.grant()
    }
}

impl UserClaims {
    /// What all tokens of one making have in common.
    pub fn grant(&self) -> &str {
        self.jti.grant()
    }
}

impl ManagementClaims {
    /// What all tokens of one making have in common.
    pub fn grant(&self) -> &str {
        self.jti.grant()
    }
}
