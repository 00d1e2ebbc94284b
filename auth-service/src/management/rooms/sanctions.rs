//! `/api/rooms/{room}/sanctions`: what was decided about users of the room, listed and lifted.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use signalbox_http::bad_field;
use signalbox_protocol::id::{Role, RoomId, UserId};
use signalbox_rooms::room::{BlockReason, RoomAction, Sanction, UserSource};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    room_access::{change_room, load_room, log_room_change},
    room_principal::authorize_in_room,
};
use crate::{
    context::{problem_responses::ProblemResponses, request::ApiResult},
    management::management_service::ManagementService,
};

/// The sanctions of a room.
#[derive(Serialize, ToSchema)]
pub(crate) struct SanctionListView<'a> {
    sanctions: Vec<SanctionView<'a>>,
}

/// What was decided about a user. It outlasts the peers of the user, and ends with the room.
#[derive(Serialize, ToSchema)]
#[schema(as = Sanction)]
pub(crate) struct SanctionView<'a> {
    user: &'a UserId,
    /// Who named the user; without this member the sanction applies to the user of any source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<UserSourceView>)]
    source: Option<UserSource>,
    /// Why the user may not join.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BlockReasonView>)]
    refused: Option<BlockReason>,
    /// Until when the user may not join, ms since 1970; without this member until the room ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// Whether new peers of the user are muted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    muted: bool,
    /// The role of new peers of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a Role>,
}

/// Who named a user.
#[derive(Serialize, ToSchema)]
#[schema(as = UserSource)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the schema of `UserSource`")]
pub(crate) enum UserSourceView {
    Application,
    Guest,
    Invite,
}

/// Why a user may not join.
#[derive(Serialize, ToSchema)]
#[schema(as = BlockReason)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the schema of `BlockReason`")]
pub(crate) enum BlockReasonView {
    Removed,
    Denied,
    Banned,
}

impl<'a> SanctionView<'a> {
    fn new(sanction: &'a Sanction) -> Self {
        Self {
            user: &sanction.user,
            source: sanction.source,
            refused: sanction.block.map(|block| block.reason),
            until: sanction.block.and_then(|block| block.until),
            muted: sanction.muted,
            role: sanction.role.as_ref().map(|assigned| &assigned.role),
        }
    }
}

/// Lists the sanctions of the room.
#[utoipa::path(get, path = "/api/rooms/{room}/sanctions", tag = "rooms", operation_id = "rooms_sanctions_list",
    params(("room" = RoomId, Path)),
    responses((status = 200, body = SanctionListView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn list(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (_, room) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let state = load_room(&service, &room).await?;
    let sanctions = state.sanctions.iter().map(SanctionView::new).collect();
    Ok(HttpResponse::Ok().json(SanctionListView { sanctions }))
}

/// Lifts all sanctions of a user in the room. Connected peers of the user stay as they are, and a
/// revoked token stays revoked.
#[utoipa::path(delete, path = "/api/rooms/{room}/sanctions/{user}", tag = "rooms", operation_id = "rooms_sanctions_lift",
    params(("room" = RoomId, Path), ("user" = UserId, Path)),
    responses((status = 204, description = "The sanctions are lifted"), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn lift(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    path: web::Path<(String, String)>,
) -> ApiResult {
    let (caller, room) = authorize_in_room(&request, &service, Scope::Moderate)?;
    let user = UserId::parse(&path.1).map_err(|bad| bad_field("user", bad))?;
    change_room(&service, &room, RoomAction::LiftSanctions(user)).await?;
    log_room_change("sanctions_lifted", &caller.id(), &room);
    Ok(HttpResponse::NoContent().finish())
}
