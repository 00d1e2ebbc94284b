//! Rooms and peers as the API shows them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    E2eeMode, UserSource,
    id::{CallerId, PeerId, Role, RoomId, UserId},
};
use signalbox_rooms::room::{Member, RoomCreator, RoomCreatorKind, RoomState};
use utoipa::ToSchema;

use crate::context::member_types::{DisplayName, MetadataObject};

/// A room. Times are milliseconds since 1970.
#[derive(Serialize, ToSchema)]
#[schema(as = Room)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomView<'a> {
    id: &'a RoomId,
    /// The room on the call page.
    link: String,
    /// The display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DisplayName>)]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MetadataObject>)]
    metadata: Option<&'a RawValue>,
    /// The most peers, if fewer than configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_peers: Option<u32>,
    /// The longest time of use without a break, seconds, if shorter than configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration: Option<u64>,
    /// No peer may join before.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<u64>,
    /// Whether peers may join at all.
    enabled: bool,
    /// Whether joins are refused for now.
    locked: bool,
    /// Whether new peers wait in the lobby.
    lobby: bool,
    e2ee: E2eeMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The roles that may join; without this member every role.
    roles: Option<&'a [Role]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<RoomCreatorView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    /// Until when the room is kept while it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<u64>,
    /// The number of peers, without the lobby.
    peers: usize,
    /// The number of detached peers among them.
    detached: usize,
    /// The number of peers in the lobby.
    waiting: usize,
    /// When the first of the current peers joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<u64>,
    /// When the room ends, whatever peers are in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<u64>,
    /// How many peers were removed, in the response to `end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<usize>,
}

/// The creator of a room.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomCreator)]
struct RoomCreatorView<'a> {
    kind: RoomCreatorKindView,
    /// The id of the API key, or the user.
    id: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RoomCreatorKind)]
#[serde(rename_all = "lowercase")]
enum RoomCreatorKindView {
    Key,
    User,
}

impl<'a> From<&'a RoomCreator> for RoomCreatorView<'a> {
    fn from(creator: &'a RoomCreator) -> Self {
        let kind = match creator.kind {
            RoomCreatorKind::Key => RoomCreatorKindView::Key,
            RoomCreatorKind::User => RoomCreatorKindView::User,
        };
        Self { kind, id: &creator.id }
    }
}

impl<'a> RoomView<'a> {
    /// The view with the number of removed peers.
    pub(crate) fn with_removed(self, removed: Option<usize>) -> Self {
        Self { removed, ..self }
    }

    /// The view for a user who may not enter the room now: without its name, metadata and creator.
    pub(crate) fn without_description(self) -> Self {
        Self { name: None, metadata: None, created_by: None, created_at: None, ..self }
    }

    pub(crate) fn new(id: &'a RoomId, state: &'a RoomState, link: String) -> Self {
        let set = &*state.settings;
        let if_set = |moment: u64| (moment > 0).then_some(moment);
        let inside = || state.members.values().filter(|member| !member.waiting);
        Self {
            id,
            link,
            name: set.name.as_deref(),
            metadata: set.metadata.as_deref(),
            max_peers: set.max_peers,
            max_duration: set.max_duration,
            starts_at: set.starts_at,
            enabled: set.enabled,
            locked: set.locked,
            lobby: set.lobby,
            e2ee: set.e2ee,
            roles: set.roles.as_deref(),
            created_by: set.created_by.as_ref().map(RoomCreatorView::from),
            created_at: if_set(set.created_at),
            kept_until: if_set(set.kept_until),
            peers: inside().count(),
            detached: inside().filter(|member| member.owner().is_none()).count(),
            waiting: state.members.values().filter(|member| member.waiting).count(),
            began_at: if_set(state.started_at),
            ends_at: if_set(state.ends_at),
            removed: None,
        }
    }
}

/// A peer of a room, as its member record describes the peer.
#[derive(Serialize, ToSchema)]
#[schema(as = Participant)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParticipantView<'a> {
    peer_id: &'a PeerId,
    user_id: &'a UserId,
    source: UserSource,
    /// The display name; empty if there is none.
    #[schema(value_type = DisplayName)]
    name: &'a str,
    role: &'a Role,
    /// The current permissions.
    #[schema(value_type = Vec<String>)]
    permissions: &'a [Arc<str>],
    #[schema(value_type = MetadataObject)]
    metadata: &'a RawValue,
    /// Whether the peer waits in the lobby.
    waiting: bool,
    /// Whether the peer is detached.
    detached: bool,
    /// Whether the peer is muted: it may not publish, whatever its role.
    muted: bool,
    caller: &'a CallerId,
    /// When the token of the peer expires, seconds since 1970.
    expires: u64,
}

impl<'a> ParticipantView<'a> {
    pub(crate) fn new(peer_id: &'a PeerId, member: &'a Member) -> Self {
        Self {
            peer_id,
            user_id: &member.user,
            source: member.user_source(),
            name: &member.name,
            role: &member.role,
            permissions: &member.permissions,
            metadata: &member.metadata,
            waiting: member.waiting,
            detached: member.owner().is_none(),
            muted: member.muted,
            caller: &member.caller,
            expires: member.expires,
        }
    }
}
