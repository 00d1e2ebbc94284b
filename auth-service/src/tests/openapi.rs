//! Compares the OpenAPI document with the routes of the service.

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use serde_json::{Value, json};

use super::TestService;
use crate::router::api_paths;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A pattern as the document spells it: without the allowed values of a parameter.
fn documented_pattern(pattern: &str) -> String {
    let mut parts = pattern.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| {
        let (name, rest) = part.split_once('}').unwrap();
        format!("{path}{{{}}}{rest}", name.split(':').next().unwrap())
    })
}

pub(super) async fn fetch_document() -> Value {
    let (status, document) = TestService::new().call(TestRequest::get().uri("/api/openapi.json")).await;
    assert_eq!(status, 200);
    document
}

#[actix_web::test]
async fn every_route_is_documented_and_every_documented_operation_is_served() {
    let document = fetch_document().await;
    let mut documented: Vec<String> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            documented.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut served: Vec<String> = Vec::new();
    for path in api_paths() {
        served.extend(
            path.methods.split(", ").map(|method| format!("{method} {}", documented_pattern(path.pattern))),
        );
    }
    documented.sort();
    served.sort();
    assert_eq!(documented, served);

    // A documented method is never answered with 405, and any other method is.
    let service = TestService::new();
    for operation in &served {
        let (_, path) = operation.split_once(' ').unwrap();
        let concrete = path
            .replace("{peer}/{verb}", "p/admit")
            .replace("{verb}", "lock")
            .replace("{room}", "r")
            .replace("{invite}", "i")
            .replace("{key}", "k")
            .replace("{peer}", "p");
        for method in METHODS {
            let known = served.contains(&format!("{} {path}", method.to_uppercase()));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let (status, _) =
                service.call(TestRequest::default().method(method.clone()).uri(&concrete)).await;
            assert_eq!(status != 405, known, "{method} {path}: {status}");
        }
    }
}

#[actix_web::test]
async fn every_operation_documents_its_security_and_errors() {
    let document = fetch_document().await;
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert!(schemes.contains_key("key") && schemes.contains_key("management"));
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["security"].is_array(), "{what} has no security");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            if path == "/api/openapi.json" || path == "/.well-known/jwks.json" {
                continue;
            }
            for status in ["400", "401", "403", "503"] {
                let body = &operation["responses"][status]["content"]["application/problem+json"];
                assert!(body["schema"].is_object(), "{what} {status}");
            }
        }
    }
}

#[actix_web::test]
async fn every_response_refers_to_an_existing_schema() {
    let document = fetch_document().await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                if path == "/api/openapi.json" || matches!(status.as_str(), "204" | "304") {
                    continue;
                }
                for body in answer["content"].as_object().expect(path).values() {
                    assert!(body["schema"]["$ref"].is_string(), "{method} {path} {status}: {body}");
                }
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer} does not exist");
    }
}

/// The document and the type of the member have the same bounds of a number.
#[actix_web::test]
async fn a_number_outside_its_documented_bounds_is_refused() {
    let document = fetch_document().await;
    let service = TestService::new();
    let samples =
        json!({ "user": "u", "for": 60, "cidr": "203.0.113.7", "code": "c", "message": "m", "data": 1 });
    let mut checked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let reference =
                operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
            let Some(schema) = reference.and_then(|name| document.pointer(&name[1..])) else { continue };
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let required = required.iter().map(|name| name.as_str().unwrap());
            let base: Value = required.map(|name| (name.to_owned(), samples[name].clone())).collect();
            for (name, property) in schema["properties"].as_object().unwrap() {
                let bounds = (property["minimum"].as_i64(), property["maximum"].as_i64());
                let (Some(minimum), Some(maximum)) = bounds else { continue };
                for number in [minimum - 1, maximum + 1] {
                    let mut body = base.clone();
                    // A token for a room needs these two; elsewhere they are unknown or required.
                    if path == "/auth/token" {
                        body = json!({ "room": "r", "user": "u" });
                    }
                    body[name] = number.into();
                    let request = TestRequest::default()
                        .method(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap())
                        .uri(&path.replace("{room}", "r"))
                        .insert_header((header::AUTHORIZATION, service.basic_header()))
                        .set_json(body);
                    let (status, problem) = service.call(request).await;
                    assert_eq!((status, &problem["field"]), (400, &Value::from(&**name)), "{path} {number}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 20, "{checked}");
}
