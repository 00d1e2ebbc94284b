//! `POST /api/revocations`: credentials are revoked.

use actix_web::{HttpRequest, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use signalbox_access::{MAX_RULE_LIFE_MS, RuleKey, RuleTerms};
use signalbox_http::{JsonBody, bad_field};
use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{apply_rule, caller_for_room, rule_view::RuleView};
use crate::{
    context::{
        authorization::authorize_application, member_types::ReasonText, problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The target of a revocation. Exactly one of `token`, `grant`, `user`, `room`, `all`, `key` and
/// `root` is allowed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RevocationRequest {
    /// Revokes everything issued until now.
    all: Option<bool>,
    /// A grant: the text before the first dot of a `jti`.
    #[schema(value_type = Option<String>)]
    grant: Option<TokenId>,
    /// A token: revokes its grant.
    token: Option<String>,
    /// Revokes everything issued to a user until now.
    #[schema(value_type = Option<String>)]
    user: Option<UserId>,
    /// Revokes everything issued for a room until now.
    #[schema(value_type = Option<String>)]
    room: Option<RoomId>,
    /// An API key: it and its management tokens, invites and refresh tokens.
    #[schema(value_type = Option<String>)]
    key: Option<CallerId>,
    /// The root of credentials: `key:ID`, `provider:ISSUER`, `app` or `guest`. `key` is short for
    /// the first.
    #[schema(
        value_type = Option<String>,
        pattern = "^(key:[A-Za-z0-9._-]{1,64}|provider:[!-~]{1,200}|app|guest)$"
    )]
    root: Option<CredentialRoot>,
    /// Whether the tokens that come from the root are revoked too, by whatever way: an invite of
    /// the key, or a user of the provider.
    issued: Option<bool>,
    reason: Option<ReasonText>,
}

/// Revokes one grant (by its id or one of its tokens), everything issued to a user, for a room or
/// at all until now, an API key, or another root of credentials.
#[utoipa::path(post, path = "/api/revocations", tag = "control", operation_id = "revocations_post", request_body = RevocationRequest,
    responses((status = 200, body = RuleView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RevocationRequest>,
) -> ApiResult {
    let caller = authorize_application(&request, &service.context, Scope::Security)?;
    let request = body.parse(&caller)?;
    let (issued, reason) = (request.issued.unwrap_or(false), request.reason.clone());
    let key = request.rule_key()?;
    let caller = caller_for_room(&service, caller, key.room())?;
    let (event, life_ms) = match key {
        RuleKey::Grant(_) => ("token_revoked", service.max_grant_ms),
        RuleKey::UserBefore(_) => ("user_revoked", service.max_grant_ms),
        RuleKey::RoomBefore(_) => ("room_revoked", service.max_grant_ms),
        RuleKey::AllBefore => ("all_revoked", service.max_grant_ms),
        RuleKey::Root(CredentialRoot::ApiKey(_)) => ("key_revoked", MAX_RULE_LIFE_MS),
        _ => ("root_revoked", MAX_RULE_LIFE_MS),
    };
    if issued && !matches!(key, RuleKey::Root(_)) {
        return Err(bad_field("issued", "belongs to key or root").into());
    }
    let reason = reason.map(ReasonText::into_text);
    let terms = RuleTerms { reason, revokes_issued: issued, ..RuleTerms::default() };
    Ok(apply_rule(&service, &caller, event, (key, life_ms), terms).await?)
}

impl RevocationRequest {
    /// The one target that the request names.
    fn rule_key(self) -> Result<RuleKey, Problem> {
        if self.all == Some(false) {
            return Err(bad_field("all", "must be true"));
        }
        let targets = [
            self.token.as_deref().map(grant_of_token).transpose()?.map(RuleKey::Grant),
            self.grant.map(check_whole_grant).transpose()?.map(RuleKey::Grant),
            self.user.map(RuleKey::UserBefore),
            self.room.map(RuleKey::RoomBefore),
            self.all.map(|_| RuleKey::AllBefore),
            self.key.map(root_of_key).transpose()?.map(RuleKey::Root),
            self.root.map(RuleKey::Root),
        ];
        let mut targets = targets.into_iter().flatten();
        match (targets.next(), targets.next()) {
            (Some(key), None) => Ok(key),
            _ => {
                let detail = "exactly one of token, grant, user, room, all, key and root is required";
                Err(Problem::new(400, "bad_request", detail).with_field("token"))
            }
        }
    }
}

/// The root of an API key. A reserved id is no key.
fn root_of_key(id: CallerId) -> Result<CredentialRoot, Problem> {
    if CallerId::RESERVED.contains(&id.as_str()) {
        return Err(bad_field("key", "is a reserved id and no API key; name the root of the credentials"));
    }
    Ok(CredentialRoot::ApiKey(id))
}

fn check_whole_grant(token: TokenId) -> Result<TokenId, Problem> {
    if token.grant() == token.as_str() {
        Ok(token)
    } else {
        Err(bad_field("grant", "must not hold a dot; it is the part of `jti` before the dot"))
    }
}

/// The grant of a token. Its signature is not checked: the caller could name the grant as well, and
/// the key of the token may have expired.
fn grant_of_token(token: &str) -> Result<TokenId, Problem> {
    #[derive(Deserialize)]
    struct TokenWithId {
        jti: TokenId,
    }
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let named = claims.and_then(|json| serde_json::from_slice::<TokenWithId>(&json).ok());
    let grant = named.and_then(|TokenWithId { jti }| TokenId::parse(jti.grant()).ok());
    grant.ok_or_else(|| bad_field("token", "must be a token with a `jti`"))
}
