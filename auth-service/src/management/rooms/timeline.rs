//! `GET /api/rooms/{room}/timeline`: the steps of each two peers toward each other, and how their
//! attempts to connect ended.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_http::parse_query;
use signalbox_protocol::{
    FailureCode, PairStep, PathProtocol,
    id::{PeerId, RoomId, UserId},
};
use signalbox_rooms::{
    room::RoomState,
    timeline::{PairTimeline, RecordedStep},
};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use super::{
    room_access::{no_such_room, room_store, room_store_problem},
    room_principal::authorize_in_room,
};
use crate::{
    context::{problem_responses::ProblemResponses, request::ApiResult},
    management::management_service::ManagementService,
};

/// Selects a part of a timeline.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TimelineQuery {
    /// Only the pairs of this peer.
    peer: Option<PeerId>,
}

/// The timeline of a room: the pairs by their last step, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Timeline)]
pub(crate) struct TimelineView<'a> {
    pairs: Vec<PairTimelineView<'a>>,
}

/// The steps of two peers toward each other. It holds no address.
#[derive(Serialize, ToSchema)]
#[schema(as = PairTimeline)]
struct PairTimelineView<'a> {
    /// Both peers.
    peers: Vec<TimelinePeerView<'a>>,
    /// In the order of their times.
    steps: Vec<TimelineStepView<'a>>,
}

/// A peer of a pair.
#[derive(Serialize, ToSchema)]
#[schema(as = TimelinePeer)]
#[serde(rename_all = "camelCase")]
struct TimelinePeerView<'a> {
    peer_id: &'a PeerId,
    /// The user, if a node knew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a UserId>,
    /// Whether the peer is in the room now.
    present: bool,
    /// Whether the peer is detached now.
    detached: bool,
}

/// One step. Outcomes (`connected`, `failed`, `closed`) are what the client of the peer reports.
#[derive(Serialize, ToSchema)]
#[schema(as = TimelineStep)]
#[serde(rename_all = "camelCase")]
struct TimelineStepView<'a> {
    /// Milliseconds since 1970.
    at: u64,
    /// The peer that made the step.
    peer_id: &'a PeerId,
    step: PairStep,
    /// Why the peers do not connect, if the client knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<FailureCode>,
    /// The duration of the attempt, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u32>,
    /// Whether the path goes through a relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    relayed: Option<bool>,
    /// The protocol of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<PathProtocol>,
}

impl<'a> PairTimelineView<'a> {
    fn new(timeline: &'a PairTimeline, room: Option<&'a RoomState>) -> Self {
        let peers = timeline.pair.peers().iter().zip(&timeline.users);
        let peers = peers.map(|(peer_id, user)| {
            let member = room.and_then(|room| room.members.get(peer_id));
            TimelinePeerView {
                peer_id,
                user_id: user.as_ref().or(member.map(|member| &member.user)),
                present: member.is_some(),
                detached: member.is_some_and(|member| member.owner().is_none()),
            }
        });
        Self { peers: peers.collect(), steps: timeline.steps.iter().map(TimelineStepView::new).collect() }
    }
}

impl<'a> TimelineStepView<'a> {
    fn new(recorded: &'a RecordedStep) -> Self {
        let step = &recorded.step;
        Self {
            at: recorded.at,
            peer_id: &recorded.peer,
            step: step.step,
            code: step.code,
            ms: step.ms,
            relayed: step.relayed,
            protocol: step.protocol,
        }
    }
}

/// Shows why peers of the room do not connect: the steps of each two peers, and the outcomes that
/// their clients report. It outlives the room for a while.
#[utoipa::path(get, path = "/api/rooms/{room}/timeline", tag = "rooms", operation_id = "rooms_timeline_get",
    params(("room" = RoomId, Path), TimelineQuery),
    responses((status = 200, body = TimelineView), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (_, room) = authorize_in_room(&request, &service, Scope::Rooms)?;
    let query = parse_query::<TimelineQuery>(&request)?;
    let store = room_store(&service)?;
    let loaded = store.load_room(&room).await.map_err(room_store_problem)?;
    let timeline = store.read_timeline(&room).await.map_err(room_store_problem)?;
    let state = loaded.room.filter(|state| state.exists(loaded.now));
    if state.is_none() && timeline.is_empty() {
        return Err(no_such_room().into());
    }
    let is_selected = |pair: &&PairTimeline| query.peer.as_ref().is_none_or(|peer| pair.pair.contains(peer));
    let pairs = timeline.iter().filter(is_selected);
    let pairs = pairs.map(|pair| PairTimelineView::new(pair, state.as_ref())).collect();
    Ok(HttpResponse::Ok().json(TimelineView { pairs }))
}
