//! How much of everything, and how long.

use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// How much of everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest WebSocket message.
    pub frame: Size,
    /// Longest `sdp`.
    pub sdp: Size,
    /// Longest `candidate`.
    pub candidate: Size,
    /// Longest `data` of a message.
    pub data: Size,
    /// Longest `metadata`.
    pub metadata: Size,
    /// Longest HTTP request body.
    pub body: Size,
    /// Most peers in a room.
    pub room_peers: u32,
    /// Most peers of one user in a room.
    pub user_peers: u32,
    /// Most connections of one node; more are refused with 503.
    pub connections: usize,
    /// Frames a connection may send at once.
    pub burst: u32,
    /// Frames a second a connection may send after the burst.
    pub rate: u32,
    /// Entries that may wait in one peer's mailbox.
    pub backlog: u32,
    /// Bytes that may wait in one peer's mailbox.
    pub backlog_bytes: Size,
    /// Bytes that may wait for one socket; more closes it as a slow consumer.
    pub outbox: Size,
    /// Rules that may be in force: bans, revocations, denied addresses.
    pub rules: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: Size::kib(64),
            sdp: Size::kib(48),
            candidate: Size::kib(2),
            data: Size::kib(16),
            metadata: Size::kib(4),
            body: Size::kib(16),
            room_peers: 100,
            user_peers: 64,
            connections: 15_000,
            burst: 1_000,
            rate: 100,
            backlog: 512,
            backlog_bytes: Size::kib(1024),
            outbox: Size::kib(1024),
            rules: 10_000,
        }
    }
}

/// How long everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// Between two pings to a client.
    pub ping: Span,
    /// How long a peer whose socket is lost may come back before it has left.
    pub resume_window: Span,
    /// How long a node counts as alive after its last word; it renews its lease four times as often.
    pub lease: Span,
    /// The longest life of a room; at most 24 h.
    pub room_life: Span,
    /// A stopping node sends its clients away evenly over this time.
    pub drain_spread: Span,
    /// When a stopping node ends, whoever is still there.
    pub drain: Span,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: Span::secs(25),
            resume_window: Span::secs(30),
            lease: Span::secs(2),
            room_life: Span::secs(12 * 60 * 60),
            drain_spread: Span::secs(5),
            drain: Span::secs(8),
        }
    }
}

impl Timing {
    /// How long an entry of a mailbox is kept that its reader does not acknowledge: it may be noticed three leases late that the
    /// reader is away.
    pub fn entry_life(&self) -> Span {
        Span(self.resume_window.0 + 3 * self.lease.0)
    }
}
