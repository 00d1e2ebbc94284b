//! `/api/revocations`, `/api/bans` and so on: the access rules (docs/PROTOCOL.md, section 10).
//!
//! Owns: HTTP, authorization and the audit log of each change. Must not: check a rule
//! (`signalbox_access` does). A file is a path, a function is a method.

pub(crate) mod bans;
pub(crate) mod denials;
pub(crate) mod limits;
pub(crate) mod notices;
pub(crate) mod revocations;
pub(crate) mod rule_view;
pub(crate) mod rules;
pub(crate) mod shutdown;

use std::sync::Arc;

use actix_web::{
    HttpResponse,
    web::{delete, get, post, put},
};
use signalbox_access::{AccessRule, MAX_RULE_LIFE_MS, RuleChange, RuleKey, RuleTerms, RuleWriteError};
use signalbox_http::ApiError;
use signalbox_protocol::{
    id::{CallerId, RoomId},
    problem::Problem,
};
use signalbox_token::scope::Scope;

use super::access_rules::rule_view::RuleView;
use crate::{
    context::{
        api_path::ApiPath,
        authorization::{Authorized, HasRoomLimit, RoomLimited},
        member_types::Seconds,
        principal::Principal,
    },
    management::management_service::ManagementService,
};

/// How long a rule is in force.
pub(crate) type RuleLife = Seconds<1, { MAX_RULE_LIFE_MS / 1_000 }>;

/// The paths of access rules.
pub(crate) fn paths() -> Vec<ApiPath> {
    vec![
        ApiPath::new("/api/rules", "GET", [get().to(rules::list)]),
        ApiPath::new("/api/rules/{key}", "DELETE", [delete().to(rules::lift)]),
        ApiPath::new("/api/revocations", "POST", [post().to(revocations::post)]),
        ApiPath::new("/api/bans", "POST", [post().to(bans::post)]),
        ApiPath::new("/api/denials", "POST", [post().to(denials::post)]),
        ApiPath::new("/api/notices", "POST", [post().to(notices::post)]),
        ApiPath::new(
            "/api/shutdown",
            "PUT, DELETE",
            [put().to(shutdown::put), delete().to(shutdown::delete)],
        ),
        ApiPath::new("/api/limits", "PUT, DELETE", [put().to(limits::put), delete().to(limits::delete)]),
    ]
}

/// The caller of a request about one room, or about all rooms.
fn caller_for_room(
    service: &ManagementService,
    caller: RoomLimited<Principal>,
    room: Option<&RoomId>,
) -> Result<Authorized<Principal>, ApiError> {
    match room {
        Some(room) => caller.in_room(&service.context, room),
        None => caller.in_all_rooms(&service.context),
    }
}

/// Whom a rule of this caller is charged to. `None` for an operator: a caller with the scope
/// `security` for all rooms has the whole table.
pub(crate) fn charged_caller(caller: &Principal) -> Option<Arc<str>> {
    let is_operator = caller.has_scope(Scope::Security) && caller.room_limit().is_none();
    (!is_operator).then(|| caller.root().to_string().into())
}

/// Writes a rule and logs it.
async fn apply_rule(
    service: &ManagementService,
    caller: &Principal,
    event: &'static str,
    (key, life_ms): (RuleKey, u64),
    terms: RuleTerms,
) -> Result<HttpResponse, Problem> {
    let terms =
        RuleTerms { author: caller.id().as_str().into(), charged_to: charged_caller(caller), ..terms };
    let rule =
        service.context.access.write_rule(RuleChange { key, life_ms, terms }).await.map_err(apply_problem)?;
    log_rule_change(&caller.id(), event, &rule);
    Ok(HttpResponse::Ok().json(RuleView::new(&rule)))
}

/// Lifts a rule and logs it.
async fn lift_rule(
    service: &ManagementService,
    caller: &Principal,
    key: &RuleKey,
) -> Result<HttpResponse, Problem> {
    let by = RuleTerms { author: caller.id().as_str().into(), ..RuleTerms::default() };
    let rule = service.context.access.lift_rule(key, by).await.map_err(apply_problem)?;
    log_rule_change(&caller.id(), "rule_lifted", &rule);
    Ok(HttpResponse::Ok().json(RuleView::new(&rule)))
}

/// Logs a change of a rule, with a stable event name (docs/PROTOCOL.md, section 10). A denied
/// address may be a person's, so the log does not hold it.
fn log_rule_change(caller: &CallerId, event: &'static str, rule: &AccessRule) {
    let kind = rule.key.kind();
    let key = if matches!(rule.key, RuleKey::Deny(_)) { kind.to_owned() } else { rule.key.to_string() };
    tracing::warn!(target: "signalbox_auth::audit", event, caller = caller.as_str(), kind, key, until = rule.in_force_until, "rule_changed");
}

pub(crate) fn apply_problem(error: RuleWriteError) -> Problem {
    let status = match error {
        RuleWriteError::TooManyRules
        | RuleWriteError::TooManyRulesOfCaller
        | RuleWriteError::TooManyRulesOfRoom => 409,
        RuleWriteError::NoSuchRule => 404,
        RuleWriteError::Unavailable => 503,
    };
    Problem::new(status, error.code(), error.to_string())
}
