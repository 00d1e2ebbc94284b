//! From a decision to a commit: what the others hear, as frames, and what operators hear, as feed lines.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_protocol::{
    KnockEnd, LeftReason, ServerMessage,
    feed::FeedEvent,
    id::{NodeId, PeerId, Role, RoomId, UserId, random_hex},
};

use crate::{
    room::{Decision, Event, EventKind, Member, RoomState, Rules},
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    muted: bool,
}

/// The commit that carries a decision made on `state`.
pub fn commit(
    room: &RoomId,
    node: &NodeId,
    now: u64,
    state: &RoomState,
    decision: &Decision,
    accepted: Vec<(PeerId, u64)>,
    rules: &Rules,
) -> Commit {
    let settings = &decision.next.settings;
    let is_set = decision.configured || state.version == 0 && (settings.is_made() || settings.kept_until > 0);
    let feed = Feed { room, node, now, state, decision };
    let (before, next) = (&state.members, &decision.next.members);
    // A room that the store has forgotten is written whole.
    let put: Vec<&PeerId> =
        if state.version == 0 { next.keys().collect() } else { decision.put.iter().collect() };
    let gone = decision.removed.iter().filter(|peer| before.contains_key(*peer));
    let removed = gone.filter_map(|peer| Some((peer.clone(), *decision.next.left.get(peer)?)));
    let ends_at = decision.next.ends_at;
    let (nodes_before, nodes_after) = (state.nodes(), decision.next.nodes());
    let known = |nodes: &std::collections::BTreeSet<&NodeId>, node: &NodeId| {
        state.version > 0 && nodes.contains(node)
    };
    Commit {
        incarnation: state.incarnation.clone(),
        version: state.version,
        grows: state.version == 0
            || decision.configured && settings.is_kept(now)
            || decision.said
            || put.iter().any(|peer| !before.contains_key(*peer)),
        put: put.into_iter().filter_map(|peer| Some((peer.clone(), next.get(peer)?.clone()))).collect(),
        removed: removed.collect(),
        forgotten: decision.forgotten.clone(),
        detached: next.iter().filter(|(_, m)| m.owner().is_none()).map(|(peer, _)| peer.clone()).collect(),
        listed: nodes_after.iter().filter(|n| !known(&nodes_before, n)).map(|n| (*n).clone()).collect(),
        unlisted: nodes_before.difference(&nodes_after).map(|n| (*n).clone()).collect(),
        notices: notices(node, state, decision),
        opens: (before.is_empty() || state.version == 0) && !next.is_empty(),
        empty: next.is_empty(),
        ends: next.is_empty() && !settings.is_kept(now),
        settings: is_set.then(|| settings.clone()),
        life_ms: settings.life_ms(rules.room_life_ms),
        kept_until: settings.kept_until,
        events: decision
            .events
            .iter()
            .filter(|event| !event.targets.is_empty())
            .map(|event| announcement(event, ends_at))
            .collect(),
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
        if after.is_none_or(|after| {
            let admitted = member.waiting && !after.waiting;
            after.epoch != member.epoch || after.owner() != Some(node) || admitted
        }) {
            notices.entry(node).or_default().push(peer.clone());
        }
    }
    notices.into_iter().map(|(node, peers)| (node.clone(), peers)).collect()
}

fn announcement(event: &Event, ends_at: u64) -> Announcement {
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
        EventKind::Knocked(member) => {
            let knock = ServerMessage::Knock { seq: None, peer: member.knocker(&event.about) };
            (EntryKind::Presence, knock.to_json())
        }
        EventKind::KnockEnded(reason) => {
            let reason = reason.map_or(KnockEnd::Admitted, KnockEnd::Left);
            (EntryKind::Presence, ServerMessage::KnockEnded { seq: None, peer_id, reason }.to_json())
        }
        EventKind::Standing(member, ice_policy) => {
            let (role, permissions) = (member.role.clone(), member.permissions.clone());
            let (muted, ice_policy) = (member.muted, *ice_policy);
            let standing = ServerMessage::Permissions { seq: None, role, permissions, muted, ice_policy };
            (EntryKind::Standing, standing.to_json())
        }
        EventKind::RoomUpdated(settings) => {
            let room = settings.info(ends_at);
            (EntryKind::Presence, ServerMessage::RoomUpdated { seq: None, room }.to_json())
        }
        EventKind::Said { to_room, data } => {
            let room = if *to_room { r#","room":true"# } else { "" };
            (EntryKind::Presence, format!(r#"{{"type":"message"{room},"data":{}}}"#, data.get()))
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
        muted: member.muted,
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
        let (was_made, is_made) = (self.state.settings.is_made(), self.decision.next.settings.is_made());
        if is_made && !was_made {
            lines.push(self.line("room-created", None, None, None));
        }
        let (before, after) = (&self.state.members, &self.decision.next.members);
        if before.is_empty() && !after.is_empty() {
            lines.push(self.line("room-opened", None, None, None));
        }
        for event in &self.decision.events {
            // Each of `feed::EVENTS`, but for those of the room itself.
            let (name, reason) = match &event.kind {
                EventKind::Joined(_) => ("peer-joined", None),
                EventKind::Updated(_) => ("peer-updated", None),
                EventKind::Detached => ("peer-detached", None),
                EventKind::Attached => ("peer-attached", None),
                EventKind::Left(reason) => ("peer-left", Some(reason.as_str())),
                EventKind::Knocked(_) => ("peer-knocked", None),
                EventKind::KnockEnded(reason) => {
                    ("knock-ended", Some(reason.map_or("admitted", LeftReason::as_str)))
                }
                // One that was made is told of by its making.
                EventKind::RoomUpdated(_) if is_made != was_made => continue,
                EventKind::RoomUpdated(_) => ("room-updated", None),
                EventKind::Standing(..) => ("peer-permissions", None),
                EventKind::Said { .. } => continue,
            };
            if let EventKind::Joined(member)
            | EventKind::Updated(member)
            | EventKind::Knocked(member)
            | EventKind::Standing(member, _) = &event.kind
            {
                known.insert(&event.about, member);
            }
            let about = (event.about != PeerId::nobody()).then_some(&event.about);
            lines.push(self.line(name, about, known.get(&event.about).copied(), reason));
        }
        if after.is_empty() && !before.is_empty() {
            lines.push(self.line("room-closed", None, None, None));
        }
        if was_made && !is_made {
            lines.push(self.line("room-deleted", None, None, None));
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
