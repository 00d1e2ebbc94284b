//! What a caller may have.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_config::Settings;
use signalbox_protocol::{
    id::{CallerId, Region, Role, RoomId, UserId},
    problem::Problem,
};
use signalbox_token::scope::RoomPattern;

use super::{
    Caller, InviteTerms,
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
    guest_rooms: Vec<RoomPattern>,
    default_role: Role,
    default_ttl_s: u64,
    max_ttl_s: u64,
    metadata_max: usize,
}

/// What a room token will say, beside its times. Kept with a refresh token, without the permissions: those are the role's at each making.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grant {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The role.
    pub role: Role,
    /// What the role may do.
    #[serde(skip)]
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

/// What a user token will say, beside its times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserGrant {
    /// The user.
    pub user: UserId,
    /// The role.
    pub role: Role,
    /// The name to show.
    pub name: Option<Arc<str>>,
    /// Its life, seconds.
    pub ttl_s: u64,
}

/// Room, user, role, life in seconds, on whose word.
type Standing = (RoomId, UserId, Role, u64, CallerId);

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
            guest_rooms: auth.guest_rooms.clone(),
            default_role: auth.default_role.clone(),
            default_ttl_s: auth.token_ttl.0.as_secs(),
            max_ttl_s: auth.token_ttl_max.0.as_secs(),
            metadata_max: settings.limits.metadata.0.min(METADATA_MAX),
        }
    }

    /// Judges a wish. `random` names a guest that brings no name of its own.
    ///
    /// # Errors
    /// 400 `bad_request` naming the member at fault; 403 `role_not_allowed`, `room_not_allowed`, `not_permitted`.
    pub fn grant(&self, caller: &Caller, wish: Wish, random: &str) -> Result<Grant, Problem> {
        let room = wish::named("room", &wish.room, RoomId::parse)?.ok_or_else(|| missing("room"))?;
        self.may_be_in(caller, &room)?;
        let user = match (wish::named("user", &wish.user, UserId::parse)?, caller) {
            (Some(user), _) => user,
            (None, Caller::Guest) => made_up(random)?,
            (None, _) => return Err(missing("user")),
        };
        if matches!(caller, Caller::Guest) && wish.refresh()? {
            let detail = "guests get no refresh token; they may ask for a new token at any time";
            return Err(Problem::new(403, "not_permitted", detail).field("refresh"));
        }
        let (role, ttl_s) = self.standing(caller, &wish)?;
        self.fill(wish, (room, user, role, ttl_s, caller.id()))
    }

    /// Judges the wish of somebody with an invite: room, role and life are the invite's, whatever the wish says, and the user is made up,
    /// so that an invite is never a way to be somebody else.
    ///
    /// # Errors
    /// As [`Policy::grant`].
    pub fn invited(
        &self,
        room: RoomId,
        terms: &InviteTerms,
        wish: Wish,
        random: &str,
    ) -> Result<Grant, Problem> {
        let ttl_s = terms.ttl_s.unwrap_or(self.default_ttl_s).min(self.max_ttl_s);
        self.fill(wish, (room, made_up(random)?, terms.role.clone(), ttl_s, CallerId::invite()))
    }

    /// What is the same for everybody: name, metadata, region, and what the role may do.
    fn fill(&self, wish: Wish, standing: Standing) -> Result<Grant, Problem> {
        let (room, user, role, ttl_s, caller) = standing;
        let permissions = self.permissions_of(&role)?;
        let name = wish::display_name(&wish.name)?;
        let region = wish::named("region", &wish.region, Region::parse)?;
        let metadata = wish::metadata(wish.metadata, self.metadata_max)?;
        Ok(Grant { room, user, role, permissions, name, metadata, caller, region, ttl_s })
    }

    /// Gives a grant what its role may do now, and at most the life that is allowed now.
    ///
    /// # Errors
    /// 403 `role_not_allowed` if the role is gone.
    pub fn renew(&self, grant: &mut Grant) -> Result<(), Problem> {
        grant.permissions = self.permissions_of(&grant.role)?;
        grant.ttl_s = grant.ttl_s.min(self.max_ttl_s);
        Ok(())
    }

    /// A role and a life that a backend names, or those of the configuration.
    ///
    /// # Errors
    /// 400 `bad_request` naming the member at fault; 403 `role_not_allowed`.
    pub fn role_and_ttl(&self, role: &wish::Raw, ttl: &wish::Raw) -> Result<(Role, Option<u64>), Problem> {
        let role = wish::named("role", role, Role::parse)?.unwrap_or_else(|| self.default_role.clone());
        self.permissions_of(&role)?;
        Ok((role, wish::ttl(ttl, self.max_ttl_s)?))
    }

    fn may_be_in(&self, caller: &Caller, room: &RoomId) -> Result<(), Problem> {
        caller.may_use(room)?;
        let open = self.guest_rooms.is_empty() || self.guest_rooms.iter().any(|rooms| rooms.matches(room));
        if matches!(caller, Caller::Guest) && !open {
            return Err(
                Problem::new(403, "room_not_allowed", "guests may be in other rooms only").field("room")
            );
        }
        Ok(())
    }

    /// Role and life: a guest has no say in either.
    fn standing(&self, caller: &Caller, wish: &Wish) -> Result<(Role, u64), Problem> {
        if matches!(caller, Caller::Guest) {
            return Ok((self.guest_role.clone(), self.guest_ttl_s));
        }
        let (role, ttl_s) = self.role_and_ttl(&wish.role, &wish.ttl)?;
        Ok((role, ttl_s.unwrap_or(self.default_ttl_s)))
    }

    /// What a role may do.
    ///
    /// # Errors
    /// 403 `role_not_allowed`.
    pub(crate) fn permissions_of(&self, role: &Role) -> Result<Arc<[Arc<str>]>, Problem> {
        self.roles.get(role).cloned().ok_or_else(|| self.no_such_role())
    }

    /// The longest metadata that a token carries, bytes.
    pub(crate) fn metadata_max(&self) -> usize {
        self.metadata_max
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

fn made_up(random: &str) -> Result<UserId, Problem> {
    UserId::parse(&format!("guest-{random}")).map_err(|bad| refuse("user", bad))
}

fn missing(field: &str) -> Problem {
    refuse(field, "is missing")
}
