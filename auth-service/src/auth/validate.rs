//! `/auth/validate`: a room token is verified and its claims are shown.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use signalbox_access::AccessSubject;
use signalbox_http::JsonBody;
use signalbox_protocol::{
    CredentialRoot, clock,
    id::{CallerId, CreationId, RegionId, Role, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_token::{RoomClaims, TokenError, scope::Scope};
use utoipa::ToSchema;

use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::{bearer_room_token, check_site},
        member_types::{DisplayName, MetadataObject},
        principal::{DerivedRight, LostRight},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
};

/// A valid token.
#[derive(Serialize, ToSchema)]
pub(crate) struct ValidateResponse {
    /// Always true: an invalid token is a 401.
    valid: bool,
    /// The claims of the token (docs/PROTOCOL.md, section 1).
    claims: RoomClaimsView,
}

/// The claims of a room token. Times are seconds since 1970.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomClaims)]
struct RoomClaimsView {
    iss: String,
    aud: String,
    sub: UserId,
    room: RoomId,
    role: Role,
    /// The permissions of the role when the token was issued.
    #[schema(value_type = Vec<String>)]
    permissions: Arc<[Arc<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DisplayName>)]
    name: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MetadataObject>)]
    metadata: Option<Arc<RawValue>>,
    caller: CallerId,
    /// The root of the token: `key:ID`, `provider:ISSUER`, `app` or `guest`.
    #[schema(value_type = String)]
    root: CredentialRoot,
    /// The creation of the room, if the API has created the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    creation: Option<CreationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<RegionId>,
    iat: u64,
    nbf: u64,
    exp: u64,
    /// When the last credential of the grant expires, refreshed tokens included.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_exp: Option<u64>,
    /// `GRANT` or `GRANT.N`: all tokens of a grant have the same text before the dot.
    #[schema(value_type = String)]
    jti: TokenId,
}

impl From<RoomClaims> for RoomClaimsView {
    fn from(claims: RoomClaims) -> Self {
        Self {
            root: claims.credential_root(),
            creation: claims.creation,
            iss: claims.iss,
            aud: claims.aud,
            sub: claims.sub,
            room: claims.room,
            role: claims.role,
            permissions: claims.permissions,
            name: claims.name,
            metadata: claims.metadata,
            caller: claims.caller,
            region: claims.region,
            iat: claims.iat,
            nbf: claims.nbf,
            exp: claims.exp,
            grant_exp: claims.grant_exp,
            jti: claims.jti,
        }
    }
}

/// A token to validate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValidateRequest {
    token: String,
}

/// Validates the room token in `Authorization: Bearer` (RFC 6750, section 2.1).
#[utoipa::path(get, path = "/auth/validate", tag = "tokens",
    responses((status = 200, body = ValidateResponse), ProblemResponses), security(("token" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<TokenService>) -> ApiResult {
    check_site(&request, &service.context)?;
    validate_response(&service, bearer_room_token(&request))
}

/// Validates the room token in the body, where no log of headers can hold it.
#[utoipa::path(post, path = "/auth/validate", tag = "tokens", request_body = ValidateRequest,
    responses((status = 200, body = ValidateResponse), ProblemResponses), security(()))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody<ValidateRequest>,
) -> ApiResult {
    let site = check_site(&request, &service.context)?;
    let ValidateRequest { token } = body.parse(&site)?;
    validate_response(&service, Ok(&token))
}

fn validate_response(service: &TokenService, token: Result<&str, TokenError>) -> ApiResult {
    let verified = verify_room_token(service, token);
    let outcome = verified.as_ref().map_or_else(|problem| problem.code, |_| "valid");
    service.context.metrics.validated.with_label_values(&[outcome]).inc();
    Ok(HttpResponse::Ok().json(ValidateResponse { valid: true, claims: verified?.into() }))
}

/// The claims of a room token, if it is valid here and now.
pub(crate) fn verify_room_token(
    service: &TokenService,
    token: Result<&str, TokenError>,
) -> Result<RoomClaims, Problem> {
    let verified = token.and_then(|token| service.context.verifier.verify_room_token(token, clock::now_s()));
    let claims = verified.map_err(TokenError::to_problem)?;
    let root = claims.credential_root();
    service.context.check_access(&room_access_subject(&claims, &root))?;
    // A token that names no root was signed by the application itself, which may name any caller.
    let right = DerivedRight {
        root: claims.root.as_ref().unwrap_or(&CredentialRoot::App),
        scope: Some(Scope::Tokens),
        room: Some(&claims.room),
        role: Some(&claims.role),
        issues: false,
    };
    service.context.still_allowed(&right).map_err(LostRight::to_problem)?;
    Ok(claims)
}

/// The access subject of a room token.
pub(crate) fn room_access_subject<'a>(claims: &'a RoomClaims, root: &'a CredentialRoot) -> AccessSubject<'a> {
    AccessSubject {
        user: &claims.sub,
        room: Some(&claims.room),
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        root: Some(root),
        address: None,
    }
}
