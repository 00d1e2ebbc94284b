//! The common steps of `token.rs` and `join.rs`: the room, its lobby and the response.

use std::sync::Arc;

use actix_web::{HttpResponse, http::header};
use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, IceServer, clock,
    id::{CallerId, NodeId, PeerId, RoomId, TokenId, random_hex},
    problem::Problem,
};
use signalbox_rooms::room::{Member, PeerAttachment, RoomInput, RoomState, decide};
use utoipa::ToSchema;

use super::room_access::{room_store, room_store_problem};
use crate::{
    auth::{
        issuer::RoomTokenTerms,
        token_issuer::{TokenResponse, issue_room_token},
    },
    management::management_service::ManagementService,
};

/// A room token, and the addresses and servers that a client needs to join with it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomTokenResponse {
    #[serde(flatten)]
    issued: TokenResponse,
    /// The URL to connect to.
    url: String,
    /// `RTCConfiguration.iceServers`.
    #[schema(value_type = Vec<IceServer>)]
    ice_servers: Arc<[IceServer]>,
    /// `RTCConfiguration.iceTransportPolicy`.
    ice_policy: IcePolicy,
    /// Whether a peer with this token would wait in the lobby now.
    lobby: bool,
}

/// The room, or the room that a join would create.
pub(crate) async fn load_or_new_room(
    service: &ManagementService,
    room: &RoomId,
) -> Result<RoomState, Problem> {
    let found = room_store(service)?.load_room(room).await.map_err(room_store_problem)?;
    let existing = found.room.filter(|room| room.exists(found.now));
    Ok(existing.unwrap_or_else(|| RoomState {
        read_at: found.now,
        ..RoomState::new(random_hex().into(), found.replication_id)
    }))
}

/// Issues the token and responds with it.
pub(crate) async fn respond_with_room_token(
    service: &ManagementService,
    terms: RoomTokenTerms,
    refresh: bool,
    lobby: bool,
) -> Result<HttpResponse, Problem> {
    let (caller, role, region) = (terms.caller.clone(), terms.role.clone(), terms.region.clone());
    let kind = if caller == CallerId::user() { CallerId::USER } else { "api_key" };
    let issued = issue_room_token(&service.tokens, terms, refresh).await?;
    service.context.metrics.issued.with_label_values(&[kind]).inc();
    issued.log_issued("token_issued", caller.as_str(), kind);
    let ice = service.tokens.ice.client_config(&role, region.as_ref(), issued.grant(), clock::now_s());
    let url = service.room_settings.load().signal_url.clone();
    let response = RoomTokenResponse { issued, url, ice_servers: ice.servers, ice_policy: ice.policy, lobby };
    // The response holds a TURN password.
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(response))
}

/// Whether a peer with these terms would wait in the lobby now.
///
/// # Errors
/// Why its join would be refused.
pub(crate) fn would_enter_lobby(
    service: &ManagementService,
    terms: &RoomTokenTerms,
    room: &RoomState,
) -> Result<bool, Problem> {
    let peer = PeerId::random();
    let member = Member {
        user: terms.user.clone(),
        role: terms.role.clone(),
        permissions: terms.permissions.clone(),
        token: TokenId::random(),
        issued: 0,
        expires: 0,
        grant_expires: None,
        caller: terms.caller.clone(),
        root: Some(terms.root.clone()),
        creation: terms.creation.clone(),
        region: None,
        name: "".into(),
        metadata: Arc::from(RawValue::from_string("{}".to_owned()).unwrap_or_default()),
        waiting: false,
        muted: false,
        has_assigned_permissions: false,
        attachment: PeerAttachment::Attached(NodeId::from_bits(0)),
        epoch: 1,
        generation: 1,
        mailbox_version: 1,
    };
    let input = RoomInput::Join { peer: peer.clone(), member: Box::new(member) };
    let decision = decide(room, room.read_at, &[input], &service.room_policy_in_force());
    match decision.outcomes.first().and_then(|outcome| outcome.refusal()) {
        Some(refusal) => Err(refusal.to_problem()),
        None => Ok(decision.next_state.members.get(&peer).is_some_and(|member| member.waiting)),
    }
}
