//! What both areas of the service use: [`crate::auth`] and [`crate::management`].
//!
//! Must not: know a route.

pub(crate) mod access_check;
pub(crate) mod api_path;
pub(crate) mod authorization;
pub(crate) mod member_types;
pub(crate) mod metrics;
pub(crate) mod principal;
pub(crate) mod problem_responses;
pub(crate) mod request;
pub(crate) mod resource_guard;
pub(crate) mod service_context;
