//! `POST /api/rooms/{room}/join`: a user gets a room token with its own user token.

use actix_web::{HttpRequest, web};
use signalbox_protocol::id::{CallerId, RegionId, Role};
use signalbox_rooms::room::{RoomCreatorKind, RoomState};
use signalbox_token::UserClaims;
use utoipa::ToSchema;

use super::{
    room_access::room_in_request,
    room_principal,
    room_token::{
        RoomTokenResponse, issue_room_token_response, load_or_implicit_room, parse_wants_refresh,
        would_enter_lobby,
    },
};
use crate::{
    auth::issuer::RoomTokenTerms,
    context::{
        authorization::user_access_subject,
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{DisplayName, MetadataObject, RegionName, RoomPath},
        token_request::{parse_display_name, parse_metadata, parse_name},
    },
    management::management_service::ManagementService,
};

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
pub(crate) fn role_in_room(service: &ManagementService, claims: &UserClaims, room: &RoomState) -> Role {
    let is_own =
        room.settings.created_by.as_ref().is_some_and(|creator| {
            creator.kind == RoomCreatorKind::User && *creator.id == *claims.sub.as_str()
        });
    let own = service.room_settings.creator_role.as_ref().filter(|_| is_own);
    own.cloned().unwrap_or_else(|| claims.role.clone())
}
