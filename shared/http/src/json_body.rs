//! Request bodies: JSON, bounded, and refused with the name of the member at fault. A value is never repeated.

use std::fmt;

use actix_web::{error::JsonPayloadError, web};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{error::Category, value::RawValue};
use signalbox_protocol::problem::Problem;

use crate::ApiError;

/// Bodies of at most `limit` bytes, whose refusals are problems.
pub fn json_config(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default()
        .limit(limit)
        .error_handler(move |error, _| ApiError(body_problem(&error, limit)).into())
}

fn body_problem(error: &JsonPayloadError, limit: usize) -> Problem {
    match error {
        JsonPayloadError::ContentType => {
            Problem::new(415, "not_json", "the body must be JSON; send Content-Type: application/json")
        }
        JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => {
            Problem::new(413, "body_too_large", format!("the body is longer than {limit} bytes"))
        }
        JsonPayloadError::Deserialize(error) => parse_problem(error),
        _ => bad_request("the body could not be read to its end"),
    }
}

/// serde's own words may hold the value ("invalid type: string …"), so only the kind of fault and its place are passed on.
fn parse_problem(error: &serde_json::Error) -> Problem {
    let place = format!("line {}, column {}", error.line(), error.column());
    if error.classify() != Category::Data {
        return bad_request(format!("the body is not JSON ({place})"));
    }
    let text = error.to_string();
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start)?.split('`').next());
    let problem =
        bad_request(format!("the body has a member missing, unknown or of the wrong type ({place})"));
    match named {
        Some(name) if is_member_name(name) => problem.with_field(name),
        _ => problem,
    }
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(400, "bad_request", detail)
}

/// What may stand in `field`: a name made up by a caller must not carry arbitrary text into an answer.
fn is_member_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

/// The members of a JSON object, unparsed, so that each can be judged and named by itself. Nothing but an object parses.
#[derive(Debug)]
pub struct JsonMembers(Vec<(String, Box<RawValue>)>);

impl JsonMembers {
    /// Whether a member stands there, whatever its value; `null` counts as absent.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == name && value.get() != "null")
    }

    /// The values of `names`, in that order; `null` counts as absent.
    ///
    /// # Errors
    /// 400 `bad_request` naming a member that is not among `names` or stands there twice.
    pub fn into_values<const N: usize>(
        self,
        names: [&str; N],
    ) -> Result<[Option<Box<RawValue>>; N], Problem> {
        let mut values = [const { None }; N];
        for (name, value) in self.0 {
            let Some(place) = names.iter().position(|known| *known == name) else {
                let problem = bad_request(format!("an unknown member; known are {}", names.join(", ")));
                return Err(if is_member_name(&name) { problem.with_field(name) } else { problem });
            };
            if values[place].replace(value).is_some() {
                return Err(bad_request("a member stands there twice").with_field(name));
            }
        }
        Ok(values.map(|value: Option<Box<RawValue>>| value.filter(|value| value.get() != "null")))
    }
}

impl<'de> Deserialize<'de> for JsonMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = JsonMembers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    // A body is bounded, but thousands of empty names would be looked up one by one.
                    if members.len() == 64 {
                        return Err(de::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(JsonMembers(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpResponse, http::header, test};

    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct TestBody {
        room: String,
    }

    async fn post_body(content_type: &str, body: &str) -> serde_json::Value {
        let app = test::init_service(
            App::new()
                .app_data(json_config(64))
                .route("/", web::post().to(|_: web::Json<TestBody>| async { HttpResponse::Ok().json(()) })),
        )
        .await;
        let request = test::TestRequest::post().uri("/").insert_header((header::CONTENT_TYPE, content_type));
        let request = request.set_payload(body.to_owned()).to_request();
        test::read_body_json(test::call_service(&app, request).await).await
    }

    #[actix_web::test]
    async fn every_body_defect_gives_its_problem() {
        let long = format!(r#"{{"room":"{}"}}"#, "x".repeat(64));
        for (content_type, body, status, code, field) in [
            ("text/plain", r#"{"room":"r"}"#, 415, "not_json", None),
            ("", r#"{"room":"r"}"#, 415, "not_json", None),
            ("application/json", &*long, 413, "body_too_large", None),
            ("application/json", "{", 400, "bad_request", None),
            ("application/json", "", 400, "bad_request", None),
            ("application/json", "{}", 400, "bad_request", Some("room")),
            ("application/json", r#"{"room":"r","rom":1}"#, 400, "bad_request", Some("rom")),
            ("application/json", r#"{"room":"r","room":1}"#, 400, "bad_request", Some("room")),
            ("application/json", r#"{"room":"r","a b":1}"#, 400, "bad_request", None),
            ("application/json", r#"{"room":123454321}"#, 400, "bad_request", None),
        ] {
            let answer = post_body(content_type, body).await;
            assert_eq!((&answer["status"], &answer["code"]), (&status.into(), &code.into()), "{body}");
            assert_eq!(answer.get("field").and_then(|field| field.as_str()), field, "{body}");
            assert!(!answer.to_string().contains("123454321"), "{answer}");
        }
        assert!(post_body("application/json; charset=utf-8", r#"{"room":"r"}"#).await.is_null());
    }

    fn parse_two_members(json: &str) -> Result<[Option<Box<RawValue>>; 2], Problem> {
        serde_json::from_str::<JsonMembers>(json).unwrap().into_values(["a", "b"])
    }

    #[actix_web::test]
    async fn an_unknown_or_repeated_member_is_named() {
        let [a, b] = parse_two_members(r#"{"b":[1],"a":null}"#).unwrap();
        assert!(a.is_none());
        assert_eq!(b.unwrap().get(), "[1]");
        assert_eq!(parse_two_members(r#"{"c":1}"#).unwrap_err().field.as_deref(), Some("c"));
        assert_eq!(parse_two_members(r#"{"a":1,"a":1}"#).unwrap_err().field.as_deref(), Some("a"));
        assert_eq!(parse_two_members(r#"{"<script>":1}"#).unwrap_err().field, None);
    }

    #[actix_web::test]
    async fn only_a_json_object_has_members() {
        for json in ["[]", r#"["a"]"#, "1", "null", r#""a""#] {
            assert!(serde_json::from_str::<JsonMembers>(json).is_err(), "{json}");
        }
        let many: Vec<_> = (0..65).map(|n| format!(r#""{n}":0"#)).collect();
        assert!(serde_json::from_str::<JsonMembers>(&format!("{{{}}}", many.join(","))).is_err());
    }
}
