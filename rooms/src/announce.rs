//! From a decision to a commit: what the others hear, as frames, and what operators hear, as feed lines.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_shared::{
    feed::FeedEvent,
    id::{NodeId, PeerId, Role, RoomId, UserId, random_hex},
    protocol::ServerMessage,
};

use crate::{
    room::{Decision, Event, EventKind, Member, RoomState},
    store::{Announcement, Commit, EntryKind},
};

/// A peer entry without `polite`, which is added for each reader.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Announced<'a> {
    r#type: &'static str,
    peer_id: &'a PeerId,
    user_id: &'a UserId,
    name: &'a str,
    role: &'a Role,
    metadata: &'a RawValue,
    detached: bool,
}

/// The commit that carries a decision made on `state`.
pub fn commit(
    room: &RoomId,
    node: &NodeId,
    now: u64,
    state: &RoomState,
    decision: &Decision,
    accepted: Vec<(PeerId, u64)>,
) -> Commit {
    let feed = Feed { room, node, now, state, decision };
    let (before, next) = (&state.members, &decision.next.members);
    // A room that the store has forgotten is written whole.
    let put: Vec<&PeerId> =
        if state.version == 0 { next.keys().collect() } else { decision.put.iter().collect() };
    let gone = decision.removed.iter().filter(|peer| before.contains_key(*peer));
    let removed = gone.filter_map(|peer| Some((peer.clone(), *decision.next.left.get(peer)?)));
    let (nodes_before, nodes_after) = (state.nodes(), decision.next.nodes());
    let known = |nodes: &std::collections::BTreeSet<&NodeId>, node: &NodeId| {
        state.version > 0 && nodes.contains(node)
    };
    Commit {
        incarnation: state.incarnation.clone(),
        version: state.version,
        grows: state.version == 0 || put.iter().any(|peer| !before.contains_key(*peer)),
        put: put.into_iter().filter_map(|peer| Some((peer.clone(), next.get(peer)?.clone()))).collect(),
        removed: removed.collect(),
        forgotten: decision.forgotten.clone(),
        detached: next.iter().filter(|(_, m)| m.owner().is_none()).map(|(peer, _)| peer.clone()).collect(),
        listed: nodes_after.iter().filter(|n| !known(&nodes_before, n)).map(|n| (*n).clone()).collect(),
        unlisted: nodes_before.difference(&nodes_after).map(|n| (*n).clone()).collect(),
        notices: notices(node, state, decision),
        opens: before.is_empty() || state.version == 0,
        ends: next.is_empty(),
        events: decision.events.iter().filter(|event| !event.targets.is_empty()).map(announcement).collect(),
        accepted,
        feed: feed.lines(),
    }
}

/// The peers that were attached and now are not, or not as they were, by the node that served them. This node's own find out by
/// themselves.
fn notices(me: &NodeId, state: &RoomState, decision: &Decision) -> Vec<(NodeId, Vec<PeerId>)> {
    let mut notices: BTreeMap<&NodeId, Vec<PeerId>> = BTreeMap::new();
    for (peer, member) in &state.members {
        let Some(node) = member.owner().filter(|node| *node != me) else { continue };
        let after = decision.next.members.get(peer);
        if after.is_none_or(|after| after.epoch != member.epoch || after.owner() != Some(node)) {
            notices.entry(node).or_default().push(peer.clone());
        }
    }
    notices.into_iter().map(|(node, peers)| (node.clone(), peers)).collect()
}

fn announcement(event: &Event) -> Announcement {
    let peer_id = event.about.clone();
    let (kind, body) = match &event.kind {
        EventKind::Joined(member) => (EntryKind::PeerEntry, peer_entry("peer-joined", &event.about, member)),
        EventKind::Updated(member) => {
            (EntryKind::PeerEntry, peer_entry("peer-updated", &event.about, member))
        }
        EventKind::Detached => {
            (EntryKind::Presence, ServerMessage::PeerDetached { seq: None, peer_id }.to_json())
        }
        EventKind::Attached => {
            (EntryKind::Presence, ServerMessage::PeerAttached { seq: None, peer_id }.to_json())
        }
        EventKind::Left(reason) => {
            (EntryKind::Presence, ServerMessage::PeerLeft { seq: None, peer_id, reason: *reason }.to_json())
        }
    };
    Announcement { about: event.about.clone(), kind, body: body.into(), targets: event.targets.clone() }
}

fn peer_entry(kind: &'static str, peer: &PeerId, member: &Member) -> String {
    let announced = Announced {
        r#type: kind,
        peer_id: peer,
        user_id: &member.user,
        name: &member.name,
        role: &member.role,
        metadata: &member.metadata,
        detached: member.owner().is_none(),
    };
    serde_json::to_string(&announced).unwrap_or_default()
}

struct Feed<'a> {
    room: &'a RoomId,
    node: &'a NodeId,
    now: u64,
    state: &'a RoomState,
    decision: &'a Decision,
}

impl Feed<'_> {
    fn lines(&self) -> Vec<Arc<str>> {
        // Who a peer-left is about is no longer in the next state.
        let mut known: BTreeMap<&PeerId, &Member> = self.state.members.iter().collect();
        let mut lines = Vec::with_capacity(self.decision.events.len() + 1);
        // Of a room in which nobody was and nobody comes nothing is told.
        let opens = self.state.members.is_empty() && !self.decision.events.is_empty();
        if opens {
            lines.push(self.line("room-opened", None, None, None));
        }
        for event in &self.decision.events {
            // Each of `feed::EVENTS`, but for the two of the room itself.
            let (name, reason) = match &event.kind {
                EventKind::Joined(_) => ("peer-joined", None),
                EventKind::Updated(_) => ("peer-updated", None),
                EventKind::Detached => ("peer-detached", None),
                EventKind::Attached => ("peer-attached", None),
                EventKind::Left(reason) => ("peer-left", Some(reason.as_str())),
            };
            if let EventKind::Joined(member) | EventKind::Updated(member) = &event.kind {
                known.insert(&event.about, member);
            }
            lines.push(self.line(name, Some(&event.about), known.get(&event.about).copied(), reason));
        }
        if self.decision.next.members.is_empty() && (opens || !self.state.members.is_empty()) {
            lines.push(self.line("room-closed", None, None, None));
        }
        lines
    }

    fn line(
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
            peer_id: peer.cloned(),
            user_id: member.map(|member| member.user.clone()),
            role: member.map(|member| member.role.clone()),
            reason,
        };
        event.to_json().into()
    }
}
