//! `POST /auth/refresh`: a refresh token is rotated, and the next token issued.

use actix_web::{HttpRequest, web};
use serde::Deserialize;
use signalbox_access::{AccessSubject, RuleChange, RuleKey, RuleTerms};
use signalbox_http::JsonBody;
use signalbox_protocol::{id::TokenId, problem::Problem};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, scope::Scope};
use utoipa::ToSchema;

use super::{
    credential_store::contract::{RefreshFamily, RefreshRotation, RefreshRotationResult},
    issuer::{REFRESH_REPEAT_MS, RenewableTerms, derive_successor, family_id, keyed_digest},
    token_issuer::{
        IssuedRefreshToken, TokenResponse, check_creation, check_site_for_token, respond_with_token,
        sign_room_token, sign_user_token, store_problem,
    },
};
use crate::{
    auth::token_service::TokenService,
    context::{
        access_check::IssueTime,
        principal::{DerivedRight, LostRight},
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
};

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RefreshRequest {
    #[schema(pattern = "^sbr_[A-Za-z0-9_-]{43}$")]
    refresh_token: String,
}

/// Issues the next token of a grant, and the next refresh token.
///
/// A refresh token is valid once. Within 10 s a repeated request gets the same successor; later it
/// revokes the whole family.
#[utoipa::path(post, path = "/auth/refresh", tag = "tokens", request_body = RefreshRequest,
    responses((status = 200, body = TokenResponse), ProblemResponses), security(()))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<TokenService>,
    body: JsonBody<RefreshRequest>,
) -> ApiResult {
    let site = check_site_for_token(&request, &service)?;
    let renewed = refresh_token(&service, body.parse(&site)).await;
    respond_with_token(&service, "refresh", "token_refreshed", renewed)
}

async fn refresh_token(
    service: &TokenService,
    request: Result<RefreshRequest, Problem>,
) -> Result<TokenResponse, Problem> {
    let token = OpaqueToken::parse(OpaqueTokenKind::Refresh, &request?.refresh_token);
    let token = token.ok_or_else(refresh_invalid)?;
    let family_id = family_id(&token);
    let family =
        service.store.load_family(&family_id).await.map_err(store_problem)?.ok_or_else(refresh_invalid)?;
    // Checked before the token is used, so a user who is refused for a time keeps the token.
    let terms =
        if family.terms_json.is_empty() { None } else { Some(load_allowed_terms(service, &family).await?) };
    let next = derive_successor(&token, &family.salt);
    let rotation = RefreshRotation {
        family_id,
        holder: family.holder.clone(),
        presented_digest: keyed_digest(&token, &family.salt),
        successor_digest: keyed_digest(&next, &family.salt),
        repeat_ms: REFRESH_REPEAT_MS,
        successor_life_ms: service.refresh_lifetimes.load().token_life_ms,
    };
    match (service.store.rotate_refresh_token(&rotation).await.map_err(store_problem)?, terms) {
        (RefreshRotationResult::Rotated { number, left_ms }, Some((terms, time))) => {
            let jti = next_token_id(&family, number)?;
            let refresh = Some(IssuedRefreshToken::new(&next, left_ms, family.ends_ms));
            match terms {
                RenewableTerms::Room(grant) => sign_room_token(service, grant, time, jti, refresh),
                RenewableTerms::User(grant) => sign_user_token(service, grant, time, jti, refresh),
            }
        }
        (RefreshRotationResult::Reused { first, .. }, _) => Err(report_reuse(service, &family, first).await),
        (RefreshRotationResult::Expired, _) => {
            Err(Problem::new(401, "refresh_expired", "the refresh token was not used for too long"))
        }
        (RefreshRotationResult::Rotated { .. } | RefreshRotationResult::Unknown, _) => Err(refresh_invalid()),
    }
}

/// The terms of a family, as far as they are allowed now, and the issue time of its next token.
async fn load_allowed_terms(
    service: &TokenService,
    family: &RefreshFamily,
) -> Result<(RenewableTerms, IssueTime), Problem> {
    let mut terms: RenewableTerms =
        serde_json::from_str(&family.terms_json).map_err(|_| refresh_invalid())?;
    let (user, room, role, root) = match &mut terms {
        RenewableTerms::Room(grant) => {
            service.grant_policy.load().renew_terms(grant)?;
            check_creation(service, &grant.room, grant.creation.as_ref()).await?;
            (&grant.user, Some(&grant.room), &grant.role, &grant.root)
        }
        RenewableTerms::User(grant) => {
            service.grant_policy.load().permissions_of(&grant.role)?;
            (&grant.user, None, &grant.role, &grant.root)
        }
    };
    let issued_s = Some(family.created_ms / 1_000);
    let subject =
        AccessSubject { user, room, grant: &family.grant, issued_s, root: Some(root), address: None };
    service.context.check_access(&subject)?;
    let right = DerivedRight { root, scope: Some(Scope::Tokens), room, role: Some(role), issues: true };
    service.context.still_allowed(&right).map_err(|lost| match lost {
        LostRight::Removed => refresh_invalid(),
        lost => lost.to_problem(),
    })?;
    let time = service.context.wait_for_issue_time(&subject).await;
    service.context.refresh_and_check_access(&subject).await?;
    Ok((terms, time))
}

fn next_token_id(family: &RefreshFamily, number: u64) -> Result<TokenId, Problem> {
    Ok(TokenId::parse(&family.grant).map_err(|_| refresh_invalid())?.sibling(number))
}

async fn report_reuse(service: &TokenService, family: &RefreshFamily, first: bool) -> Problem {
    // Each time, because the first write may have failed.
    revoke_grant(service, family).await;
    if first {
        service.context.metrics.refresh_reused.inc();
        tracing::warn!(target: "signalbox_auth::audit", grant = family.grant, "refresh_reused");
    }
    let detail = "the refresh token was used before, so all tokens of its grant are revoked; sign in again";
    Problem::new(401, "refresh_reused", detail)
}

/// Revokes a grant whose refresh token was used twice, for as long as a credential of it can be
/// valid. If the rule cannot be written, the family is still revoked, and its next use writes the
/// rule again.
async fn revoke_grant(service: &TokenService, family: &RefreshFamily) {
    let Ok(grant) = TokenId::parse(&family.grant) else { return };
    // A revoked family has lost its terms.
    let room = match serde_json::from_str(&family.terms_json) {
        Ok(RenewableTerms::Room(terms)) => Some(terms.room),
        Ok(RenewableTerms::User(_)) | Err(_) => None,
    };
    let terms = RuleTerms {
        author: "refresh".into(),
        charged_to: Some(family.holder.root.to_string().into()),
        room,
        reason: Some("refresh_reused".into()),
        ..RuleTerms::default()
    };
    let change = RuleChange { key: RuleKey::Grant(grant), life_ms: service.max_live_grant_ms, terms };
    if let Err(error) = service.context.access.write_rule(change).await {
        tracing::warn!(event = "grant_not_revoked", %error, "a grant could not be revoked");
    }
}

fn refresh_invalid() -> Problem {
    Problem::new(401, "refresh_invalid", "there is no such refresh token")
}
