//! The health routes. Liveness depends on no other service, so an orchestrator never kills a
//! healthy process because the store is unavailable.

use actix_web::{HttpResponse, web};
use signalbox_protocol::problem::Problem;

use crate::{ApiError, resource};

/// The paths of the health checks.
pub(crate) const HEALTH_PATHS: [&str; 2] = ["/health/live", "/health/ready"];

/// Registers `/health/live`, which answers 200, and `/health/ready`. The latter answers 200, or the
/// problem that `ready` returns: 503 `unavailable` or `draining`.
pub fn configure_health<F, Fut>(ready: F) -> impl FnOnce(&mut web::ServiceConfig)
where
    F: Fn() -> Fut + Clone + 'static,
    Fut: Future<Output = Result<(), Problem>> + 'static,
{
    let ready = move || {
        let result = ready();
        async move { result.await.map(|()| status_response("ready")).map_err(ApiError) }
    };
    move |config| {
        let [live_path, ready_path] = HEALTH_PATHS;
        let live = || async { status_response("live") };
        config
            .service(resource(live_path, "GET").route(web::get().to(live)))
            .service(resource(ready_path, "GET").route(web::get().to(ready)));
    }
}

fn status_response(status: &str) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(format!(r#"{{"status":"{status}"}}"#))
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test};

    use super::*;

    async fn get_health(path: &str, ready: Result<(), Problem>) -> (u16, serde_json::Value) {
        let ready = move || std::future::ready(ready.clone());
        let app = test::init_service(App::new().configure(configure_health(ready))).await;
        let response = test::call_service(&app, test::TestRequest::with_uri(path).to_request()).await;
        (response.status().as_u16(), test::read_body_json(response).await)
    }

    #[actix_web::test]
    async fn liveness_does_not_depend_on_readiness() {
        let draining = || Err(Problem::new(503, "draining", "x"));
        assert_eq!(get_health("/health/live", draining()).await, (200, serde_json::json!({"status":"live"})));
        let (status, body) = get_health("/health/ready", draining()).await;
        assert_eq!((status, &body["code"]), (503, &"draining".into()));
        assert_eq!(get_health("/health/ready", Ok(())).await, (200, serde_json::json!({"status":"ready"})));
    }
}
