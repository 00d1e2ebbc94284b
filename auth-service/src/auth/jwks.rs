//! `GET /.well-known/jwks.json`: the public keys.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, ETAG, EntityTag, Header as _, IfNoneMatch},
    web,
};
use signalbox_http::ApiError;
use signalbox_protocol::problem::Problem;

use super::{keys::JwksBody, token_service::TokenService};
use crate::context::request::ApiResult;

/// The public keys (RFC 7517, section 8.5.1 names the media type) to verify tokens with. No
/// authorization is needed, and every web site may read them: public keys hold no secret.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "keys",
    responses((status = 200, description = "A JWK set", content_type = "application/jwk-set+json", body = JwksBody),
        (status = 304, description = "The caller has the current set"),
        (status = 404, description = "Tokens are signed with a shared secret", content_type = "application/problem+json", body = Problem)),
    security(()))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<TokenService>) -> ApiResult {
    let no_keys = || {
        Problem::new(
            404,
            "not_found",
            "this server signs tokens with a shared secret, so there is no public key",
        )
    };
    let published = service.keys.published_jwks().ok_or_else(no_keys).map_err(ApiError)?;
    let is_current = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => {
            let own = EntityTag::new_strong(published.etag.trim_matches('"').to_owned());
            tags.iter().any(|tag| tag.weak_eq(&own))
        }
        Err(_) => false,
    };
    let mut response = if is_current { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, published.etag.clone()))
        .insert_header((CACHE_CONTROL, format!("public, max-age={}", published.max_age_s)))
        .insert_header(("access-control-allow-origin", "*"))
        .insert_header(("cross-origin-resource-policy", "cross-origin"));
    Ok(if is_current {
        response.finish()
    } else {
        response.content_type("application/jwk-set+json").body(published.body.clone())
    })
}
