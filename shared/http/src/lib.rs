//! The HTTP parts that both services share: the same errors, headers, log lines and health answers
//! on every port.
//!
//! - [`ApiError`], [`problem_response`]: problem details (RFC 9457)
//! - [`json_config`], [`JsonBody`], [`parse_query`]: request bodies and queries as structs
//! - [`resource`], [`not_found`]: answers for unknown paths and methods
//! - [`RequestGate`], [`guard_request`]: the checks, security headers and access log of every
//!   request
//! - `cors`: the answers that pages of other web sites may read
//! - [`configure_health`], [`serve_metrics`]: the routes for operators
//! - [`remedy_of`]: what an operator can do about a refusal
//! - [`HttpClient`]: requests to other servers within bounds; [`JwksCache`]: their public keys
//! - [`run_process`], [`open_listener`], [`stop_signal()`]: start and stop of the process;
//!   [`ConfigReloads`]: its changes of configuration; [`file_limit`]: the files that it may have open
//!
//! Must not: know a route, a token or a room. Next: `auth-service/src/app.rs` puts these together.

use std::time::Duration;

mod api_error;
mod client_address;
mod cors;
mod health;
mod http_client;
mod json_body;
mod json_members;
mod jwks_cache;
mod listener;
mod metrics;
mod open_files;
mod process;
mod query_params;
mod refusal_log;
mod reload;
mod remedy;
mod request_gate;
mod route;
mod stop_signal;

/// How long an idle HTTP connection is kept. Common proxies keep their side for 60 s. The server
/// keeps it longer, so a proxy never sends a request on a connection that the server is closing.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The time within which a client must send the head of a request.
pub const REQUEST_HEAD_DEADLINE: Duration = Duration::from_secs(5);

pub use api_error::{ApiError, problem_response};
pub use health::configure_health;
pub use http_client::{ClientResponse, HttpClient, HttpClientError, RequestLimits};
/// The headers of [`HttpClient`], which are not actix-web's.
pub use hyper::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
pub use json_body::{AuthorizationProof, JsonBody, json_config};
pub use json_members::{DeferredMember, bad_field};
pub use jwks_cache::{JwksCache, JwksCacheSettings, KeySetSource};
pub use listener::{ListenError, open_listener};
pub use metrics::{counter_family, open_metrics_listener, serve_metrics};
pub use open_files::{connections_within, file_limit};
pub use process::{ProcessError, print_notice, print_text, run_process};
pub use query_params::parse_query;
pub use reload::{ConfigReloads, SecretCheck};
pub use remedy::remedy_of;
pub use request_gate::{RequestGate, guard_request, is_local_request};
pub use route::{not_found, resource};
pub use stop_signal::stop_signal;
