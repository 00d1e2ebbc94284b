//! The tokens and key sets of known identity providers, as each of them issues them.
//!
//! Owns: the members of the header, the claims and the keys. Must not: serve or sign; `provider` does.
//! docs/PROVIDERS.md has the settings for each of them.

use jsonwebtoken::Header;
use serde_json::{Value, json};
use signalbox_protocol::clock;

use crate::provider::ProviderKey;

/// A token of a known provider. Its user is Ada, who is a moderator where the provider has roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderShape {
    /// An access token of Keycloak.
    Keycloak,
    /// An access token of Auth0.
    Auth0,
    /// An access token of Auth0, in the profile of RFC 9068.
    Auth0Rfc9068,
    /// An access token of Microsoft Entra ID, version 2.
    Entra,
    /// An ID token of Microsoft Entra ID.
    EntraIdToken,
    /// An ID token of Google, for a web page.
    Google,
    /// An ID token of Google, for an application on Android.
    GoogleAndroid,
}

impl ProviderShape {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Keycloak,
        Self::Auth0,
        Self::Auth0Rfc9068,
        Self::Entra,
        Self::EntraIdToken,
        Self::Google,
        Self::GoogleAndroid,
    ];

    /// The heading of its recipe in docs/PROVIDERS.md.
    pub fn recipe_heading(self) -> &'static str {
        match self {
            Self::Keycloak => "Keycloak",
            Self::Auth0 | Self::Auth0Rfc9068 => "Auth0",
            Self::Entra | Self::EntraIdToken => "Microsoft Entra ID",
            Self::Google | Self::GoogleAndroid => "Google",
        }
    }

    /// The path of its issuer.
    pub fn issuer_path(self) -> &'static str {
        match self {
            Self::Keycloak => "/realms/example",
            Self::Auth0 | Self::Auth0Rfc9068 => "/",
            Self::Entra | Self::EntraIdToken => "/11111111-2222-3333-4444-555555555555/v2.0",
            Self::Google | Self::GoogleAndroid => "",
        }
    }

    /// The user, the display name and the role that its token gives with the settings of the recipe.
    pub fn expected_user(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Keycloak => ("kc:0f1e2d3c-0000-4000-8000-00000000000a", "Ada", "host"),
            Self::Auth0 | Self::Auth0Rfc9068 => ("auth0:auth0~7C0123456789abcdef", "Ada", "host"),
            Self::Entra | Self::EntraIdToken => ("entra:aaaaaaaa-0000-4000-8000-000000000001", "Ada", "host"),
            Self::Google | Self::GoogleAndroid => ("google:100000000000000000001", "Ada", "guest"),
        }
    }

    /// The header of its tokens.
    pub fn header(self, key: &ProviderKey) -> Header {
        let mut header = Header::new(key.algorithm);
        header.kid = Some(key.kid.clone());
        match self {
            Self::Auth0Rfc9068 => header.typ = Some("at+jwt".to_owned()),
            Self::Entra | Self::EntraIdToken => header.x5t = Some(key.kid.clone()),
            _ => {}
        }
        header
    }

    /// Its key set, with this key. The other members are those that the provider publishes too.
    pub fn key_set(self, key: &ProviderKey, issuer: &str) -> Vec<Value> {
        let mut own = key.jwk.clone();
        match self {
            Self::Keycloak => {
                own["x5t"] = "thumbprint".into();
                let mut encryption = key.jwk.clone();
                (encryption["kid"], encryption["use"]) = ("encryption".into(), "enc".into());
                encryption["alg"] = "RSA-OAEP".into();
                return vec![encryption, own];
            }
            Self::Auth0 | Self::Auth0Rfc9068 => own["x5t"] = "thumbprint".into(),
            // These keys name no algorithm.
            Self::Entra | Self::EntraIdToken => {
                own.as_object_mut().expect("an object").remove("alg");
                (own["x5t"], own["issuer"]) = (key.kid.clone().into(), issuer.into());
                own["cloud_instance_name"] = "microsoftonline.com".into();
            }
            Self::Google | Self::GoogleAndroid => {}
        }
        vec![own]
    }

    /// The claims of its token.
    pub fn claims(self, issuer: &str) -> Value {
        let now = clock::now_s();
        let (entra_client, google_client) =
            ("bbbbbbbb-0000-4000-8000-000000000002", "1234-web.apps.googleusercontent.com");
        match self {
            Self::Keycloak => json!({
                "exp": now + 300, "iat": now, "auth_time": now - 60, "jti": "onrtac:0001", "iss": issuer,
                "aud": ["signalbox", "account"], "sub": "0f1e2d3c-0000-4000-8000-00000000000a",
                "typ": "Bearer", "azp": "web-app", "sid": "0002", "acr": "1",
                "allowed-origins": ["https://app.example"],
                "realm_access": { "roles": ["default-roles-example", "offline_access", "moderator"] },
                "resource_access": {
                    "web-app": { "roles": ["moderator"] }, "account": { "roles": ["view-profile"] }
                },
                "scope": "openid profile email", "email_verified": true, "name": "Ada",
                "preferred_username": "ada", "email": "ada@example.org"
            }),
            Self::Auth0 | Self::Auth0Rfc9068 => {
                let mut claims = json!({
                    "https://app.example/roles": ["moderator"], "https://app.example/name": "Ada",
                    "iss": issuer, "sub": "auth0|0123456789abcdef",
                    "aud": ["https://signalbox.example", format!("{issuer}userinfo")],
                    "iat": now, "exp": now + 86_400, "scope": "openid profile email"
                });
                let party = if self == Self::Auth0 { "azp" } else { "client_id" };
                claims[party] = "AbCdEf0123".into();
                claims["jti"] = "0001".into();
                claims
            }
            Self::Entra | Self::EntraIdToken => {
                let mut claims = json!({
                    "aud": entra_client, "iss": issuer, "iat": now, "nbf": now, "exp": now + 4_000,
                    "name": "Ada", "oid": "aaaaaaaa-0000-4000-8000-000000000001",
                    "preferred_username": "ada@example.org", "rh": "0.AAAA", "roles": ["Moderator"],
                    "sub": "pairwise_0001", "tid": "11111111-2222-3333-4444-555555555555",
                    "uti": "0001", "ver": "2.0"
                });
                if self == Self::Entra {
                    claims["azp"] = entra_client.into();
                    (claims["azpacr"], claims["scp"]) = ("0".into(), "join".into());
                }
                claims
            }
            Self::Google | Self::GoogleAndroid => {
                let android = "1234-android.apps.googleusercontent.com";
                json!({
                    "iss": issuer, "azp": if self == Self::Google { google_client } else { android },
                    "aud": google_client, "sub": "100000000000000000001", "hd": "example.org",
                    "email": "ada@example.org", "email_verified": true, "nbf": now - 300, "name": "Ada",
                    "picture": "https://example.org/ada.png", "given_name": "Ada", "iat": now,
                    "exp": now + 3_600, "jti": "0001"
                })
            }
        }
    }
}
