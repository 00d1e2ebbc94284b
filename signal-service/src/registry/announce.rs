//! From a decision to a commit: what the others hear, as frames, and what operators hear, as feed lines.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use signalbox_shared::{
    feed::FeedEvent,
    id::{NodeId, PeerId, Role, RoomId, UserId},
    protocol::ServerMessage,
};

use crate::{
    room::{Decision, Event, EventKind, Member, Presence, RoomState},
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
pub(super) fn commit(
    room: &RoomId,
    node: &NodeId,
    now: u64,
    state: &RoomState,
    decision: &Decision,
    accepted: Vec<(PeerId, u64)>,
) -> Commit {
    let feed = Feed { room, node, now, state, decision };
    let next = &decision.next.members;
    Commit {
        incarnation: state.incarnation.clone(),
        version: state.version,
        put: decision.put.iter().filter_map(|peer| Some((peer.clone(), next.get(peer)?.clone()))).collect(),
        removed: decision.removed.iter().filter(|peer| state.members.contains_key(*peer)).cloned().collect(),
        grows: decision.put.iter().any(|peer| !state.members.contains_key(peer)),
        ends: next.is_empty(),
        events: decision.events.iter().filter(|event| !event.targets.is_empty()).map(announcement).collect(),
        accepted,
        feed: feed.lines(),
    }
}

fn announcement(event: &Event) -> Announcement {
    let peer_id = event.about.clone();
    let (kind, body) = match &event.kind {
        EventKind::Joined(member) => (EntryKind::PeerEntry, peer_entry("peer-joined", &event.about, member)),
        EventKind::Updated(member) => {
            (EntryKind::PeerEntry, peer_entry("peer-updated", &event.about, member))
        }
        EventKind::Detached => {
            (EntryKind::Plain, ServerMessage::PeerDetached { seq: None, peer_id }.to_json())
        }
        EventKind::Left(reason) => {
            (EntryKind::Plain, ServerMessage::PeerLeft { seq: None, peer_id, reason: *reason }.to_json())
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
        detached: member.presence != Presence::Attached,
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
        if self.state.version == 0 {
            lines.push(self.line("room-opened", None, None, None));
        }
        for event in &self.decision.events {
            let (name, reason) = match &event.kind {
                EventKind::Joined(_) => ("peer-joined", None),
                EventKind::Updated(_) => ("peer-updated", None),
                EventKind::Detached => ("peer-detached", None),
                EventKind::Left(reason) => ("peer-left", Some(reason.as_str())),
            };
            if let EventKind::Joined(member) | EventKind::Updated(member) = &event.kind {
                known.insert(&event.about, member);
            }
            lines.push(self.line(name, Some(&event.about), known.get(&event.about).copied(), reason));
        }
        if self.decision.next.members.is_empty() {
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
