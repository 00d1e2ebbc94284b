//! The parts that both areas of the service use: [`crate::auth`] and [`crate::management`].
//!
//! In the order in which a request meets them: `access_check`, `authorization` over `principal`,
//! `store_memory`. `service_context` holds the objects that they need. `member_types`,
//! `request`, `api_path` and `problem_responses` are the types of requests and responses. Must not:
//! know a route.

pub(crate) mod access_check;
pub(crate) mod api_path;
pub(crate) mod authorization;
pub(crate) mod member_types;
pub(crate) mod metrics;
pub(crate) mod principal;
pub(crate) mod problem_responses;
pub(crate) mod request;
pub(crate) mod service_context;
pub mod store_memory;
