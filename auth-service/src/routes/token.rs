//! `/auth/token`

use actix_web::{HttpRequest, HttpResponse};
use signalbox_access::Subject;
use signalbox_http::{ApiError, check_origin};
use signalbox_protocol::{id::random_hex, problem::Problem};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    Answered, Body, State, authorize_or_guest,
    doc::Problems,
    forms::{DisplayName, Metadata, RegionName, RoleName, RoomName, UserName},
    issue::{Issued, first_room_token, refusal},
    members,
};
use crate::{
    AuthState,
    issuer::{Caller, Grant, InviteCode, InviteTerms, Wish},
    store::contract::Invited,
};

/// What a token is to say. Room and user are needed of an API key, the room alone of a guest, the invite alone of somebody who has one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it; members are judged one by one")]
pub(super) struct TokenWish {
    room: Option<RoomName>,
    user: Option<UserName>,
    role: Option<RoleName>,
    /// The name to show.
    name: Option<DisplayName>,
    /// The life of the token, seconds; at most the configured one.
    #[schema(minimum = 1, maximum = 86_400)]
    ttl: Option<u64>,
    metadata: Option<Metadata>,
    /// Where the peer is, for the choice of a TURN server.
    region: Option<RegionName>,
    /// Whether a refresh token is wanted too.
    refresh: Option<bool>,
    /// The code of an invite, in place of room and role.
    invite: Option<String>,
}

/// Makes a room token.
///
/// Judged in this order: the web site, the caller, the body. With an invite no API key is needed.
#[utoipa::path(post, path = "/auth/token", tag = "tokens", request_body = TokenWish,
    responses((status = 200, body = Issued), Problems),
    security((), ("key" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let invited = body.as_ref().is_ok_and(|members| members.has("invite"));
    let (issued, kind) = if invited {
        site(&request, &state)?;
        (by_invite(&state, body).await.map_err(|problem| refused(&state, Some("invite"), problem))?, "invite")
    } else {
        let caller = authorize_or_guest(&request, &state, Scope::Tokens)
            .map_err(|ApiError(problem)| refused(&state, None, problem))?;
        let issued = issue(&state, &caller, body).await;
        let issued = issued.map_err(|problem| refused(&state, Some(caller.id().as_str()), problem))?;
        issued.audit("token_issued", caller.id().as_str(), caller.kind());
        (issued, caller.kind())
    };
    state.metrics.issued.with_label_values(&[kind]).inc();
    Ok(HttpResponse::Ok().json(issued))
}

async fn issue(state: &AuthState, caller: &Caller, body: Body) -> Result<Issued, Problem> {
    let wish = Wish::from(members(body, Wish::MEMBERS)?);
    let refresh = wish.refresh()?;
    let grant = state.policy.grant(caller, wish, &random_hex())?;
    first_room_token(state, grant, refresh).await
}

/// The invite is used last: what is wrong with the rest of the wish costs no use, and neither does a refusal for another reason.
async fn by_invite(state: &AuthState, body: Body) -> Result<Issued, Problem> {
    let wish = Wish::from(members(body, Wish::MEMBERS)?);
    let refresh = wish.refresh()?;
    let code = wish.invite()?.unwrap_or_default();
    let code = InviteCode::parse(&code).ok_or_else(unknown)?;
    let id = code.id();
    let known = state.store.invites(&code.room).await.map_err(refusal)?;
    let terms = known.iter().find(|invite| invite.id == id).map(|invite| &*invite.what);
    let draft = terms.map(|what| terms_of(state, what)).transpose()?;
    let draft = draft
        .map(|terms| state.policy.invited(code.room.clone(), &terms, wish, &random_hex()))
        .transpose()?;
    if let Some(Grant { user, room, caller, .. }) = &draft {
        let (room, issuer) = (Some(room), Some(caller.as_str()));
        state.judge(&Subject { user, room, grant: "", issued_s: None, issuer, address: None })?;
    }
    match (state.store.use_invite(&code.room, &id).await.map_err(refusal)?, draft) {
        (Invited::Good(_), Some(grant)) => {
            let issued = first_room_token(state, grant, refresh).await?;
            tracing::info!(target: "signalbox_auth::audit", invite = id, room = %code.room, "invite_used");
            issued.audit("token_issued", "invite", "invite");
            Ok(issued)
        }
        (Invited::Expired, _) => Err(Problem::new(401, "invite_expired", "the invite is over")),
        (Invited::UsedUp, _) => {
            Err(Problem::new(401, "invite_used_up", "the invite was used as often as it may be"))
        }
        (Invited::Good(_) | Invited::Unknown, _) => Err(unknown()),
    }
}

/// What an invite says, if whoever made it still may.
fn terms_of(state: &AuthState, what: &str) -> Result<InviteTerms, Problem> {
    let terms: InviteTerms = serde_json::from_str(what).map_err(|_| unknown())?;
    state.backends.get(&terms.by).ok_or_else(unknown)?;
    state.judge_key(terms.by.as_str()).map_err(|_| unknown())?;
    Ok(terms)
}

fn unknown() -> Problem {
    Problem::new(401, "invite_invalid", "there is no such invite, or it was taken back")
}

/// The web site, where nobody has to prove who asks.
pub(super) fn site(request: &HttpRequest, state: &AuthState) -> Result<(), ApiError> {
    check_origin(request.headers(), &state.allowed_origins).map_err(|problem| refused(state, None, problem))
}

/// What somebody got who proved himself by what the body holds, or why nothing: counted and logged by what that was.
pub(super) fn outcome(
    state: &AuthState,
    kind: &'static str,
    event: &'static str,
    issued: Result<Issued, Problem>,
) -> Answered {
    let issued = issued.map_err(|problem| refused(state, Some(kind), problem))?;
    state.metrics.issued.with_label_values(&[kind]).inc();
    issued.audit(event, kind, kind);
    Ok(HttpResponse::Ok().json(issued))
}

/// Counts and logs a refusal. A caller that has not proven itself has no name here: what it calls itself may be a secret
/// in the wrong place.
pub(super) fn refused(state: &AuthState, caller: Option<&str>, problem: Problem) -> ApiError {
    let (code, field) = (problem.code, problem.field.as_deref());
    state.metrics.refused.with_label_values(&[code]).inc();
    let caller = caller.unwrap_or("unknown");
    tracing::info!(target: "signalbox_auth::audit", caller, code, field, "token_refused");
    ApiError(problem)
}
