//! The settings of a room as a request names them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use signalbox_protocol::{E2eeMode, id::Role, problem::Problem};
use signalbox_rooms::room::{RoomPatch, RoomSettings};
use utoipa::ToSchema;

use crate::{
    context::{
        schemas::{DisplayName, EncryptionMode, MetadataObject, RoleName},
        token_request::{bad_member, parse_display_name, parse_integer, parse_member, parse_metadata},
    },
    management::management_service::ManagementService,
};

/// What may be set.
pub(crate) const SETTINGS_MEMBERS: [&str; 10] = [
    "name",
    "metadata",
    "maxPeers",
    "maxDuration",
    "startsAt",
    "enabled",
    "locked",
    "lobby",
    "e2ee",
    "roles",
];

/// Roles that one room may name.
pub(crate) const MAX_ROOM_ROLES: usize = 32;

pub(crate) type RawRoomMember = Option<Box<RawValue>>;

/// Reads a change; every refusal names its member. `""`, `{}`, `[]` and 0 unset what may be unset.
pub(crate) fn parse_room_patch(
    service: &ManagementService,
    raw: [RawRoomMember; 10],
) -> Result<RoomPatch, Problem> {
    let [name, meta, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles] = raw;
    let rules = service.room_policy_in_force();
    let number = |field, raw: &RawRoomMember, most: u64| -> Result<Option<Option<u64>>, Problem> {
        let value = parse_integer(field, raw, 0, most, "a whole number (0 is none)")?;
        Ok(value.map(|value| (value > 0).then_some(value)))
    };
    let flag = |field, raw: &RawRoomMember| parse_member::<bool>(field, raw, "must be true or false");
    let meta = parse_metadata(meta, service.room_settings.max_metadata_bytes)?;
    let longest = rules.max_room_life_ms / 1_000;
    let most_peers = u64::try_from(rules.max_room_peers).unwrap_or(u64::MAX);
    Ok(RoomPatch {
        name: parse_display_name(&name)?.map(|name| Some(name).filter(|name| !name.is_empty())),
        metadata: meta.map(|json| Some(json).filter(|json| json.get() != "{}")),
        max_peers: number("maxPeers", &max_peers, most_peers)?.map(|most| most.map(|most| most as u32)),
        max_duration: number("maxDuration", &max_duration, longest)?,
        starts_at: number("startsAt", &starts_at, (1 << 53) - 1)?,
        enabled: flag("enabled", &enabled)?,
        locked: flag("locked", &locked)?,
        lobby: flag("lobby", &lobby)?,
        e2ee: parse_choice::<E2eeMode>("e2ee", &e2ee, "must be off, optional or required")?,
        roles: parse_room_roles(service, &roles)?,
    })
}

pub(crate) fn parse_room_roles(
    service: &ManagementService,
    raw: &RawRoomMember,
) -> Result<Option<Option<Arc<[Role]>>>, Problem> {
    let rule = format!("must be a list of at most {MAX_ROOM_ROLES} roles; an empty one is every role");
    let Some(names) = parse_member::<Vec<String>>("roles", raw, &rule)? else { return Ok(None) };
    if names.len() > MAX_ROOM_ROLES {
        return Err(bad_member("roles", rule));
    }
    let known = |name: &String| {
        let role =
            Role::parse(name).ok().filter(|role| service.tokens.grant_policy.permissions_of(role).is_ok());
        role.ok_or_else(|| bad_member("roles", "names a role that this server does not have"))
    };
    let roles = names.iter().map(known).collect::<Result<Vec<Role>, Problem>>()?;
    Ok(Some((!roles.is_empty()).then(|| roles.into())))
}

pub(crate) fn parse_choice<T: DeserializeOwned>(
    field: &str,
    raw: &RawRoomMember,
    rule: &str,
) -> Result<Option<T>, Problem> {
    parse_member(field, raw, rule)
}

/// Whether settings go together, and with the configuration.
pub(crate) fn check_settings(
    service: &ManagementService,
    settings: &RoomSettings,
    kept_until: u64,
) -> Result<(), Problem> {
    if settings.starts_at.is_some_and(|at| kept_until > 0 && at >= kept_until) {
        return Err(bad_member(
            "startsAt",
            "must come before the room is over; a room is kept for rooms.kept",
        ));
    }
    let book = &service.room_settings.policy.role_policy;
    let read = match &settings.roles {
        _ if !settings.requires_e2ee() => None,
        Some(roles) => book.first_inspection_reason(roles.iter()),
        None => book.first_inspection_reason(book.role_names()),
    };
    read.map_or(Ok(()), |why| {
        let detail = format!("e2ee cannot be required for these roles: {why}; name others in `roles`");
        Err(Problem::new(409, "conflict", detail).with_field("e2ee"))
    })
}

/// What is to be changed.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RoomUpdateRequest {
    /// The name to show; empty is none.
    name: Option<DisplayName>,
    metadata: Option<MetadataObject>,
    /// Most peers; 0 is the configured number.
    #[schema(minimum = 0, maximum = 1_000)]
    max_peers: Option<u32>,
    /// Longest life, seconds; 0 is the configured one.
    #[schema(minimum = 0, maximum = 86_400)]
    max_duration: Option<u64>,
    /// When it begins, ms since 1970; 0 is at once.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991i64)]
    starts_at: Option<u64>,
    enabled: Option<bool>,
    locked: Option<bool>,
    /// Whether whoever comes waits to be let in.
    lobby: Option<bool>,
    e2ee: Option<EncryptionMode>,
    /// The roles that it takes in; an empty list is all.
    #[schema(max_items = 32)]
    roles: Option<Vec<RoleName>>,
}
