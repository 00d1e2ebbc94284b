//! `/api/rooms/{room}/participants`: lists, changes, removes, admits or rejects the peers of a room.
//!
//! The HTTP API calls a peer a participant, so the types of its answers do too. The other code says
//! peer; a `Member` is the record that the room keeps of a peer.
//!
//! The scope `rooms` lets an application read and change peers: roles and mutes. The scope
//! `moderate` decides who is in the room: it is needed to remove, admit or reject peers.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_http::{JsonBody, bad_field};
use signalbox_protocol::{
    LeaveReason,
    id::{PeerId, Role, RoomId, UserId},
    problem::Problem,
};
use signalbox_rooms::room::{InputOutcome, PeerSelector, RoomAction};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::{
    room_access::{change_room, load_room, log_room_change, no_such_peer},
    room_principal::authorize_in_room,
    views::ParticipantView,
};
use crate::{
    context::{problem_responses::ProblemResponses, request::ApiResult},
    management::management_service::ManagementService,
};

/// The peers of a room and of its lobby.
#[derive(Serialize, ToSchema)]
pub(crate) struct ParticipantList<'a> {
    participants: Vec<ParticipantView<'a>>,
}

/// How many peers were removed.
#[derive(Serialize, ToSchema)]
pub(crate) struct RemovalResponse {
    removed: usize,
}

fn peer_in_request(request: &HttpRequest) -> Result<PeerId, Problem> {
    PeerId::parse(request.match_info().get("peer").unwrap_or_default()).map_err(|_| no_such_peer())
}

/// `Removed` has the count for a role or a user, which may be 0. Any other outcome is that of one
/// selected peer, who was present: the change of the room fails otherwise.
fn removal_response(outcome: InputOutcome) -> HttpResponse {
    let removed = if let InputOutcome::Removed(count) = outcome { count } else { 1 };
    HttpResponse::Ok().json(RemovalResponse { removed })
}

/// A change of a peer. At least one of the fields must be given.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ParticipantUpdateRequest {
    role: Option<Role>,
    muted: Option<bool>,
}

/// The decision about a peer in the lobby. The API calls a rejection `deny`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LobbyDecision {
    Admit,
    #[serde(rename = "deny")]
    Reject,
}

/// Lists the peers of the room and of its lobby.
#[utoipa::path(get, path = "/api/rooms/{room}/participants", tag = "rooms", operation_id = "rooms_participants_list",
    params(("room" = RoomId, Path)),
    responses((status = 200, body = ParticipantList), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn list(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (_, room) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let state = load_room(&service, &room).await?;
    let participants =
        state.members.iter().map(|(peer, member)| ParticipantView::new(peer, member)).collect();
    Ok(HttpResponse::Ok().json(ParticipantList { participants }))
}

/// Changes the role of a peer, or mutes or unmutes the peer. The role is changed first; the two
/// changes are not one step.
#[utoipa::path(patch, path = "/api/rooms/{room}/participants/{peer}", tag = "rooms", operation_id = "rooms_participants_patch",
    params(("room" = RoomId, Path), ("peer" = PeerId, Path)), request_body = ParticipantUpdateRequest,
    responses((status = 200, body = ParticipantView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn patch(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<ParticipantUpdateRequest>,
) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let peer = peer_in_request(&request)?;
    let ParticipantUpdateRequest { role, muted } = body.parse(&caller)?;
    if role.is_none() && muted.is_none() {
        return Err(bad_field("role", "or muted must be given").into());
    }
    if let Some(role) = role {
        let permissions = service.tokens.grant_policy.load().permissions_of(&role)?;
        let ice_policy = Some(service.room_settings.load().ice_policy_of(&role));
        change_room(
            &service,
            &room,
            RoomAction::SetRole { peer: peer.clone(), role, permissions, ice_policy },
        )
        .await?;
        log_room_change("role_changed", &caller.id(), &room);
    }
    if let Some(muted) = muted {
        change_room(&service, &room, RoomAction::Mute { peer: peer.clone(), muted }).await?;
        log_room_change(if muted { "peer_muted" } else { "peer_unmuted" }, &caller.id(), &room);
    }
    let state = load_room(&service, &room).await?;
    let member = state.members.get(&peer).ok_or_else(no_such_peer)?;
    Ok(HttpResponse::Ok().json(ParticipantView::new(&peer, member)))
}

/// Removes a peer. The peer cannot return with its token or its resume handle.
#[utoipa::path(delete, path = "/api/rooms/{room}/participants/{peer}", tag = "rooms", operation_id = "rooms_participants_remove",
    params(("room" = RoomId, Path), ("peer" = PeerId, Path)),
    responses((status = 200, body = RemovalResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn remove(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let peer = peer_in_request(&request)?;
    let removal = RoomAction::Remove { selector: PeerSelector::Peer(peer), reason: LeaveReason::Removed };
    let (outcome, _) = change_room(&service, &room, removal).await?;
    log_room_change("peer_removed", &caller.id(), &room);
    Ok(removal_response(outcome))
}

/// Selects all peers with a role, or all peers of a user. Exactly one is given.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParticipantQuery {
    /// All peers with this role.
    role: Option<String>,
    /// All peers of this user.
    user: Option<String>,
}

/// Removes all peers with a role, or all peers of a user.
#[utoipa::path(delete, path = "/api/rooms/{room}/participants", tag = "rooms", operation_id = "rooms_participants_remove_some",
    params(("room" = RoomId, Path), ParticipantQuery),
    responses((status = 200, body = RemovalResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn remove_matching_peers(
    request: HttpRequest,
    service: web::Data<ManagementService>,
) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let query = web::Query::<ParticipantQuery>::from_query(request.query_string());
    let selector = match query.map(web::Query::into_inner) {
        Ok(ParticipantQuery { role: Some(role), user: None }) => {
            PeerSelector::Role(Role::parse(&role).map_err(|bad| bad_field("role", bad))?)
        }
        Ok(ParticipantQuery { role: None, user: Some(user) }) => {
            PeerSelector::User(UserId::parse(&user).map_err(|bad| bad_field("user", bad))?)
        }
        _ => {
            return Err(bad_field("role", "or user must be in the query, exactly one of them").into());
        }
    };
    let (outcome, _) =
        change_room(&service, &room, RoomAction::Remove { selector, reason: LeaveReason::Removed }).await?;
    log_room_change("peers_removed", &caller.id(), &room);
    Ok(removal_response(outcome))
}

/// Admits a peer from the lobby, or rejects the peer.
#[utoipa::path(post, path = "/api/rooms/{room}/participants/{peer}/{verb}", tag = "rooms", operation_id = "rooms_participants_decide",
    params(("room" = RoomId, Path), ("peer" = PeerId, Path), ("verb" = inline(LobbyDecision), Path, description = "The action")),
    responses((status = 204, description = "The decision is applied"), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn decide_lobby_peer(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    path: web::Path<(String, String, LobbyDecision)>,
) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let peer = peer_in_request(&request)?;
    let (event, action) = match path.2 {
        LobbyDecision::Admit => ("peer_admitted", RoomAction::Admit(peer)),
        LobbyDecision::Reject => ("peer_denied", RoomAction::Reject(peer)),
    };
    change_room(&service, &room, action).await?;
    log_room_change(event, &caller.id(), &room);
    Ok(HttpResponse::NoContent().finish())
}
