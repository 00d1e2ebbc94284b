//! What a room token says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{Role, RoomId, UserId};

/// The header `typ` of a room token: one per kind, so that no kind passes for another (RFC 8725, section 3.11).
pub const ROOM_TYP: &str = "signalbox-room+jwt";

/// The `iss` of every token.
pub const ISSUER: &str = "signalbox";

/// The `aud` of a room token.
pub const AUDIENCE_SIGNAL: &str = "signalbox-signal";

/// The claims of a room token (RFC 7519): bound to one user, one room, one role.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoomClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always [`AUDIENCE_SIGNAL`].
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
    /// When it was made, seconds since 1970.
    pub iat: u64,
    /// Not good before.
    pub nbf: u64,
    /// Not good from then on.
    pub exp: u64,
    /// Its own random name.
    pub jti: String,
}
