//! `/api/rooms/{room}/token` for backends, `/api/rooms/{room}/join` for users

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, IceServer, clock,
    id::{CallerId, NodeId, PeerId, RegionId, Role, RoomId, TokenId, UserId, random_hex},
    problem::Problem,
};
use signalbox_rooms::room::{Member, PeerAttachment, RoomCreatorKind, RoomInput, RoomState, decide};
use signalbox_token::UserClaims;
use signalbox_token::scope::Scope;

use utoipa::ToSchema;

use super::{
    no_such_room, outcome_problem, room_in_request,
    room_principal::{self, authorize_in_room},
    room_store, room_store_problem,
};
use crate::{
    auth::{
        issuer::RoomTokenTerms,
        token_response::{TokenResponse, issue_room_token},
    },
    context::{
        authorization::user_access_subject,
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{
            DisplayName, IceServerView, IceTransportPolicy, MetadataObject, RegionName, RoleName, RoomPath,
            UserName,
        },
        token_request::{RawMember, parse_display_name, parse_member, parse_metadata, parse_name, parse_ttl},
    },
    management::access_rules,
    management::management_service::ManagementService,
};

/// A token, and what to come with it needs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomTokenResponse {
    #[serde(flatten)]
    issued: TokenResponse,
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
pub(crate) struct RoomJoinRequest {
    /// The name to show.
    name: Option<DisplayName>,
    metadata: Option<MetadataObject>,
    /// Where the peer is, for the choice of a TURN server.
    region: Option<RegionName>,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
}

/// For whom.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RoomTokenRequest {
    user: UserName,
    role: Option<RoleName>,
    name: Option<DisplayName>,
    /// Seconds; at most the configured life.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl: Option<u64>,
    metadata: Option<MetadataObject>,
    /// Where the peer is, for the choice of a TURN server.
    region: Option<RegionName>,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
}

/// Makes a token for a user of the backend's choice. Locks and limits of the room are asked when it joins.
#[utoipa::path(post, path = "/api/rooms/{room}/token", tag = "rooms", operation_id = "rooms_tokens_token",
    params(RoomPath), request_body = RoomTokenRequest,
    responses((status = 200, body = RoomTokenResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn token(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Tokens)?;
    let [user, role, name, lasts, meta, region, refresh] =
        read_members(body, ["user", "role", "name", "ttl", "metadata", "region", "refresh"])?;
    let user =
        parse_name("user", &user, UserId::parse)?.ok_or_else(|| access_rules::missing_rule_member("user"))?;
    let role = parse_name("role", &role, Role::parse)?
        .unwrap_or_else(|| service.tokens.grant_policy.default_role().clone());
    let grant = RoomTokenTerms {
        permissions: service.tokens.grant_policy.permissions_of(&role)?,
        room,
        user,
        role,
        name: parse_display_name(&name)?,
        metadata: parse_metadata(meta, service.tokens.grant_policy.max_metadata_bytes())?,
        caller,
        region: parse_name("region", &region, RegionId::parse)?,
        ttl_s: parse_life(&service, &lasts)?,
    };
    let refresh = parse_wants_refresh(&refresh)?;
    let known = load_or_implicit_room(&service, &grant.room).await?;
    let lobby = match would_enter_lobby(&service, &grant, &known) {
        Err(problem) if problem.code == "room_not_allowed" => return Err(no_such_room().into()),
        judged => judged.unwrap_or(false),
    };
    Ok(issue_room_token_response(&service, grant, refresh, lobby).await?)
}

/// A user comes in with its own token, if the room takes it.
#[utoipa::path(post, path = "/api/rooms/{room}/join", tag = "rooms", operation_id = "rooms_tokens_join",
    params(RoomPath), request_body = RoomJoinRequest,
    responses((status = 200, body = RoomTokenResponse), ProblemResponses), security(("user" = [])))]
pub(crate) async fn join(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let claims = room_principal::authorize_room_user(&request, &service)?;
    let room = room_in_request(&request)?;
    let [name, meta, region, refresh] = read_members(body, ["name", "metadata", "region", "refresh"])?;
    let known = load_or_implicit_room(&service, &room).await?;
    let role = role_in_room(&service, &claims, &known);
    let grant = RoomTokenTerms {
        permissions: service.tokens.grant_policy.permissions_of(&role)?,
        room,
        user: claims.sub.clone(),
        role,
        name: parse_display_name(&name)?.or_else(|| claims.name.clone()),
        metadata: parse_metadata(meta, service.tokens.grant_policy.max_metadata_bytes())?,
        caller: CallerId::user(),
        region: parse_name("region", &region, RegionId::parse)?,
        ttl_s: service.tokens.grant_policy.default_ttl_s(),
    };
    let refresh = parse_wants_refresh(&refresh)?;
    let lobby = would_enter_lobby(&service, &grant, &known)?;
    let answer = issue_room_token_response(&service, grant, refresh, lobby).await?;
    // The last step: what is given is dated before it, and so is what brings the next one.
    service.context.refresh_and_check_access(&user_access_subject(&claims)).await?;
    Ok(answer)
}

/// Who has made a room has a role of its own there.
fn role_in_room(service: &ManagementService, claims: &UserClaims, room: &RoomState) -> Role {
    let is_own =
        room.settings.created_by.as_ref().is_some_and(|creator| {
            creator.kind == RoomCreatorKind::User && *creator.id == *claims.sub.as_str()
        });
    let own = service.room_settings.creator_role.as_ref().filter(|_| is_own);
    own.cloned().unwrap_or_else(|| claims.role.clone())
}

fn parse_life(service: &ManagementService, raw: &RawMember) -> Result<u64, Problem> {
    Ok(parse_ttl(raw, service.tokens.grant_policy.max_ttl_s())?
        .unwrap_or_else(|| service.tokens.grant_policy.default_ttl_s()))
}

fn parse_wants_refresh(raw: &RawMember) -> Result<bool, Problem> {
    Ok(parse_member("refresh", raw, "must be true or false")?.unwrap_or(false))
}

/// The room as it is, or as it would be made by joining.
async fn load_or_implicit_room(service: &ManagementService, room: &RoomId) -> Result<RoomState, Problem> {
    let found = room_store(service)?.load_room(room).await.map_err(room_store_problem)?;
    let there = found.room.filter(|room| room.exists(found.now));
    Ok(there.unwrap_or_else(|| RoomState {
        read_at: found.now,
        ..RoomState::new(random_hex().into(), found.replication_id)
    }))
}

/// Signs, where nothing was taken back.
async fn issue_room_token_response(
    service: &ManagementService,
    grant: RoomTokenTerms,
    refresh: bool,
    lobby: bool,
) -> Result<HttpResponse, Problem> {
    let (caller, role, region) = (grant.caller.clone(), grant.role.clone(), grant.region.clone());
    let kind = if caller == CallerId::user() { CallerId::USER } else { "api_key" };
    let issued = issue_room_token(&service.tokens, grant, refresh).await?;
    service.context.metrics.issued.with_label_values(&[kind]).inc();
    issued.log_issued("token_issued", caller.as_str(), kind);
    let ice = service.tokens.ice.client_config(&role, region.as_ref(), issued.grant(), clock::now_s());
    let url = service.room_settings.signal_url.clone();
    let entry = RoomTokenResponse { issued, url, ice_servers: ice.servers, ice_policy: ice.policy, lobby };
    // It holds a password.
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(entry))
}

/// Whether it would wait, were it to join now.
///
/// # Errors
/// Why it would not be let in.
fn would_enter_lobby(
    service: &ManagementService,
    grant: &RoomTokenTerms,
    known: &RoomState,
) -> Result<bool, Problem> {
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
        attachment: PeerAttachment::Attached(NodeId::from_bits(0)),
        epoch: 1,
        generation: 1,
        mailbox_version: 1,
    };
    let input = RoomInput::Join { peer: peer.clone(), member: Box::new(member) };
    let decision = decide(known, known.read_at, &[input], &service.room_policy_in_force());
    match decision.outcomes.first().copied().and_then(outcome_problem) {
        Some(problem) => Err(problem),
        None => Ok(decision.next_state.members.get(&peer).is_some_and(|member| member.waiting)),
    }
}
