//! Reads of one peer and its mailbox: the reading node, and the results.
//!
//! Owns: [`PeerStatus::from_record`], which derives the status of a peer from its record. Must not:
//! know a backend.

use signalbox_protocol::{
    LeaveReason,
    id::{NodeId, PeerId},
};

use super::{Entry, RefusedIds};
use crate::room::{ReplicationId, RoomState};

/// The node that reads a mailbox.
#[derive(Debug, Clone)]
pub struct MailboxReader {
    /// The peer of the mailbox.
    pub peer: PeerId,
    /// The reading node.
    pub node: NodeId,
    /// The epoch in which the node believes to own the peer.
    pub epoch: u64,
    /// The replication id under which the node last knew the peer as a member.
    pub replication_id: ReplicationId,
}

/// The state of a peer, for the node that believes to own it.
#[derive(Debug)]
pub enum PeerStatus {
    /// The reader owns the peer.
    Owned(MailboxPage),
    /// The peer is a member without an owner, or an older epoch owns it.
    Unowned,
    /// A newer epoch owns the peer. Or another node owns the same epoch, after the store has lost
    /// writes.
    Fenced {
        /// Whether the store has lost no write since the reader last read.
        is_certain: bool,
    },
    /// The peer has left. The reason is known until the tombstone expires.
    Left(Option<LeaveReason>),
    /// The store does not know the peer, and may have lost it.
    Forgotten,
}

impl PeerStatus {
    /// Derives the status from the record: the owner and epoch of a member, or the reason for which
    /// the peer left.
    pub(super) fn from_record(
        reader: &MailboxReader,
        found: Option<(Option<&NodeId>, u64)>,
        left: Option<LeaveReason>,
        replication_id: &ReplicationId,
        page: impl FnOnce() -> MailboxPage,
    ) -> Self {
        let is_certain = *replication_id == reader.replication_id;
        match found {
            Some((Some(node), epoch)) if *node == reader.node && epoch == reader.epoch => Self::Owned(page()),
            Some((_, epoch)) if epoch > reader.epoch => Self::Fenced { is_certain },
            // The store lost the attach of the reader. Another node attached the peer in its place.
            Some((Some(node), epoch)) if *node != reader.node && epoch == reader.epoch => {
                Self::Fenced { is_certain }
            }
            Some(_) => Self::Unowned,
            None if left.is_some() || is_certain => Self::Left(left),
            None => Self::Forgotten,
        }
    }
}

/// A page of a mailbox.
#[derive(Debug, Default)]
pub struct MailboxPage {
    /// The mailbox version.
    pub mailbox_version: u64,
    /// The seq of the last entry that was written.
    pub last_seq: u64,
    /// The seq of the last entry that the store counts as acknowledged.
    pub acked_seq: u64,
    /// The seq of the last event that a crowded mailbox has dropped although no other entry replaces
    /// it. A reader that has less needs the state of the room.
    pub dropped_seq: u64,
    /// The highest accepted message id of the peer.
    pub last_id: u64,
    /// The ids below `last_id` that were refused.
    pub refused: RefusedIds,
    /// The replication id of the store.
    pub replication_id: ReplicationId,
    /// The entries after the requested seq that the mailbox still holds. An event that is missing
    /// between them was dropped, because a later event replaces it or because of `dropped_seq`.
    pub entries: Vec<Entry>,
}

impl MailboxPage {
    /// Whether the mailbox holds every message after `seq`. Acknowledged and expired entries are at
    /// the beginning, up to `acked_seq`. The last entry is never dropped.
    pub fn is_contiguous_after(&self, seq: u64) -> bool {
        match self.entries.last() {
            Some(last) => seq >= self.acked_seq && last.seq > seq,
            None => self.last_seq == seq,
        }
    }
}

/// A mailbox after its version was renewed because entries may have been lost.
#[derive(Debug)]
pub struct RenewedMailbox {
    /// The new mailbox version.
    pub mailbox_version: u64,
    /// The seq before the first entry of the new version.
    pub base_seq: u64,
    /// The highest accepted message id of the peer.
    pub last_id: u64,
    /// The ids below `last_id` that were refused.
    pub refused: RefusedIds,
    /// The room at that moment.
    pub state: RoomState,
}

/// The owner of a peer and the last entry of its mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxHead {
    /// The owner of the peer and its epoch.
    pub owner: Option<(NodeId, u64)>,
    /// The mailbox version.
    pub mailbox_version: u64,
    /// The seq of the last entry that was written.
    pub last_seq: u64,
}
