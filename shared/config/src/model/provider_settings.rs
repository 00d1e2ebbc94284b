//! Whose tokens about users are believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use signalbox_protocol::id::Role;

/// Somebody whose tokens about users are believed: an OpenID provider, or the application itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// The `iss` of its tokens, letter by letter.
    pub issuer: String,
    /// What its tokens' `aud` must name.
    pub audience: String,
    /// Where its keys are. Unset: what its discovery document says (OpenID Connect Discovery 1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Which algorithms it signs with; a key has one of them. `HS256` alone: with `SIGNALBOX_USER_SECRET`.
    #[serde(default = "ProviderSettings::default_algorithms")]
    pub algorithms: Vec<UserAlgorithm>,
    /// The claim that names the user.
    #[serde(default = "ProviderSettings::default_user_claim")]
    pub user_claim: String,
    /// The claim with the name to show.
    #[serde(default = "ProviderSettings::default_name_claim")]
    pub name_claim: String,
    /// The claim that says the role: a text or a list of texts; a dot steps into an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_claim: Option<String>,
    /// Which value of the claim gives which role. Of several the first in the alphabet of values that is found.
    #[serde(default)]
    pub role_map: BTreeMap<String, Role>,
    /// The role of everybody else. Unset: `auth.default_role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_role: Option<Role>,
    /// What stands before the name of each of its users, so that two providers cannot name the same one.
    #[serde(default)]
    pub user_prefix: String,
}

/// An algorithm that a user's own token may be signed with (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the RFC's own names")]
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

    /// The application itself, where it has a secret of its own and no table.
    pub fn application() -> Self {
        Self {
            issuer: "app".to_owned(),
            audience: "signalbox".to_owned(),
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

    /// Whether its tokens are signed with the application's own secret.
    pub fn is_application(&self) -> bool {
        self.algorithms == [UserAlgorithm::HS256]
    }
}
