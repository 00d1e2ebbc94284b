//! What happens to a room.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::value::RawValue;
use signalbox_protocol::{
    LeaveReason,
    id::{NodeId, PeerId},
};

use super::{
    claim::PeerClaim,
    room_action::ManageRoom,
    room_state::{Member, TokenRecord},
};

/// Something that happens to a room.
#[derive(Debug, Clone)]
pub enum RoomInput {
    /// A peer wants in. Ids are made by the caller, so that deciding twice decides the same.
    Join {
        /// Its id.
        peer: PeerId,
        /// Its record, with the node that serves it.
        member: Box<Member>,
    },
    /// A connection takes over a peer that is, or was, there.
    Attach(Box<PeerClaim>),
    /// The client of a peer is back without its state: the peer has left, and a new one joins in its place.
    Replace {
        /// The peer it was.
        old_peer: Box<PeerClaim>,
        /// The peer it is.
        new_peer: PeerId,
        /// Its mailbox.
        mailbox_version: u64,
    },
    /// A peer changes its public record; what is absent stays. Only the owner of that epoch may say so.
    UpdateRecord {
        /// Which peer.
        peer: PeerId,
        /// The epoch whose connection says so.
        epoch: u64,
        /// Its new name.
        name: Option<Arc<str>>,
        /// Its new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// A peer has shown another token. Only the owner of that epoch may say so.
    RefreshToken {
        /// Which peer.
        peer: PeerId,
        /// The epoch whose connection it was shown on.
        epoch: u64,
        /// What the token says.
        token_record: Box<TokenRecord>,
    },
    /// A peer's socket is lost. Only the owner of that epoch may say so.
    Detach {
        /// Which peer.
        peer: PeerId,
        /// The epoch whose socket it was.
        epoch: u64,
    },
    /// A peer is gone for good. Only the owner of that epoch may say so.
    Leave {
        /// Which peer.
        peer: PeerId,
        /// The epoch that says so.
        epoch: u64,
        /// What the others are told.
        reason: LeaveReason,
    },
    /// A node is dead: its peers are detached.
    NodeDied {
        /// Which node.
        node: NodeId,
    },
    /// A node has looked at its sockets: its peers without one are detached.
    ReconcileNode {
        /// Which node.
        node: NodeId,
        /// Its peers with a socket.
        connected_peers: BTreeSet<PeerId>,
    },
    /// Deadlines may have come: the windows of detached peers, the longest life of the room, or until when it is kept.
    CheckDeadlines,
    /// Somebody who may changes the room or its members.
    Manage(Box<ManageRoom>),
}
