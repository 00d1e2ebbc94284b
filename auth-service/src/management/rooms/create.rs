//! `POST /api/rooms`: a room is created.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use serde::Deserialize;
use signalbox_http::{JsonBody, bad_field};
use signalbox_protocol::{
    E2eeMode,
    id::{CreationId, Role, RoomId, random_hex},
    problem::Problem,
};
use signalbox_rooms::room::{RoomAction, RoomCreatorKind, RoomSettings, RoomState};
use signalbox_token::scope::Scope;
use utoipa::ToSchema;

use super::{
    invites::delete_stale_invites,
    room_access::{
        change_room, check_not_reserved, load_room, log_room_change, room_store, room_store_problem,
    },
    room_principal::{prove_creator, room_creator},
    room_settings_request::{RoomUpdateRequest, check_settings},
    views::RoomView,
};
use crate::{
    context::{
        authorization::authorize_application_or_user,
        member_types::{DisplayName, MetadataObject, UncheckedNumber},
        principal::Principal,
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The settings of a room to change.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RoomCreateRequest {
    id: Option<RoomId>,
    metadata: Option<MetadataObject>,
    /// The display name; an empty text removes it.
    name: Option<DisplayName>,
    /// The most peers; 0 is the configured number.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 1_000)]
    max_peers: Option<UncheckedNumber>,
    /// The longest time of use without a break, seconds; 0 is the configured one.
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 86_400)]
    max_duration: Option<UncheckedNumber>,
    /// When the room opens, ms since 1970; 0 is at once.
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 9_007_199_254_740_991i64)]
    starts_at: Option<UncheckedNumber>,
    enabled: Option<bool>,
    locked: Option<bool>,
    /// Whether new peers wait in the lobby.
    lobby: Option<bool>,
    e2ee: Option<E2eeMode>,
    /// The roles that may join; an empty list is every role.
    #[schema(max_items = 32)]
    roles: Option<Vec<Role>>,
}

impl RoomCreateRequest {
    fn into_settings(self) -> RoomUpdateRequest {
        RoomUpdateRequest {
            metadata: self.metadata,
            name: self.name,
            max_peers: self.max_peers,
            max_duration: self.max_duration,
            starts_at: self.starts_at,
            enabled: self.enabled,
            locked: self.locked,
            lobby: self.lobby,
            e2ee: self.e2ee,
            roles: self.roles,
        }
    }
}

/// Creates a room.
#[utoipa::path(post, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_post", request_body = RoomCreateRequest,
    responses((status = 201, body = RoomView, headers(("Location" = String, description = "The path of the room"))), ProblemResponses), security(("key" = []), ("management" = []), ("user" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody<RoomCreateRequest>,
) -> ApiResult {
    let caller = authorize_application_or_user(&request, &service.context, Scope::Rooms)?;
    check_create_permission(&service, caller.user_role())?;
    let mut request = body.parse(&caller)?;
    let id = match request.id.take() {
        Some(id) => id,
        None => RoomId::parse(&random_hex()).map_err(|bad| bad_field("id", bad))?,
    };
    let caller = caller.in_room(&service.context, &id)?;
    if matches!(*caller, Principal::User(_)) {
        check_not_reserved(&service, &id)?;
    }
    let patch = request.into_settings().into_patch(&service)?;
    let (now, creation_id) = (room_store(&service)?.now_ms(), CreationId::random());
    let creator_proof = match &*caller {
        Principal::User(claims) => prove_creator(&service.tokens.keys, &id, &creation_id, &claims.sub),
        _ => None,
    };
    let kept_until = now + service.room_settings.load().retention_ms;
    let settings = RoomSettings {
        created_by: Some(room_creator(&caller)),
        creator_proof,
        created_at: now,
        creation_id: Some(creation_id),
        kept_until,
        ..patch.apply_to(&RoomSettings::default())
    };
    check_settings(&service, &settings, kept_until)?;
    let created = create_room(&service, &caller, &id, settings).await?;
    delete_stale_invites(&service, &id, created.settings.creation_id.as_ref()).await;
    log_room_change("room_created", &caller.id(), &id);
    let path = format!("/api/rooms/{id}");
    Ok(HttpResponse::Created().insert_header((header::LOCATION, path)).json(RoomView::new(
        &id,
        &created,
        service.room_link(&id),
    )))
}

/// A user may create rooms only if its role has the permission.
pub(crate) fn check_create_permission(
    service: &ManagementService,
    user_role: Option<&Role>,
) -> Result<(), Problem> {
    let Some(role) = user_role else { return Ok(()) };
    let permissions = service.tokens.grant_policy.load().permissions_of(role)?;
    if permissions.iter().any(|name| &**name == "create") {
        return Ok(());
    }
    Err(Problem::new(403, "not_permitted", "the role lacks the permission `create`"))
}

/// Creates the room. It is reserved first, and released if the creation fails.
pub(crate) async fn create_room(
    service: &ManagementService,
    caller: &Principal,
    id: &RoomId,
    settings: RoomSettings,
) -> Result<Arc<RoomState>, Problem> {
    let (rules, creator) = (service.room_settings.load(), room_creator(caller));
    let (max_rooms, kind) = match creator.kind {
        RoomCreatorKind::User => (rules.max_rooms_per_user, "user"),
        RoomCreatorKind::Key => (rules.max_rooms_per_key, "API key"),
    };
    let reserved = room_store(service)?.reserve_room(&creator, id, rules.retention_ms, max_rooms);
    if !reserved.await.map_err(room_store_problem)? {
        let detail = format!("this {kind} has {max_rooms} rooms, the most there may be");
        return Err(Problem::new(409, "room_limit", detail));
    }
    let created = change_room(service, id, RoomAction::Create(settings.into())).await;
    if let Err(problem) = &created {
        // An existing room of this creator with the same name keeps its reservation.
        let owner = load_room(service, id).await.ok().and_then(|room| room.settings.created_by.clone());
        if problem.status != 503 && owner.as_ref() != Some(&creator) {
            // Otherwise the reservation expires with the room.
            let _ = room_store(service)?.release_room(&creator, id).await;
        }
    }
    Ok(created?.1)
}
