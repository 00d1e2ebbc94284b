//! A path of the API.

use actix_web::Resource;

/// A path of the API: its pattern, the methods it takes as in `AllowArgs`, and what serves it.
pub(crate) struct ApiPath {
    pub(crate) pattern: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds it against the document"))]
    pub(crate) methods: &'static str,
    pub(crate) resource: Resource,
}
