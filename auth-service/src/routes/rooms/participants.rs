//! `/api/rooms/{room}/participants` and `/bans`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_access::{Change, RuleKey, Terms};
use signalbox_protocol::{
    LeftReason,
    id::{PeerId, Role, UserId},
    problem::Problem,
};
use signalbox_rooms::room::{Act, Outcome, Whom};
use signalbox_token::scope::Scope;

use utoipa::ToSchema;

use super::{audit, change, load, no_such_peer, shown::ShownMember, who::backend};
use crate::{
    issuer::wish::{named, refuse, typed},
    routes::{
        Answered, Body, State, api,
        doc::Problems,
        forms::{InRoom, OfPeer, Reason, RoleName, UserName},
        members,
    },
};

/// Who is in a room.
#[derive(Serialize, ToSchema)]
pub(super) struct Participants<'a> {
    participants: Vec<ShownMember<'a>>,
}

/// How many were removed.
#[derive(Serialize, ToSchema)]
pub(super) struct Removed {
    removed: usize,
}

/// A ban from a room.
#[derive(Serialize, ToSchema)]
pub(super) struct Banned {
    /// The key of the rule: what `DELETE /api/rules/{key}` lifts.
    rule: String,
    /// Until when, ms since 1970.
    until: u64,
    /// How many were removed.
    removed: usize,
}

fn peer_in(request: &HttpRequest) -> Result<PeerId, Problem> {
    PeerId::parse(request.match_info().get("peer").unwrap_or_default()).map_err(|_| no_such_peer())
}

fn removed(outcome: Outcome) -> HttpResponse {
    let removed = if let Outcome::Removed(count) = outcome { count } else { 1 };
    HttpResponse::Ok().json(Removed { removed })
}

/// What is to be changed: one of these at least.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct MemberChange {
    role: Option<RoleName>,
    muted: Option<bool>,
}

/// Who, and for how long.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct RoomBanWish {
    user: UserName,
    /// Seconds.
    #[schema(minimum = 1, maximum = 2_678_400)]
    r#for: u64,
    reason: Option<Reason>,
}

/// What can be done to one that waits.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document reads it")]
pub(super) enum LobbyVerb {
    Admit,
    Deny,
}

/// Who is in the room, and who waits to be let in.
#[utoipa::path(get, path = "/api/rooms/{room}/participants", tag = "rooms", operation_id = "rooms_participants_list",
    params(InRoom),
    responses((status = 200, body = Participants), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn list(request: HttpRequest, state: State) -> Answered {
    let (_, id) = backend(&request, &state, Scope::Rooms)?;
    let room = load(&state, &id).await?;
    let participants = room.members.iter().map(|(peer, member)| ShownMember::of(peer, member)).collect();
    Ok(HttpResponse::Ok().json(Participants { participants }))
}

/// Gives a member another role, or mutes it.
#[utoipa::path(patch, path = "/api/rooms/{room}/participants/{peer}", tag = "rooms", operation_id = "rooms_participants_patch",
    params(OfPeer), request_body = MemberChange,
    responses((status = 200, body = ShownMember), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn patch(request: HttpRequest, state: State, body: Body) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Rooms)?;
    let peer = peer_in(&request)?;
    let [role, muted] = members(body, ["role", "muted"])?;
    let role = named("role", &role, Role::parse)?;
    let muted = typed::<bool>("muted", &muted, "must be true or false")?;
    if role.is_none() && muted.is_none() {
        return Err(refuse("role", "or muted must be there").into());
    }
    if let Some(role) = role {
        let permissions = state.policy.permissions_of(&role)?;
        let ice_policy = Some(state.room_rules.ice_policy(&role));
        change(&state, &id, Act::SetRole { peer: peer.clone(), role, permissions, ice_policy }).await?;
        audit("role_changed", &caller, &id);
    }
    if let Some(on) = muted {
        change(&state, &id, Act::Mute { peer: peer.clone(), on }).await?;
        audit("peer_muted", &caller, &id);
    }
    let room = load(&state, &id).await?;
    let member = room.members.get(&peer).ok_or_else(no_such_peer)?;
    Ok(HttpResponse::Ok().json(ShownMember::of(&peer, member)))
}

/// Removes a member; neither its token nor its handle brings it back.
#[utoipa::path(delete, path = "/api/rooms/{room}/participants/{peer}", tag = "rooms", operation_id = "rooms_participants_remove",
    params(OfPeer),
    responses((status = 200, body = Removed), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn remove(request: HttpRequest, state: State) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Moderate)?;
    let peer = peer_in(&request)?;
    let act = Act::Remove { whom: Whom::Peer(peer), reason: LeftReason::Removed };
    let (outcome, _) = change(&state, &id, act).await?;
    audit("peer_removed", &caller, &id);
    Ok(removed(outcome))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    role: Option<String>,
    user: Option<String>,
}

/// Removes all members of a role, or of a user.
#[utoipa::path(delete, path = "/api/rooms/{room}/participants", tag = "rooms", operation_id = "rooms_participants_remove_some",
    params(InRoom, ("role" = Option<String>, Query, description = "All of a role"), ("user" = Option<String>, Query, description = "All of a user")),
    responses((status = 200, body = Removed), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn remove_some(request: HttpRequest, state: State) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Moderate)?;
    let which = web::Query::<Which>::from_query(request.query_string());
    let whom = match which.map(web::Query::into_inner) {
        Ok(Which { role: Some(role), user: None }) => {
            Whom::Role(Role::parse(&role).map_err(|bad| refuse("role", bad))?)
        }
        Ok(Which { role: None, user: Some(user) }) => {
            Whom::User(UserId::parse(&user).map_err(|bad| refuse("user", bad))?)
        }
        _ => return Err(refuse("role", "or user must be in the query, one of them and nothing else").into()),
    };
    let (outcome, _) = change(&state, &id, Act::Remove { whom, reason: LeftReason::Removed }).await?;
    audit("peers_removed", &caller, &id);
    Ok(removed(outcome))
}

/// `admit` or `deny` one that waits.
#[utoipa::path(post, path = "/api/rooms/{room}/participants/{peer}/{verb}", tag = "rooms", operation_id = "rooms_participants_decide",
    params(OfPeer, ("verb" = inline(LobbyVerb), Path, description = "What is done")),
    responses((status = 204, description = "Done"), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn decide(request: HttpRequest, state: State) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Moderate)?;
    let peer = peer_in(&request)?;
    let admits = request.match_info().get("verb") == Some("admit");
    change(&state, &id, if admits { Act::Admit(peer) } else { Act::Deny(peer) }).await?;
    audit(if admits { "peer_admitted" } else { "peer_denied" }, &caller, &id);
    Ok(HttpResponse::NoContent().finish())
}

/// Bans a user from the room for a time, whatever token it has, and removes its peers.
#[utoipa::path(post, path = "/api/rooms/{room}/bans", tag = "rooms", operation_id = "rooms_participants_ban",
    params(InRoom), request_body = RoomBanWish,
    responses((status = 201, body = Banned), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn ban(request: HttpRequest, state: State, body: Body) -> Answered {
    let (caller, id) = backend(&request, &state, Scope::Moderate)?;
    let [user, lasts, why] = members(body, ["user", "for", "reason"])?;
    let user = named("user", &user, UserId::parse)?.ok_or_else(|| api::missing("user"))?;
    let life_ms = api::life_ms(&lasts)?.ok_or_else(|| api::missing("for"))?;
    let terms = Terms { by: caller.as_str().into(), reason: api::reason(&why)?, ..Terms::default() };
    // The rule first: who is removed may be back in a moment.
    let key = RuleKey::Ban { room: Some(id.clone()), user: user.clone() };
    let rule = state.control.apply(Change { key, life_ms, terms }).await.map_err(api::problem)?;
    let act = Act::Remove { whom: Whom::User(user), reason: LeftReason::Banned };
    let outcome = match change(&state, &id, act).await {
        Ok((outcome, _)) => outcome,
        // The ban stands whether or not there is such a room now.
        Err(problem) if problem.code == "no_such_room" => Outcome::Removed(0),
        Err(problem) => return Err(problem.into()),
    };
    audit("user_banned", &caller, &id);
    let removed = if let Outcome::Removed(count) = outcome { count } else { 0 };
    let banned = Banned { rule: rule.key.to_string(), until: rule.until, removed };
    Ok(HttpResponse::Created().json(banned))
}
