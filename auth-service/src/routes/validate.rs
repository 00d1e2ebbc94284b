//! `/auth/validate`

use std::net::IpAddr;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use signalbox_control::Subject;
use signalbox_http::{ApiError, check_origin};
use signalbox_shared::{
    clock,
    problem::Problem,
    token::{RoomClaims, TokenError},
};

use super::{Body, authorization, members};
use crate::AuthState;

#[derive(Serialize)]
struct Valid {
    valid: bool,
    claims: RoomClaims,
}

/// The token in `Authorization: Bearer` (RFC 6750, section 2.1).
pub(super) async fn get(request: HttpRequest, state: web::Data<AuthState>) -> Result<HttpResponse, ApiError> {
    check_origin(request.headers(), &state.allowed_origins)?;
    let token = match authorization(&request) {
        Some(header) => bearer(header).ok_or(TokenError::Malformed),
        None => Err(TokenError::Missing),
    };
    answer(&state, state.client(&request), token)
}

/// The token in the body, where no header log sees it.
pub(super) async fn post(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    check_origin(request.headers(), &state.allowed_origins)?;
    let [token] = members(body, ["token"])?;
    let token: Option<String> = token.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let not_text = || Problem::new(400, "bad_request", "token must be a string").field("token");
    answer(&state, state.client(&request), Ok(&token.ok_or_else(not_text)?))
}

fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn answer(
    state: &AuthState,
    address: Option<IpAddr>,
    token: Result<&str, TokenError>,
) -> Result<HttpResponse, ApiError> {
    let verified = token.and_then(|token| state.verifier.room(token, clock::now_s()));
    let verdict = verified.map_err(TokenError::problem).and_then(|claims| {
        let subject = Subject {
            user: &claims.sub,
            room: Some(&claims.room),
            grant: claims.grant(),
            issued_s: Some(claims.iat),
            issuer: Some(claims.caller.as_str()),
            address,
        };
        state.judge(&subject)?;
        Ok(claims)
    });
    let outcome = verdict.as_ref().map_or_else(|problem| problem.code, |_| "valid");
    state.metrics.validated.with_label_values(&[outcome]).inc();
    let claims = verdict?;
    Ok(HttpResponse::Ok().json(Valid { valid: true, claims }))
}
