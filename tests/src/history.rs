//! What a client of a chaos run saw and did, by the clock of the run.

use std::collections::BTreeMap;

use crate::protocol_client::{Elapsed, PeerView};

/// The number of a client. It stays the same when the client becomes a new peer.
pub type ClientId = u32;

/// One event of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The client is a new peer.
    Joined {
        /// Its peerId.
        peer: String,
    },
    /// The client is the same peer on a new connection, or its mailbox was replaced.
    Resumed {
        /// The `recovered` member of the frame.
        recovered: bool,
        /// The time since the client lost its connection, if it did.
        downtime: Option<Elapsed>,
    },
    /// The client noticed that its connection is lost.
    ConnectionLost(String),
    /// The client lost its peer and did not leave by itself.
    PeerLost {
        /// The reason, as the server gave it.
        reason: String,
        /// The time since the client last received a frame.
        silence: Elapsed,
    },
    /// The client was told not to reconnect, although it has no other connection.
    ReconnectForbidden(String),
    /// The client sent a message for the first time.
    Sent {
        /// The number of the message; each sender counts its own messages.
        n: u64,
        /// The peerId of the target; `None` for the room.
        to: Option<String>,
    },
    /// A message of the client was acknowledged.
    Accepted {
        /// The number of the message.
        n: u64,
        /// Whether the message was written to the mailbox.
        durable: bool,
        /// Whether the server had accepted the message before.
        duplicate: bool,
    },
    /// The client sent a message again under the same id.
    Resent {
        /// The number of the message.
        n: u64,
    },
    /// The server answered a message with `unavailable`.
    Unavailable {
        /// The number of the message.
        n: u64,
    },
    /// The server rejected a message of the client.
    Rejected {
        /// The number of the message.
        n: u64,
        /// The error code.
        code: String,
    },
    /// A message of another client was delivered for the first time.
    Delivered {
        /// The sender.
        sender: ClientId,
        /// The peerId of the sender.
        from: String,
        /// The number of the message.
        n: u64,
    },
    /// The server broke the protocol.
    ProtocolViolation(String),
}

/// The history of one client.
#[derive(Debug, Clone, Default)]
pub struct ClientHistory {
    /// The number of the client.
    pub client: ClientId,
    /// The room of the client.
    pub room: String,
    /// The events, in order.
    pub events: Vec<(Elapsed, ClientEvent)>,
    /// The peerId at the end, if the client is connected.
    pub peer: Option<String>,
    /// The other peers, as the client sees them at the end.
    pub roster: BTreeMap<String, PeerView>,
    /// How many duplicates the client dropped.
    pub dropped: u64,
}

/// A fault that was injected.
#[derive(Debug, Clone)]
pub struct InjectedFault {
    /// When the fault began.
    pub start: Elapsed,
    /// When the fault ended.
    pub end: Elapsed,
    /// The kind of fault and its target.
    pub description: String,
}

/// The record of a run.
#[derive(Debug, Default)]
pub struct RunRecord {
    /// The injected faults.
    pub faults: Vec<InjectedFault>,
    /// The histories of the clients.
    pub histories: Vec<ClientHistory>,
    /// The resume window.
    pub window: Elapsed,
    /// Whether no fault may cause a loss: of a message, of a peer, or by `recovered: false`.
    pub lossless: bool,
}
