//! Tokens, and the callers who get them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ProviderSettings, role_settings::literal_role};
use crate::units::TimeSpan;
use signalbox_protocol::id::Role;
use signalbox_token::scope::{RoomPattern, Scope};

/// Tokens and callers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether callers without an API key get guest tokens. Unset: only in the embedded mode on loopback.
    pub guests: Option<bool>,
    /// The rooms where guests may be; empty is all.
    pub guest_rooms: Vec<RoomPattern>,
    /// The role of a guest.
    pub guest_role: Role,
    /// The life of a guest's token.
    pub guest_ttl: TimeSpan,
    /// Whether a connection is opened with a ticket only: what stands in a URL is then worth nothing afterwards.
    pub tickets_only: bool,
    /// The role where the caller names none.
    pub default_role: Role,
    /// The life of a token where the caller names none.
    pub token_ttl: TimeSpan,
    /// The longest life a caller may ask for; at most 24 h.
    pub token_ttl_max: TimeSpan,
    /// The life of a refresh token that is not used; at most 30 days.
    pub refresh_ttl: TimeSpan,
    /// How long one token can be followed by the next; at most 30 days.
    pub refresh_ttl_max: TimeSpan,
    /// Whose tokens are exchanged for user tokens.
    pub providers: Vec<ProviderSettings>,
    /// The folder of the private keys that sign tokens (auth service). Unset: `AUTH_SECRET` signs.
    pub keys_dir: Option<PathBuf>,
    /// Where a signaling node gets the public keys: `/.well-known/jwks.json` of the auth service.
    pub jwks_url: Option<String>,
    /// A file with them instead.
    pub jwks_file: Option<PathBuf>,
    /// How long a signaling node keeps them before it asks again. The auth service publishes a key so much before it signs.
    pub jwks_ttl: TimeSpan,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            guests: None,
            guest_rooms: vec![],
            guest_role: literal_role("guest"),
            guest_ttl: TimeSpan::secs(15 * 60),
            tickets_only: false,
            default_role: literal_role("guest"),
            token_ttl: TimeSpan::secs(15 * 60),
            token_ttl_max: TimeSpan::secs(60 * 60),
            refresh_ttl: TimeSpan::secs(7 * 24 * 60 * 60),
            refresh_ttl_max: TimeSpan::secs(30 * 24 * 60 * 60),
            providers: vec![],
            keys_dir: None,
            jwks_url: None,
            jwks_file: None,
            jwks_ttl: TimeSpan::secs(5 * 60),
        }
    }
}

/// What an API key may do. A key without a table has the usual scopes ([`signalbox_token::scope::ScopeSet::api_key_default`]) for all rooms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeySettings {
    /// What it allows. Unset: the usual scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// For which rooms. Unset: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<RoomPattern>,
}
