//! Rooms and members as callers see them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_rooms::room::{Creator, Member, RoomState};
use signalbox_shared::{
    id::{CallerId, PeerId, Role, RoomId, UserId},
    protocol::E2ee,
};

/// A room.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownRoom<'a> {
    id: &'a RoomId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<u64>,
    enabled: bool,
    locked: bool,
    lobby: bool,
    e2ee: E2ee,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [Role]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<&'a Creator>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<u64>,
    /// Members, and of them those whose socket is lost.
    peers: usize,
    detached: usize,
    /// Those who wait to be let in.
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<u64>,
}

impl<'a> ShownRoom<'a> {
    pub(super) fn of(id: &'a RoomId, state: &'a RoomState) -> Self {
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
            created_by: set.created_by.as_ref(),
            created_at: known(set.created_at),
            kept_until: known(set.kept_until),
            peers: inside().count(),
            detached: inside().filter(|member| member.owner().is_none()).count(),
            waiting: state.members.values().filter(|member| member.waiting).count(),
            began_at: known(state.began_at),
            ends_at: known(state.ends_at),
        }
    }
}

/// A member.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownMember<'a> {
    peer_id: &'a PeerId,
    user_id: &'a UserId,
    name: &'a str,
    role: &'a Role,
    permissions: &'a [Arc<str>],
    metadata: &'a RawValue,
    waiting: bool,
    detached: bool,
    muted: bool,
    caller: &'a CallerId,
    /// When its token ends, seconds since 1970.
    expires: u64,
}

impl<'a> ShownMember<'a> {
    pub(super) fn of(peer_id: &'a PeerId, member: &'a Member) -> Self {
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
