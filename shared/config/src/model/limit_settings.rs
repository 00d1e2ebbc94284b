//! How much of everything, and how long.

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, TimeSpan};

/// How much of everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Longest WebSocket message.
    pub frame: ByteSize,
    /// Longest `sdp`.
    pub sdp: ByteSize,
    /// Longest `candidate`.
    pub candidate: ByteSize,
    /// Longest `data` of a message.
    pub data: ByteSize,
    /// Longest `metadata`.
    pub metadata: ByteSize,
    /// Longest HTTP request body.
    pub body: ByteSize,
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
    pub backlog_bytes: ByteSize,
    /// Bytes that may wait for one socket; more closes it as a slow consumer.
    pub outbox: ByteSize,
    /// Rules that may be in force: bans, revocations, denied addresses.
    pub rules: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            frame: ByteSize::kib(64),
            sdp: ByteSize::kib(48),
            candidate: ByteSize::kib(2),
            data: ByteSize::kib(16),
            metadata: ByteSize::kib(4),
            body: ByteSize::kib(16),
            room_peers: 100,
            user_peers: 64,
            connections: 15_000,
            burst: 1_000,
            rate: 100,
            backlog: 512,
            backlog_bytes: ByteSize::kib(1024),
            outbox: ByteSize::kib(1024),
            rules: 10_000,
        }
    }
}

/// How long everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimingSettings {
    /// Between two pings to a client.
    pub ping: TimeSpan,
    /// How long a peer whose socket is lost may come back before it has left.
    pub resume_window: TimeSpan,
    /// How long a node counts as alive after its last word; it renews its lease four times as often.
    pub lease: TimeSpan,
    /// The longest life of a room; at most 24 h.
    pub room_life: TimeSpan,
    /// A stopping node sends its clients away evenly over this time.
    pub drain_spread: TimeSpan,
    /// When a stopping node ends, whoever is still there.
    pub drain: TimeSpan,
}

impl Default for TimingSettings {
    fn default() -> Self {
        Self {
            ping: TimeSpan::secs(25),
            resume_window: TimeSpan::secs(30),
            lease: TimeSpan::secs(2),
            room_life: TimeSpan::secs(12 * 60 * 60),
            drain_spread: TimeSpan::secs(5),
            drain: TimeSpan::secs(8),
        }
    }
}

impl TimingSettings {
    /// How long an entry of a mailbox is kept that its reader does not acknowledge: it may be noticed three leases late that the
    /// reader is away.
    pub fn entry_lifetime(&self) -> TimeSpan {
        TimeSpan(self.resume_window.0 + 3 * self.lease.0)
    }
}
