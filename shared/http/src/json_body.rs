//! Request bodies: JSON of bounded size.
//!
//! Owns: reading a body ([`JsonBody`]). A body is not parsed before the caller is authorized. Must
//! not: repeat a value of the body in an answer. Next: `json_members.rs` turns the members into a
//! struct.

use std::{convert::Infallible, future::Future, marker::PhantomData, pin::Pin};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::JsonPayloadError,
    http::header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    web,
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use signalbox_protocol::problem::Problem;

use crate::{
    ApiError,
    json_members::{JsonMembers, MemberFault},
};

/// The configuration of JSON bodies: at most `limit` bytes, with a problem for a body that is too
/// long or not JSON.
pub fn json_config(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(limit)
        .error_handler(move |error, _| ApiError(body_problem(&error, limit)).into())
}

/// Proves that the caller of a request was authorized. A service implements it only for types that
/// only its authorization can create.
pub trait AuthorizationProof {}

/// The body of a request. It becomes a `T` only against a proof of authorization, so a caller that
/// may not do this cannot learn what is wrong with its body.
pub struct JsonBody<T> {
    /// `None` if the body is `null`.
    members: Result<Option<JsonMembers>, Problem>,
    is_absent: bool,
    parsed_as: PhantomData<T>,
}

impl<T: DeserializeOwned> JsonBody<T> {
    /// The body as a struct.
    ///
    /// # Errors
    /// 400 `bad_request`, with the member at fault in `field`; 413 `body_too_large`; 415
    /// `not_json`.
    pub fn parse(self, _: &impl AuthorizationProof) -> Result<T, Problem> {
        parse_members(&self.members?.ok_or_else(|| bad_request(NOT_AN_OBJECT))?)
    }

    /// The body as a struct; the default if the request has no body, or `null`.
    ///
    /// # Errors
    /// As [`JsonBody::parse`].
    pub fn parse_or_default(self, _: &impl AuthorizationProof) -> Result<T, Problem>
    where
        T: Default,
    {
        if self.is_absent {
            return Ok(T::default());
        }
        self.members?.map_or_else(|| Ok(T::default()), |members| parse_members(&members))
    }

    /// Whether the body has this member. For a route that needs no other authorization if the
    /// member is there.
    pub fn has_member(&self, name: &str) -> bool {
        self.members
            .as_ref()
            .is_ok_and(|members| members.as_ref().is_some_and(|members| members.contains(name)))
    }
}

fn parse_members<T: DeserializeOwned>(members: &JsonMembers) -> Result<T, Problem> {
    members.parse().map_err(MemberFault::problem)
}

impl<T: 'static> FromRequest for JsonBody<T> {
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Infallible>>>>;

    /// Reads the body. Its faults are kept for [`JsonBody::parse`].
    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // RFC 9112, section 6.3: without these two no body follows.
        let has_length = request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0");
        let is_absent = !has_length && !request.headers().contains_key(TRANSFER_ENCODING);
        let read = web::Json::<Option<JsonMembers>>::from_request(request, payload);
        Box::pin(async move {
            let members = read.await.map(web::Json::into_inner).map_err(|error| {
                let problem = error.as_error::<ApiError>().map(|ApiError(problem)| problem.clone());
                problem.unwrap_or_else(|| bad_request("the body could not be read"))
            });
            Ok(Self { members, is_absent, parsed_as: PhantomData })
        })
    }
}

const NOT_AN_OBJECT: &str = "the body must be one JSON object of at most 64 members";

fn body_problem(error: &JsonPayloadError, limit: usize) -> Problem {
    match error {
        JsonPayloadError::ContentType => {
            Problem::new(415, "not_json", "the body must be JSON; send Content-Type: application/json")
        }
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            Problem::new(413, "body_too_large", format!("the body is longer than {limit} bytes"))
        }
        JsonPayloadError::Deserialize(error) if error.classify() == Category::Data => {
            bad_request(NOT_AN_OBJECT)
        }
        JsonPayloadError::Deserialize(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            bad_request(format!("the body is not JSON ({place})"))
        }
        _ => bad_request("the body could not be read to its end"),
    }
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(400, "bad_request", detail)
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, http::header, test};

    use super::*;

    #[derive(Default, serde::Deserialize)]
    struct RoomBody {
        room: String,
    }

    struct AuthorizedByTest;
    impl AuthorizationProof for AuthorizedByTest {}

    async fn parse(body: JsonBody<RoomBody>) -> Result<HttpResponse, ApiError> {
        Ok(HttpResponse::Ok().json(body.parse(&AuthorizedByTest)?.room))
    }

    async fn parse_or_default(body: JsonBody<RoomBody>) -> Result<HttpResponse, ApiError> {
        Ok(HttpResponse::Ok().json(body.parse_or_default(&AuthorizedByTest)?.room))
    }

    async fn answer(path: &str, content_type: &str, body: &str) -> serde_json::Value {
        let app = App::new()
            .app_data(json_config(64))
            .route("/", web::post().to(parse))
            .route("/default", web::post().to(parse_or_default));
        let app = test::init_service(app).await;
        let mut request = test::TestRequest::post().uri(path).set_payload(body.to_owned());
        if !content_type.is_empty() {
            request = request.insert_header((header::CONTENT_TYPE, content_type));
        }
        if !body.is_empty() {
            request = request.insert_header((header::CONTENT_LENGTH, body.len()));
        }
        test::read_body_json(test::call_service(&app, request.to_request()).await).await
    }

    #[actix_web::test]
    async fn each_fault_of_a_body_has_its_problem() {
        let long = format!(r#"{{"room":"{}"}}"#, "x".repeat(64));
        for (content_type, body, status, code, field) in [
            ("text/plain", r#"{"room":"r"}"#, 415, "not_json", None),
            ("", r#"{"room":"r"}"#, 415, "not_json", None),
            ("application/json", &*long, 413, "body_too_large", None),
            ("application/json", "{", 400, "bad_request", None),
            ("application/json", "", 400, "bad_request", None),
            ("application/json", "null", 400, "bad_request", None),
            ("application/json", "[]", 400, "bad_request", None),
            ("application/json", "{}", 400, "bad_request", Some("room")),
            ("application/json", r#"{"room":"r","rom":1}"#, 400, "bad_request", Some("rom")),
            ("application/json", r#"{"room":"r","room":1}"#, 400, "bad_request", Some("room")),
            ("application/json", r#"{"room":"r","a b":1}"#, 400, "bad_request", None),
            ("application/json", r#"{"room":123454321}"#, 400, "bad_request", Some("room")),
        ] {
            let answer = answer("/", content_type, body).await;
            assert_eq!((&answer["status"], &answer["code"]), (&status.into(), &code.into()), "{body}");
            assert_eq!(answer.get("field").and_then(|field| field.as_str()), field, "{body}");
            assert!(!answer.to_string().contains("123454321"), "{answer}");
        }
        assert_eq!(answer("/", "application/json; charset=utf-8", r#"{"room":"r"}"#).await, "r");
    }

    #[actix_web::test]
    async fn a_body_may_be_missing_where_there_is_a_default() {
        for (content_type, body) in [("", ""), ("application/json", ""), ("application/json", "null")] {
            assert_eq!(answer("/default", content_type, body).await, "", "{body}");
        }
        assert_eq!(answer("/default", "application/json", r#"{"room":"r"}"#).await, "r");
        assert_eq!(answer("/default", "text/plain", "x").await["code"], "not_json");
    }
}
