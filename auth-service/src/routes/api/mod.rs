//! The server-side API of what was taken back: revocations, bans, denied addresses, notices, limits, an emergency stop (docs/PROTOCOL.md,
//! section 10). A file is a path, a function is a method.

pub(super) mod bans;
pub(super) mod denials;
pub(super) mod limits;
pub(super) mod notices;
pub(super) mod revocations;
pub(super) mod rules;
pub(super) mod shutdown;

use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde_json::value::RawValue;
use signalbox_access::{ApplyError, Change, LONGEST_MS, Rule, RuleKey, Terms};
use signalbox_http::ApiError;
use signalbox_protocol::{problem::Problem, text};
use signalbox_token::scope::Scope;

use super::Path;
use crate::{
    AuthState,
    issuer::wish::{refuse, typed, within},
};

/// A member of a body as it was sent.
type Raw = Option<Box<RawValue>>;

/// A caller that may.
pub(super) struct Authorized {
    /// Its id.
    pub(super) id: String,
}

/// Judges who asks, before what is asked is looked at.
fn authorize(request: &HttpRequest, state: &AuthState, scope: Scope) -> Result<Authorized, ApiError> {
    let caller = super::authorize(request, state, scope)?;
    Ok(Authorized { id: caller.id().as_str().to_owned() })
}

/// The paths.
pub(super) fn paths(path: impl Copy + Fn(&'static str, &'static str, &[fn() -> Route]) -> Path) -> Vec<Path> {
    vec![
        path("/api/rules", "GET", &[|| web::get().to(rules::list)]),
        path("/api/rules/{key}", "DELETE", &[|| web::delete().to(rules::lift)]),
        path("/api/revocations", "POST", &[|| web::post().to(revocations::post)]),
        path("/api/bans", "POST", &[|| web::post().to(bans::post)]),
        path("/api/denials", "POST", &[|| web::post().to(denials::post)]),
        path("/api/notices", "POST", &[|| web::post().to(notices::post)]),
        path(
            "/api/shutdown",
            "PUT, DELETE",
            &[|| web::put().to(shutdown::put), || web::delete().to(shutdown::delete)],
        ),
        path(
            "/api/limits",
            "PUT, DELETE",
            &[|| web::put().to(limits::put), || web::delete().to(limits::delete)],
        ),
    ]
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
    let seconds = within("for", raw, 1, LONGEST_MS / 1_000, "a whole number of seconds")?;
    Ok(seconds.map(|seconds| seconds * 1_000))
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
