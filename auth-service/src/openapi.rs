//! `/api/openapi.json`: the OpenAPI 3.1 document, generated from the handlers.
//!
//! A new route needs its handler here and its path in `auth/mod.rs` or `management/mod.rs`. A test
//! compares the two.

use actix_web::HttpResponse;
use signalbox_protocol::problem::Problem;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use crate::{
    auth::{exchange, ice, jwks, management_token, refresh, ticket, token, validate},
    management::{
        access_rules, dead_letters,
        rooms::{self, invites},
        usage,
    },
};

/// All operations of the API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Signalbox", description = "Tokens, rooms and access rules of a WebRTC signaling server.", license(name = "Apache-2.0")),
    modifiers(&SecuritySchemes),
    components(schemas(Problem)),
    paths(
        token::post,
        validate::get,
        validate::post,
        refresh::post,
        exchange::post,
        ticket::post,
        management_token::post,
        invites::post,
        invites::get,
        invites::delete,
        ice::get,
        jwks::get,
        rooms::create::post,
        rooms::room_list::get,
        rooms::room::get,
        rooms::room::patch,
        rooms::room::delete,
        rooms::room::run_room_verb,
        rooms::room::end,
        rooms::token::token,
        rooms::join::join,
        rooms::messages::post,
        rooms::participants::list,
        rooms::participants::remove_matching_peers,
        rooms::participants::patch,
        rooms::participants::remove,
        rooms::participants::decide_lobby_peer,
        rooms::bans::ban,
        rooms::sanctions::list,
        rooms::sanctions::lift,
        rooms::timeline::get,
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
        dead_letters::list_dead_letters,
        dead_letters::replay_dead_letters,
        get,
    )
)]
pub(crate) struct ApiDocument;

/// How callers authenticate.
struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let mut add = |name: &str, scheme: HttpAuthScheme, description: &str| {
            let mut http = Http::new(scheme);
            http.description = Some(description.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(http));
        };
        add("key", HttpAuthScheme::Basic, "An API key: its id is the user name, its secret is the password");
        add(
            "management",
            HttpAuthScheme::Bearer,
            "A management token: issued for an API key, with all or some of its scopes",
        );
        add(
            "user",
            HttpAuthScheme::Bearer,
            "A user token: identifies one user in no particular room, issued by `/auth/exchange`",
        );
        add("token", HttpAuthScheme::Bearer, "A room token: lets one user join one room");
    }
}

/// Shows this document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "document",
    responses((status = 200, description = "The document", body = Object)), security(()))]
pub(crate) async fn get() -> HttpResponse {
    HttpResponse::Ok().json(ApiDocument::openapi())
}
