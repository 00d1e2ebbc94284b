//! The callers of the HTTP API: an application with an API key or a management token, one of its
//! users, or a guest. And the roots of credentials: which of them the configuration still has, and
//! what they may still do.
//!
//! Owns: the applications of the configuration, the proof of an API key (RFC 7617), and scopes;
//! [`RootDirectory`] and its answer [`LostRight`]. Must not: read a request or apply a room limit
//! (`authorization.rs` does), or know the access rules (`access_check.rs` does).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use signalbox_config::{ApiKeySettings, ApiKeys, ProviderSettings, ServiceSettings};
use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, Role, RoomId},
    problem::Problem,
};
use signalbox_token::{
    ManagementClaims, TokenError, UserClaims,
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

/// What a derived credential would do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DerivedRight<'a> {
    /// The root of the credential.
    pub(crate) root: &'a CredentialRoot,
    /// The scope that an API key needs for it.
    pub(crate) scope: Option<Scope>,
    /// The room.
    pub(crate) room: Option<&'a RoomId>,
    /// The role.
    pub(crate) role: Option<&'a Role>,
    /// Whether it makes a new credential. A revoked root makes no more; what it has made is valid
    /// until it expires, unless the revocation says otherwise.
    pub(crate) issues: bool,
}

/// The right of a root that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostRight {
    /// The configuration has no such API key or provider any more, or guests are off.
    Removed,
    /// An access rule revokes the root.
    Revoked,
    /// The API key lacks the scope.
    Scope(Scope),
    /// The root may not use the room.
    Room,
    /// The root may not give the role, or there is no such role.
    Role,
}

impl LostRight {
    /// The problem, for the holder of the credential.
    pub(crate) fn to_problem(self) -> Problem {
        match self {
            Self::Removed | Self::Revoked => TokenError::Revoked.to_problem(),
            Self::Scope(scope) => scope_missing(scope),
            Self::Room => room_not_allowed(),
            Self::Role => {
                let detail = "the role is not available any more; get a new token";
                Problem::new(403, "role_not_allowed", detail).with_field("role")
            }
        }
    }
}

/// The roots that are no API keys, and the roles.
#[derive(Debug)]
pub(crate) struct RootDirectory {
    roles: BTreeSet<Role>,
    /// The roles that each provider gives, by its issuer.
    providers: BTreeMap<String, BTreeSet<Role>>,
    /// The role of the creator of a room, which a provider need not give.
    creator_role: Option<Role>,
    guests: Option<GuestPolicy>,
}

#[derive(Debug)]
struct GuestPolicy {
    role: Role,
    rooms: Vec<RoomPattern>,
}

impl RootDirectory {
    /// Reads the configuration.
    pub(crate) fn new(settings: &ServiceSettings, guests_allowed: bool) -> Self {
        let auth = &settings.auth;
        let roles_of = |provider: &ProviderSettings| {
            let default = provider.default_role.as_ref().unwrap_or(&auth.default_role);
            provider.role_map.values().chain([default]).cloned().collect()
        };
        let guests = || GuestPolicy { role: auth.guest_role.clone(), rooms: auth.guest_rooms.clone() };
        Self {
            roles: settings.roles.0.keys().cloned().collect(),
            providers: auth
                .providers
                .iter()
                .map(|provider| (provider.issuer.clone(), roles_of(provider)))
                .collect(),
            creator_role: settings.rooms.creator_role.clone().or_else(|| Role::parse("host").ok()),
            guests: guests_allowed.then(guests),
        }
    }

    /// Whether the configuration still gives the root a right.
    ///
    /// # Errors
    /// [`LostRight`]: the first right that is gone.
    pub(super) fn check_right(
        &self,
        applications: &ApplicationDirectory,
        right: &DerivedRight<'_>,
    ) -> Result<(), LostRight> {
        let DerivedRight { root, scope, room, role, .. } = *right;
        let has_role = |role: &Role| self.roles.contains(role);
        match root {
            CredentialRoot::ApiKey(id) => {
                let application = applications.get(id).ok_or(LostRight::Removed)?;
                let lost = scope.filter(|scope| !application.has_scope(*scope));
                lost.map_or(Ok(()), |scope| Err(LostRight::Scope(scope)))?;
                check(room.is_none_or(|room| application.may_use(room)), LostRight::Room)?;
                check(role.is_none_or(has_role), LostRight::Role)
            }
            CredentialRoot::Provider(issuer) => {
                let given = self.providers.get(&**issuer).ok_or(LostRight::Removed)?;
                let creator_role = self.creator_role.as_ref().filter(|_| room.is_some());
                let is_given = |role: &Role| given.contains(role) || creator_role == Some(role);
                check(role.is_none_or(|role| has_role(role) && is_given(role)), LostRight::Role)
            }
            // Such a token holds its permissions, so its role need not be configured.
            CredentialRoot::App => Ok(()),
            CredentialRoot::Guest => {
                let policy = self.guests.as_ref().ok_or(LostRight::Removed)?;
                // A reserved room is open to guests only if the configuration names it.
                let is_open = |room| {
                    policy.rooms.iter().any(|rooms| rooms.matches(room))
                        || policy.rooms.is_empty() && !applications.is_reserved(room)
                };
                check(room.is_none_or(is_open), LostRight::Room)?;
                check(role.is_none_or(|role| policy.role == *role), LostRight::Role)
            }
        }
    }
}

fn check(is_allowed: bool, lost: LostRight) -> Result<(), LostRight> {
    if is_allowed { Ok(()) } else { Err(lost) }
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
