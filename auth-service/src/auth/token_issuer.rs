//! From the terms of a token to the response, the same for every route that issues tokens.
//!
//! Owns: the access check before a token is signed, its claims, its refresh family, and how an
//! issue or a refusal is counted and logged. Must not: decide the terms (`issuer/grant_policy.rs`).
//! Next: `keys/` signs.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use signalbox_access::AccessSubject;
use signalbox_http::ApiError;
use signalbox_protocol::{
    clock,
    id::{CreationId, Role, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_rooms::{room::InputOutcome, store::StoreUnavailable};
use signalbox_token::{
    ISSUER, OpaqueToken, OpaqueTokenKind, RoomClaims, TokenClaims, TokenKind, UserClaims, scope::Scope,
};
use utoipa::ToSchema;

use super::{
    credential_store::contract::{CredentialStoreError, FamilyHolder, NewRefreshFamily},
    issuer::{RenewableTerms, RoomTokenTerms, UserTokenTerms, family_id, keyed_digest, new_salt},
};
use crate::{
    auth::token_service::TokenService,
    context::{
        access_check::{IssueTime, NOT_BEFORE_SKEW_S},
        authorization::{CheckedSite, check_site},
        principal::{DerivedRight, LostRight},
        request::ApiResult,
    },
};

/// A token, and the room, user and role in it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenResponse {
    /// The token, a JWT.
    token: String,
    /// The life, seconds.
    expires_in: u64,
    /// The room of a room token.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomId>,
    /// The user.
    user: UserId,
    /// The role.
    role: Role,
    /// A refresh token, valid for one `POST /auth/refresh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// The life of the refresh token, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_expires_in: Option<u64>,
    #[serde(skip)]
    jti: TokenId,
}

impl TokenResponse {
    fn new(
        token: String,
        expires_in: u64,
        (room, user, role): (Option<RoomId>, UserId, Role),
        jti: TokenId,
        refresh: Option<IssuedRefreshToken>,
    ) -> Self {
        let refresh = refresh.map(|IssuedRefreshToken { token, expires_in, .. }| (token, expires_in));
        let (refresh_token, refresh_expires_in) = refresh.unzip();
        Self { token, expires_in, room, user, role, refresh_token, refresh_expires_in, jti }
    }

    /// The grant of the token.
    pub(crate) fn grant(&self) -> &str {
        self.jti.grant()
    }

    /// Logs the issue for the audit, without the token.
    pub(crate) fn log_issued(&self, event: &'static str, caller: &str, kind: &'static str) {
        let Self { room, user, role, expires_in, refresh_token, .. } = self;
        let room = room.as_ref().map(RoomId::as_str);
        tracing::info!(target: "signalbox_auth::audit", event, caller, kind, room, %user, %role,
            ttl_s = expires_in, refresh = refresh_token.is_some(), "{event}");
    }
}

/// A refresh token for the caller.
pub(crate) struct IssuedRefreshToken {
    token: String,
    expires_in: u64,
    /// The end of the refresh family, seconds since 1970.
    family_ends_s: u64,
}

impl IssuedRefreshToken {
    pub(crate) fn new(token: &OpaqueToken, left_ms: u64, family_ends_ms: u64) -> Self {
        let token = token.to_text(OpaqueTokenKind::Refresh);
        Self { token, expires_in: left_ms / 1_000, family_ends_s: family_ends_ms.div_ceil(1_000) }
    }
}

/// The first room token of a grant, with a refresh token if the caller wants one.
pub(crate) async fn issue_room_token(
    service: &TokenService,
    terms: RoomTokenTerms,
    wants_refresh: bool,
) -> Result<TokenResponse, Problem> {
    let RoomTokenTerms { user, room, role, root, .. } = &terms;
    let subject =
        AccessSubject { user, room: Some(room), grant: "", issued_s: None, root: Some(root), address: None };
    service.context.check_access(&subject)?;
    let right =
        DerivedRight { root, scope: Some(Scope::Tokens), room: Some(room), role: Some(role), issues: true };
    service.context.still_allowed(&right).map_err(LostRight::to_problem)?;
    // The refresh family has a date too, so it starts after the wait.
    let time = service.context.wait_for_issue_time(&subject).await;
    let jti = TokenId::random();
    let refresh = match wants_refresh {
        true => Some(start_refresh_family(service, &RenewableTerms::Room(terms.clone()), &jti).await?),
        false => None,
    };
    sign_room_token(service, terms, time, jti, refresh)
}

/// The room token of these terms, with the id `jti`.
pub(crate) fn sign_room_token(
    service: &TokenService,
    terms: RoomTokenTerms,
    IssueTime { issued_s, now_s }: IssueTime,
    jti: TokenId,
    refresh: Option<IssuedRefreshToken>,
) -> Result<TokenResponse, Problem> {
    let exp = now_s + terms.ttl_s;
    // The last token of a family may be issued just before the end of the family.
    let last_exp = refresh.as_ref().map_or(exp, |refresh| refresh.family_ends_s + terms.ttl_s);
    let claims = RoomClaims {
        iss: ISSUER.to_owned(),
        aud: TokenKind::Room.aud().to_owned(),
        sub: terms.user,
        room: terms.room,
        role: terms.role,
        permissions: terms.permissions,
        name: terms.name,
        metadata: terms.metadata,
        caller: terms.caller,
        root: Some(terms.root),
        creation: terms.creation,
        region: terms.region,
        iat: issued_s,
        nbf: now_s.saturating_sub(NOT_BEFORE_SKEW_S),
        exp,
        grant_exp: Some(last_exp.max(exp)),
        jti,
    };
    let token = sign(service, &claims)?;
    let RoomClaims { room, sub, role, jti, .. } = claims;
    Ok(TokenResponse::new(token, terms.ttl_s, (Some(room), sub, role), jti, refresh))
}

/// The user token of these terms, with the id `jti`.
pub(crate) fn sign_user_token(
    service: &TokenService,
    terms: UserTokenTerms,
    IssueTime { issued_s, now_s }: IssueTime,
    jti: TokenId,
    refresh: Option<IssuedRefreshToken>,
) -> Result<TokenResponse, Problem> {
    let claims = UserClaims {
        iss: ISSUER.to_owned(),
        aud: TokenKind::User.aud().to_owned(),
        sub: terms.user,
        role: terms.role,
        name: terms.name,
        root: Some(terms.root),
        iat: issued_s,
        nbf: now_s.saturating_sub(NOT_BEFORE_SKEW_S),
        exp: now_s + terms.ttl_s,
        jti,
    };
    let token = sign(service, &claims)?;
    let UserClaims { sub, role, jti, .. } = claims;
    Ok(TokenResponse::new(token, terms.ttl_s, (None, sub, role), jti, refresh))
}

/// The signed text of claims. Only a fault of the library makes it fail.
pub(crate) fn sign(service: &TokenService, claims: &impl TokenClaims) -> Result<String, Problem> {
    service.keys.sign(claims).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::new(500, "internal", "the token could not be signed; the log of the server says why")
    })
}

/// Starts a family of refresh tokens.
///
/// A user may sign in again at any time, so a user with the most families loses the one that would
/// expire first. Beyond the share of the root no other user loses a family: the request is refused.
///
/// # Errors
/// 409 `refresh_limit`, 503 `overloaded` if Redis has little memory left, and those of the store.
pub(crate) async fn start_refresh_family(
    service: &TokenService,
    terms: &RenewableTerms,
    jti: &TokenId,
) -> Result<IssuedRefreshToken, Problem> {
    service.context.check_store_memory(Some("refresh"))?;
    let token = OpaqueToken::random();
    let lifetimes = service.refresh_lifetimes.load();
    let salt = new_salt();
    let holder = match terms {
        RenewableTerms::Room(RoomTokenTerms { root, user, .. })
        | RenewableTerms::User(UserTokenTerms { root, user, .. }) => {
            FamilyHolder { root: root.clone(), user: user.clone() }
        }
    };
    let family = NewRefreshFamily {
        family_id: family_id(&token),
        first_digest: keyed_digest(&token, &salt),
        salt,
        terms_json: serde_json::to_string(terms).map_err(|error| serialization_problem(&error))?,
        grant: jti.grant().to_owned(),
        holder,
        token_life_ms: lifetimes.token_life_ms,
        family_life_ms: lifetimes.family_life_ms,
    };
    let (root, user) = (family.holder.root.clone(), family.holder.user.clone());
    let replaced = service.store.start_family(family).await.map_err(|why| match why {
        CredentialStoreError::NoPlace => {
            let detail = "the API key or provider has as many refresh tokens as it may have \
                          (limits.root_families); ask for a token without `refresh`";
            Problem::new(409, "refresh_limit", detail).with_field("refresh")
        }
        why => store_problem(why),
    })?;
    if replaced > 0 {
        tracing::info!(target: "signalbox_auth::audit", %root, %user, replaced, "refresh_replaced");
    }
    let family_ends_ms = clock::now_ms() + lifetimes.family_life_ms;
    Ok(IssuedRefreshToken::new(&token, lifetimes.token_life_ms, family_ends_ms))
}

/// The problem of an error of the credential store.
pub(crate) fn store_problem(refusal: CredentialStoreError) -> Problem {
    match refusal {
        CredentialStoreError::Unavailable => {
            Problem::new(503, "unavailable", "the store is unavailable; try again")
        }
        CredentialStoreError::Full | CredentialStoreError::NoPlace => {
            Problem::new(503, "overloaded", "the store is full; try again later")
        }
    }
}

pub(crate) fn serialization_problem(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "a record could not be written");
    Problem::new(500, "internal", "the record could not be written; the log of the server says why")
}

/// Checks the web site of a request that needs no other authorization.
pub(crate) fn check_site_for_token(
    request: &HttpRequest,
    service: &TokenService,
) -> Result<CheckedSite, ApiError> {
    check_site(request, &service.context).map_err(|problem| report_refusal(service, None, problem))
}

/// Responds to a request whose body holds the proof. The issue or refusal is counted and logged by
/// the kind of proof.
pub(crate) fn respond_with_token(
    service: &TokenService,
    kind: &'static str,
    event: &'static str,
    issued: Result<TokenResponse, Problem>,
) -> ApiResult {
    let issued = issued.map_err(|problem| report_refusal(service, Some(kind), problem))?;
    service.context.metrics.issued.with_label_values(&[kind]).inc();
    issued.log_issued(event, kind, kind);
    Ok(HttpResponse::Ok().json(issued))
}

/// Counts and logs a refusal. An unproven caller has no name in the log, because the name may be a
/// secret in the wrong place.
pub(crate) fn report_refusal(service: &TokenService, caller: Option<&str>, problem: Problem) -> ApiError {
    let (code, field) = (problem.code, problem.field.as_deref());
    service.context.metrics.refused.with_label_values(&[code]).inc();
    let caller = caller.unwrap_or("unknown");
    tracing::info!(target: "signalbox_auth::audit", caller, code, field, "token_refused");
    ApiError(problem)
}

/// The creation of the room that exists now; `None` if the API has not created it. A name can be
/// used again, and a credential for a created room is void in the next room with its name.
///
/// # Errors
/// [`StoreUnavailable`]. A plain token is issued all the same, for any room with the name: a join
/// needs the store anyway.
pub(crate) async fn find_creation(
    service: &TokenService,
    room: &RoomId,
) -> Result<Option<CreationId>, StoreUnavailable> {
    let Some(rooms) = &service.rooms else { return Ok(None) };
    if !rooms.store().is_room_available(room) {
        return Err(StoreUnavailable);
    }
    Ok(rooms.store().load_room_settings(room).await?.and_then(|settings| settings.creation_id))
}

/// Checks that the room of a credential is still the room that exists now.
///
/// # Errors
/// 403 `room_not_allowed`, 503 `unavailable`.
pub(crate) async fn check_creation(
    service: &TokenService,
    room: &RoomId,
    creation: Option<&CreationId>,
) -> Result<(), Problem> {
    if creation.is_none() {
        return Ok(());
    }
    let current = find_creation(service, room).await.map_err(|StoreUnavailable| {
        Problem::new(503, "unavailable", "the store does not answer; try again")
    })?;
    match InputOutcome::OtherCreation.refusal() {
        Some(refusal) if current.as_ref() != creation => Err(refusal.to_problem()),
        _ => Ok(()),
    }
}
