//! `/api/openapi.json`: what the handlers say about themselves (OpenAPI 3.1).
//!
//! Adding a route is two lines: its handler in [`ApiDocument`], and its path in [`super::paths`]. A test holds the two against each other.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use super::{
    access_rules, exchange, ice, invites, jwks, management, refresh, rooms, ticket, token, usage, validate,
    webhooks,
};

/// Every operation there is.
#[derive(OpenApi)]
#[openapi(
    info(title = "Signalbox", description = "Tokens, rooms and control of a WebRTC signaling server.", license(name = "Apache-2.0")),
    modifiers(&SecuritySchemes),
    components(schemas(ProblemView)),
    paths(
        token::post,
        validate::get,
        validate::post,
        refresh::post,
        exchange::post,
        ticket::post,
        management::post,
        invites::post,
        invites::get,
        invites::delete,
        ice::get,
        jwks::get,
        rooms::room_list::post,
        rooms::room_list::get,
        rooms::room::get,
        rooms::room::patch,
        rooms::room::delete,
        rooms::room::run_room_verb,
        rooms::room::end,
        rooms::room_tokens::token,
        rooms::room_tokens::join,
        rooms::messages::post,
        rooms::participants::list,
        rooms::participants::remove_members,
        rooms::participants::patch,
        rooms::participants::remove,
        rooms::participants::decide_lobby,
        rooms::participants::ban,
        access_rules::rules::list,
        access_rules::rules::lift,
        access_rules::revocations::post,
        access_rules::bans::post,
        access_rules::denials::post,
        access_rules::notices::post,
        access_rules::shutdown::put,
        access_rules::shutdown::delete,
        access_rules::limits::put,
        access_rules::limits::delete,
        usage::get,
        webhooks::list_dead_letters,
        webhooks::replay_dead_letters,
        get,
    )
)]
pub(super) struct ApiDocument;

/// An HTTP error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView {
    /// Always `about:blank`: `code` says what it is.
    #[serde(rename = "type")]
    kind: String,
    /// What the status means.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code (docs/PROTOCOL.md, section 1).
    code: String,
    /// What happened and what to do next, for a person.
    detail: String,
    /// The member of the request at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

/// The errors that any operation may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) enum ProblemResponses {
    /// The request does not parse; `field` names what is wrong.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(ProblemView),
    /// No proof, or a bad one.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(ProblemView),
    /// Known, and not allowed.
    #[response(status = 403, content_type = "application/problem+json")]
    NotAllowed(ProblemView),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemView),
    /// It contradicts what is there.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(ProblemView),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(ProblemView),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(ProblemView),
    /// Not now; `Retry-After` says when.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemView),
}

/// How callers prove themselves.
struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let mut add = |name: &str, scheme: HttpAuthScheme, what: &str| {
            let mut http = Http::new(scheme);
            http.description = Some(what.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(http));
        };
        add("key", HttpAuthScheme::Basic, "An API key: its id and its secret");
        add("management", HttpAuthScheme::Bearer, "A management token");
        add("user", HttpAuthScheme::Bearer, "A user token");
        add("token", HttpAuthScheme::Bearer, "A room token");
    }
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "document",
    responses((status = 200, description = "The document", body = Object)), security(()))]
pub(super) async fn get() -> HttpResponse {
    HttpResponse::Ok().json(ApiDocument::openapi())
}

/// The document as it is served.
pub(super) fn openapi_route() -> actix_web::Route {
    web::get().to(get)
}
