//! The health routes. Liveness depends on no other service, so an orchestrator never kills a
//! healthy process because the store is unavailable.

use actix_web::{HttpResponse, web};
use signalbox_protocol::problem::Problem;

use crate::{ApiError, resource};

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
        config
            .service(
                resource("/health/live", "GET, HEAD")
                    .route(web::get().to(|| async { status_response("live") }))
                    .route(web::head().to(|| async { status_response("live") })),
            )
            .service(
                resource("/health/ready", "GET, HEAD")
                    .route(web::get().to(ready.clone()))
                    .route(web::head().to(ready)),
            );
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
