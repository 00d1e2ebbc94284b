//! `/auth/validate`

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use signalbox_access::Subject;
use signalbox_http::check_origin;
use signalbox_protocol::{clock, problem::Problem};
use signalbox_token::{RoomClaims, TokenError};
use utoipa::ToSchema;

use super::{
    Answered, Body, State,
    doc::Problems,
    forms::{CallerName, DisplayName, Metadata, RegionName, RoleName, RoomName, UserName},
    members, room_token_of,
};
use crate::AuthState;

/// A good token.
#[derive(Serialize, ToSchema)]
pub(super) struct Valid {
    /// Always true: a bad token is a 401.
    valid: bool,
    /// What it says (docs/PROTOCOL.md, section 1).
    #[schema(value_type = ClaimsView)]
    claims: RoomClaims,
}

/// What a room token says. Times are seconds since 1970.
#[derive(ToSchema)]
#[schema(as = RoomClaims)]
#[expect(dead_code, reason = "the document reads it")]
struct ClaimsView {
    iss: String,
    aud: String,
    sub: UserName,
    room: RoomName,
    role: RoleName,
    /// What the role could do when the token was made.
    permissions: Vec<String>,
    name: Option<DisplayName>,
    metadata: Option<Metadata>,
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
pub(super) struct TokenView {
    token: String,
}

/// Looks at the room token in `Authorization: Bearer` (RFC 6750, section 2.1).
#[utoipa::path(get, path = "/auth/validate", tag = "tokens",
    responses((status = 200, body = Valid), Problems), security(("token" = [])))]
pub(super) async fn get(request: HttpRequest, state: State) -> Answered {
    check_origin(request.headers(), &state.allowed_origins)?;
    answer(&state, room_token_of(&request))
}

/// Looks at the room token in the body, where no header log sees it.
#[utoipa::path(post, path = "/auth/validate", tag = "tokens", request_body = TokenView,
    responses((status = 200, body = Valid), Problems), security(()))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    check_origin(request.headers(), &state.allowed_origins)?;
    let [token] = members(body, ["token"])?;
    let token: Option<String> = token.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let not_text = || Problem::new(400, "bad_request", "token must be a string").field("token");
    answer(&state, Ok(&token.ok_or_else(not_text)?))
}

fn answer(state: &AuthState, token: Result<&str, TokenError>) -> Answered {
    let verdict = claims(state, token);
    let outcome = verdict.as_ref().map_or_else(|problem| problem.code, |_| "valid");
    state.metrics.validated.with_label_values(&[outcome]).inc();
    Ok(HttpResponse::Ok().json(Valid { valid: true, claims: verdict? }))
}

/// What a room token says, if it is good here and now.
pub(super) fn claims(state: &AuthState, token: Result<&str, TokenError>) -> Result<RoomClaims, Problem> {
    let verified = token.and_then(|token| state.verifier.room(token, clock::now_s()));
    let claims = verified.map_err(TokenError::problem)?;
    state.judge(&subject_of(&claims))?;
    Ok(claims)
}

/// A room token, as rules are asked about it.
pub(super) fn subject_of(claims: &RoomClaims) -> Subject<'_> {
    Subject {
        user: &claims.sub,
        room: Some(&claims.room),
        grant: claims.grant(),
        issued_s: Some(claims.iat),
        issuer: Some(claims.caller.as_str()),
        address: None,
    }
}
