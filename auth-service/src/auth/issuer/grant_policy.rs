//! The policy of grants: from a request to the terms of a token, by the configuration. It includes
//! the names of users: each source of users has names of its own.
//!
//! A name of a provider begins with its `user_prefix` (`providers/claims.rs`), and the configuration
//! is refused if two prefixes overlap.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_config::ServiceSettings;
use signalbox_http::{DeferredMember, bad_field};
use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, CreationId, RegionId, Role, RoomId, UserId},
    problem::Problem,
};
use utoipa::ToSchema;

use super::InviteTerms;
use crate::context::{
    member_types::{DisplayName, MetadataObject, UncheckedNumber},
    principal::Principal,
};

/// The largest metadata of a token, whatever the limit for a member is. A longer token would exceed
/// the limit of the verifier.
const MAX_METADATA_BYTES: usize = 7 * 1024;

/// Decides the terms of tokens, by the configuration.
#[derive(Debug)]
pub(crate) struct GrantPolicy {
    roles: BTreeMap<Role, Arc<[Arc<str>]>>,
    guest_role: Role,
    guest_ttl_s: u64,
    default_role: Role,
    default_ttl_s: u64,
    max_ttl_s: u64,
    metadata_max: usize,
    user_names: UserNamePolicy,
}

/// A request for a room token. An API key needs room and user, a guest needs the room, and a guest
/// with an invite needs the invite. A member without effect is not even parsed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// Whether the response holds a refresh token too.
    refresh: Option<bool>,
    #[schema(value_type = Option<RoomId>)]
    room: DeferredMember<RoomId>,
    #[schema(value_type = Option<UserId>)]
    user: DeferredMember<UserId>,
    #[schema(value_type = Option<Role>)]
    role: DeferredMember<Role>,
    /// The life of the token, seconds; at most the configured one.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    ttl: DeferredMember<UncheckedNumber>,
    /// The display name.
    name: Option<DisplayName>,
    /// The region of the peer, which selects its TURN servers.
    region: Option<RegionId>,
    metadata: Option<MetadataObject>,
    /// The code of an invite, in place of room and role.
    invite: Option<String>,
}

impl TokenRequest {
    /// The code of an invite.
    pub(crate) fn invite_code(&self) -> Option<&str> {
        self.invite.as_deref()
    }

    /// The room of a request without an invite.
    ///
    /// # Errors
    /// 400 `bad_request` that names `room`.
    pub(crate) fn room(&self) -> Result<RoomId, Problem> {
        self.room.read("room")?.ok_or_else(|| missing_member("room"))
    }

    /// Whether the response holds a refresh token too.
    pub(crate) fn wants_refresh(&self) -> bool {
        self.refresh.unwrap_or(false)
    }

    fn into_profile(self) -> PeerProfile {
        (self.name, self.metadata, self.region)
    }
}

/// The claims of a room token without its times. They are kept with a refresh token, except for the
/// permissions, which the role decides at each issue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoomTokenTerms {
    /// The room.
    pub(crate) room: RoomId,
    /// The user.
    pub(crate) user: UserId,
    /// The role.
    pub(crate) role: Role,
    /// The permissions of the role.
    #[serde(skip)]
    pub(crate) permissions: Arc<[Arc<str>]>,
    /// The display name.
    pub(crate) name: Option<Arc<str>>,
    /// The metadata of the application.
    pub(crate) metadata: Option<Arc<RawValue>>,
    /// The API key, `guest`, `user` or `invite` that the token comes from.
    pub(crate) caller: CallerId,
    /// The root: the API key, provider or policy that answers for the token.
    pub(crate) root: CredentialRoot,
    /// The creation of the room that the token is for; `None` if the API has not created the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) creation: Option<CreationId>,
    /// The region of the peer.
    pub(crate) region: Option<RegionId>,
    /// The life, seconds.
    pub(crate) ttl_s: u64,
}

/// The claims of a user token without its times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UserTokenTerms {
    /// The user.
    pub(crate) user: UserId,
    /// The role.
    pub(crate) role: Role,
    /// The display name.
    pub(crate) name: Option<Arc<str>>,
    /// The root: the provider that vouches for the user.
    pub(crate) root: CredentialRoot,
    /// The life, seconds.
    pub(crate) ttl_s: u64,
}

/// Room, user, role, life in seconds, the caller and the root.
type BaseTerms = (RoomId, UserId, Role, u64, CallerId, CredentialRoot);

/// The display name, the metadata and the region that a request gives a peer.
pub(crate) type PeerProfile = (Option<DisplayName>, Option<MetadataObject>, Option<RegionId>);

impl GrantPolicy {
    /// Reads the configuration.
    pub(crate) fn new(settings: &ServiceSettings) -> Self {
        let permissions = |names: &Vec<String>| -> Arc<[Arc<str>]> {
            names.iter().map(|name| Arc::from(&**name)).collect()
        };
        let roles = settings
            .roles
            .0
            .iter()
            .map(|(role, template)| (role.clone(), permissions(&template.permissions)))
            .collect();
        let auth = &settings.auth;
        Self {
            roles,
            guest_role: auth.guest_role.clone(),
            guest_ttl_s: auth.guest_ttl.0.as_secs(),
            default_role: auth.default_role.clone(),
            default_ttl_s: auth.token_ttl.0.as_secs(),
            max_ttl_s: auth.token_ttl_max.0.as_secs(),
            metadata_max: settings.limits.metadata.0.min(MAX_METADATA_BYTES),
            user_names: UserNamePolicy::new(settings),
        }
    }

    /// The terms that a caller may have. `random` names a guest whose request names no user.
    ///
    /// # Errors
    /// 400 `bad_request` naming the member at fault; 403 `role_not_allowed`, `user_not_allowed`,
    /// `not_permitted`.
    pub(crate) fn terms_for_request(
        &self,
        caller: &Principal,
        room: RoomId,
        request: TokenRequest,
        random: &str,
    ) -> Result<RoomTokenTerms, Problem> {
        let user = match (request.user.read("user")?, caller) {
            (user, Principal::Guest) => guest_user(user.as_ref().map_or(random, UserId::as_str))?,
            (Some(user), _) => self.application_user(user)?,
            (None, _) => return Err(missing_member("user")),
        };
        if matches!(caller, Principal::Guest) && request.wants_refresh() {
            let detail = "guests get no refresh token; they may ask for a new token at any time";
            return Err(Problem::new(403, "not_permitted", detail).with_field("refresh"));
        }
        let (role, ttl_s) = self.role_and_life(caller, &request)?;
        self.complete_terms(request.into_profile(), (room, user, role, ttl_s, caller.id(), caller.root()))
    }

    /// The terms that an application gives a user of its own, in a room of the API.
    ///
    /// # Errors
    /// As [`GrantPolicy::terms_for_request`].
    pub(crate) fn terms_for_user(
        &self,
        caller: &Principal,
        (room, user): (RoomId, UserId),
        (role, ttl): (Option<Role>, Option<UncheckedNumber>),
        profile: PeerProfile,
    ) -> Result<RoomTokenTerms, Problem> {
        let user = self.application_user(user)?;
        let (role, ttl_s) = self.role_and_ttl(role, ttl)?;
        let ttl_s = ttl_s.unwrap_or(self.default_ttl_s);
        self.complete_terms(profile, (room, user, role, ttl_s, caller.id(), caller.root()))
    }

    /// The terms of a guest with an invite. Room, role and life come from the invite and the user
    /// name is random, so a guest cannot take the name of another user.
    ///
    /// # Errors
    /// As [`GrantPolicy::terms_for_request`].
    pub(crate) fn terms_for_invite(
        &self,
        room: RoomId,
        terms: &InviteTerms,
        request: TokenRequest,
        random: &str,
    ) -> Result<RoomTokenTerms, Problem> {
        let ttl_s = terms.ttl_s.unwrap_or(self.default_ttl_s).min(self.max_ttl_s);
        self.complete_terms(
            request.into_profile(),
            (room, invited_user(random)?, terms.role.clone(), ttl_s, CallerId::invite(), terms.root()),
        )
    }

    /// Adds name, metadata, region and permissions, in the same way for all callers.
    fn complete_terms(
        &self,
        (name, metadata, region): PeerProfile,
        base: BaseTerms,
    ) -> Result<RoomTokenTerms, Problem> {
        let (room, user, role, ttl_s, caller, root) = base;
        let permissions = self.permissions_of(&role)?;
        let name = name.map(DisplayName::into_text);
        let metadata = metadata.map(|json| json.within(self.metadata_max)).transpose()?;
        Ok(RoomTokenTerms {
            room,
            user,
            role,
            permissions,
            name,
            metadata,
            caller,
            root,
            creation: None,
            region,
            ttl_s,
        })
    }

    /// Gives terms the current permissions of their role, and at most the life that is allowed now.
    ///
    /// # Errors
    /// 403 `role_not_allowed` if the configuration has no such role any more.
    pub(crate) fn renew_terms(&self, grant: &mut RoomTokenTerms) -> Result<(), Problem> {
        grant.permissions = self.permissions_of(&grant.role)?;
        grant.ttl_s = grant.ttl_s.min(self.max_ttl_s);
        Ok(())
    }

    /// The role and the life that an application names, or the configured ones.
    ///
    /// # Errors
    /// 400 `bad_request` naming the member at fault; 403 `role_not_allowed`.
    pub(crate) fn role_and_ttl(
        &self,
        role: Option<Role>,
        ttl: Option<UncheckedNumber>,
    ) -> Result<(Role, Option<u64>), Problem> {
        let role = role.unwrap_or_else(|| self.default_role.clone());
        self.permissions_of(&role)?;
        Ok((role, self.checked_ttl(ttl)?))
    }

    /// A life in seconds, at most the configured one.
    ///
    /// # Errors
    /// 400 `bad_request` that names `ttl`.
    pub(crate) fn checked_ttl(&self, ttl: Option<UncheckedNumber>) -> Result<Option<u64>, Problem> {
        ttl.map(|ttl| ttl.within("ttl", 1, self.max_ttl_s, " of seconds")).transpose()
    }

    /// The user that an application names, if the name cannot belong to another source of users.
    ///
    /// # Errors
    /// 403 `user_not_allowed`.
    pub(crate) fn application_user(&self, user: UserId) -> Result<UserId, Problem> {
        self.user_names.application_user(user)
    }

    /// Role and life. A guest cannot choose either.
    fn role_and_life(&self, caller: &Principal, request: &TokenRequest) -> Result<(Role, u64), Problem> {
        if matches!(caller, Principal::Guest) {
            return Ok((self.guest_role.clone(), self.guest_ttl_s));
        }
        let role = request.role.read("role")?.unwrap_or_else(|| self.default_role.clone());
        self.permissions_of(&role)?;
        let ttl_s = self.checked_ttl(request.ttl.read("ttl")?)?;
        Ok((role, ttl_s.unwrap_or(self.default_ttl_s)))
    }

    /// The permissions of a role.
    ///
    /// # Errors
    /// 403 `role_not_allowed`.
    pub(crate) fn permissions_of(&self, role: &Role) -> Result<Arc<[Arc<str>]>, Problem> {
        self.roles.get(role).cloned().ok_or_else(|| self.role_not_allowed())
    }

    /// The largest metadata of a token, bytes.
    pub(crate) fn max_metadata_bytes(&self) -> usize {
        self.metadata_max
    }

    /// The role if the request names none.
    pub(crate) fn default_role(&self) -> &Role {
        &self.default_role
    }

    /// The life of a token if the request names none.
    pub(crate) fn default_ttl_s(&self) -> u64 {
        self.default_ttl_s
    }

    fn role_not_allowed(&self) -> Problem {
        let known = self.roles.keys().map(Role::as_str).collect::<Vec<_>>().join(", ");
        Problem::new(403, "role_not_allowed", format!("role is not one of {known}")).with_field("role")
    }
}

fn missing_member(field: &str) -> Problem {
    bad_field(field, "is missing")
}

/// The names that an application may use.
#[derive(Debug)]
pub(crate) struct UserNamePolicy {
    /// The prefixes of guests, invites and providers.
    foreign_prefixes: Vec<String>,
}

impl UserNamePolicy {
    /// Reads the configuration. The provider that the application itself stands for has the names of
    /// the application.
    pub(super) fn new(settings: &ServiceSettings) -> Self {
        let providers = settings.auth.providers.iter().filter(|provider| !provider.is_application());
        let prefixes = providers.map(|provider| &*provider.user_prefix).filter(|prefix| !prefix.is_empty());
        let fixed = [UserId::GUEST_PREFIX, UserId::INVITE_PREFIX];
        Self { foreign_prefixes: fixed.into_iter().chain(prefixes).map(str::to_owned).collect() }
    }

    /// The user that an application names.
    ///
    /// # Errors
    /// 403 `user_not_allowed` if the name belongs to another source of users.
    pub(super) fn application_user(&self, user: UserId) -> Result<UserId, Problem> {
        match self.foreign_prefixes.iter().find(|prefix| user.as_str().starts_with(prefix.as_str())) {
            None => Ok(user),
            Some(prefix) => {
                let detail =
                    format!("names with `{prefix}` belong to another source of users; use another name");
                Err(Problem::new(403, "user_not_allowed", detail).with_field("user"))
            }
        }
    }
}

/// The name of a guest. The server adds the prefix, unless the guest has sent it.
///
/// # Errors
/// 400 `bad_request` that names `user`, if the name is too long.
pub(super) fn guest_user(name: &str) -> Result<UserId, Problem> {
    prefixed_user(UserId::GUEST_PREFIX, name.strip_prefix(UserId::GUEST_PREFIX).unwrap_or(name))
}

/// The name of a person with an invite.
///
/// # Errors
/// As [`guest_user`].
pub(super) fn invited_user(random: &str) -> Result<UserId, Problem> {
    prefixed_user(UserId::INVITE_PREFIX, random)
}

fn prefixed_user(prefix: &str, name: &str) -> Result<UserId, Problem> {
    UserId::parse(&format!("{prefix}{name}"))
        .map_err(|bad| bad_field("user", format!("with `{prefix}` {bad}")))
}
