//! What a caller may have.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::value::RawValue;
use signalbox_shared::{
    config::Settings,
    id::{CallerId, Region, Role, RoomId, UserId},
    problem::Problem,
};

use super::{
    Caller,
    wish::{self, Wish, refuse},
};

/// The most metadata a token carries, whatever the limit for a peer's record is: a longer token would be refused unread.
const METADATA_MAX: usize = 7 * 1024;

/// The rules of the configuration.
#[derive(Debug)]
pub struct Policy {
    roles: BTreeMap<Role, Arc<[Arc<str>]>>,
    guest_role: Role,
    guest_ttl_s: u64,
    default_role: Role,
    default_ttl_s: u64,
    max_ttl_s: u64,
    metadata_max: usize,
}

/// What a token will say, beside its times.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The role.
    pub role: Role,
    /// What the role may do.
    pub permissions: Arc<[Arc<str>]>,
    /// The name to show.
    pub name: Option<Arc<str>>,
    /// Whatever the application attached.
    pub metadata: Option<Arc<RawValue>>,
    /// On whose word.
    pub caller: CallerId,
    /// Where the peer is.
    pub region: Option<Region>,
    /// Its life, seconds.
    pub ttl_s: u64,
}

impl Policy {
    /// Reads the rules.
    pub fn new(settings: &Settings) -> Self {
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
            metadata_max: settings.limits.metadata.0.min(METADATA_MAX),
        }
    }

    /// Judges a wish. `random` names a guest that brings no name of its own.
    ///
    /// # Errors
    /// 400 `bad_request` naming the member at fault; 403 `role_not_allowed`.
    pub fn grant(&self, caller: &Caller<'_>, wish: Wish, random: &str) -> Result<Grant, Problem> {
        let room = wish::named("room", &wish.room, RoomId::parse)?.ok_or_else(|| missing("room"))?;
        let user = match (wish::named("user", &wish.user, UserId::parse)?, caller) {
            (Some(user), _) => user,
            (None, Caller::Guest) => {
                UserId::parse(&format!("guest-{random}")).map_err(|bad| refuse("user", bad))?
            }
            (None, Caller::ApiKey(_)) => return Err(missing("user")),
        };
        let (role, ttl_s) = self.standing(caller, &wish)?;
        let permissions = self.roles.get(&role).cloned().ok_or_else(|| self.no_such_role())?;
        let name = wish::display_name(&wish.name)?;
        let metadata = wish::metadata(wish.metadata, self.metadata_max)?;
        let caller = caller.caller_id();
        Ok(Grant { room, user, role, permissions, name, metadata, caller, region: None, ttl_s })
    }

    /// Role and life: a guest has no say in either.
    fn standing(&self, caller: &Caller<'_>, wish: &Wish) -> Result<(Role, u64), Problem> {
        if matches!(caller, Caller::Guest) {
            return Ok((self.guest_role.clone(), self.guest_ttl_s));
        }
        let role = wish::named("role", &wish.role, Role::parse)?;
        let ttl_s = wish::ttl(&wish.ttl, self.max_ttl_s)?;
        Ok((role.unwrap_or_else(|| self.default_role.clone()), ttl_s.unwrap_or(self.default_ttl_s)))
    }

    /// What a role may do.
    ///
    /// # Errors
    /// 403 `role_not_allowed`.
    pub(crate) fn permissions_of(&self, role: &Role) -> Result<Arc<[Arc<str>]>, Problem> {
        self.roles.get(role).cloned().ok_or_else(|| self.no_such_role())
    }

    /// The role where the caller names none.
    pub(crate) fn default_role(&self) -> &Role {
        &self.default_role
    }

    /// The longest life of a token.
    pub(crate) fn max_ttl_s(&self) -> u64 {
        self.max_ttl_s
    }

    /// The life of a token where the caller names none.
    pub(crate) fn default_ttl_s(&self) -> u64 {
        self.default_ttl_s
    }

    fn no_such_role(&self) -> Problem {
        let known = self.roles.keys().map(Role::as_str).collect::<Vec<_>>().join(", ");
        Problem::new(403, "role_not_allowed", format!("role is not one of {known}")).field("role")
    }
}

fn missing(field: &str) -> Problem {
    refuse(field, "is missing")
}
