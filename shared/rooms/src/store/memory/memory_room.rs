//! One room with its mailboxes.
//!
//! Owns: the changes that a commit or a message makes, and the deadline of the room. Must not:
//! check the version of a commit or the owner of a sender; `mod.rs` does.

use std::sync::Arc;

use signalbox_protocol::id::{IdMap, PeerId, TokenId};
use smallvec::SmallVec;

use super::memory_mailbox::MemoryMailbox;
use crate::{
    room::{Member, PeerAttachment, RoomSettings, RoomState, Tombstone},
    store::{
        AppendBatch, AppendResult, BacklogBound, Commit, Delivery, EntryContent, EntryKind, EventEntry,
        MessageTarget, OutgoingEntry, RefusedIds, StoreLimits,
    },
};

pub(super) struct MemoryRoom {
    pub(super) state: RoomState,
    /// In boxes: a map has more places than entries.
    pub(super) mailboxes: IdMap<PeerId, Box<MemoryMailbox>>,
    pub(super) due_at: u64,
    /// The time at which the room is deleted, milliseconds since 1970.
    pub(super) forget_at: u64,
}

impl MemoryRoom {
    pub(super) fn apply_commit(&mut self, commit: &Commit, now: u64, limits: &StoreLimits) -> Vec<Delivery> {
        let state = &mut self.state;
        if commit.opens_room {
            state.started_at = now;
        }
        if let Some(settings) = &commit.settings {
            state.settings = settings.clone();
        }
        if let Some(sanctions) = &commit.sanctions {
            state.sanctions = sanctions.clone();
        }
        if state.started_at > 0 && (commit.opens_room || commit.settings.is_some()) {
            state.ends_at = state.started_at + commit.max_life_ms.min(limits.room_life_ms);
        }
        if commit.leaves_room_empty {
            (state.started_at, state.ends_at) = (0, 0);
        }
        if commit.ends_room {
            state.settings = RoomSettings::shared_default();
            state.sanctions = Arc::default();
        }
        for (peer, member) in &commit.written_members {
            let before = state.members.get(peer);
            let mailbox_version = before.map_or(member.mailbox_version, |before| before.mailbox_version);
            let attachment = match (&member.attachment, before.map(|before| &before.attachment)) {
                (PeerAttachment::Detached(_), Some(kept @ PeerAttachment::Detached(_))) => kept.clone(),
                (PeerAttachment::Detached(_), _) => {
                    PeerAttachment::Detached(now + commit.window_ms(member, limits.resume_window_ms))
                }
                (attached, _) => attached.clone(),
            };
            state.tombstones.remove(peer);
            let is_same = member.mailbox_version == mailbox_version && member.attachment == attachment;
            let stored = match is_same {
                true => member.clone(),
                false => Arc::new(Member { mailbox_version, attachment, ..Member::clone(member) }),
            };
            state.members.insert(peer.clone(), stored);
            self.mailboxes.entry(peer.clone()).or_default();
        }
        for (peer, tombstone) in &commit.removed_peers {
            state.members.remove(peer);
            self.mailboxes.remove(peer);
            let tombstone = Tombstone { expires_at: now + limits.resume_window_ms, ..tombstone.clone() };
            state.tombstones.insert(peer.clone(), tombstone);
        }
        for peer in &commit.expired_tombstones {
            state.tombstones.remove(peer);
        }
        for accepted in &commit.accepted_ids {
            if let Some(mailbox) = self.mailboxes.get_mut(&accepted.peer) {
                mailbox.accept_id(accepted.id, &accepted.refused);
            }
        }
        state.version = commit.version + 1;
        let announce = |event: &EventEntry| self.append_event(event, now, limits);
        commit.events.iter().flat_map(announce).collect()
    }

    /// Sets the end of the room, and returns the time at which the room is due next.
    pub(super) fn update_deadline(&mut self, now: u64, commit: &Commit, limits: &StoreLimits) -> u64 {
        if commit.ends_room {
            // Only tombstones remain. They are deleted when the room is due.
            self.forget_at = now + limits.resume_window_ms;
            return self.forget_at;
        }
        self.forget_at = self.state.ends_at.max(commit.kept_until) + limits.resume_window_ms;
        if commit.leaves_room_empty {
            return commit.kept_until;
        }
        let windows = self.state.members.values().filter_map(|member| match member.attachment {
            PeerAttachment::Detached(until) => Some(until),
            PeerAttachment::Attached(_) => None,
        });
        windows.chain([self.state.ends_at]).min().unwrap_or(self.state.ends_at)
    }

    fn append_event(&mut self, event: &EventEntry, now: u64, limits: &StoreLimits) -> Vec<Delivery> {
        let content = Arc::new(EntryContent {
            from: event.about_peer.clone(),
            id: None,
            kind: event.kind,
            body: event.body.clone(),
        });
        let push = |peer: &PeerId| {
            let mailbox = self.mailboxes.get_mut(peer)?;
            let entry = mailbox.append_entry(now, limits, content.clone(), event.state, None);
            let mailbox_version = self.state.members.get(peer)?.mailbox_version;
            Some(Delivery { peer: peer.clone(), mailbox_version, entry })
        };
        event.targets.iter().filter_map(push).collect()
    }

    /// Appends a message. `refused` are the ids of the sender that were refused so far.
    pub(super) fn append_message(
        &mut self,
        batch: &AppendBatch,
        message: &OutgoingEntry,
        refused: &RefusedIds,
        now: u64,
        limits: &StoreLimits,
    ) -> AppendResult {
        if let (Some(id), Some(own)) = (message.id, self.mailboxes.get(&batch.sender))
            && id <= own.last_id
        {
            return own.result_of_settled_id(id);
        }
        let depends_on_version = message.requires_room_version || message.target == MessageTarget::Room;
        if depends_on_version && batch.members.version != self.state.version {
            return AppendResult::Stale;
        }
        let mut targets: SmallVec<[Target<'_>; 1]> = SmallVec::new();
        let (members, mailboxes) = (&self.state.members, &mut self.mailboxes);
        match &message.target {
            MessageTarget::Peer(peer) => targets.extend(members.get(peer).map(|member| (peer, member))),
            // The caller's version is the current one, so these are the members that it knows.
            MessageTarget::Room => {
                let is_target = |(peer, member): &Target<'_>| **peer != batch.sender && !member.waiting;
                // The filter hides the number of members from `extend`.
                targets.reserve(members.len());
                targets.extend(members.iter().filter(is_target));
            }
            MessageTarget::Withheld => {}
        }
        let mut has_lagging_target = false;
        if targets.is_empty() && matches!(message.target, MessageTarget::Peer(_)) {
            return AppendResult::NoSuchPeer;
        }
        for (peer, member) in &targets {
            // A peer in the lobby receives no messages, and the sender must not learn that it is there.
            let Some(mailbox) = mailboxes.get_mut(peer).filter(|_| !member.waiting) else {
                return AppendResult::NoSuchPeer;
            };
            mailbox.drop_expired(now, limits);
            if mailbox.is_full(limits) {
                return AppendResult::Backlogged(BacklogBound::Mailbox);
            }
            has_lagging_target |= is_lagging(mailbox, member, limits);
        }
        if has_lagging_target && let Some(bound) = exceeded_bound(mailboxes, &batch.token, now, limits) {
            return AppendResult::Backlogged(bound);
        }
        let content = Arc::new(EntryContent {
            from: batch.sender.clone(),
            id: message.id,
            kind: EntryKind::Forwarded,
            body: message.body.clone(),
        });
        let mut deliveries = SmallVec::with_capacity(targets.len());
        for (peer, member) in targets {
            let Some(mailbox) = mailboxes.get_mut(peer) else { continue };
            let is_charged = has_lagging_target && is_lagging(mailbox, member, limits);
            let charged_token = is_charged.then_some(&batch.token);
            let entry = mailbox.append_entry(now, limits, content.clone(), None, charged_token);
            let (peer, mailbox_version) = (peer.clone(), member.mailbox_version);
            deliveries.push(Delivery { peer, mailbox_version, entry });
        }
        if let (Some(id), Some(own)) = (message.id, mailboxes.get_mut(&batch.sender)) {
            own.accept_id(id, refused);
        }
        AppendResult::Written(deliveries)
    }
}

/// A member that receives a message.
type Target<'a> = (&'a PeerId, &'a Arc<Member>);

/// The bound that refuses a message to a peer that does not read.
fn exceeded_bound(
    mailboxes: &mut IdMap<PeerId, Box<MemoryMailbox>>,
    token: &TokenId,
    now: u64,
    limits: &StoreLimits,
) -> Option<BacklogBound> {
    mailboxes.values_mut().for_each(|mailbox| mailbox.drop_expired(now, limits));
    let sum = |bytes: fn(&MemoryMailbox, &str) -> usize| {
        mailboxes.values().map(|mailbox| bytes(mailbox, token.grant()) as u64).sum::<u64>()
    };
    if sum(|mailbox, _| mailbox.bytes) >= limits.room_backlog_bytes {
        return Some(BacklogBound::Room);
    }
    let is_exceeded = sum(MemoryMailbox::charged_bytes) >= limits.grant_backlog_bytes;
    is_exceeded.then_some(BacklogBound::Grant)
}

/// Whether a peer does not read: it is detached, or much waits for it.
fn is_lagging(mailbox: &MemoryMailbox, member: &Member, limits: &StoreLimits) -> bool {
    member.owner().is_none() || mailbox.bytes as u64 >= limits.lag_bytes
}
