//! What the root of a credential may still do, by the configuration of now. Pure.
//!
//! Owns: [`RootDirectory`], and the answer [`LostRight`]. Must not: know the access rules. Next:
//! `access_check.rs` asks at every use of a credential (`still_allowed`).

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

use super::principal::{ApplicationDirectory, room_not_allowed, scope_missing};

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
