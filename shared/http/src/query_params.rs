//! The parameters of a query string.
//!
//! Owns: the form of a query: known names only, each at most once. Must not: repeat a value of the
//! query in an answer. Next: `json_members.rs` creates the struct.

use actix_web::{HttpRequest, web};
use serde::de::DeserializeOwned;
use serde_json::value::to_raw_value;
use signalbox_protocol::problem::Problem;

use crate::json_members::{JsonMembers, MemberFault};

/// The query of a request as a struct. Each value is a text, so a number needs a type that reads a
/// text.
///
/// # Errors
/// 400 `bad_request`; `field` is the parameter at fault, if the query may have it.
pub fn parse_query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let unreadable = || Problem::new(400, "bad_request", "the query could not be read");
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let pairs = pairs.map_err(|_| unreadable())?.into_inner();
    let members = pairs.into_iter().map(|(name, value)| Ok((name, to_raw_value(&value)?)));
    let members = members.collect::<Result<Vec<_>, serde_json::Error>>().map_err(|_| unreadable())?;
    JsonMembers::new(members).parse().map_err(|fault| match fault {
        MemberFault::Unknown { fields, .. } => {
            let detail =
                format!("the query has an unknown parameter; known parameters are {}", fields.join(", "));
            Problem::new(400, "bad_request", detail)
        }
        fault => fault.problem(),
    })
}
