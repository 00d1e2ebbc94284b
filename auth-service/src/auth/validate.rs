//! `/auth/validate`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use signalbox_access::AccessSubject;
use signalbox_http::check_origin;
use signalbox_protocol::{clock, problem::Problem};
use signalbox_token::{RoomClaims, TokenError};
use utoipa::ToSchema;

use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::bearer_room_token,
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::{CallerName, DisplayName, MetadataObject, RegionName, RoleName, RoomName, UserName},
    },
};

/// A good token.
#[derive(Serialize, ToSchema)]
pub(crate) struct ValidateResponse {
    /// Always true: a bad token is a 401.
    valid: bool,
    /// What it says (docs/PROTOCOL.md, section 1).
    #[schema(value_type = RoomClaimsView)]
    claims: RoomClaims,
}

/// What a room token says. Times are seconds since 1970.
#[derive(ToSchema)]
#[schema(as = RoomClaims)]
#[expect(dead_code, reason = "the document reads it")]
struct RoomClaimsView {
    iss: String,
    aud: String,
    sub: UserName,
    room: RoomName,
    role: RoleName,
    /// What the role could do when the token was made.
    permissions: Vec<String>,
    name: Option<DisplayName>,
    metadata: Option<MetadataObject>,
    caller: CallerName,
    region: Option<RegionName>,
    iat: u64,
    nbf: u64,
    exp: u64,
    /// `GRANT` or `GRANT.N`: what stands before the dot is the same for all tokens of one making.
    jti: String,
}

/// A token to look at.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct ValidateRequest {
    token: String,
}

/// Looks at the room token in `Authorization: Bearer` (RFC 6750, section 2.1).
#[utoipa::path(get, path = "/auth/validate", tag = "tokens",
    responses((status = 200, body = ValidateResponse), ProblemResponses), security(("token" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<TokenService>) -> ApiResult {
    check_origin(request.headers(), &service.context.allowed_origins)?;
    validate_response(&service, bearer_room_token(&request))
}

/// Looks at the room token in the body, where no header log sees it.
#[utoipa::path(post, path = "/auth/validate", tag = "tokens", request_body = ValidateRequest,
    responses((status = 200, body = ValidateResponse), ProblemResponses), security(()))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody,
) -> ApiResult {
    check_origin(request.headers(), &service.context.allowed_origins)?;
    let [token] = read_members(body, ["token"])?;
    let token: Option<String> = token.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let not_text = || Problem::new(400, "bad_request", "token must be a string").with_field("token");
    validate_response(&service, Ok(&token.ok_or_else(not_text)?))
}

fn validate_response(service: &TokenService, token: Result<&str, TokenError>) -> ApiResult {
    let verdict = verify_room_token(service, token);
    let outcome = verdict.as_ref().map_or_else(|problem| problem.code, |_| "valid");
    service.context.metrics.validated.with_label_values(&[outcome]).inc();
    Ok(HttpResponse::Ok().json(ValidateResponse { valid: true, claims: verdict? }))
}

/// What a room token says, if it is good here and now.
pub(crate) fn verify_room_token(
    service: &TokenService,
    token: Result<&str, TokenError>,
) -> Result<RoomClaims, Problem> {
    let verified = token.and_then(|token| service.context.verifier.verify_room_token(token, clock::now_s()));
    let claims = verified.map_err(TokenError::to_problem)?;
    service.context.check_access(&room_access_subject(&claims))?;
    Ok(claims)
}

/// A room token, as rules are asked about it.
pub(crate) fn room_access_subject(claims: &RoomClaims) -> AccessSubject<'_> {
    AccessSubject {
        user: &claims.sub,
        room: Some(&claims.room),
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        issuer: Some(claims.caller.as_str()),
        address: None,
    }
}
