//! Tokens, and the callers who get them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Provider, roles::role};
use crate::units::Span;
use signalbox_protocol::id::Role;
use signalbox_token::scope::{RoomPattern, Scope};

/// Tokens and callers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether callers without an API key get guest tokens. Unset: only in the embedded mode on loopback.
    pub guests: Option<bool>,
    /// The rooms where guests may be; empty is all.
    pub guest_rooms: Vec<RoomPattern>,
    /// The role of a guest.
    pub guest_role: Role,
    /// The life of a guest's token.
    pub guest_ttl: Span,
    /// Whether a connection is opened with a ticket only: what stands in a URL is then worth nothing afterwards.
    pub tickets_only: bool,
    /// The role where the caller names none.
    pub default_role: Role,
    /// The life of a token where the caller names none.
    pub token_ttl: Span,
    /// The longest life a caller may ask for; at most 24 h.
    pub token_ttl_max: Span,
    /// The life of a refresh token that is not used; at most 30 days.
    pub refresh_ttl: Span,
    /// How long one token can be followed by the next; at most 30 days.
    pub refresh_ttl_max: Span,
    /// Whose tokens are exchanged for user tokens.
    pub providers: Vec<Provider>,
    /// The folder of the private keys that sign tokens (auth service). Unset: `AUTH_SECRET` signs.
    pub keys_dir: Option<PathBuf>,
    /// Where a signaling node gets the public keys: `/.well-known/jwks.json` of the auth service.
    pub jwks_url: Option<String>,
    /// A file with them instead.
    pub jwks_file: Option<PathBuf>,
    /// How long a signaling node keeps them before it asks again. The auth service publishes a key so much before it signs.
    pub jwks_ttl: Span,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            guests: None,
            guest_rooms: vec![],
            guest_role: role("guest"),
            guest_ttl: Span::secs(15 * 60),
            tickets_only: false,
            default_role: role("guest"),
            token_ttl: Span::secs(15 * 60),
            token_ttl_max: Span::secs(60 * 60),
            refresh_ttl: Span::secs(7 * 24 * 60 * 60),
            refresh_ttl_max: Span::secs(30 * 24 * 60 * 60),
            providers: vec![],
            keys_dir: None,
            jwks_url: None,
            jwks_file: None,
            jwks_ttl: Span::secs(5 * 60),
        }
    }
}

/// What an API key may do. A key without a table has the usual scopes ([`signalbox_token::scope::Scopes::usual`]) for all rooms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeyTable {
    /// What it allows. Unset: the usual scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// For which rooms. Unset: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<RoomPattern>,
}
