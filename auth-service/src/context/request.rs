//! What every handler is given and gives: the state, the body, the query, the room of the path.

use actix_web::{Error, HttpRequest, HttpResponse, web};
use signalbox_http::{ApiError, JsonMembers};
use signalbox_protocol::{id::RoomId, problem::Problem};

use super::token_request::bad_member;

/// What every handler gives.
pub(crate) type ApiResult = Result<HttpResponse, ApiError>;

/// A JSON object. Taken as a result, so that who asks is judged before what is asked.
pub(crate) type JsonBody = Result<web::Json<JsonMembers>, Error>;

pub(crate) fn read_members<const N: usize>(
    body: JsonBody,
    names: [&str; N],
) -> Result<[Option<Box<serde_json::value::RawValue>>; N], Problem> {
    match body {
        Ok(members) => members.into_inner().into_values(names),
        Err(error) => Err(match error.as_error::<ApiError>() {
            Some(ApiError(problem)) => problem.clone(),
            None => Problem::new(400, "bad_request", "the body could not be read"),
        }),
    }
}

/// The room in a path.
pub(crate) fn parse_room_path(text: &str) -> Result<RoomId, Problem> {
    RoomId::parse(text).map_err(|bad| bad_member("room", bad))
}

/// The parameters of a query, each at most once, and none but these.
pub(crate) fn read_query<const N: usize>(
    request: &HttpRequest,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let bad = |detail: &str| Problem::new(400, "bad_request", detail.to_owned());
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| bad("the query could not be read"))?;
    let mut found = names.map(|_| None);
    for (name, value) in pairs.into_inner() {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(bad(&format!("the query may hold {}", names.join(", "))));
        };
        if found[place].replace(value).is_some() {
            return Err(bad_member(names[place], "stands there twice"));
        }
    }
    Ok(found)
}
