//! `POST /api/rooms/{room}/token`: an application gets a room token for a user.

use actix_web::{HttpRequest, web};
use signalbox_protocol::{
    id::{RegionId, Role, UserId},
    problem::Problem,
};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    room_access::no_such_room,
    room_principal::authorize_in_room,
    room_token::{
        RoomTokenResponse, issue_room_token_response, load_or_implicit_room, parse_wants_refresh,
        would_enter_lobby,
    },
};
use crate::{
    auth::issuer::RoomTokenTerms,
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{DisplayName, MetadataObject, RegionName, RoleName, RoomPath, UserName},
        token_request::{RawMember, parse_display_name, parse_metadata, parse_name, parse_ttl},
    },
    management::{access_rules, management_service::ManagementService},
};

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

pub(crate) fn parse_life(service: &ManagementService, raw: &RawMember) -> Result<u64, Problem> {
    Ok(parse_ttl(raw, service.tokens.grant_policy.max_ttl_s())?
        .unwrap_or_else(|| service.tokens.grant_policy.default_ttl_s()))
}
