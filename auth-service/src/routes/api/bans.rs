//! `/api/bans`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_control::{RuleKey, Terms};
use signalbox_http::ApiError;
use signalbox_shared::id::{RoomId, UserId};

use super::{Scope, apply, authorize, life_ms, missing, reason};
use crate::{
    AuthState,
    issuer::wish::named,
    routes::{Body, members},
};

/// Bans a user for a time, from one room or from all.
pub(super) async fn post(
    request: HttpRequest,
    state: web::Data<AuthState>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [user, room, lasts, why] = members(body, ["user", "room", "for", "reason"])?;
    let user = named("user", &user, UserId::parse)?.ok_or_else(|| missing("user"))?;
    let key = RuleKey::Ban { user, room: named("room", &room, RoomId::parse)? };
    let life_ms = life_ms(&lasts)?.ok_or_else(|| missing("for"))?;
    let terms = Terms { reason: reason(&why)?, ..Terms::default() };
    Ok(apply(&state, &caller, "user_banned", (key, life_ms), terms).await?)
}
