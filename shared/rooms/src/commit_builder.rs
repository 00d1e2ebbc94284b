//! Builds the commit of a decision.
//!
//! Owns: the frames of the events for peers, and the lines of the event feed for operators. Must
//! not: decide anything. Next: `store` commits.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    CredentialRoot, KnockEndReason, LeaveReason, ServerMessage, UserSource,
    feed::FeedEvent,
    id::{CallerId, NodeId, PeerId, Role, RoomId, UserId, random_hex},
};

use crate::{
    room::{Decision, Member, RoomCreatorKind, RoomEvent, RoomEventKind, RoomPolicy, RoomState},
    store::{Commit, EntryKind, EventEntry, RequestId, StateKind},
};

/// A peer event without `polite`, which is added for each reader.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerEventFrame<'a> {
    r#type: &'static str,
    peer_id: &'a PeerId,
    user_id: &'a UserId,
    source: UserSource,
    name: &'a str,
    role: &'a Role,
    metadata: &'a RawValue,
    detached: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    muted: bool,
}

/// Builds the commit of a decision on `state`. `now` is the time of the decision, milliseconds
/// since 1970; `accepted_ids` are message ids that the decision accepts. It has no feed lines.
pub fn build_commit(
    node: &NodeId,
    now: u64,
    state: &RoomState,
    decision: &Decision,
    accepted_ids: Vec<RequestId>,
    policy: &RoomPolicy,
) -> Commit {
    let settings = &decision.next_state.settings;
    let writes_settings =
        decision.settings_changed || state.version == 0 && (settings.is_created() || settings.kept_until > 0);
    let sanctions = &decision.next_state.sanctions;
    let writes_sanctions = decision.sanctions_changed || state.version == 0 && !sanctions.is_empty();
    let (before, next) = (&state.members, &decision.next_state.members);
    // A room that the store has forgotten is written as a whole.
    let written: Vec<&PeerId> =
        if state.version == 0 { next.keys().collect() } else { decision.written_peers.iter().collect() };
    let known_before = decision.removed_peers.iter().filter(|peer| before.contains_key(*peer));
    let tombstones = &decision.next_state.tombstones;
    let removed = known_before.filter_map(|peer| Some((peer.clone(), tombstones.get(peer)?.clone())));
    let ends_at = decision.next_state.ends_at;
    let (nodes_before, nodes_after) = (state.owner_nodes(), decision.next_state.owner_nodes());
    let is_listed = |node: &NodeId| state.version > 0 && nodes_before.contains(node);
    Commit {
        instance_id: state.instance_id.clone(),
        version: state.version,
        decided_at: now,
        adds_data: state.version == 0
            || decision.settings_changed && settings.is_kept(now)
            || decision.has_app_message
            || written.iter().any(|peer| !before.contains_key(*peer)),
        written_members: written
            .into_iter()
            .filter_map(|peer| Some((peer.clone(), next.get(peer)?.clone())))
            .collect(),
        removed_peers: removed.collect(),
        expired_tombstones: decision.expired_tombstones.clone(),
        detached_peers: next
            .iter()
            .filter(|(_, m)| m.owner().is_none())
            .map(|(peer, _)| peer.clone())
            .collect(),
        added_nodes: nodes_after.iter().filter(|node| !is_listed(node)).map(|node| (*node).clone()).collect(),
        removed_nodes: nodes_before.difference(&nodes_after).map(|node| (*node).clone()).collect(),
        resync_requests: resync_requests(node, state, decision),
        opens_room: (before.is_empty() || state.version == 0) && !next.is_empty(),
        leaves_room_empty: next.is_empty(),
        ends_room: next.is_empty() && !settings.is_kept(now),
        settings: writes_settings.then(|| settings.clone()),
        sanctions: writes_sanctions.then(|| sanctions.clone()),
        max_life_ms: settings.max_life_ms(policy.max_room_life_ms),
        kept_until: settings.kept_until,
        events: decision
            .events
            .iter()
            .filter(|event| !event.targets.is_empty())
            .map(|event| encode_event(event, ends_at))
            .collect(),
        accepted_ids,
        feed_lines: Vec::new(),
    }
}

/// Builds the lines that the event feed gets of a decision on `state`.
pub fn build_feed_lines(
    room: &RoomId,
    node: &NodeId,
    now: u64,
    state: &RoomState,
    decision: &Decision,
) -> Vec<Arc<str>> {
    FeedLineBuilder { room, node, now, state, decision }.build_lines()
}

/// The peers that other nodes must resync, by node. This node learns its own from the decision.
fn resync_requests(this_node: &NodeId, state: &RoomState, decision: &Decision) -> Vec<(NodeId, Vec<PeerId>)> {
    let mut requests: BTreeMap<&NodeId, Vec<PeerId>> = BTreeMap::new();
    for (owner, peer) in decision.peers_to_resync(state).filter(|(owner, _)| *owner != this_node) {
        requests.entry(owner).or_default().push(peer.clone());
    }
    requests.into_iter().map(|(owner, peers)| (owner.clone(), peers)).collect()
}

fn encode_event(event: &RoomEvent, ends_at: u64) -> EventEntry {
    let peer_id = event.about_peer.clone();
    let (kind, state, body) = match &event.kind {
        RoomEventKind::Joined(member) => (
            EntryKind::PeerEvent,
            Some(StateKind::Joined),
            encode_peer_event("peer-joined", &event.about_peer, member),
        ),
        RoomEventKind::Updated(member) => (
            EntryKind::PeerEvent,
            Some(StateKind::Updated),
            encode_peer_event("peer-updated", &event.about_peer, member),
        ),
        RoomEventKind::Detached => (
            EntryKind::RoomEvent,
            Some(StateKind::Attachment),
            ServerMessage::PeerDetached { seq: None, peer_id }.to_json(),
        ),
        RoomEventKind::Attached => (
            EntryKind::RoomEvent,
            Some(StateKind::Attachment),
            ServerMessage::PeerAttached { seq: None, peer_id }.to_json(),
        ),
        RoomEventKind::Left(reason) => (
            EntryKind::PeerLeft,
            Some(StateKind::Left),
            ServerMessage::PeerLeft { seq: None, peer_id, reason: *reason }.to_json(),
        ),
        RoomEventKind::Knocked(member) => {
            let knock = ServerMessage::Knock { seq: None, peer: member.to_knocker(&event.about_peer) };
            (EntryKind::RoomEvent, Some(StateKind::Knock), knock.to_json())
        }
        RoomEventKind::KnockEnded(reason) => {
            let reason = reason.map_or(KnockEndReason::Admitted, KnockEndReason::Left);
            (
                EntryKind::RoomEvent,
                Some(StateKind::Knock),
                ServerMessage::KnockEnded { seq: None, peer_id, reason }.to_json(),
            )
        }
        RoomEventKind::PermissionsChanged(member, ice_policy) => {
            let (role, permissions) = (member.role.clone(), member.permissions.clone());
            let (muted, ice_policy) = (member.muted, *ice_policy);
            let message = ServerMessage::Permissions { seq: None, role, permissions, muted, ice_policy };
            (EntryKind::PermissionsChanged, Some(StateKind::OwnPermissions), message.to_json())
        }
        RoomEventKind::RoomUpdated(settings) => {
            let room = settings.to_room_info(ends_at);
            (
                EntryKind::RoomEvent,
                Some(StateKind::Room),
                ServerMessage::RoomUpdated { seq: None, room }.to_json(),
            )
        }
        RoomEventKind::AppMessage { addressed_to_room, data } => {
            let room = if *addressed_to_room { r#","room":true"# } else { "" };
            (EntryKind::RoomEvent, None, format!(r#"{{"type":"message"{room},"data":{}}}"#, data.get()))
        }
    };
    EventEntry {
        about_peer: event.about_peer.clone(),
        kind,
        state,
        body: body.into(),
        targets: event.targets.clone(),
    }
}

fn encode_peer_event(kind: &'static str, peer: &PeerId, member: &Member) -> String {
    let frame = PeerEventFrame {
        r#type: kind,
        peer_id: peer,
        user_id: &member.user,
        source: member.user_source(),
        name: &member.name,
        role: &member.role,
        metadata: &member.metadata,
        detached: member.owner().is_none(),
        muted: member.muted,
    };
    serde_json::to_string(&frame).unwrap_or_default()
}

struct FeedLineBuilder<'a> {
    room: &'a RoomId,
    node: &'a NodeId,
    now: u64,
    state: &'a RoomState,
    decision: &'a Decision,
}

impl FeedLineBuilder<'_> {
    fn build_lines(&self) -> Vec<Arc<str>> {
        let (before, after) = (&self.state.members, &self.decision.next_state.members);
        let was_created = self.state.settings.is_created();
        let is_created = self.decision.next_state.settings.is_created();
        let mut lines = Vec::with_capacity(self.decision.events.len() + 1);
        if is_created && !was_created {
            lines.push(self.build_line("room-created", None, None, None));
        }
        if before.is_empty() && !after.is_empty() {
            lines.push(self.build_line("room-opened", None, None, None));
        }
        // The next state does not hold a peer that leaves.
        let mut known: BTreeMap<&PeerId, &Member> =
            before.iter().map(|(peer, member)| (peer, &**member)).collect();
        for event in &self.decision.events {
            let is_update = matches!(event.kind, RoomEventKind::RoomUpdated(_));
            // `room-created` or `room-deleted` replaces `room-updated`.
            if is_update && is_created != was_created {
                continue;
            }
            let Some((name, reason)) = feed_event(&event.kind) else { continue };
            known.extend(current_record(&event.kind).map(|member| (&event.about_peer, member)));
            let about = (event.about_peer != PeerId::no_peer()).then_some(&event.about_peer);
            lines.push(self.build_line(name, about, known.get(&event.about_peer).copied(), reason));
        }
        if after.is_empty() && !before.is_empty() {
            lines.push(self.build_line("room-closed", None, None, None));
        }
        if was_created && !is_created {
            lines.push(self.build_line("room-deleted", None, None, None));
        }
        lines
    }

    /// The API key that created the room, otherwise the root of this or of any peer.
    fn root_of_event(&self, member: Option<&Member>) -> Option<CredentialRoot> {
        let next = &self.decision.next_state;
        let creator = next.settings.created_by.as_ref().or(self.state.settings.created_by.as_ref());
        let key = creator.filter(|creator| creator.kind == RoomCreatorKind::Key);
        let key = key.and_then(|key| CallerId::parse(&key.id).ok()).map(CredentialRoot::ApiKey);
        let any_member =
            || next.members.values().chain(self.state.members.values()).next().map(|member| &**member);
        key.or_else(|| member.or_else(any_member).map(Member::credential_root))
    }

    fn build_line(
        &self,
        event: &'static str,
        peer: Option<&PeerId>,
        member: Option<&Member>,
        reason: Option<&'static str>,
    ) -> Arc<str> {
        let event = FeedEvent {
            id: format!("evt_{}", random_hex()),
            event,
            at: self.now,
            room: self.room.clone(),
            node: self.node.clone(),
            root: self.root_of_event(member),
            peer_id: peer.cloned(),
            user_id: member.map(|member| member.user.clone()),
            source: member.map(Member::user_source),
            role: member.map(|member| member.role.clone()),
            reason,
        };
        event.to_json().into()
    }
}

/// The name of an event in the feed (one of `signalbox_protocol::feed::FEED_EVENTS`) and its
/// reason. None: operators do not receive the event.
fn feed_event(kind: &RoomEventKind) -> Option<(&'static str, Option<&'static str>)> {
    Some(match kind {
        RoomEventKind::Joined(_) => ("peer-joined", None),
        RoomEventKind::Updated(_) => ("peer-updated", None),
        RoomEventKind::Detached => ("peer-detached", None),
        RoomEventKind::Attached => ("peer-attached", None),
        RoomEventKind::Left(reason) => ("peer-left", Some(reason.as_str())),
        RoomEventKind::Knocked(_) => ("peer-knocked", None),
        RoomEventKind::KnockEnded(reason) => {
            ("knock-ended", Some(reason.map_or("admitted", LeaveReason::as_str)))
        }
        RoomEventKind::PermissionsChanged(..) => ("peer-permissions", None),
        RoomEventKind::RoomUpdated(_) => ("room-updated", None),
        RoomEventKind::AppMessage { .. } => return None,
    })
}

fn current_record(kind: &RoomEventKind) -> Option<&Member> {
    match kind {
        RoomEventKind::Joined(member)
        | RoomEventKind::Updated(member)
        | RoomEventKind::Knocked(member)
        | RoomEventKind::PermissionsChanged(member, _) => Some(member),
        _ => None,
    }
}
