//! `/api/rooms/{room}` and what is done to it

use std::sync::Arc;

use actix_web::{
    Error, HttpRequest, HttpResponse,
    http::header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    web,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use signalbox_http::Members;
use signalbox_protocol::{
    E2ee,
    id::{Role, UserId},
    problem::Problem,
};
use signalbox_rooms::room::{Act, CreatorKind, Outcome, Patch, RoomSettings};
use signalbox_token::scope::Scope;

use utoipa::ToSchema;

use super::{
    audit, change, load, room_in,
    shown::ShownRoom,
    store,
    who::{backend, backend_or_user},
};
use crate::{
    AuthState,
    issuer::wish::{display_name, metadata, refuse, typed, within},
    routes::{
        Answered, Body, State,
        doc::Problems,
        forms::{DisplayName, Encryption, InRoom, Metadata, RoleName},
        issue::refusal,
        members,
    },
};

/// What may be set.
pub(super) const MEMBERS: [&str; 10] = [
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
const MOST_ROLES: usize = 32;

type Raw = Option<Box<RawValue>>;

/// Reads a change; every refusal names its member. `""`, `{}`, `[]` and 0 unset what may be unset.
pub(super) fn patch_of(state: &AuthState, raw: [Raw; 10]) -> Result<Patch, Problem> {
    let [name, meta, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles] = raw;
    let rules = state.live_rules();
    let number = |field, raw: &Raw, most: u64| -> Result<Option<Option<u64>>, Problem> {
        let value = within(field, raw, 0, most, "a whole number (0 is none)")?;
        Ok(value.map(|value| (value > 0).then_some(value)))
    };
    let flag = |field, raw: &Raw| typed::<bool>(field, raw, "must be true or false");
    let meta = metadata(meta, state.room_rules.metadata_max)?;
    let longest = rules.room_life_ms / 1_000;
    let most_peers = u64::try_from(rules.room_peers).unwrap_or(u64::MAX);
    Ok(Patch {
        name: display_name(&name)?.map(|name| Some(name).filter(|name| !name.is_empty())),
        metadata: meta.map(|json| Some(json).filter(|json| json.get() != "{}")),
        max_peers: number("maxPeers", &max_peers, most_peers)?.map(|most| most.map(|most| most as u32)),
        max_duration: number("maxDuration", &max_duration, longest)?,
        starts_at: number("startsAt", &starts_at, (1 << 53) - 1)?,
        enabled: flag("enabled", &enabled)?,
        locked: flag("locked", &locked)?,
        lobby: flag("lobby", &lobby)?,
        e2ee: one_of::<E2ee>("e2ee", &e2ee, "must be off, optional or required")?,
        roles: roles_of(state, &roles)?,
    })
}

fn roles_of(state: &AuthState, raw: &Raw) -> Result<Option<Option<Arc<[Role]>>>, Problem> {
    let rule = format!("must be a list of at most {MOST_ROLES} roles; an empty one is every role");
    let Some(names) = typed::<Vec<String>>("roles", raw, &rule)? else { return Ok(None) };
    if names.len() > MOST_ROLES {
        return Err(refuse("roles", rule));
    }
    let known = |name: &String| {
        let role = Role::parse(name).ok().filter(|role| state.policy.permissions_of(role).is_ok());
        role.ok_or_else(|| refuse("roles", "names a role that this server does not have"))
    };
    let roles = names.iter().map(known).collect::<Result<Vec<Role>, Problem>>()?;
    Ok(Some((!roles.is_empty()).then(|| roles.into())))
}

fn one_of<T: DeserializeOwned>(field: &str, raw: &Raw, rule: &str) -> Result<Option<T>, Problem> {
    typed(field, raw, rule)
}

/// Whether settings go together, and with the configuration.
pub(super) fn fit(state: &AuthState, settings: &RoomSettings, kept_until: u64) -> Result<(), Problem> {
    if settings.starts_at.is_some_and(|at| kept_until > 0 && at >= kept_until) {
        return Err(refuse("startsAt", "must come before the room is over; a room is kept for rooms.kept"));
    }
    let book = &state.room_rules.rules.roles;
    let read = match &settings.roles {
        _ if !settings.demands_e2ee() => None,
        Some(roles) => book.reads_any(roles.iter()),
        None => book.reads_any(book.names()),
    };
    read.map_or(Ok(()), |why| {
        let detail = format!("e2ee cannot be required for these roles: {why}; name others in `roles`");
        Err(Problem::new(409, "conflict", detail).field("e2ee"))
    })
}

/// What is to be changed.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct RoomChange {
    /// The name to show; empty is none.
    name: Option<DisplayName>,
    metadata: Option<Metadata>,
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
    e2ee: Option<Encryption>,
    /// The roles that it takes in; an empty list is all.
    #[schema(max_items = 32)]
    roles: Option<Vec<RoleName>>,
}

/// What can be done to a room.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document reads it")]
pub(super) enum RoomVerb {
    Lock,
    Unlock,
    Enable,
    Disable,
}

/// How a room is to end.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct EndWish {
    /// Whether the room is kept, locked.
    lock: Option<bool>,
}

/// What a room is like. A user may see it too.
#[utoipa::path(get, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_get",
    params(InRoom),
    responses((status = 200, body = ShownRoom), Problems), security(("key" = []), ("management" = []), ("user" = [])))]
pub(super) async fn get(request: HttpRequest, state: State) -> Answered {
    backend_or_user(&request, &state, Scope::Rooms)?;
    let id = room_in(&request)?;
    Ok(HttpResponse::Ok().json(ShownRoom::of(&id, &load(&state, &id).await?)))
}

/// Changes settings.
#[utoipa::path(patch, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_patch",
    params(InRoom), request_body = RoomChange,
    responses((status = 200, body = ShownRoom), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn patch(request: HttpRequest, state: State, body: Body) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Rooms)?;
    let patch = patch_of(&state, members(body, MEMBERS)?)?;
    let known = load(&state, &id).await?;
    fit(&state, &patch.apply(&known.settings), known.settings.kept_until)?;
    let (_, room) = change(&state, &id, Act::Configure(patch)).await?;
    audit("room_updated", &caller, &id);
    Ok(HttpResponse::Ok().json(ShownRoom::of(&id, &room)))
}

/// Sends everybody out and forgets the room and the invites to it.
#[utoipa::path(delete, path = "/api/rooms/{room}", tag = "rooms", operation_id = "rooms_one_delete",
    params(InRoom),
    responses((status = 204, description = "It is gone"), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn delete(request: HttpRequest, state: State) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Rooms)?;
    let known = load(&state, &id).await?;
    // First: where that cannot be done the room is there still, and deleting it can be tried again.
    state.store.drop_invites(&id).await.map_err(refusal)?;
    change(&state, &id, Act::Delete).await?;
    let creator = known.settings.created_by.as_ref().filter(|creator| creator.kind == CreatorKind::User);
    if let Some(user) = creator.and_then(|creator| UserId::parse(&creator.id).ok()) {
        // Else it comes back when the room would have been over.
        let _ = store(&state)?.give_place_back(&user, &id).await;
    }
    audit("room_deleted", &caller, &id);
    Ok(HttpResponse::NoContent().finish())
}

/// `lock`, `unlock`, `enable`, `disable`.
#[utoipa::path(post, path = "/api/rooms/{room}/{verb}", tag = "rooms", operation_id = "rooms_one_act",
    params(InRoom, ("verb" = inline(RoomVerb), Path, description = "What is done")),
    responses((status = 200, body = ShownRoom), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn act(request: HttpRequest, state: State) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Rooms)?;
    let enabled = |on| Act::Configure(Patch { enabled: Some(on), ..Patch::default() });
    let (event, act) = match request.match_info().get("verb").unwrap_or_default() {
        "lock" => ("room_locked", Act::Lock(true)),
        "unlock" => ("room_unlocked", Act::Lock(false)),
        "enable" => ("room_enabled", enabled(true)),
        _ => ("room_disabled", enabled(false)),
    };
    let (_, room) = change(&state, &id, act).await?;
    audit(event, &caller, &id);
    Ok(HttpResponse::Ok().json(ShownRoom::of(&id, &room)))
}

/// Sends everybody out; the room goes too, unless it is to be kept, locked.
#[utoipa::path(post, path = "/api/rooms/{room}/end", tag = "rooms", operation_id = "rooms_one_end",
    params(InRoom), request_body = Option<EndWish>,
    responses((status = 200, body = ShownRoom), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn end(request: HttpRequest, state: State, body: BodyOrNull) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Rooms)?;
    let (outcome, room) = change(&state, &id, Act::End { lock: lock_too(&request, body)? }).await?;
    audit("room_ended", &caller, &id);
    let removed = if let Outcome::Removed(count) = outcome { Some(count) } else { None };
    Ok(HttpResponse::Ok().json(ShownRoom::of(&id, &room).without(removed)))
}

/// A body that may be absent, or `null`.
type BodyOrNull = Result<web::Json<Option<Members>>, Error>;

/// `{"lock": true}`, where there is a body.
fn lock_too(request: &HttpRequest, body: BodyOrNull) -> Result<bool, Problem> {
    // RFC 9112, section 6.3: neither says that a body follows.
    let length = request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if !length && !request.headers().contains_key(TRANSFER_ENCODING) {
        return Ok(false);
    }
    let body = body.map(|json| json.into_inner().map(web::Json)).transpose();
    let Some(body) = body else { return Ok(false) };
    let [lock] = members(body, ["lock"])?;
    Ok(typed::<bool>("lock", &lock, "must be true or false")?.unwrap_or(false))
}
