//! What every handler is given and gives: the state, the body, the query, the room of the path.

use actix_web::HttpResponse;
use signalbox_http::{ApiError, bad_member};
use signalbox_protocol::{id::RoomId, problem::Problem};

/// What every handler gives.
pub(crate) type ApiResult = Result<HttpResponse, ApiError>;

/// An empty object, for what needs no answer but the status.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(description = "Nothing to say: `{}`.")]
pub(crate) struct EmptyResponse {}

/// The room in a path.
pub(crate) fn parse_room_path(text: &str) -> Result<RoomId, Problem> {
    RoomId::parse(text).map_err(|bad| bad_member("room", bad))
}
