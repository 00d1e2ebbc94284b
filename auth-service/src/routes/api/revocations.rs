//! `/api/revocations`

use actix_web::HttpRequest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use signalbox_access::{LONGEST_MS, RuleKey, Terms};
use signalbox_protocol::{
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};

use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::rules::Shown;
use super::{Raw, apply, authorize, reason};
use crate::{
    issuer::wish::{named, refuse, typed},
    routes::{Answered, Body, State, doc::Problems, forms::Reason, members},
};

const MEMBERS: [&str; 8] = ["token", "grant", "user", "room", "all", "key", "issued", "reason"];

/// What is taken back: one of the first six.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct RevocationWish {
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
    reason: Option<Reason>,
}

/// Takes back what was issued: one grant (by its id or one of its tokens), everything of a user or a room until now, everything until now, or an
/// API key.
#[utoipa::path(post, path = "/api/revocations", tag = "control", operation_id = "revocations_post", request_body = RevocationWish,
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [token, grant, user, room, all, key, issued, why] = members(body, MEMBERS)?;
    let all = typed::<bool>("all", &all, "must be true")?;
    if all == Some(false) {
        return Err(refuse("all", "must be true").into());
    }
    let grant = named("grant", &grant, TokenId::parse)?;
    let targets = [
        grant_of_token(&token)?.map(RuleKey::Token),
        grant.map(|grant| whole("grant", grant)).transpose()?.map(RuleKey::Token),
        named("user", &user, UserId::parse)?.map(RuleKey::UserBefore),
        named("room", &room, RoomId::parse)?.map(RuleKey::RoomBefore),
        all.map(|_| RuleKey::AllBefore),
        named("key", &key, CallerId::parse)?.map(RuleKey::Key),
    ];
    let mut targets = targets.into_iter().flatten();
    let (Some(key), None) = (targets.next(), targets.next()) else {
        let problem =
            Problem::new(400, "bad_request", "one of token, grant, user, room, all and key must be there");
        return Err(problem.field("token").into());
    };
    let issued = typed::<bool>("issued", &issued, "must be true or false")?.unwrap_or(false);
    let (event, life_ms) = match key {
        RuleKey::Token(_) => ("token_revoked", state.longest_grant_ms),
        RuleKey::UserBefore(_) => ("user_revoked", state.longest_grant_ms),
        RuleKey::RoomBefore(_) => ("room_revoked", state.longest_grant_ms),
        RuleKey::AllBefore => ("all_revoked", state.longest_grant_ms),
        _ => ("key_revoked", LONGEST_MS),
    };
    if issued && event != "key_revoked" {
        return Err(refuse("issued", "belongs to key").into());
    }
    let terms = Terms { reason: reason(&why)?, issued, ..Terms::default() };
    Ok(apply(&state, &caller, event, (key, life_ms), terms).await?)
}

fn whole(field: &str, token: TokenId) -> Result<TokenId, Problem> {
    if token.grant() == token.as_str() {
        Ok(token)
    } else {
        Err(refuse(field, "must not hold a dot: it is what stands before it in `jti`"))
    }
}

/// The grant of a token. Its signature is not asked: whoever may revoke could name the grant as well, and the key may be gone.
fn grant_of_token(raw: &Raw) -> Result<Option<TokenId>, Problem> {
    #[derive(Deserialize)]
    struct Named {
        jti: TokenId,
    }
    let Some(token) = typed::<String>("token", raw, "must be a string")? else { return Ok(None) };
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let named = claims.and_then(|json| serde_json::from_slice::<Named>(&json).ok());
    let grant = named.and_then(|Named { jti }| TokenId::parse(jti.grant()).ok());
    grant.map(Some).ok_or_else(|| refuse("token", "must be a token with a `jti`"))
}
