//! The callers of the HTTP API: an application with an API key or a management token, one of its
//! users, or a guest.
//!
//! Owns: the applications of the configuration, the proof of an API key (RFC 7617), and scopes. Must
//! not: read a request (`authorization.rs` does), or apply a room limit (`room_limit.rs` does).

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use signalbox_config::{ApiKeySettings, ApiKeys, ServiceSettings};
use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_token::{
    ManagementClaims, UserClaims,
    scope::{RoomPattern, Scope, ScopeSet},
};

/// The authenticated caller of a request.
#[derive(Debug, Clone)]
pub(crate) enum Principal {
    /// An application with its API key (RFC 7617).
    ApiKey(Application),
    /// An application with a management token (RFC 6750).
    ManagementToken(Application),
    /// A user of the application, with a user token.
    User(Arc<UserClaims>),
    /// A guest, if the configuration allows guests.
    Guest,
}

/// An API key with its scopes and its room limit.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    /// The id of the key.
    pub(crate) id: CallerId,
    /// The scopes that the key allows.
    pub(crate) scopes: ScopeSet,
    /// The rooms that the key is limited to; `None` is every room.
    pub(super) rooms: Option<RoomPattern>,
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

    /// The caller in tokens, records and logs: the id of the key, `user` or `guest`.
    pub(crate) fn id(&self) -> CallerId {
        match self {
            Self::ApiKey(application) | Self::ManagementToken(application) => application.id.clone(),
            Self::User(_) => CallerId::user(),
            Self::Guest => CallerId::guest(),
        }
    }

    /// Whether the caller is an application with this scope.
    pub(crate) fn has_scope(&self, scope: Scope) -> bool {
        match self {
            Self::ApiKey(application) | Self::ManagementToken(application) => {
                application.scopes.contains(scope)
            }
            Self::User(_) | Self::Guest => false,
        }
    }

    /// The root of the credentials that the caller gets.
    pub(crate) fn root(&self) -> CredentialRoot {
        match self {
            Self::ApiKey(application) | Self::ManagementToken(application) => {
                CredentialRoot::ApiKey(application.id.clone())
            }
            Self::User(claims) => claims.credential_root(),
            Self::Guest => CredentialRoot::Guest,
        }
    }
}

impl Application {
    /// Checks that the key allows a scope.
    ///
    /// # Errors
    /// 403 `scope_missing`; `field` is the scope.
    pub(crate) fn require_scope(&self, scope: Scope) -> Result<(), Problem> {
        if self.has_scope(scope) { Ok(()) } else { Err(scope_missing(scope)) }
    }

    pub(super) fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    pub(super) fn may_use(&self, room: &RoomId) -> bool {
        self.rooms.as_ref().is_none_or(|rooms| rooms.matches(room))
    }
}

/// The applications: their API keys, and the configuration of each.
#[derive(Debug, Clone)]
pub(crate) struct ApplicationDirectory {
    keys: ApiKeys,
    settings: BTreeMap<CallerId, ApiKeySettings>,
}

impl ApplicationDirectory {
    /// Combines the keys with the configuration.
    pub(crate) fn new(keys: ApiKeys, settings: &ServiceSettings) -> Self {
        Self { keys, settings: settings.api_keys.clone() }
    }

    /// The application with this id, if its key was not removed.
    pub(crate) fn get(&self, id: &CallerId) -> Option<Application> {
        self.keys.get(id.as_str())?;
        let table = self.settings.get(id);
        let scopes = table.and_then(|table| table.scopes.as_ref());
        Some(Application {
            id: id.clone(),
            scopes: scopes.map_or_else(ScopeSet::api_key_default, |scopes| scopes.iter().copied().collect()),
            rooms: table.and_then(|table| table.rooms.clone()),
        })
    }

    /// Whether the name of a room is reserved for an application.
    pub(crate) fn is_reserved(&self, room: &RoomId) -> bool {
        let reserving = self.settings.values().filter(|table| table.reserved);
        reserving.filter_map(|table| table.rooms.as_ref()).any(|rooms| rooms.matches(room))
    }

    /// The application of a management token. It allows what both the token and the key allow now.
    /// `None` if the key was removed.
    pub(crate) fn find_by_claims(&self, claims: &ManagementClaims) -> Option<Application> {
        let mut application = self.get(&claims.sub)?;
        let token_scopes: ScopeSet = claims.scopes.iter().filter_map(|name| Scope::parse(name)).collect();
        application.scopes = application.scopes.intersection(token_scopes);
        Some(application)
    }

    /// Verifies `Authorization: Basic` (RFC 7617): the scheme in any case, then base64 of
    /// `id:secret`.
    ///
    /// # Errors
    /// 401 `caller_unknown`.
    pub(crate) fn authenticate(&self, header: &[u8]) -> Result<Application, Problem> {
        self.find_by_credentials(header).ok_or_else(caller_unknown)
    }

    fn find_by_credentials(&self, header: &[u8]) -> Option<Application> {
        let proof = scheme_credentials(header, "basic")?;
        let proof = String::from_utf8(STANDARD.decode(proof.trim()).ok()?).ok()?;
        let (id, secret) = proof.split_once(':')?;
        let key = self.keys.authenticate(id, secret)?;
        self.get(&CallerId::parse(&key.id).ok()?)
    }
}

/// The credentials in an `Authorization` header, if it has this scheme.
pub(crate) fn scheme_credentials<'a>(header: &'a [u8], wanted: &str) -> Option<&'a str> {
    let (scheme, rest) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
}

/// The problem of an API key without a scope; `field` is the scope.
pub(super) fn scope_missing(scope: Scope) -> Problem {
    let detail = format!("this API key or management token lacks the scope {}", scope.as_str());
    Problem::new(403, "scope_missing", detail).with_field(scope.as_str())
}

/// The problem of a caller that is limited to other rooms.
pub(super) fn room_not_allowed() -> Problem {
    Problem::new(403, "room_not_allowed", "this caller is limited to other rooms").with_field("room")
}

/// The problem 401 `caller_unknown`.
pub(crate) fn caller_unknown() -> Problem {
    let detail = "the API key is missing or wrong; send Authorization: Basic with base64 of id:secret";
    Problem::new(401, "caller_unknown", detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_protocol::id::RoomId;

    use super::*;

    #[test]
    fn application_authenticates_only_with_its_id_and_secret() {
        let secret = signalbox_protocol::id::random_hex();
        let keys = ApiKeys::parse(&format!("backend:{secret}")).unwrap();
        let directory = ApplicationDirectory::new(keys, &ServiceSettings::default());
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let good = basic(&format!("backend:{secret}"));
        for (header, is_known) in [
            (good.clone(), true),
            (good.replace("Basic", "bASIC"), true),
            (basic(&format!("other:{secret}")), false),
            (basic("backend:wrong"), false),
            (basic("backend"), false),
            ("Basic".to_owned(), false),
            ("Basic ***".to_owned(), false),
            (format!("Bearer {secret}"), false),
            (String::new(), false),
        ] {
            let caller = directory.authenticate(header.as_bytes());
            assert_eq!(caller.is_ok(), is_known, "{header}");
            assert!(caller.map_or_else(|problem| problem.code == "caller_unknown", |_| true));
        }
        assert!(directory.authenticate(b"Basic \xff\xfe").is_err());
    }

    #[test]
    fn management_token_has_at_most_the_scopes_of_its_api_key() {
        let mut settings = ServiceSettings::default();
        let table: ApiKeySettings =
            serde_json::from_str(r#"{"scopes":["tokens","security"],"rooms":"acme-*"}"#).unwrap();
        settings.api_keys.insert(CallerId::parse("narrow").unwrap(), table);
        let hex = signalbox_protocol::id::random_hex;
        let keys = ApiKeys::parse(&format!("narrow:{},plain:{}", hex(), hex())).unwrap();
        let directory = ApplicationDirectory::new(keys, &settings);
        let narrow = directory.get(&CallerId::parse("narrow").unwrap()).unwrap();
        let plain = directory.get(&CallerId::parse("plain").unwrap()).unwrap();
        for scope in Scope::ALL {
            let listed = matches!(scope, Scope::Tokens | Scope::Security);
            assert_eq!(narrow.require_scope(scope).is_ok(), listed);
            assert_eq!(plain.require_scope(scope).is_ok(), scope != Scope::Security);
        }
        let room = |name: &str| RoomId::parse(name).unwrap();
        assert!(narrow.may_use(&room("acme-1")) && plain.may_use(&room("other")));
        assert!(!narrow.may_use(&room("other")));

        let claims = |id: &str, scopes: &[&str]| ManagementClaims {
            iss: String::new(),
            aud: String::new(),
            sub: CallerId::parse(id).unwrap(),
            scopes: scopes.iter().map(|scope| Arc::from(*scope)).collect(),
            iat: 0,
            nbf: 0,
            exp: 0,
            jti: signalbox_protocol::id::TokenId::random(),
        };
        let limited = directory.find_by_claims(&claims("narrow", &["tokens", "rooms", "nonsense"])).unwrap();
        assert_eq!(limited.scopes.iter().collect::<Vec<_>>(), [Scope::Tokens]);
        assert!(!limited.may_use(&room("other")));
        assert!(directory.find_by_claims(&claims("gone", &["tokens"])).is_none());
    }
}
