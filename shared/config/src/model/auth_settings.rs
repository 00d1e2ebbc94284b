//! The sections `[auth]`, `[[auth.providers]]` and `[api_keys]`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::role_settings::literal_role;
use crate::units::TimeSpan;
use signalbox_protocol::id::Role;
use signalbox_token::scope::{RoomPattern, Scope};

/// The section `[auth]`: tokens and the callers that get them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether callers without an API key get tokens. Unset: only in the all-in-one binary on
    /// loopback, without a proxy, and only clients on this machine.
    pub guests: Option<bool>,
    /// The rooms that guests may join. Empty: every room.
    pub guest_rooms: Vec<RoomPattern>,
    /// The role of every guest, whatever role the guest asks for.
    pub guest_role: Role,
    /// The life of a guest's token; 1 s to `token_ttl_max`.
    pub guest_ttl: TimeSpan,
    /// Whether a signaling node accepts only tickets. A ticket works once, so a URL in a log is
    /// then worthless.
    pub tickets_only: bool,
    /// The role, if a backend names none.
    pub default_role: Role,
    /// The life of a token, if a backend names none; 1 s to `token_ttl_max`.
    pub token_ttl: TimeSpan,
    /// The longest life that a backend may ask for; 1 s to 24 h.
    pub token_ttl_max: TimeSpan,
    /// How long a refresh token can be used; 1 min to `refresh_ttl_max`.
    pub refresh_ttl: TimeSpan,
    /// How long one refresh family can continue; 1 min to 30 days.
    pub refresh_ttl_max: TimeSpan,
    /// The providers whose tokens about users `POST /auth/exchange` accepts.
    pub providers: Vec<ProviderSettings>,
    /// The folder of the private keys that sign tokens (auth service). Unset: `AUTH_SECRET` signs.
    pub keys_dir: Option<PathBuf>,
    /// Where a signaling node gets the public keys: `/.well-known/jwks.json` of the auth service.
    pub jwks_url: Option<String>,
    /// A file with the key set; not together with `jwks_url`.
    pub jwks_file: Option<PathBuf>,
    /// How long a signaling node keeps the key set before it fetches again; 1 s to 24 h. A new key
    /// is published this long before it signs.
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

/// A provider whose tokens about users are accepted: an OpenID provider, or the application itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// The `iss` of its tokens, compared character by character.
    pub issuer: String,
    /// The value that the `aud` of its tokens must contain.
    pub audience: String,
    /// The clients whose tokens are accepted, by `azp`; the audience itself always is. Empty: any, if
    /// the audience is the only one of the token.
    #[serde(default)]
    pub authorized_parties: Vec<String>,
    /// Where its keys are (RFC 7517). Unset: its discovery document names it (OpenID Connect
    /// Discovery 1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Its signature algorithms. `HS256` alone: the application's own tokens, with
    /// `SIGNALBOX_USER_SECRET`.
    #[serde(default = "ProviderSettings::default_algorithms")]
    pub algorithms: Vec<UserAlgorithm>,
    /// The claim that names the user.
    #[serde(default = "ProviderSettings::default_user_claim")]
    pub user_claim: String,
    /// The claim with the display name.
    #[serde(default = "ProviderSettings::default_name_claim")]
    pub name_claim: String,
    /// The claim with the role: a string, a list of strings, or an object whose members are named
    /// like the values. A dot steps into an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_claim: Option<String>,
    /// Which value of the claim gives which role. Of several values, the alphabetically first
    /// decides.
    #[serde(default)]
    pub role_map: BTreeMap<String, Role>,
    /// The role of all other users. Unset: `auth.default_role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<Role>,
    /// A prefix for the names of its users, so that no other source of users names the same user. It
    /// may be empty for the only provider.
    #[serde(default)]
    pub user_prefix: String,
}

/// The signature algorithm of a token about a user (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the RFC")]
pub enum UserAlgorithm {
    HS256,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl ProviderSettings {
    fn default_algorithms() -> Vec<UserAlgorithm> {
        use UserAlgorithm::{ES256, EdDSA, PS256, RS256};
        vec![RS256, PS256, ES256, EdDSA]
    }

    fn default_user_claim() -> String {
        "sub".to_owned()
    }

    fn default_name_claim() -> String {
        "name".to_owned()
    }

    /// The provider for the application's own tokens, if `SIGNALBOX_USER_SECRET` is set and no
    /// table describes one.
    pub fn application() -> Self {
        Self {
            issuer: "app".to_owned(),
            audience: "signalbox".to_owned(),
            authorized_parties: vec![],
            jwks_url: None,
            algorithms: vec![UserAlgorithm::HS256],
            user_claim: Self::default_user_claim(),
            name_claim: Self::default_name_claim(),
            role_claim: None,
            role_map: BTreeMap::new(),
            default_role: None,
            user_prefix: String::new(),
        }
    }

    /// Whether `SIGNALBOX_USER_SECRET` signs its tokens.
    pub fn is_application(&self) -> bool {
        self.algorithms == [UserAlgorithm::HS256]
    }
}

/// The table of one API key in `[api_keys]`. A key without a table has
/// [`signalbox_token::scope::ScopeSet::api_key_default`], for all rooms.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeySettings {
    /// The scopes of the key. Unset: all except `security`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// The rooms that the key may use. Unset: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<RoomPattern>,
    /// Whether the names in `rooms` are reserved for the key: a user cannot create such a room, and
    /// a join of a user or guest does not open it.
    pub reserved: bool,
}
