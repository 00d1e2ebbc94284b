//! What is asked about one peer and its mailbox, and what is answered.

use signalbox_protocol::{
    LeaveReason,
    id::{NodeId, PeerId},
};

use super::Entry;
use crate::room::{ReplicationId, RoomState};

/// Who asks for a mailbox.
#[derive(Debug, Clone)]
pub struct MailboxReader {
    /// Which peer's.
    pub peer: PeerId,
    /// The asking node.
    pub node: NodeId,
    /// The epoch in which it owns the peer, or believes so.
    pub epoch: u64,
    /// Where the peer was last known to be a member.
    pub replication_id: ReplicationId,
}

/// What became of a peer.
#[derive(Debug)]
pub enum PeerStatus {
    /// The reader owns it.
    Owned(MailboxPage),
    /// It is a member and nobody owns it, or an older epoch does.
    Unowned,
    /// A newer connection owns it; or, where the store may have forgotten which is newer, another one.
    Fenced {
        /// Whether it has forgotten nothing since the reader last asked.
        is_certain: bool,
    },
    /// It has left, for this reason where that is remembered.
    Left(Option<LeaveReason>),
    /// It is not known in a store that may have forgotten it.
    Forgotten,
}

impl PeerStatus {
    /// Judges what the store holds: the peer's owner and epoch, or why it left.
    pub(super) fn from_record(
        reader: &MailboxReader,
        found: Option<(Option<&NodeId>, u64)>,
        left: Option<LeaveReason>,
        lineage: &ReplicationId,
        page: impl FnOnce() -> MailboxPage,
    ) -> Self {
        let certain = *lineage == reader.replication_id;
        match found {
            Some((Some(node), epoch)) if *node == reader.node && epoch == reader.epoch => Self::Owned(page()),
            Some((_, epoch)) if epoch > reader.epoch => Self::Fenced { is_certain: certain },
            // The reader's own attach was lost with its history, and somebody else's took its place.
            Some((Some(node), epoch)) if *node != reader.node && epoch == reader.epoch => {
                Self::Fenced { is_certain: certain }
            }
            Some(_) => Self::Unowned,
            None if left.is_some() || certain => Self::Left(left),
            None => Self::Forgotten,
        }
    }
}

/// A page of a mailbox.
#[derive(Debug, Default)]
pub struct MailboxPage {
    /// The number of the mailbox.
    pub mailbox_version: u64,
    /// The last entry ever written to it.
    pub last_seq: u64,
    /// The last entry that is known to be confirmed.
    pub acked_seq: u64,
    /// The highest id that was accepted from the peer.
    pub last_id: u64,
    /// The lineage of the room.
    pub replication_id: ReplicationId,
    /// The entries after the asked one that are still there.
    pub entries: Vec<Entry>,
}

impl MailboxPage {
    /// Whether nothing is missing after `seq`, as far as the page goes.
    pub fn is_contiguous_after(&self, seq: u64) -> bool {
        match self.entries.first() {
            Some(first) => first.seq == seq + 1,
            None => self.last_seq == seq,
        }
    }
}

/// Where a mailbox goes on after entries may have been lost.
#[derive(Debug)]
pub struct RenewedMailbox {
    /// Its number.
    pub mailbox_version: u64,
    /// The seq before its first entry.
    pub base_seq: u64,
    /// The highest id that was accepted from the peer.
    pub last_id: u64,
    /// The room at that point.
    pub state: RoomState,
}

/// How far a peer's mailbox has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxHead {
    /// Who owns the peer, in which epoch.
    pub owner: Option<(NodeId, u64)>,
    /// The number of the mailbox.
    pub mailbox_version: u64,
    /// The last entry written to it.
    pub last_seq: u64,
}
