//! From a grant to an answer: the same for every route that gives tokens.

use serde::Serialize;
use signalbox_access::Subject;
use signalbox_protocol::{
    id::{Role, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_token::{ISSUER, Opaque, OpaqueKind, TokenKind, UserClaims};
use utoipa::ToSchema;

use super::forms::{RoleName, RoomName, UserName};
use crate::{
    AuthState,
    issuer::{Grant, Moment, Renewable, SKEW_S, UserGrant, family_of, new_salt},
    store::contract::{NewFamily, Refusal},
};

/// A token and what it is for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Issued {
    /// The token, a JWT.
    token: String,
    /// Its life, seconds.
    expires_in: u64,
    /// The room, of a room token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RoomName>)]
    room: Option<RoomId>,
    /// The user.
    #[schema(value_type = UserName)]
    user: UserId,
    /// The role.
    #[schema(value_type = RoleName)]
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
pub(crate) struct Refresh {
    token: String,
    expires_in: u64,
}

impl Refresh {
    pub(super) fn new(token: &Opaque, left_ms: u64) -> Self {
        Self { token: token.to_text(OpaqueKind::Refresh), expires_in: left_ms / 1_000 }
    }
}

/// The room token of a grant, as the first one of its making; with a refresh token where that is wanted.
pub(crate) async fn first_room_token(
    state: &AuthState,
    grant: Grant,
    refresh: bool,
) -> Result<Issued, Problem> {
    let Grant { user, room, caller, .. } = &grant;
    let issuer = Some(caller.as_str());
    let subject = Subject { user, room: Some(room), grant: "", issued_s: None, issuer, address: None };
    state.judge(&subject)?;
    // Before the family begins, which is dated too.
    let moment = state.moment(&subject).await;
    let jti = TokenId::random();
    let refresh = match refresh {
        true => Some(begin(state, &Renewable::Room(grant.clone()), &jti).await?),
        false => None,
    };
    room_token(state, grant, moment, jti, refresh)
}

pub(super) fn room_token(
    state: &AuthState,
    grant: Grant,
    moment: Moment,
    jti: TokenId,
    refresh: Option<Refresh>,
) -> Result<Issued, Problem> {
    let (room, user, role, expires_in) =
        (Some(grant.room.clone()), grant.user.clone(), grant.role.clone(), grant.ttl_s);
    let token = state.minter.mint(grant, moment, jti.clone()).map_err(|error| unsigned(&error))?;
    let issued =
        Issued { token, expires_in, room, user, role, refresh_token: None, refresh_expires_in: None, jti };
    Ok(issued.with(refresh))
}

pub(super) fn user_token(
    state: &AuthState,
    grant: UserGrant,
    moment: Moment,
    jti: TokenId,
    refresh: Option<Refresh>,
) -> Result<Issued, Problem> {
    let Moment { issued_s, now_s } = moment;
    let UserGrant { user, role, name, ttl_s } = grant;
    let claims = UserClaims {
        iss: ISSUER.to_owned(),
        aud: TokenKind::User.aud().to_owned(),
        sub: user.clone(),
        role: role.clone(),
        name,
        iat: issued_s,
        nbf: now_s.saturating_sub(SKEW_S),
        exp: now_s + ttl_s,
        jti: jti.clone(),
    };
    let token = state.minter.sign(&claims).map_err(|error| unsigned(&error))?;
    let issued = Issued {
        token,
        expires_in: ttl_s,
        room: None,
        user,
        role,
        refresh_token: None,
        refresh_expires_in: None,
        jti,
    };
    Ok(issued.with(refresh))
}

/// Begins a family of refresh tokens.
pub(super) async fn begin(state: &AuthState, what: &Renewable, jti: &TokenId) -> Result<Refresh, Problem> {
    let token = Opaque::random();
    let lives = state.refresh;
    let family = NewFamily {
        name: family_of(&token),
        salt: new_salt(),
        digest: token.digest(),
        what: serde_json::to_string(what).map_err(|error| unwritten(&error))?,
        grant: jti.grant().to_owned(),
        life_ms: lives.life_ms,
        longest_ms: lives.longest_ms,
    };
    state.store.start_family(family).await.map_err(refusal)?;
    Ok(Refresh::new(&token, lives.life_ms))
}

/// What the store's refusal means over HTTP.
pub(crate) fn refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Away => Problem::new(503, "unavailable", "the store is away; try again"),
        Refusal::Full => Problem::new(503, "overloaded", "there is no place for more now; try again later"),
    }
}

pub(super) fn unsigned(error: &jsonwebtoken::errors::Error) -> Problem {
    tracing::error!(%error, "a token could not be signed");
    Problem::new(500, "internal", "the token could not be made; the server's log says why")
}

pub(super) fn unwritten(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "a record could not be written");
    Problem::new(500, "internal", "the record could not be written; the server's log says why")
}

impl Issued {
    fn with(mut self, refresh: Option<Refresh>) -> Self {
        if let Some(Refresh { token, expires_in }) = refresh {
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
    pub(crate) fn audit(&self, event: &'static str, caller: &str, kind: &'static str) {
        let Self { room, user, role, expires_in, refresh_token, .. } = self;
        let room = room.as_ref().map(RoomId::as_str);
        tracing::info!(target: "signalbox_auth::audit", event, caller, kind, room, %user, %role,
            ttl_s = expires_in, refresh = refresh_token.is_some(), "{event}");
    }
}
