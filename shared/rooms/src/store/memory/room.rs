//! One room with its mailboxes: what a commit and a message change.

use std::{collections::HashMap, sync::Arc};

use signalbox_protocol::id::PeerId;

use super::mailbox::Mailbox;
use crate::{
    room::{Member, Presence, RoomState, Tombstone},
    store::{Announcement, Append, Appended, Bounds, Commit, Delivery, EntryKind, Item, Target},
};

pub(super) struct Room {
    pub(super) state: RoomState,
    pub(super) mailboxes: HashMap<PeerId, Mailbox>,
    pub(super) due: u64,
    /// When it is forgotten.
    pub(super) gone_at: u64,
}

impl Room {
    pub(super) fn apply(&mut self, commit: &Commit, now: u64, bounds: &Bounds) -> Vec<Delivery> {
        let state = &mut self.state;
        if commit.opens {
            state.began_at = now;
        }
        if let Some(settings) = &commit.settings {
            state.settings = settings.clone();
        }
        if state.began_at > 0 && (commit.opens || commit.settings.is_some()) {
            state.ends_at = state.began_at + commit.life_ms.min(bounds.room_life_ms);
        }
        if commit.empty {
            (state.began_at, state.ends_at) = (0, 0);
        }
        if commit.ends {
            state.settings = Arc::default();
        }
        for (peer, member) in &commit.put {
            let before = state.members.get(peer);
            let mailbox = before.map_or(member.mailbox, |before| before.mailbox);
            let presence = match (&member.presence, before.map(|before| &before.presence)) {
                (Presence::Detached(_), Some(kept @ Presence::Detached(_))) => kept.clone(),
                (Presence::Detached(_), _) => Presence::Detached(now + bounds.window_ms),
                (attached, _) => attached.clone(),
            };
            state.left.remove(peer);
            state.members.insert(peer.clone(), Member { mailbox, presence, ..member.clone() });
            self.mailboxes.entry(peer.clone()).or_default();
        }
        for (peer, tombstone) in &commit.removed {
            state.members.remove(peer);
            self.mailboxes.remove(peer);
            state.left.insert(peer.clone(), Tombstone { until: now + bounds.window_ms, ..*tombstone });
        }
        for peer in &commit.forgotten {
            state.left.remove(peer);
        }
        for (peer, id) in &commit.accepted {
            if let Some(mailbox) = self.mailboxes.get_mut(peer) {
                mailbox.last_id = mailbox.last_id.max(*id);
            }
        }
        state.version = commit.version + 1;
        let announce = |event: &Announcement| self.announce(event, now, bounds);
        commit.events.iter().flat_map(announce).collect()
    }

    /// When somebody must look at the room again.
    pub(super) fn deadline(&mut self, now: u64, commit: &Commit, bounds: &Bounds) -> u64 {
        if commit.ends {
            // Tombstones only; they are forgotten when the room is looked at.
            self.gone_at = now + bounds.window_ms;
            return self.gone_at;
        }
        self.gone_at = self.state.ends_at.max(commit.kept_until) + bounds.window_ms;
        if commit.empty {
            return commit.kept_until;
        }
        let windows = self.state.members.values().filter_map(|member| match member.presence {
            Presence::Detached(until) => Some(until),
            Presence::Attached(_) => None,
        });
        windows.chain([self.state.ends_at]).min().unwrap_or(self.state.ends_at)
    }

    fn announce(&mut self, event: &Announcement, now: u64, bounds: &Bounds) -> Vec<Delivery> {
        let push = |peer: &PeerId| {
            let entry =
                self.mailboxes.get_mut(peer)?.push(now, bounds, &event.about, None, event.kind, &event.body);
            let mailbox = self.state.members.get(peer)?.mailbox;
            Some(Delivery { peer: peer.clone(), mailbox, entry })
        };
        event.targets.iter().filter_map(push).collect()
    }

    pub(super) fn append(&mut self, batch: &Append, item: &Item, now: u64, bounds: &Bounds) -> Appended {
        let last_id = self.mailboxes.get(&batch.sender).map_or(0, |own| own.last_id);
        if item.id.is_some_and(|id| id <= last_id) {
            return Appended::Duplicate;
        }
        let targets: Vec<PeerId> = match &item.to {
            to if (item.judged || *to == Target::Room) && batch.members.version != self.state.version => {
                return Appended::Stale;
            }
            Target::Peer(peer) => vec![peer.clone()],
            Target::Room => {
                batch.members.peers.iter().filter(|peer| **peer != batch.sender).cloned().collect()
            }
            Target::Nobody => Vec::new(),
        };
        for peer in &targets {
            let waits = self.state.members.get(peer).is_some_and(|member| member.waiting);
            let Some(mailbox) = self.mailboxes.get_mut(peer).filter(|_| !waits) else {
                return Appended::NoSuchPeer;
            };
            mailbox.drop_old(now, bounds);
            if mailbox.is_full(bounds) {
                return Appended::Backlogged;
            }
        }
        let mut deliveries = Vec::with_capacity(targets.len());
        for peer in targets {
            let (Some(mailbox), Some(member)) =
                (self.mailboxes.get_mut(&peer), self.state.members.get(&peer))
            else {
                continue;
            };
            let entry = mailbox.push(now, bounds, &batch.sender, item.id, EntryKind::Forwarded, &item.body);
            deliveries.push(Delivery { peer, mailbox: member.mailbox, entry });
        }
        if let (Some(id), Some(own)) = (item.id, self.mailboxes.get_mut(&batch.sender)) {
            own.last_id = id;
        }
        Appended::Written(deliveries)
    }
}
