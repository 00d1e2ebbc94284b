//! The settings of a room as a request names them.

use std::sync::Arc;

use serde::Deserialize;
use signalbox_http::bad_field;
use signalbox_protocol::{E2eeMode, MAX_SAFE_INTEGER, id::Role, problem::Problem};
use signalbox_rooms::room::{RoomPatch, RoomSettings};
use utoipa::ToSchema;

use crate::{
    context::member_types::{DisplayName, MetadataObject, UncheckedNumber},
    management::management_service::ManagementService,
};

/// The most roles that one room may name.
const MAX_ROOM_ROLES: usize = 32;

/// The settings of a room to change.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoomUpdateRequest {
    pub(super) metadata: Option<MetadataObject>,
    /// The display name; an empty text removes it.
    pub(super) name: Option<DisplayName>,
    /// The most peers; 0 is the configured number.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 1_000)]
    pub(super) max_peers: Option<UncheckedNumber>,
    /// The longest time of use without a break, seconds; 0 is the configured one.
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 86_400)]
    pub(super) max_duration: Option<UncheckedNumber>,
    /// When the room opens, ms since 1970; 0 is at once.
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 9_007_199_254_740_991i64)]
    pub(super) starts_at: Option<UncheckedNumber>,
    pub(super) enabled: Option<bool>,
    pub(super) locked: Option<bool>,
    /// Whether new peers wait in the lobby.
    pub(super) lobby: Option<bool>,
    pub(super) e2ee: Option<E2eeMode>,
    /// The roles that may join; an empty list is every role.
    #[schema(max_items = 32)]
    pub(super) roles: Option<Vec<Role>>,
}

impl RoomUpdateRequest {
    /// The change of the settings. `""`, `{}`, `[]` and 0 unset a setting that may be unset.
    ///
    /// # Errors
    /// 400 `bad_request` that names the member outside the limits in force; 503 `overloaded` for
    /// metadata if Redis has little memory left.
    pub(crate) fn into_patch(self, service: &ManagementService) -> Result<RoomPatch, Problem> {
        let policy = service.room_policy_in_force();
        let max_peers = u64::try_from(policy.max_room_peers).unwrap_or(u64::MAX);
        let max_bytes = service.room_settings.load().max_metadata_bytes;
        let metadata = self.metadata.map(|json| json.within(max_bytes));
        let metadata = metadata.transpose()?.map(|json| Some(json).filter(|json| json.get() != "{}"));
        if matches!(metadata, Some(Some(_))) {
            service.context.check_store_memory(Some("metadata"))?;
        }
        Ok(RoomPatch {
            metadata,
            name: self.name.map(|name| Some(name.into_text()).filter(|name| !name.is_empty())),
            max_peers: number_or_none("maxPeers", self.max_peers, max_peers)?
                .map(|peers| peers.and_then(|peers| u32::try_from(peers).ok())),
            max_duration: number_or_none("maxDuration", self.max_duration, policy.max_room_life_ms / 1_000)?,
            starts_at: number_or_none("startsAt", self.starts_at, MAX_SAFE_INTEGER)?,
            enabled: self.enabled,
            locked: self.locked,
            lobby: self.lobby,
            e2ee: self.e2ee,
            roles: self.roles.map(|roles| known_roles(service, roles)).transpose()?,
        })
    }
}

/// A number of the settings; 0 unsets it.
fn number_or_none(
    field: &str,
    number: Option<UncheckedNumber>,
    max: u64,
) -> Result<Option<Option<u64>>, Problem> {
    let number = number.map(|number| number.within(field, 0, max, " (0 is none)")).transpose()?;
    Ok(number.map(|number| Some(number).filter(|number| *number > 0)))
}

/// The roles of the settings; an empty list unsets them.
fn known_roles(service: &ManagementService, roles: Vec<Role>) -> Result<Option<Arc<[Role]>>, Problem> {
    if roles.len() > MAX_ROOM_ROLES {
        let rule = format!("must be a list of at most {MAX_ROOM_ROLES} roles; an empty one is every role");
        return Err(bad_field("roles", rule));
    }
    if roles.iter().any(|role| service.tokens.grant_policy.load().permissions_of(role).is_err()) {
        return Err(bad_field("roles", "names a role that this server does not have"));
    }
    Ok(Some(roles.into()).filter(|roles: &Arc<[Role]>| !roles.is_empty()))
}

/// Checks that settings are consistent with each other and with the configuration.
pub(crate) fn check_settings(
    service: &ManagementService,
    settings: &RoomSettings,
    kept_until: u64,
) -> Result<(), Problem> {
    if settings.starts_at.is_some_and(|at| kept_until > 0 && at >= kept_until) {
        return Err(bad_field(
            "startsAt",
            "must be before the end of the room; an empty room is kept for rooms.kept",
        ));
    }
    let book = &service.room_settings.load().policy.role_policy;
    let read = match &settings.roles {
        _ if !settings.requires_e2ee() => None,
        Some(roles) => book.first_payload_inspection_reason(roles.iter()),
        None => book.first_payload_inspection_reason(book.role_names()),
    };
    read.map_or(Ok(()), |why| {
        let detail = format!("e2ee cannot be required for these roles: {why}; name others in `roles`");
        Err(Problem::new(409, "conflict", detail).with_field("e2ee"))
    })
}
