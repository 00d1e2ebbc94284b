//! `/api/rooms/{room}/token` for backends, `/api/rooms/{room}/join` for users

use std::{net::IpAddr, sync::Arc};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_control::Subject;
use signalbox_http::ApiError;
use signalbox_rooms::room::{CreatorKind, Input, Member, Presence, RoomState, decide};
use signalbox_shared::scope::Scope;
use signalbox_shared::{
    id::{CallerId, NodeId, PeerId, Role, RoomId, TokenId, UserId, random_hex},
    problem::Problem,
    protocol::IceServer,
    token::UserClaims,
};

use utoipa::ToSchema;

use super::{
    no_such_room, problem_of, room_in, store, unavailable,
    who::{self, backend},
};
use crate::{
    AuthState,
    issuer::{
        Grant,
        wish::{display_name, metadata, named, ttl},
    },
    routes::{Body, api, doc::Problems, members},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued<'a> {
    token: String,
    expires_in: u64,
    url: &'a str,
    ice_servers: &'a [IceServer],
    room: &'a RoomId,
    user: &'a UserId,
    role: &'a Role,
    /// Whether whoever comes with it waits to be let in.
    lobby: bool,
}

/// Who comes.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct JoinWish {
    /// The name to show.
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]*$")]
    name: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<()>,
}

/// For whom.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct RoomTokenWish {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._~@:+-]+$")]
    user: String,
    #[schema(min_length = 1, max_length = 32, pattern = "^[a-z0-9-]+$")]
    role: Option<String>,
    #[schema(max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F\u202A-\u202E\u2066-\u2069]*$")]
    name: Option<String>,
    /// Seconds; at most the configured life.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl: Option<u64>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<()>,
}

/// Makes a token for a user of the backend's choice. Locks and limits of the room are asked when it joins.
#[utoipa::path(post, path = "/api/rooms/{room}/token", tag = "rooms", operation_id = "rooms_tokens_token",
    params(("room" = String, Path, description = "The room", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._~-]+$")), request_body = RoomTokenWish,
    responses((status = 200, description = "A token, and what to come with it needs", body = Object), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn token(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = backend(&request, &state, Scope::Tokens)?;
    let room = room_in(&request)?;
    let [user, role, name, lasts, meta] = members(body, ["user", "role", "name", "ttl", "metadata"])?;
    let user = named("user", &user, UserId::parse)?.ok_or_else(|| api::missing("user"))?;
    let role = named("role", &role, Role::parse)?.unwrap_or_else(|| state.policy.default_role().clone());
    let grant = Grant {
        permissions: state.policy.permissions_of(&role)?,
        room,
        user,
        role,
        name: display_name(&name)?,
        metadata: metadata(meta, state.room_rules.metadata_max)?,
        caller,
        region: None,
        ttl_s: life(&state, &lasts)?,
    };
    let known = known(&state, &grant.room).await?;
    let lobby = match would_wait(&state, &grant, &known) {
        Err(problem) if problem.code == "room_not_allowed" => return Err(no_such_room().into()),
        judged => judged.unwrap_or(false),
    };
    Ok(answer(&state, state.client(&request), grant, lobby).await?)
}

/// A user comes in with its own token, if the room takes it.
#[utoipa::path(post, path = "/api/rooms/{room}/join", tag = "rooms", operation_id = "rooms_tokens_join",
    params(("room" = String, Path, description = "The room", min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._~-]+$")), request_body = JoinWish,
    responses((status = 200, description = "A token, and what to come with it needs", body = Object), Problems), security(("user" = [])))]
pub(super) async fn join(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let claims = who::user(&request, &state)?;
    let room = room_in(&request)?;
    let [name, meta] = members(body, ["name", "metadata"])?;
    let known = known(&state, &room).await?;
    let role = role_of(&state, &claims, &known);
    let grant = Grant {
        permissions: state.policy.permissions_of(&role)?,
        room,
        user: claims.sub.clone(),
        role,
        name: display_name(&name)?.or_else(|| claims.name.clone()),
        metadata: metadata(meta, state.room_rules.metadata_max)?,
        caller: CallerId::user(),
        region: None,
        ttl_s: state.policy.default_ttl_s(),
    };
    let lobby = would_wait(&state, &grant, &known)?;
    Ok(answer(&state, state.client(&request), grant, lobby).await?)
}

/// Who has made a room has a role of its own there.
fn role_of(state: &AuthState, claims: &UserClaims, room: &RoomState) -> Role {
    let is_own = room
        .settings
        .created_by
        .as_ref()
        .is_some_and(|creator| creator.kind == CreatorKind::User && *creator.id == *claims.sub.as_str());
    let own = state.room_rules.creator_role.as_ref().filter(|_| is_own);
    own.cloned().unwrap_or_else(|| claims.role.clone())
}

fn life(state: &AuthState, raw: &Option<Box<RawValue>>) -> Result<u64, Problem> {
    Ok(ttl(raw, state.policy.max_ttl_s())?.unwrap_or_else(|| state.policy.default_ttl_s()))
}

/// The room as it is, or as it would be made by joining.
async fn known(state: &AuthState, room: &RoomId) -> Result<RoomState, Problem> {
    let found = store(state)?.load(room).await.map_err(unavailable)?;
    let there = found.room.filter(|room| room.is_there(found.now));
    Ok(there.unwrap_or_else(|| RoomState {
        read_at: found.now,
        ..RoomState::new(random_hex().into(), found.lineage)
    }))
}

/// Signs, where nothing was taken back.
async fn answer(
    state: &AuthState,
    address: Option<IpAddr>,
    grant: Grant,
    lobby: bool,
) -> Result<HttpResponse, Problem> {
    let subject = Subject {
        user: &grant.user,
        room: Some(&grant.room),
        grant: "",
        issued_s: None,
        issuer: None,
        address,
    };
    state.judge(&subject)?;
    let moment = state.moment(&subject).await;
    let (room, user, role, expires_in) =
        (grant.room.clone(), grant.user.clone(), grant.role.clone(), grant.ttl_s);
    let caller = grant.caller.clone();
    let id = TokenId::random();
    let ice = state.ice.offer(&role, None, id.grant(), moment.now_s);
    let token = state.minter.mint(grant, moment, id).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::new(500, "internal", "the token could not be made; the server's log says why")
    })?;
    tracing::info!(target: "signalbox_auth::audit", %caller, %room, %user, %role, ttl_s = expires_in, "token_issued");
    let rules = &state.room_rules;
    Ok(HttpResponse::Ok().json(Issued {
        token,
        expires_in,
        url: &rules.signal_url,
        ice_servers: &ice.servers,
        room: &room,
        user: &user,
        role: &role,
        lobby,
    }))
}

/// Whether it would wait, were it to join now.
///
/// # Errors
/// Why it would not be let in.
fn would_wait(state: &AuthState, grant: &Grant, known: &RoomState) -> Result<bool, Problem> {
    let peer = PeerId::random();
    let member = Member {
        user: grant.user.clone(),
        role: grant.role.clone(),
        permissions: grant.permissions.clone(),
        token: TokenId::random(),
        issued: 0,
        expires: 0,
        caller: grant.caller.clone(),
        region: None,
        name: "".into(),
        metadata: Arc::from(RawValue::from_string("{}".to_owned()).unwrap_or_default()),
        waiting: false,
        muted: false,
        overridden: false,
        presence: Presence::Attached(NodeId::from_bits(0)),
        epoch: 1,
        generation: 1,
        mailbox: 1,
    };
    let input = Input::Join { peer: peer.clone(), member: Box::new(member) };
    let decision = decide(known, known.read_at, &[input], &state.live_rules());
    match decision.outcomes.first().copied().and_then(problem_of) {
        Some(problem) => Err(problem),
        None => Ok(decision.next.members.get(&peer).is_some_and(|member| member.waiting)),
    }
}
