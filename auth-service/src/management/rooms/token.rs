//! `POST /api/rooms/{room}/token`: an application gets a room token for a user.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_http::JsonBody;
use signalbox_protocol::id::{RegionId, Role, RoomId, UserId};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    room_access::no_such_room,
    room_principal::authorize_in_room,
    room_token::{RoomTokenResponse, load_or_new_room, respond_with_room_token, would_enter_lobby},
};
use crate::{
    context::{
        member_types::{DisplayName, MetadataObject, UncheckedNumber},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// A request for a room token.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoomTokenRequest {
    user: UserId,
    role: Option<Role>,
    name: Option<DisplayName>,
    metadata: Option<MetadataObject>,
    /// The region of the peer, which selects its TURN servers.
    region: Option<RegionId>,
    /// The life of the token, seconds; at most the configured one.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    ttl: Option<UncheckedNumber>,
    /// Whether the response holds a refresh token too.
    refresh: Option<bool>,
}

/// Issues a room token for a user that the application names. Locks and limits of the room are
/// checked at the join.
#[utoipa::path(post, path = "/api/rooms/{room}/token", tag = "rooms", operation_id = "rooms_tokens_token",
    params(("room" = RoomId, Path)), request_body = RoomTokenRequest,
    responses((status = 200, body = RoomTokenResponse), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn token(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomTokenRequest>,
) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Tokens)?;
    let RoomTokenRequest { user, role, name, metadata, region, ttl, refresh } = body.parse(&caller)?;
    let policy = service.tokens.grant_policy.load();
    let mut terms = policy.terms_for_user(&caller, (room, user), (role, ttl), (name, metadata, region))?;
    let known_room = load_or_new_room(&service, &terms.room).await?;
    terms.creation = known_room.settings.creation_id.clone();
    let lobby = match would_enter_lobby(&service, &terms, &known_room) {
        Err(problem) if problem.code == "room_not_allowed" => return Err(no_such_room().into()),
        would_wait => would_wait.unwrap_or(false),
    };
    Ok(respond_with_room_token(&service, terms, refresh.unwrap_or(false), lobby).await?)
}
