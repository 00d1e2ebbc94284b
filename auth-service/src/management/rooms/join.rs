//! `POST /api/rooms/{room}/join`: a user gets a room token with its own user token.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_http::JsonBody;
use signalbox_protocol::{
    id::{CallerId, RegionId, Role, RoomId},
    problem::Problem,
};
use signalbox_rooms::room::RoomState;
use signalbox_token::UserClaims;
use utoipa::ToSchema;

use super::{
    room_access::{check_not_reserved, room_in_request},
    room_principal::is_proven_creator,
    room_token::{RoomTokenResponse, load_or_new_room, respond_with_room_token, would_enter_lobby},
};
use crate::{
    auth::issuer::RoomTokenTerms,
    context::{
        authorization::{authorize_user, user_access_subject},
        member_types::{DisplayName, MetadataObject},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The peer that will join.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoomJoinRequest {
    /// The display name.
    name: Option<DisplayName>,
    metadata: Option<MetadataObject>,
    /// The region of the peer, which selects its TURN servers.
    region: Option<RegionId>,
    /// Whether the response holds a refresh token too.
    refresh: Option<bool>,
}

/// Issues a room token to a user with a user token, if the room would admit the user.
#[utoipa::path(post, path = "/api/rooms/{room}/join", tag = "rooms", operation_id = "rooms_tokens_join",
    params(("room" = RoomId, Path)), request_body = RoomJoinRequest,
    responses((status = 200, body = RoomTokenResponse), ProblemResponses), security(("user" = [])))]
pub(crate) async fn join(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomJoinRequest>,
) -> ApiResult {
    let claims = authorize_user(&request, &service.context)?;
    let room = room_in_request(&request)?;
    let RoomJoinRequest { name, metadata, region, refresh } = body.parse(&claims)?;
    let known_room = load_or_new_room(&service, &room).await?;
    if !known_room.settings.is_created() {
        check_not_reserved(&service, &room)?;
    }
    let metadata_max = service.tokens.grant_policy.load().max_metadata_bytes();
    let terms = join_terms(&service, &claims, room, &known_room)?;
    let terms = RoomTokenTerms {
        name: name.map(DisplayName::into_text).or(terms.name),
        metadata: metadata.map(|json| json.within(metadata_max)).transpose()?,
        region,
        ..terms
    };
    let lobby = would_enter_lobby(&service, &terms, &known_room)?;
    let response = respond_with_room_token(&service, terms, refresh.unwrap_or(false), lobby).await?;
    // The last step, because the issued tokens are dated before it.
    let root = claims.credential_root();
    service.context.refresh_and_check_access(&user_access_subject(&claims, &root)).await?;
    Ok(response)
}

/// The terms of a token for a user in a room.
///
/// # Errors
/// 403 `role_not_allowed`.
pub(crate) fn join_terms(
    service: &ManagementService,
    claims: &UserClaims,
    room: RoomId,
    known_room: &RoomState,
) -> Result<RoomTokenTerms, Problem> {
    let role = role_in_room(service, claims, &room, known_room);
    Ok(RoomTokenTerms {
        permissions: service.tokens.grant_policy.load().permissions_of(&role)?,
        room,
        user: claims.sub.clone(),
        role,
        name: claims.name.clone(),
        metadata: None,
        caller: CallerId::user(),
        root: claims.credential_root(),
        creation: known_room.settings.creation_id.clone(),
        region: None,
        ttl_s: service.tokens.grant_policy.load().default_ttl_s(),
    })
}

/// The role of a user in a room. The creator of the room has a role of its own.
fn role_in_room(service: &ManagementService, claims: &UserClaims, id: &RoomId, room: &RoomState) -> Role {
    let is_own = |_: &&Role| is_proven_creator(&service.tokens.keys, id, &room.settings, &claims.sub);
    let room_settings = service.room_settings.load();
    let own = room_settings.creator_role.as_ref().filter(is_own);
    own.cloned().unwrap_or_else(|| claims.role.clone())
}
