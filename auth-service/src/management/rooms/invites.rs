//! `/api/rooms/{room}/invites`: invites are created, listed and revoked.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_http::{ApiError, JsonBody};
use signalbox_protocol::{
    clock,
    id::{CallerId, CreationId, Role, RoomId},
    problem::Problem,
};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::room_access::room_store_problem;
use crate::{
    auth::{
        credential_store::contract::{CredentialStoreError, Invite, NewInvite},
        issuer::{InviteCode, InviteTerms},
        token_issuer::{find_creation, serialization_problem, store_problem},
    },
    context::{
        authorization::{Authorized, authorize_application},
        member_types::{Seconds, UncheckedNumber, WholeNumber},
        principal::Principal,
        problem_responses::ProblemResponses,
        request::{ApiResult, parse_room_path},
    },
    management::management_service::ManagementService,
};

/// The default life of an invite, seconds.
const DEFAULT_INVITE_LIFE_S: u64 = 24 * 60 * 60;

/// A request for an invite.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct InviteRequest {
    /// The role of guests; without it the configured one.
    role: Option<Role>,
    /// The life of the issued tokens, seconds; at most the configured one.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    ttl: Option<UncheckedNumber>,
    /// How often the invite may be used; without this member once.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 10_000)]
    max_uses: Option<WholeNumber<1, 10_000>>,
    /// The life of the invite, seconds; without this member a day.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 2_592_000)]
    expires_in: Option<Seconds<1, 2_592_000>>,
}

/// An invite.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InviteView {
    /// The id of the invite.
    invite: String,
    /// The room.
    room: RoomId,
    /// The role of guests.
    role: Role,
    /// How often the invite may be used.
    max_uses: u32,
    /// How often the invite was used.
    uses: u32,
    /// The end, ms since 1970.
    expires_at: u64,
    /// The time of creation, ms since 1970.
    created_at: u64,
    /// The API key that created the invite.
    created_by: CallerId,
    /// The code that guests send to `POST /auth/token`. Only this response holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The call page with the code, for a guest. Only this response holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

/// Invites, ordered by their end.
#[derive(Serialize, ToSchema)]
pub(crate) struct InviteList {
    invites: Vec<InviteView>,
}

/// Creates an invite to a room.
#[utoipa::path(post, path = "/api/rooms/{room}/invites", tag = "invites", request_body = InviteRequest,
    params(("room" = RoomId, Path)),
    responses((status = 201, body = InviteView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    path: web::Path<String>,
    body: JsonBody<InviteRequest>,
) -> ApiResult {
    let (caller, room) = authorize_for_room(&request, &service, &path)?;
    let created = create_invite(&service, &caller, room, body.parse(&caller)?).await?;
    tracing::info!(target: "signalbox_auth::audit", caller = %caller.id(), room = %created.room,
        invite = created.invite, role = %created.role, max_uses = created.max_uses, "invite_created");
    Ok(HttpResponse::Created().json(created))
}

/// Lists the invites to a room that have not expired.
#[utoipa::path(get, path = "/api/rooms/{room}/invites", tag = "invites",
    params(("room" = RoomId, Path)),
    responses((status = 200, body = InviteList), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn get(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    path: web::Path<String>,
) -> ApiResult {
    let (_, room) = authorize_for_room(&request, &service, &path)?;
    let stored = service.tokens.store.list_invites(&room).await.map_err(store_problem)?;
    let creation = find_creation(&service.tokens, &room).await.map_err(room_store_problem)?;
    let current = stored.into_iter().filter(|invite| is_for_creation(invite, creation.as_ref()));
    let invites = current.filter_map(|invite| stored_invite_view(&room, invite)).collect();
    Ok(HttpResponse::Ok().json(InviteList { invites }))
}

/// Revokes an invite. Guests who have joined with it stay.
#[utoipa::path(delete, path = "/api/rooms/{room}/invites/{invite}", tag = "invites",
    params(("room" = RoomId, Path), ("invite" = String, Path, description = "The id of the invite")),
    responses((status = 204), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn delete(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    path: web::Path<(String, String)>,
) -> ApiResult {
    let (room, invite) = path.into_inner();
    let (caller, room) = authorize_for_room(&request, &service, &room)?;
    let is_name = invite.len() == 32 && invite.bytes().all(|c| c.is_ascii_hexdigit());
    if !is_name || !service.tokens.store.delete_invite(&room, &invite).await.map_err(store_problem)? {
        return Err(Problem::new(404, "no_such_invite", "the room has no such invite").into());
    }
    tracing::info!(target: "signalbox_auth::audit", caller = %caller.id(), %room, invite, "invite_deleted");
    Ok(HttpResponse::NoContent().finish())
}

fn authorize_for_room(
    request: &HttpRequest,
    service: &ManagementService,
    room: &str,
) -> Result<(Authorized<Principal>, RoomId), ApiError> {
    let caller = authorize_application(request, &service.context, Scope::Tokens)?;
    let room = parse_room_path(room)?;
    Ok((caller.in_room(&service.context, &room)?, room))
}

async fn create_invite(
    service: &ManagementService,
    caller: &Principal,
    room: RoomId,
    request: InviteRequest,
) -> Result<InviteView, Problem> {
    let InviteRequest { role, ttl, max_uses, expires_in } = request;
    service.context.check_store_memory(None)?;
    let (role, ttl_s) = service.tokens.grant_policy.load().role_and_ttl(role, ttl)?;
    let code = InviteCode::random(room.clone());
    let creation = find_creation(&service.tokens, &room).await;
    let terms = InviteTerms {
        role,
        ttl_s,
        created_by: caller.id(),
        created_at: clock::now_ms(),
        creation: creation.map_err(room_store_problem)?,
    };
    let invite = NewInvite {
        room: room.clone(),
        id: code.id(),
        key: caller.id(),
        terms_json: serde_json::to_string(&terms).map_err(|error| serialization_problem(&error))?,
        max_uses: max_uses.map_or(1, WholeNumber::get),
        life_ms: expires_in.map_or(DEFAULT_INVITE_LIFE_S * 1_000, Seconds::as_ms),
    };
    let (id, key, max_uses) = (invite.id.clone(), invite.key.clone(), invite.max_uses);
    let ends_ms = service.tokens.store.put_invite(invite).await.map_err(|why| match why {
        CredentialStoreError::Full => {
            Problem::new(409, "conflict", "the room has as many invites as it may have")
        }
        CredentialStoreError::NoPlace => {
            let detail = "this API key has as many invites as it may have (limits.key_invites); delete some";
            Problem::new(409, "invite_limit", detail)
        }
        CredentialStoreError::Unavailable => store_problem(why),
    })?;
    let stored = Invite { id, key, terms_json: String::new(), max_uses, uses: 0, ends_ms };
    let code = code.to_text();
    let link = format!("{}&invite={code}", service.room_link(&room));
    Ok(InviteView { code: Some(code), link: Some(link), ..invite_view(&room, stored, terms) })
}

/// Whether an invite is for the room of this creation, and not for an earlier one with its name.
fn is_for_creation(invite: &Invite, creation: Option<&CreationId>) -> bool {
    let terms = serde_json::from_str::<InviteTerms>(&invite.terms_json);
    terms.is_ok_and(|terms| terms.creation.is_none() || terms.creation.as_ref() == creation)
}

/// Deletes the invites to earlier rooms with the name of a new room. They are void; if the store
/// does not answer, they only keep their places.
pub(crate) async fn delete_stale_invites(
    service: &ManagementService,
    room: &RoomId,
    creation: Option<&CreationId>,
) {
    let Ok(stored) = service.tokens.store.list_invites(room).await else { return };
    for invite in stored.iter().filter(|invite| !is_for_creation(invite, creation)) {
        let _ = service.tokens.store.delete_invite(room, &invite.id).await;
    }
}

/// The view of a stored invite; `None` if another release wrote the invite in another form.
fn stored_invite_view(room: &RoomId, invite: Invite) -> Option<InviteView> {
    let terms = serde_json::from_str(&invite.terms_json).ok()?;
    Some(invite_view(room, invite, terms))
}

fn invite_view(room: &RoomId, invite: Invite, terms: InviteTerms) -> InviteView {
    InviteView {
        invite: invite.id,
        room: room.clone(),
        role: terms.role,
        max_uses: invite.max_uses,
        uses: invite.uses,
        expires_at: invite.ends_ms,
        created_at: terms.created_at,
        created_by: terms.created_by,
        code: None,
        link: None,
    }
}
