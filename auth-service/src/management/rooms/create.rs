//! `POST /api/rooms`: a room is created.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use signalbox_protocol::{
    id::{RoomId, random_hex},
    problem::Problem,
};
use signalbox_rooms::room::{RoomAction, RoomSettings, RoomState};
use signalbox_token::scope::Scope;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type},
};

use super::{
    room_access::{change_room, load_room, log_room_change, room_store, room_store_problem},
    room_principal::{RoomPrincipal, authorize_user_in_room},
    room_settings_request::{RoomUpdateRequest, SETTINGS_MEMBERS, check_settings, parse_room_patch},
    views::RoomView,
};
use crate::{
    context::{
        problem_responses::ProblemResponses,
        request::{ApiResult, JsonBody, read_members},
        schemas::RoomName,
        token_request::{bad_member, parse_name},
    },
    management::management_service::ManagementService,
};

/// A room that is to be made: its settings, and its name in URLs and tokens (`id`), which is made up where there is none.
pub(crate) struct RoomCreateRequest;

impl PartialSchema for RoomCreateRequest {
    fn schema() -> RefOr<Schema> {
        let mut wish = RoomUpdateRequest::schema();
        if let RefOr::T(Schema::Object(settings)) = &mut wish {
            let none = ObjectBuilder::new().schema_type(Type::Null);
            let id = OneOfBuilder::new().item(none).item(Ref::from_schema_name(RoomName::name()));
            settings.properties.insert("id".to_owned(), id.into());
        }
        wish
    }
}

impl ToSchema for RoomCreateRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((RoomName::name().into_owned(), RoomName::schema()));
        RoomUpdateRequest::schemas(schemas);
    }
}

/// Makes a room.
#[utoipa::path(post, path = "/api/rooms", tag = "rooms", operation_id = "rooms_collection_post", request_body = RoomCreateRequest,
    responses((status = 201, body = RoomView, headers(("Location" = String, description = "Its path"))), ProblemResponses), security(("key" = []), ("management" = []), ("user" = [])))]
pub(crate) async fn post(
    request: HttpRequest,
    service: web::Data<ManagementService>,
    body: JsonBody,
) -> ApiResult {
    let who = authorize_user_in_room(&request, &service, Scope::Rooms)?;
    check_create_permission(&service, &who)?;
    let [id, rest @ ..] = read_members(body, CREATE_MEMBERS)?;
    let id = parse_name("id", &id, RoomId::parse)?;
    let id = match id {
        Some(id) => id,
        None => RoomId::parse(&random_hex()).map_err(|bad| bad_member("id", bad))?,
    };
    who.check_room(&service, &id)?;
    let patch = parse_room_patch(&service, rest)?;
    let now = room_store(&service)?.now_ms();
    let kept_until = now + service.room_settings.retention_ms;
    let settings = RoomSettings {
        created_by: Some(who.creator()),
        created_at: now,
        creation_id: Some(random_hex().into()),
        kept_until,
        ..patch.apply_to(&RoomSettings::default())
    };
    check_settings(&service, &settings, kept_until)?;
    let made = create_room(&service, &who, &id, settings).await?;
    log_room_change("room_created", &who.id(), &id);
    let place = format!("/api/rooms/{id}");
    Ok(HttpResponse::Created().insert_header((header::LOCATION, place)).json(RoomView::new(&id, &made)))
}

pub(crate) const CREATE_MEMBERS: [&str; 11] = {
    let [name, metadata, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles] =
        SETTINGS_MEMBERS;
    ["id", name, metadata, max_peers, max_duration, starts_at, enabled, locked, lobby, e2ee, roles]
};

/// A user makes rooms where its role says so.
pub(crate) fn check_create_permission(
    service: &ManagementService,
    who: &RoomPrincipal,
) -> Result<(), Problem> {
    let RoomPrincipal::User(claims) = who else { return Ok(()) };
    let permissions = service.tokens.grant_policy.permissions_of(&claims.role)?;
    if permissions.iter().any(|name| &**name == "create") {
        return Ok(());
    }
    Err(Problem::new(403, "not_permitted", "the role lacks the permission `create`"))
}

/// Takes one of the user's places first, and gives it back where no room comes of it.
pub(crate) async fn create_room(
    service: &ManagementService,
    who: &RoomPrincipal,
    id: &RoomId,
    settings: RoomSettings,
) -> Result<Arc<RoomState>, Problem> {
    let rules = &service.room_settings;
    if let RoomPrincipal::User(claims) = who {
        let place = room_store(service)?.reserve_user_room(
            &claims.sub,
            id,
            rules.retention_ms,
            rules.max_rooms_per_user,
        );
        if !place.await.map_err(room_store_problem)? {
            let detail = format!("this user has {} rooms, the most there may be", rules.max_rooms_per_user);
            return Err(Problem::new(409, "room_limit", detail));
        }
    }
    let made = change_room(service, id, RoomAction::Create(settings.into())).await;
    if let (RoomPrincipal::User(claims), Err(problem)) = (who, &made) {
        // A room of that name which is its own keeps its place.
        let known = load_room(service, id).await.ok().and_then(|room| room.settings.created_by.clone());
        if problem.status != 503 && known != Some(who.creator()) {
            // Else it comes back when the room would have been over.
            let _ = room_store(service)?.release_user_room(&claims.sub, id).await;
        }
    }
    Ok(made?.1)
}
