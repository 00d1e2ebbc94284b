//! What the root of a credential may still do, by the configuration and the access rules of now.
//!
//! Owns: [`ServiceContext::still_allowed`], which is asked at every use of a credential that was
//! derived from a root: a refresh, an invite, a ticket, a validation, a management token and a user
//! token, and before every first token. Must not: know the store or a request. A signaling node
//! knows no API key; there, a rule about the root reaches the connections.

use std::collections::{BTreeMap, BTreeSet};

use signalbox_config::{ProviderSettings, ServiceSettings};
use signalbox_protocol::{
    CredentialRoot,
    id::{Role, RoomId},
    problem::Problem,
};
use signalbox_token::{
    TokenError,
    scope::{RoomPattern, Scope},
};

use super::service_context::ServiceContext;

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

/// The problem of an API key without a scope; `field` is the scope.
pub(super) fn scope_missing(scope: Scope) -> Problem {
    let detail = format!("this API key or management token lacks the scope {}", scope.as_str());
    Problem::new(403, "scope_missing", detail).with_field(scope.as_str())
}

/// The problem of a caller that is limited to other rooms.
pub(super) fn room_not_allowed() -> Problem {
    Problem::new(403, "room_not_allowed", "this caller is limited to other rooms").with_field("room")
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
}

impl ServiceContext {
    /// Whether the root of a credential still has a right.
    ///
    /// # Errors
    /// [`LostRight`]: the first right that is gone.
    pub(crate) fn still_allowed(&self, right: &DerivedRight<'_>) -> Result<(), LostRight> {
        let roots = &self.roots;
        let is_known = match right.root {
            CredentialRoot::ApiKey(id) => self.applications.get(id).is_some(),
            CredentialRoot::Provider(issuer) => roots.providers.contains_key(&**issuer),
            CredentialRoot::App => true,
            CredentialRoot::Guest => roots.guests.is_some(),
        };
        if !is_known {
            return Err(LostRight::Removed);
        }
        if right.issues && self.access.rules().is_root_revoked(right.root, self.access.now_ms()) {
            return Err(LostRight::Revoked);
        }
        match right.root {
            CredentialRoot::ApiKey(id) => {
                let Some(application) = self.applications.get(id) else { return Err(LostRight::Removed) };
                let lost = right.scope.filter(|scope| !application.has_scope(*scope));
                lost.map_or(Ok(()), |scope| Err(LostRight::Scope(scope)))?;
                right.room.map_or(Ok(()), |room| check(application.may_use(room), LostRight::Room))?;
                right.role.map_or(Ok(()), |role| check(roots.roles.contains(role), LostRight::Role))
            }
            CredentialRoot::Provider(issuer) => {
                let given = roots.providers.get(&**issuer);
                let is_given = |role: &Role| {
                    let is_creator = right.room.is_some() && roots.creator_role.as_ref() == Some(role);
                    roots.roles.contains(role)
                        && (is_creator || given.is_some_and(|roles| roles.contains(role)))
                };
                right.role.map_or(Ok(()), |role| check(is_given(role), LostRight::Role))
            }
            // Such a token holds its permissions, so its role need not be configured.
            CredentialRoot::App => Ok(()),
            CredentialRoot::Guest => {
                let Some(policy) = &roots.guests else { return Err(LostRight::Removed) };
                let is_open =
                    |room| policy.rooms.is_empty() || policy.rooms.iter().any(|rooms| rooms.matches(room));
                right.room.map_or(Ok(()), |room| check(is_open(room), LostRight::Room))?;
                right.role.map_or(Ok(()), |role| check(policy.role == *role, LostRight::Role))
            }
        }
    }
}

fn check(is_allowed: bool, lost: LostRight) -> Result<(), LostRight> {
    if is_allowed { Ok(()) } else { Err(lost) }
}
