//! A path of the API: its pattern, its methods and the functions that serve them.

use actix_web::Route;

/// A path of the API.
pub(crate) struct ApiPath {
    pub(crate) pattern: &'static str,
    /// The methods, as the header `Allow` lists them.
    pub(crate) methods: &'static str,
    pub(crate) routes: Vec<Route>,
}

impl ApiPath {
    pub(crate) fn new<const N: usize>(
        pattern: &'static str,
        methods: &'static str,
        routes: [Route; N],
    ) -> Self {
        Self { pattern, methods, routes: routes.into() }
    }
}
