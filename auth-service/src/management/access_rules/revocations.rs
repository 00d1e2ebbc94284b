//! `/api/revocations`

use actix_web::{HttpRequest, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use signalbox_access::{MAX_RULE_LIFE_MS, RuleKey, RuleTerms};
use signalbox_protocol::{
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{RawRuleMember, apply_rule, authorize_rule_author, parse_reason, rule_view::RuleView};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::ReasonText,
        token_request::{bad_member, parse_member, parse_name},
    },
    management::management_service::ManagementService,
};

const REVOCATION_MEMBERS: [&str; 8] = ["token", "grant", "user", "room", "all", "key", "issued", "reason"];

/// What is taken back: one of the first six.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(crate) struct RevocationRequest {
    /// A token: everything of its grant.
    token: Option<String>,
    /// A grant: what stands before the first dot of a `jti`.
    grant: Option<String>,
    /// Everything of a user until now.
    user: Option<String>,
    /// Everything of a room until now.
    room: Option<String>,
    /// Everything until now.
    all: Option<bool>,
    /// An API key.
    key: Option<String>,
    /// Whether what the key has issued is taken back too.
    issued: Option<bool>,
    reason: Option<ReasonText>,
}

/// Takes back what was issued: one grant (by its id or one of its tokens), everything of a user or a room until now, everything until now, or an
/// API key.
#[utoipa::path(post, path = "/api/revocations", tag = "control", operation_id = "revocations_post", request_body = RevocationRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let caller = authorize_rule_author(&request, &service, Scope::Security)?;
    let [token, grant, user, room, all, key, issued, why] = read_members(body, REVOCATION_MEMBERS)?;
    let all = parse_member::<bool>("all", &all, "must be true")?;
    if all == Some(false) {
        return Err(bad_member("all", "must be true").into());
    }
    let grant = parse_name("grant", &grant, TokenId::parse)?;
    let targets = [
        parse_grant_of_token(&token)?.map(RuleKey::Grant),
        grant.map(|grant| check_whole_grant("grant", grant)).transpose()?.map(RuleKey::Grant),
        parse_name("user", &user, UserId::parse)?.map(RuleKey::UserBefore),
        parse_name("room", &room, RoomId::parse)?.map(RuleKey::RoomBefore),
        all.map(|_| RuleKey::AllBefore),
        parse_name("key", &key, CallerId::parse)?.map(RuleKey::ApiKey),
    ];
    let mut targets = targets.into_iter().flatten();
    let (Some(key), None) = (targets.next(), targets.next()) else {
        let problem =
            Problem::new(400, "bad_request", "one of token, grant, user, room, all and key must be there");
        return Err(problem.with_field("token").into());
    };
    let issued = parse_member::<bool>("issued", &issued, "must be true or false")?.unwrap_or(false);
    let (event, life_ms) = match key {
        RuleKey::Grant(_) => ("token_revoked", service.max_grant_ms),
        RuleKey::UserBefore(_) => ("user_revoked", service.max_grant_ms),
        RuleKey::RoomBefore(_) => ("room_revoked", service.max_grant_ms),
        RuleKey::AllBefore => ("all_revoked", service.max_grant_ms),
        _ => ("key_revoked", MAX_RULE_LIFE_MS),
    };
    if issued && event != "key_revoked" {
        return Err(bad_member("issued", "belongs to key").into());
    }
    let terms = RuleTerms { reason: parse_reason(&why)?, revokes_issued: issued, ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, event, (key, life_ms), terms).await?)
}

fn check_whole_grant(field: &str, token: TokenId) -> Result<TokenId, Problem> {
    if token.grant() == token.as_str() {
        Ok(token)
    } else {
        Err(bad_member(field, "must not hold a dot: it is what stands before it in `jti`"))
    }
}

/// The grant of a token. Its signature is not asked: whoever may revoke could name the grant as well, and the key may be gone.
fn parse_grant_of_token(raw: &RawRuleMember) -> Result<Option<TokenId>, Problem> {
    #[derive(Deserialize)]
    struct TokenWithId {
        jti: TokenId,
    }
    let Some(token) = parse_member::<String>("token", raw, "must be a string")? else { return Ok(None) };
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let named = claims.and_then(|json| serde_json::from_slice::<TokenWithId>(&json).ok());
    let grant = named.and_then(|TokenWithId { jti }| TokenId::parse(jti.grant()).ok());
    grant.map(Some).ok_or_else(|| bad_member("token", "must be a token with a `jti`"))
}
