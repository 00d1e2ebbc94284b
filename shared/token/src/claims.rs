//! The claims of each kind of token (RFC 7519).
//!
//! Owns: the members of the claims and their types. Must not: verify a token. Next: `verifier`
//! checks the claims.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, CreationId, RegionId, Role, RoomId, TokenId, UserId},
};

/// The `iss` of every token.
pub const ISSUER: &str = "signalbox";

/// The claims of a room token (RFC 7519) for one user, one room and one role. A token with a
/// repeated member is refused (RFC 7519, section 4), and so is one with a member of another type.
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
    /// The permissions of the role at the time of issue.
    pub permissions: Arc<[Arc<str>]>,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// A JSON object from the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<RawValue>>,
    /// The caller for whom the token was issued: the id of an API key, `guest`, `user` or `invite`.
    /// An application that signs tokens itself omits it; then it is `app`.
    #[serde(default = "CallerId::app")]
    pub caller: CallerId,
    /// The root: the API key, provider or policy that answers for the token. If it is absent, it
    /// follows from `caller`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<CredentialRoot>,
    /// The creation of the room, if the API had created the room when the token was issued. The
    /// token is refused in a later room with the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<CreationId>,
    /// The region of the peer, for the choice of a TURN server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
    /// The time of issue, seconds since 1970.
    pub iat: u64,
    /// The token is not valid before this time, seconds since 1970.
    pub nbf: u64,
    /// The token is not valid from this time on, seconds since 1970.
    pub exp: u64,
    /// When the last credential of the grant expires, refreshed tokens included, seconds since 1970.
    /// It is `exp` for a token without a refresh token. If it is absent, it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_exp: Option<u64>,
    /// The id of the token; it contains the grant.
    pub jti: TokenId,
}

/// The claims of a user token, with which a user of the application calls the rooms API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always `TokenKind::User.aud()`.
    pub aud: String,
    /// The user.
    pub sub: UserId,
    /// The role of the user in a room that gives the user no other role.
    pub role: Role,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// The root: the provider that vouches for the user. If it is absent, it is the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<CredentialRoot>,
    /// The time of issue, seconds since 1970.
    pub iat: u64,
    /// The token is not valid before this time, seconds since 1970.
    pub nbf: u64,
    /// The token is not valid from this time on, seconds since 1970.
    pub exp: u64,
    /// The id of the token; it contains the grant.
    pub jti: TokenId,
}

/// The claims of a management token, with which an application calls the server-side API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ManagementClaims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always `TokenKind::Management.aud()`.
    pub aud: String,
    /// The id of the API key for which the token was issued.
    pub sub: CallerId,
    /// The names of its scopes.
    pub scopes: Arc<[Arc<str>]>,
    /// The time of issue, seconds since 1970.
    pub iat: u64,
    /// The token is not valid before this time, seconds since 1970.
    pub nbf: u64,
    /// The token is not valid from this time on, seconds since 1970.
    pub exp: u64,
    /// The id of the token; it contains the grant.
    pub jti: TokenId,
}

impl RoomClaims {
    /// The grant that the token belongs to.
    pub fn grant(&self) -> &str {
        self.jti.grant()
    }

    /// The root of the token.
    pub fn credential_root(&self) -> CredentialRoot {
        self.root.clone().unwrap_or_else(|| CredentialRoot::of_caller(&self.caller))
    }
}

impl UserClaims {
    /// The grant that the token belongs to.
    pub fn grant(&self) -> &str {
        self.jti.grant()
    }

    /// The root of the token.
    pub fn credential_root(&self) -> CredentialRoot {
        self.root.clone().unwrap_or(CredentialRoot::App)
    }
}

impl ManagementClaims {
    /// The grant that the token belongs to.
    pub fn grant(&self) -> &str {
        self.jti.grant()
    }

    /// The root of the token: its API key.
    pub fn credential_root(&self) -> CredentialRoot {
        CredentialRoot::ApiKey(self.sub.clone())
    }
}
