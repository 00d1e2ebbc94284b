//! How the services speak HTTP: the same errors, headers, log lines and health answers on every port.
//!
//! - [`ApiError`], [`problem_response`]: problem details (RFC 9457)
//! - [`json_config`], [`Members`]: request bodies
//! - [`resource`], [`not_found`]: paths and methods that are not there
//! - [`Gate`], [`gate`]: what happens to every request: Host check, security headers, access log
//! - [`check_origin`]: which browsers may ask
//! - [`Proxies`]: where a client is, behind proxies
//! - [`health`], [`metrics_response`]: what operators ask
//! - [`Ask`]: asking others, with a deadline and a bound
//! - [`process`], [`listener`], [`stop_signal`]: the process begins and ends
//!
//! Must not: know a route, a token or a room. Next: `auth-service/src/app.rs` puts these together.

use std::time::Duration;

mod ask;
mod client;
mod error;
mod gate;
mod health;
mod json;
mod listen;
mod metrics;
mod origin;
mod process;
mod route;
mod stop;

/// How long an idle HTTP connection is kept: longer than any common proxy keeps its side (60 s), so that a request never meets a
/// connection that is just being closed here.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How long the head of a request may take.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(5);

pub use ask::{Answer, Ask, AskError, Patience};
pub use client::Proxies;
pub use error::{ApiError, problem_response};
pub use gate::{Gate, gate};
pub use health::health;
/// The headers of [`Ask`], which are not actix-web's.
pub use hyper::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
pub use json::{Members, json_config};
pub use listen::{ListenError, listener};
pub use metrics::metrics_response;
pub use origin::{check_host, check_origin};
pub use process::{Failure, process, say};
pub use route::{not_found, resource};
pub use stop::stop_signal;
