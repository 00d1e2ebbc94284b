//! `/api/bans`

use actix_web::HttpRequest;
use signalbox_access::{RuleKey, Terms};
use signalbox_protocol::id::{RoomId, UserId};

use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::rules::Shown;
use super::{apply, authorize, life_ms, missing, reason};
use crate::{
    issuer::wish::named,
    routes::{
        Answered, Body, State,
        doc::Problems,
        forms::{Reason, RoomName, UserName},
        members,
    },
};

/// A ban.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct BanWish {
    user: UserName,
    /// The room; all of them where none is named.
    room: Option<RoomName>,
    /// How long, seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: u64,
    reason: Option<Reason>,
}

/// Bans a user for a time, from one room or from all.
#[utoipa::path(post, path = "/api/bans", tag = "control", operation_id = "bans_post", request_body = BanWish,
    responses((status = 200, body = Shown), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn post(request: HttpRequest, state: State, body: Body) -> Answered {
    let caller = authorize(&request, &state, Scope::Security)?;
    let [user, room, lasts, why] = members(body, ["user", "room", "for", "reason"])?;
    let user = named("user", &user, UserId::parse)?.ok_or_else(|| missing("user"))?;
    let key = RuleKey::Ban { user, room: named("room", &room, RoomId::parse)? };
    let life_ms = life_ms(&lasts)?.ok_or_else(|| missing("for"))?;
    let terms = Terms { reason: reason(&why)?, ..Terms::default() };
    Ok(apply(&state, &caller, "user_banned", (key, life_ms), terms).await?)
}
