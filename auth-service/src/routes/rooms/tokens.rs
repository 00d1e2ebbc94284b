//! `/api/rooms/{room}/token` for backends, `/api/rooms/{room}/join` for users

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header};
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, IceServer, clock,
    id::{CallerId, NodeId, PeerId, Region, Role, RoomId, TokenId, UserId, random_hex},
    problem::Problem,
};
use signalbox_rooms::room::{CreatorKind, Input, Member, Presence, RoomState, decide};
use signalbox_token::UserClaims;
use signalbox_token::scope::Scope;

use utoipa::ToSchema;

use super::{
    no_such_room, problem_of, room_in, store, unavailable,
    who::{self, backend},
};
use crate::{
    AuthState,
    issuer::{
        Grant,
        wish::{Raw, display_name, metadata, named, ttl, typed},
    },
    routes::{
        Answered, Body, State, api,
        doc::Problems,
        forms::{
            DisplayName, IceServerView, IceTransportPolicy, InRoom, Metadata, RegionName, RoleName, UserName,
        },
        issue::{Issued, first_room_token},
        members, subject_of,
    },
};

/// A token, and what to come with it needs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(flatten)]
    issued: Issued,
    /// Where to connect.
    url: String,
    /// `RTCConfiguration.iceServers`.
    #[schema(value_type = Vec<IceServerView>)]
    ice_servers: Arc<[IceServer]>,
    /// `RTCConfiguration.iceTransportPolicy`.
    #[schema(value_type = IceTransportPolicy)]
    ice_policy: IcePolicy,
    /// Whether whoever comes with it waits to be let in.
    lobby: bool,
}

/// Who comes.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct JoinWish {
    /// The name to show.
    name: Option<DisplayName>,
    metadata: Option<Metadata>,
    /// Where the peer is, for the choice of a TURN server.
    region: Option<RegionName>,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
}

/// For whom.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct RoomTokenWish {
    user: UserName,
    role: Option<RoleName>,
    name: Option<DisplayName>,
    /// Seconds; at most the configured life.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl: Option<u64>,
    metadata: Option<Metadata>,
    /// Where the peer is, for the choice of a TURN server.
    region: Option<RegionName>,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
}

/// Makes a token for a user of the backend's choice. Locks and limits of the room are asked when it joins.
#[utoipa::path(post, path = "/api/rooms/{room}/token", tag = "rooms", operation_id = "rooms_tokens_token",
    params(InRoom), request_body = RoomTokenWish,
    responses((status = 200, body = Entry), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn token(request: HttpRequest, state: State, body: Body) -> Answered {
    let (caller, room) = backend(&request, &state, Scope::Tokens)?;
    let [user, role, name, lasts, meta, region, refresh] =
        members(body, ["user", "role", "name", "ttl", "metadata", "region", "refresh"])?;
    let user = named("user", &user, UserId::parse)?.ok_or_else(|| api::missing("user"))?;
    let role = named("role", &role, Role::parse)?.unwrap_or_else(|| state.policy.default_role().clone());
    let grant = Grant {
        permissions: state.policy.permissions_of(&role)?,
        room,
        user,
        role,
        name: display_name(&name)?,
        metadata: metadata(meta, state.policy.metadata_max())?,
        caller,
        region: named("region", &region, Region::parse)?,
        ttl_s: life(&state, &lasts)?,
    };
    let refresh = wants_refresh(&refresh)?;
    let known = known(&state, &grant.room).await?;
    let lobby = match would_wait(&state, &grant, &known) {
        Err(problem) if problem.code == "room_not_allowed" => return Err(no_such_room().into()),
        judged => judged.unwrap_or(false),
    };
    Ok(answer(&state, grant, refresh, lobby).await?)
}

/// A user comes in with its own token, if the room takes it.
#[utoipa::path(post, path = "/api/rooms/{room}/join", tag = "rooms", operation_id = "rooms_tokens_join",
    params(InRoom), request_body = JoinWish,
    responses((status = 200, body = Entry), Problems), security(("user" = [])))]
pub(super) async fn join(request: HttpRequest, state: State, body: Body) -> Answered {
    let claims = who::user(&request, &state)?;
    let room = room_in(&request)?;
    let [name, meta, region, refresh] = members(body, ["name", "metadata", "region", "refresh"])?;
    let known = known(&state, &room).await?;
    let role = role_of(&state, &claims, &known);
    let grant = Grant {
        permissions: state.policy.permissions_of(&role)?,
        room,
        user: claims.sub.clone(),
        role,
        name: display_name(&name)?.or_else(|| claims.name.clone()),
        metadata: metadata(meta, state.policy.metadata_max())?,
        caller: CallerId::user(),
        region: named("region", &region, Region::parse)?,
        ttl_s: state.policy.default_ttl_s(),
    };
    let refresh = wants_refresh(&refresh)?;
    let lobby = would_wait(&state, &grant, &known)?;
    let answer = answer(&state, grant, refresh, lobby).await?;
    // The last step: what is given is dated before it, and so is what brings the next one.
    state.judge_anew(&subject_of(&claims)).await?;
    Ok(answer)
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

fn life(state: &AuthState, raw: &Raw) -> Result<u64, Problem> {
    Ok(ttl(raw, state.policy.max_ttl_s())?.unwrap_or_else(|| state.policy.default_ttl_s()))
}

fn wants_refresh(raw: &Raw) -> Result<bool, Problem> {
    Ok(typed("refresh", raw, "must be true or false")?.unwrap_or(false))
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
    grant: Grant,
    refresh: bool,
    lobby: bool,
) -> Result<HttpResponse, Problem> {
    let (caller, role, region) = (grant.caller.clone(), grant.role.clone(), grant.region.clone());
    let kind = if caller == CallerId::user() { CallerId::USER } else { "api_key" };
    let issued = first_room_token(state, grant, refresh).await?;
    state.metrics.issued.with_label_values(&[kind]).inc();
    issued.audit("token_issued", caller.as_str(), kind);
    let ice = state.ice.offer(&role, region.as_ref(), issued.grant(), clock::now_s());
    let url = state.room_rules.signal_url.clone();
    let entry = Entry { issued, url, ice_servers: ice.servers, ice_policy: ice.policy, lobby };
    // It holds a password.
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(entry))
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
