//! Rooms and members as callers see them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    E2eeMode,
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
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DisplayName>)]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<MetadataObject>)]
    metadata: Option<&'a RawValue>,
    /// Most peers, if fewer than configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_peers: Option<u32>,
    /// The longest that somebody is in it without a break, seconds, if shorter than configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration: Option<u64>,
    /// Nobody comes in before.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<u64>,
    /// Whether somebody may come in at all.
    enabled: bool,
    /// Whether it takes nobody in for now.
    locked: bool,
    /// Whether whoever comes waits to be let in.
    lobby: bool,
    e2ee: E2eeMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The roles that it takes in; all where none are named.
    roles: Option<&'a [Role]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<RoomCreatorView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    /// Until when it is there though nobody is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<u64>,
    /// Members that are not waiting.
    peers: usize,
    /// Of them those whose socket is lost.
    detached: usize,
    /// Those who wait to be let in.
    waiting: usize,
    /// When the first of those who are in it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<u64>,
    /// When it ends whoever is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<u64>,
    /// How many were sent out, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<usize>,
}

/// Who made a room.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomCreator)]
struct RoomCreatorView<'a> {
    kind: RoomCreatorKindView,
    /// The API key's id, or the user.
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
    /// The same, where so many were sent out.
    pub(crate) fn with_removed(self, removed: Option<usize>) -> Self {
        Self { removed, ..self }
    }

    pub(crate) fn new(id: &'a RoomId, state: &'a RoomState) -> Self {
        let set = &*state.settings;
        let known = |moment: u64| (moment > 0).then_some(moment);
        let inside = || state.members.values().filter(|member| !member.waiting);
        Self {
            id,
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
            created_at: known(set.created_at),
            kept_until: known(set.kept_until),
            peers: inside().count(),
            detached: inside().filter(|member| member.owner().is_none()).count(),
            waiting: state.members.values().filter(|member| member.waiting).count(),
            began_at: known(state.started_at),
            ends_at: known(state.ends_at),
            removed: None,
        }
    }
}

/// A member.
#[derive(Serialize, ToSchema)]
#[schema(as = Participant)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberView<'a> {
    peer_id: &'a PeerId,
    user_id: &'a UserId,
    /// The name to show; empty where it has none.
    #[schema(value_type = DisplayName)]
    name: &'a str,
    role: &'a Role,
    /// What it may do now.
    #[schema(value_type = Vec<String>)]
    permissions: &'a [Arc<str>],
    #[schema(value_type = MetadataObject)]
    metadata: &'a RawValue,
    /// Whether it waits to be let in.
    waiting: bool,
    /// Whether its socket is lost.
    detached: bool,
    /// Whether it may not publish, whatever its role.
    muted: bool,
    caller: &'a CallerId,
    /// When its token ends, seconds since 1970.
    expires: u64,
}

impl<'a> MemberView<'a> {
    pub(crate) fn new(peer_id: &'a PeerId, member: &'a Member) -> Self {
        Self {
            peer_id,
            user_id: &member.user,
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
