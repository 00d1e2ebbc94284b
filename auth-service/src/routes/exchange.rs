//! `/auth/exchange`

use actix_web::HttpRequest;
use signalbox_access::Subject;
use signalbox_protocol::{
    clock,
    id::{CallerId, TokenId},
    problem::Problem,
};
use utoipa::ToSchema;

use super::{
    Answered, Body, State,
    doc::Problems,
    issue::{Issued, begin, user_token},
    members, token,
};
use crate::{
    AuthState,
    exchange::NotBelieved,
    issuer::{Renewable, UserGrant, wish},
};

/// A token of the user's own provider.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct ExchangeWish {
    /// An ID or access token of an OpenID provider, or one that the application has signed itself.
    token: String,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
}

/// Gives a user token for a token of the user's own provider.
#[utoipa::path(post, path = "/auth/exchange", tag = "tokens", request_body = ExchangeWish,
    responses((status = 200, body = Issued), Problems), security(()))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    token::site(&request, &state)?;
    let exchanged = exchange(&state, body).await;
    token::outcome(&state, "user", "user_exchanged", exchanged)
}

async fn exchange(state: &AuthState, body: Body) -> Result<Issued, Problem> {
    let [token, refresh] = members(body, ["token", "refresh"])?;
    let token: Option<String> = wish::typed("token", &token, "must be a string")?;
    let token = token.ok_or_else(|| wish::refuse("token", "is missing"))?;
    let refresh = wish::typed("refresh", &refresh, "must be true or false")?.unwrap_or(false);
    let said = state.exchange.believe(&token, clock::now_ms()).await.map_err(not_believed)?;
    let role = said.role.unwrap_or_else(|| state.policy.default_role().clone());
    let ttl_s = state.policy.default_ttl_s();
    let grant = UserGrant { user: said.user, role, name: said.name, ttl_s };
    let issuer = Some(CallerId::USER);
    let subject = Subject { user: &grant.user, room: None, grant: "", issued_s: None, issuer, address: None };
    state.judge(&subject)?;
    let moment = state.moment(&subject).await;
    let jti = TokenId::random();
    let refresh = match refresh {
        true => Some(begin(state, &Renewable::User(grant.clone()), &jti).await?),
        false => None,
    };
    user_token(state, grant, moment, jti, refresh)
}

fn not_believed(why: NotBelieved) -> Problem {
    if why == NotBelieved::NoKeys {
        return Problem::new(503, "unavailable", why.to_string());
    }
    Problem::new(401, "exchange_refused", format!("the token is not believed: {why}"))
}
