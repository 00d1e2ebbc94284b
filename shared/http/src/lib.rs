//! How the services speak HTTP: the same errors, headers, log lines and health answers on every
//! port.
//!
//! - [`ApiError`], [`problem_response`]: problem details (RFC 9457)
//! - [`json_config`], [`JsonBody`], [`parse_query`]: request bodies and queries as structs
//! - [`resource`], [`not_found`]: paths and methods that are not there
//! - [`RequestGate`], [`gate`]: what happens to every request: Host check, security headers, access
//!   log
//! - [`check_origin`]: which browsers may ask
//! - [`TrustedProxies`]: where a client is, behind proxies
//! - [`health`], [`metrics_response`]: what operators ask
//! - [`HttpClient`]: asking others, with a deadline and a bound; [`JwksCache`]: their public keys
//! - [`process`], [`listener`], [`stop_signal`]: the process begins and ends
//!
//! Must not: know a route, a token or a room. Next: `auth-service/src/app.rs` puts these together.

use std::time::Duration;

mod api_error;
mod health;
mod http_client;
mod json_body;
mod json_members;
mod jwks_cache;
mod listener;
mod metrics;
mod process;
mod query_params;
mod request_gate;
mod route;
mod stop_signal;

/// How long an idle HTTP connection is kept: longer than any common proxy keeps its side (60 s), so
/// that a request never meets a connection that is just being closed here.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long the head of a request may take.
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
pub use json_members::{DeferredMember, bad_member};
pub use jwks_cache::{JwksCache, JwksCacheSettings, KeySetSource};
pub use listener::{ListenError, open_listener};
pub use metrics::metrics_response;
pub use process::{ProcessError, print_text, run_process};
pub use query_params::parse_query;
pub use request_gate::{
    RequestGate, TrustedProxies, check_host, check_origin, guard_request, is_origin_allowed,
};
pub use route::{not_found, resource};
pub use stop_signal::stop_signal;
