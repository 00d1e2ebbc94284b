//! From a grant to an answer: the same for every route that gives tokens.

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use signalbox_access::AccessSubject;
use signalbox_http::ApiError;
use signalbox_protocol::{
    id::{Role, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_token::{ISSUER, OpaqueToken, OpaqueTokenKind, TokenKind, UserClaims};
use utoipa::ToSchema;

use super::{
    credential_store::contract::{CredentialStoreError, NewRefreshFamily},
    issue_time::{IssueTime, NOT_BEFORE_SKEW_S, wait_for_issue_time},
    issuer::{RenewableTerms, RoomTokenTerms, UserTokenTerms, family_id, new_salt},
};
use crate::{
    auth::token_service::TokenService,
    context::{
        authorization::{CheckedSite, check_site},
        request::ApiResult,
    },
};

/// A token and what it is for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenResponse {
    /// The token, a JWT.
    token: String,
    /// Its life, seconds.
    expires_in: u64,
    /// The room, of a room token.
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomId>,
    /// The user.
    user: UserId,
    /// The role.
    role: Role,
    /// What brings the next token: good for one `POST /auth/refresh`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// How long it may wait for that, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_expires_in: Option<u64>,
    #[serde(skip)]
    jti: TokenId,
}

/// What brings the next token.
pub(crate) struct IssuedRefreshToken {
    token: String,
    expires_in: u64,
}

impl IssuedRefreshToken {
    pub(crate) fn new(token: &OpaqueToken, left_ms: u64) -> Self {
        Self { token: token.to_text(OpaqueTokenKind::Refresh), expires_in: left_ms / 1_000 }
    }
}

/// The room token of a grant, as the first one of its making; with a refresh token where that is wanted.
pub(crate) async fn issue_room_token(
    service: &TokenService,
    grant: RoomTokenTerms,
    refresh: bool,
) -> Result<TokenResponse, Problem> {
    let RoomTokenTerms { user, room, caller, .. } = &grant;
    let issuer = Some(caller.as_str());
    let subject = AccessSubject { user, room: Some(room), grant: "", issued_s: None, issuer, address: None };
    service.context.check_access(&subject)?;
    // Before the family begins, which is dated too.
    let moment = wait_for_issue_time(&service.context.access, &subject).await;
    let jti = TokenId::random();
    let refresh = match refresh {
        true => Some(start_refresh_family(service, &RenewableTerms::Room(grant.clone()), &jti).await?),
        false => None,
    };
    sign_room_token(service, grant, moment, jti, refresh)
}

pub(crate) fn sign_room_token(
    service: &TokenService,
    grant: RoomTokenTerms,
    moment: IssueTime,
    jti: TokenId,
    refresh: Option<IssuedRefreshToken>,
) -> Result<TokenResponse, Problem> {
    let (room, user, role, expires_in) =
        (Some(grant.room.clone()), grant.user.clone(), grant.role.clone(), grant.ttl_s);
    let token = service
        .minter
        .sign_room_token(grant, moment, jti.clone())
        .map_err(|error| signing_problem(&error))?;
    let issued = TokenResponse {
        token,
        expires_in,
        room,
        user,
        role,
        refresh_token: None,
        refresh_expires_in: None,
        jti,
    };
    Ok(issued.with_refresh_token(refresh))
}

pub(crate) fn sign_user_token(
    service: &TokenService,
    grant: UserTokenTerms,
    moment: IssueTime,
    jti: TokenId,
    refresh: Option<IssuedRefreshToken>,
) -> Result<TokenResponse, Problem> {
    let IssueTime { issued_s, now_s } = moment;
    let UserTokenTerms { user, role, name, ttl_s } = grant;
    let claims = UserClaims {
        iss: ISSUER.to_owned(),
        aud: TokenKind::User.aud().to_owned(),
        sub: user.clone(),
        role: role.clone(),
        name,
        iat: issued_s,
        nbf: now_s.saturating_sub(NOT_BEFORE_SKEW_S),
        exp: now_s + ttl_s,
        jti: jti.clone(),
    };
    let token = service.minter.sign_claims(&claims).map_err(|error| signing_problem(&error))?;
    let issued = TokenResponse {
        token,
        expires_in: ttl_s,
        room: None,
        user,
        role,
        refresh_token: None,
        refresh_expires_in: None,
        jti,
    };
    Ok(issued.with_refresh_token(refresh))
}

/// Begins a family of refresh tokens.
pub(crate) async fn start_refresh_family(
    service: &TokenService,
    what: &RenewableTerms,
    jti: &TokenId,
) -> Result<IssuedRefreshToken, Problem> {
    let token = OpaqueToken::random();
    let lives = service.refresh_lifetimes;
    let family = NewRefreshFamily {
        family_id: family_id(&token),
        salt: new_salt(),
        first_digest: token.digest(),
        terms_json: serde_json::to_string(what).map_err(|error| serialization_problem(&error))?,
        grant: jti.grant().to_owned(),
        token_life_ms: lives.token_life_ms,
        family_life_ms: lives.family_life_ms,
    };
    service.store.start_family(family).await.map_err(store_problem)?;
    Ok(IssuedRefreshToken::new(&token, lives.token_life_ms))
}

/// What the store's refusal means over HTTP.
pub(crate) fn store_problem(refusal: CredentialStoreError) -> Problem {
    match refusal {
        CredentialStoreError::Unavailable => Problem::new(503, "unavailable", "the store is away; try again"),
        CredentialStoreError::Full => {
            Problem::new(503, "overloaded", "there is no place for more now; try again later")
        }
    }
}

pub(crate) fn signing_problem(error: &jsonwebtoken::errors::Error) -> Problem {
    tracing::error!(%error, "a token could not be signed");
    Problem::new(500, "internal", "the token could not be made; the server's log says why")
}

pub(crate) fn serialization_problem(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "a record could not be written");
    Problem::new(500, "internal", "the record could not be written; the server's log says why")
}

impl TokenResponse {
    fn with_refresh_token(mut self, refresh: Option<IssuedRefreshToken>) -> Self {
        if let Some(IssuedRefreshToken { token, expires_in }) = refresh {
            self.refresh_token = Some(token);
            self.refresh_expires_in = Some(expires_in);
        }
        self
    }

    /// What all tokens of its making share.
    pub(crate) fn grant(&self) -> &str {
        self.jti.grant()
    }

    /// One line for the audit: what was given, never the token.
    pub(crate) fn log_issued(&self, event: &'static str, caller: &str, kind: &'static str) {
        let Self { room, user, role, expires_in, refresh_token, .. } = self;
        let room = room.as_ref().map(RoomId::as_str);
        tracing::info!(target: "signalbox_auth::audit", event, caller, kind, room, %user, %role,
            ttl_s = expires_in, refresh = refresh_token.is_some(), "{event}");
    }
}

/// The web site, where nobody has to prove who asks.
pub(crate) fn check_site_for_token(
    request: &HttpRequest,
    service: &TokenService,
) -> Result<CheckedSite, ApiError> {
    check_site(request, &service.context).map_err(|problem| report_refusal(service, None, problem))
}

/// What somebody got who proved himself by what the body holds, or why nothing: counted and logged by what that was.
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

/// Counts and logs a refusal. A caller that has not proven itself has no name here: what it calls itself may be a secret
/// in the wrong place.
pub(crate) fn report_refusal(service: &TokenService, caller: Option<&str>, problem: Problem) -> ApiError {
    let (code, field) = (problem.code, problem.field.as_deref());
    service.context.metrics.refused.with_label_values(&[code]).inc();
    let caller = caller.unwrap_or("unknown");
    tracing::info!(target: "signalbox_auth::audit", caller, code, field, "token_refused");
    ApiError(problem)
}
