//! `/auth/refresh`

use actix_web::HttpRequest;
use signalbox_access::Subject;
use signalbox_protocol::{
    id::{CallerId, TokenId},
    problem::Problem,
};
use signalbox_token::{Opaque, OpaqueKind};
use utoipa::ToSchema;

use super::{
    Answered, Body, State,
    doc::Problems,
    issue::{Issued, Refresh, refusal, room_token, user_token},
    members, token,
};
use crate::{
    AuthState,
    issuer::{GRACE_MS, Moment, Renewable, family_of, successor, wish},
    store::contract::{Family, Turn, Turned},
};

/// A refresh token.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct RefreshWish {
    #[schema(pattern = "^sbr_[A-Za-z0-9_-]{43}$")]
    refresh_token: String,
}

/// Brings the next token of a grant, and the next refresh token.
///
/// The one that was shown is used up; shown again within 10 s it brings the same successor, and later it ends the whole family.
#[utoipa::path(post, path = "/auth/refresh", tag = "tokens", request_body = RefreshWish,
    responses((status = 200, body = Issued), Problems), security(()))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    token::site(&request, &state)?;
    let renewed = renew(&state, body).await;
    token::outcome(&state, "refresh", "token_refreshed", renewed)
}

async fn renew(state: &AuthState, body: Body) -> Result<Issued, Problem> {
    let [token] = members(body, ["refreshToken"])?;
    let text: Option<String> = wish::typed("refreshToken", &token, "must be a string")?;
    let text = text.ok_or_else(|| wish::refuse("refreshToken", "is missing"))?;
    let token = Opaque::parse(OpaqueKind::Refresh, &text).ok_or_else(invalid)?;
    let name = family_of(&token);
    let family = state.store.family(&name).await.map_err(refusal)?.ok_or_else(invalid)?;
    // Judged before it is used up: who is shut out for a while keeps the token.
    let what = if family.what.is_empty() { None } else { Some(still_allowed(state, &family).await?) };
    let next = successor(&token, &family.salt);
    let turn = Turn {
        name,
        shown: token.digest(),
        successor: next.digest(),
        grace_ms: GRACE_MS,
        life_ms: state.refresh.life_ms,
    };
    match (state.store.turn(&turn).await.map_err(refusal)?, what) {
        (Turned::Next { number, left_ms }, Some((what, moment))) => {
            let jti = sibling(&family, number)?;
            let refresh = Some(Refresh::new(&next, left_ms));
            match what {
                Renewable::Room(grant) => room_token(state, grant, moment, jti, refresh),
                Renewable::User(grant) => user_token(state, grant, moment, jti, refresh),
            }
        }
        (Turned::Reused { first, .. }, _) => Err(reused(state, &family, first).await),
        (Turned::Expired, _) => {
            Err(Problem::new(401, "refresh_expired", "the refresh token was not used for too long"))
        }
        (Turned::Next { .. } | Turned::Unknown, _) => Err(invalid()),
    }
}

/// What a family brings, as far as it is allowed now, and when its next token is made.
async fn still_allowed(state: &AuthState, family: &Family) -> Result<(Renewable, Moment), Problem> {
    let mut what: Renewable = serde_json::from_str(&family.what).map_err(|_| invalid())?;
    let by_user = CallerId::user();
    let (user, room, caller) = match &mut what {
        Renewable::Room(grant) => {
            state.policy.renew(grant)?;
            (&grant.user, Some(&grant.room), &grant.caller)
        }
        Renewable::User(grant) => {
            state.policy.permissions_of(&grant.role)?;
            (&grant.user, None, &by_user)
        }
    };
    if let Some(backend) = backend_of(caller) {
        // A key that was removed brings no more tokens.
        state.backends.get(backend).ok_or_else(invalid)?;
        state.judge_key(backend.as_str())?;
    }
    let (issued_s, issuer) = (Some(family.born_ms / 1_000), Some(caller.as_str()));
    let subject = Subject { user, room, grant: &family.grant, issued_s, issuer, address: None };
    state.judge(&subject)?;
    let moment = state.moment(&subject).await;
    state.judge_anew(&subject).await?;
    Ok((what, moment))
}

/// The API key on whose word something was made, if it was one.
fn backend_of(caller: &CallerId) -> Option<&CallerId> {
    Some(caller).filter(|caller| !CallerId::RESERVED.contains(&caller.as_str()))
}

fn sibling(family: &Family, number: u64) -> Result<TokenId, Problem> {
    Ok(TokenId::parse(&family.grant).map_err(|_| invalid())?.sibling(number))
}

async fn reused(state: &AuthState, family: &Family, first: bool) -> Problem {
    // Each time: the first time it may not have come through.
    state.take_back(&family.grant).await;
    if first {
        state.metrics.reused.inc();
        tracing::warn!(target: "signalbox_auth::audit", grant = family.grant, "refresh_reused");
    }
    let detail = "the refresh token had been used before, so all tokens of its making are taken back";
    Problem::new(401, "refresh_reused", detail)
}

fn invalid() -> Problem {
    Problem::new(401, "refresh_invalid", "there is no such refresh token")
}
