//! `/api/bans`

use actix_web::{HttpRequest, HttpResponse, web};
use signalbox_control::{RuleKey, Terms};
use signalbox_http::ApiError;
use signalbox_shared::id::{RoomId, UserId};

use signalbox_shared::scope::Scope;
use utoipa::ToSchema;

use super::rules::Shown;
use super::{apply, authorize, life_ms, missing, reason};
use crate::routes::doc::Problems;
use crate::{
    AuthState,
    issuer::wish::named,
    routes::{Body, members},
};

/// A ban.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct BanWish {
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._~@:+-]+$")]
    user: String,
    /// The room; all of them where none is named.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._~-]+$")]
    room: Option<String>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: u64,
    /// Why, for those who read the rules later.
    #[schema(min_length = 1, max_length = 256)]
    reason: Option<String>,
}

/// Bans a user for a time, from one room or from all.
#[utoipa::path(post, path = "/api/bans", tag = "control", operation_id = "bans_post", request_body = BanWish,
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
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
