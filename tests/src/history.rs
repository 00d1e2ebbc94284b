//! What a client of a chaos run saw and did, by its own clock.

use std::collections::BTreeMap;

use crate::client::{At, Member};

/// The name of a client that stays the same whatever peer it is.
pub type Who = u32;

/// Something that a client saw or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is a new peer.
    Joined {
        /// Its peerId.
        peer: String,
    },
    /// It is the same peer on a new connection, or was told that its mailbox broke.
    Resumed {
        /// Whether nothing is missing.
        recovered: bool,
        /// Since the loss was noticed; none where no connection was lost.
        took: Option<At>,
    },
    /// It noticed that its connection is lost.
    Lost(String),
    /// Its peer has left without its doing.
    PeerGone {
        /// What it was told.
        why: String,
        /// Since the server was heard last.
        silent: At,
    },
    /// It was told not to come back, though no other connection of it exists.
    Banished(String),
    /// A message left for the first time.
    Sent {
        /// Its number, one count for each sender.
        n: u64,
        /// The peerId of its target; none for the room.
        to: Option<String>,
    },
    /// A message of its own was acknowledged.
    Accepted {
        /// Its number.
        n: u64,
        /// Whether it was written to the mailbox.
        durable: bool,
        /// Whether it had been accepted before.
        duplicate: bool,
    },
    /// A message was sent again under its id.
    Again {
        /// Its number.
        n: u64,
    },
    /// A message was answered `unavailable`.
    Unavailable {
        /// Its number.
        n: u64,
    },
    /// A message of its own was refused for good.
    Refused {
        /// Its number.
        n: u64,
        /// Why.
        code: String,
    },
    /// A message from another, presented for the first time.
    Heard {
        /// The sender.
        sender: Who,
        /// The sender's peerId.
        from: String,
        /// The message's number.
        n: u64,
    },
    /// The protocol was broken.
    Fault(String),
}

/// One client's record.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Whose it is.
    pub who: Who,
    /// Its room.
    pub room: String,
    /// What it saw and did, in order.
    pub events: Vec<(At, Event)>,
    /// Its peerId at the end; none where it is not connected.
    pub peer: Option<String>,
    /// The others, as it sees them at the end.
    pub roster: BTreeMap<String, Member>,
    /// Copies that it did not present.
    pub dropped: u64,
}

/// Something that was done to the servers.
#[derive(Debug, Clone)]
pub struct Blow {
    /// From.
    pub from: At,
    /// To.
    pub to: At,
    /// What.
    pub what: String,
}

/// All that is known of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// What was done.
    pub blows: Vec<Blow>,
    /// What became of it.
    pub histories: Vec<History>,
    /// The resume window.
    pub window: At,
    /// Whether nothing that was done may cost anything: no message, no peer, no `recovered: false`.
    pub lossless: bool,
}
