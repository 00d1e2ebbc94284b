//! Types of the handlers of both areas: their result, the empty response, the room of a path.

use actix_web::HttpResponse;
use signalbox_http::{ApiError, bad_field};
use signalbox_protocol::{id::RoomId, problem::Problem};

/// The result of every handler.
pub(crate) type ApiResult = Result<HttpResponse, ApiError>;

/// The empty object `{}`.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(crate) struct EmptyResponse {}

/// The room in a path.
pub(crate) fn parse_room_path(text: &str) -> Result<RoomId, Problem> {
    RoomId::parse(text).map_err(|bad| bad_field("room", bad))
}
