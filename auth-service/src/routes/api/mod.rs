//! The server-side API of what was taken back: revocations, bans, denied addresses, notices, limits, an emergency stop (docs/PROTOCOL.md,
//! section 10). A file is a path, a function is a method.

mod bans;
mod denials;
mod limits;
mod notices;
mod revocations;
mod rules;
mod shutdown;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::value::RawValue;
use signalbox_control::{ApplyError, Change, LONGEST_MS, Rule, RuleKey, Terms};
use signalbox_http::{check_origin, resource};
use signalbox_shared::{problem::Problem, text};

use super::authorization;
use crate::{
    AuthState,
    issuer::{
        prove,
        wish::{refuse, typed},
    },
};

/// A member of a body as it was sent.
type Raw = Option<Box<RawValue>>;

/// What a caller must be allowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope {
    /// To take things back.
    Security,
    /// To make, change and see rooms.
    Rooms,
    /// To remove, ban and admit, and to say something.
    Moderate,
    /// To make tokens.
    Tokens,
    /// To read usage.
    Usage,
    /// To see what webhooks could not be told, and tell it again.
    Webhooks,
}

/// A caller that may.
pub(super) struct Authorized {
    /// Its id.
    pub(super) id: String,
}

/// Judges who asks, before what is asked is looked at. The seam for scopes: until keys have them, every API key has all.
///
/// # Errors
/// 401 `caller_unknown` or `token_revoked`, 403 `origin_not_allowed`, 503 `unavailable`.
pub(super) fn authorize(
    request: &HttpRequest,
    state: &AuthState,
    _scope: Scope,
) -> Result<Authorized, Problem> {
    check_origin(request.headers(), &state.allowed_origins)?;
    let id = prove(authorization(request), &state.api_keys)?.id.clone();
    state.judge_key(&id)?;
    Ok(Authorized { id })
}

/// Registers the paths.
pub(super) fn configure(config: &mut web::ServiceConfig, bodies: &actix_web::web::JsonConfig) {
    config
        .service(resource("/api/rules", "GET").route(web::get().to(rules::list)))
        .service(resource("/api/rules/{key}", "DELETE").route(web::delete().to(rules::lift)))
        .service(
            resource("/api/revocations", "POST")
                .app_data(bodies.clone())
                .route(web::post().to(revocations::post)),
        )
        .service(resource("/api/bans", "POST").app_data(bodies.clone()).route(web::post().to(bans::post)))
        .service(
            resource("/api/denials", "POST").app_data(bodies.clone()).route(web::post().to(denials::post)),
        )
        .service(
            resource("/api/notices", "POST").app_data(bodies.clone()).route(web::post().to(notices::post)),
        )
        .service(
            resource("/api/shutdown", "PUT, DELETE")
                .app_data(bodies.clone())
                .route(web::put().to(shutdown::put))
                .route(web::delete().to(shutdown::delete)),
        )
        .service(
            resource("/api/limits", "PUT, DELETE")
                .app_data(bodies.clone())
                .route(web::put().to(limits::put))
                .route(web::delete().to(limits::delete)),
        );
}

/// Writes a rule and tells of it.
async fn apply(
    state: &AuthState,
    caller: &Authorized,
    event: &'static str,
    (key, life_ms): (RuleKey, u64),
    terms: Terms,
) -> Result<HttpResponse, Problem> {
    let terms = Terms { by: caller.id.as_str().into(), ..terms };
    let rule = state.control.apply(Change { key, life_ms, terms }).await.map_err(problem)?;
    audit(&caller.id, event, &rule);
    Ok(HttpResponse::Ok().json(rules::Shown::of(&rule)))
}

/// Lifts a rule and tells of it.
async fn lift(state: &AuthState, caller: &Authorized, key: &RuleKey) -> Result<HttpResponse, Problem> {
    let by = Terms { by: caller.id.as_str().into(), ..Terms::default() };
    let rule = state.control.lift(key, by).await.map_err(problem)?;
    audit(&caller.id, "rule_lifted", &rule);
    Ok(HttpResponse::Ok().json(rules::Shown::of(&rule)))
}

/// An event with a stable name (docs/PROTOCOL.md, section 10). An address that is denied may be a person's, so it is not in there.
fn audit(caller: &str, event: &'static str, rule: &Rule) {
    let kind = rule.key.kind();
    let key = if matches!(rule.key, RuleKey::Deny(_)) { kind.to_owned() } else { rule.key.to_string() };
    tracing::warn!(target: "signalbox_auth::audit", event, caller, kind, key, until = rule.until, "rule_changed");
}

pub(super) fn problem(error: ApplyError) -> Problem {
    let (status, code) = match error {
        ApplyError::Full => (409, "rule_limit"),
        ApplyError::NoSuchRule => (404, "no_such_rule"),
        ApplyError::Unavailable => (503, "unavailable"),
    };
    Problem::new(status, code, error.to_string())
}

/// How long a rule is in force, milliseconds: `for` in whole seconds.
pub(super) fn life_ms(raw: &Raw) -> Result<Option<u64>, Problem> {
    let most = LONGEST_MS / 1_000;
    let rule = format!("must be a whole number of seconds from 1 to {most}");
    match typed::<u64>("for", raw, &rule)? {
        Some(seconds) if !(1..=most).contains(&seconds) => Err(refuse("for", rule)),
        seconds => Ok(seconds.map(|seconds| seconds * 1_000)),
    }
}

/// Why, for those who read the rules later.
pub(super) fn reason(raw: &Raw) -> Result<Option<std::sync::Arc<str>>, Problem> {
    words("reason", raw, 256)
}

/// A text for people, of at most so many characters.
fn words(field: &str, raw: &Raw, most: usize) -> Result<Option<std::sync::Arc<str>>, Problem> {
    let rule = format!("must be a string of 1 to {most} characters without control characters");
    match typed::<String>(field, raw, &rule)? {
        Some(words) if !text::is_plain(&words, most) => Err(refuse(field, rule)),
        words => Ok(words.map(Into::into)),
    }
}

pub(super) fn missing(field: &str) -> Problem {
    refuse(field, "is missing")
}
