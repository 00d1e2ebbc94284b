//! The sections `[limits]` and `[timing]`.

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, TimeSpan};

/// The space for everything in a frame but its payload.
pub(crate) const ENVELOPE_BYTES: usize = 512;

/// The section `[limits]`: how much of each resource a client may use.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// The longest WebSocket message; 1 KiB to 1 MiB.
    pub frame: ByteSize,
    /// The longest `sdp`; at least 64 bytes.
    pub sdp: ByteSize,
    /// The longest `candidate`; at least 64 bytes.
    pub candidate: ByteSize,
    /// The longest `data` of a message; at least 64 bytes.
    pub data: ByteSize,
    /// The longest `metadata` of a peer; at least 64 bytes.
    pub metadata: ByteSize,
    /// The longest HTTP request body; at least 64 bytes.
    pub body: ByteSize,
    /// The most peers in a room; 1 to 1000.
    pub room_peers: u32,
    /// The most peers of one user in a room; at least 1.
    pub user_peers: u32,
    /// The most peers in the lobby of a room, which take no place of the room; at most `room_peers`
    /// in effect; 1 to 1000.
    pub lobby_peers: u32,
    /// How many peers that may admit or moderate join a room that is full; 0 to 100.
    pub extra_moderators: u32,
    /// The most users with a sanction in one room, if that is more than `room_peers`; 16 to 2000.
    pub room_sanctions: u32,
    /// The most connections of one signaling node; more are refused with 503.
    pub connections: usize,
    /// Frames that a connection may send at once; at least 1.
    pub burst: u32,
    /// Frames a second after the burst; at least 1.
    pub rate: u32,
    /// Entries that may wait in the mailbox of one peer; 8 to 10000.
    pub backlog: u32,
    /// Bytes that may wait in the mailbox of one peer; at least `frame`.
    pub backlog_bytes: ByteSize,
    /// Bytes that may wait in all mailboxes of a room before messages to peers that do not read are
    /// refused; at least `backlog_bytes`.
    pub room_backlog_bytes: ByteSize,
    /// Bytes of the messages of one grant that may wait for peers of a room that do not read; at
    /// least `backlog_bytes`.
    pub grant_backlog_bytes: ByteSize,
    /// Bytes that may wait for one socket before it is closed as a slow consumer.
    pub outbox: ByteSize,
    /// Bytes that may wait for all sockets of one node, incomplete messages of clients included; at
    /// least four times `outbox`.
    pub node_outbox: ByteSize,
    /// Bytes that the kernel may keep in each direction of one connection; 16 KiB to 16 MiB.
    pub socket_buffer: ByteSize,
    /// Access rules for bans, revocations and denied addresses that may exist at a time; 100 to
    /// 100000.
    pub rules: u32,
    /// Readers of the event feed with one API key, in one auth process; 1 to 64.
    pub feed_readers: u32,
    /// Access rules that one API key may write, or that removals of one key's peers leave, without
    /// the scope `security`; at least 1.
    pub key_rules: u32,
    /// Access rules that may concern one room, without those of the scope `security`; at least 1.
    pub room_rules: u32,
    /// Refresh families of one root (an API key or a provider) that may exist at a time; at least 1.
    pub root_families: u32,
    /// Refresh families of one user of a root that may exist at a time; beyond it the one that would
    /// expire first ends; at least 1.
    pub user_families: u32,
    /// Invites that one API key has created and that have not expired; at least 1.
    pub key_invites: u32,
    /// Pairs of peers in the timeline of one room; 0 to 500. Zero: no timeline is kept.
    pub timeline_pairs: u32,
    /// Steps in the timeline of one pair; 4 to 64.
    pub timeline_steps: u32,
    /// The part of each bounded table that one caller cannot take, percent; 5 to 50. Of the access
    /// rules it is kept for the scope `security`.
    pub reserve: u32,
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
            lobby_peers: 64,
            extra_moderators: 4,
            room_sanctions: 256,
            connections: 15_000,
            burst: 1_000,
            rate: 100,
            backlog: 512,
            backlog_bytes: ByteSize::kib(1024),
            room_backlog_bytes: ByteSize::kib(32 * 1024),
            grant_backlog_bytes: ByteSize::kib(16 * 1024),
            outbox: ByteSize::kib(1024),
            node_outbox: ByteSize::kib(128 * 1024),
            socket_buffer: ByteSize::kib(256),
            rules: 10_000,
            feed_readers: 16,
            key_rules: 1_000,
            room_rules: 100,
            root_families: 100_000,
            user_families: 20,
            key_invites: 10_000,
            timeline_pairs: 100,
            timeline_steps: 32,
            reserve: 20,
        }
    }
}

impl LimitSettings {
    /// The places of a table with `places` places that one caller may take; at least one.
    pub fn share_of_one(&self, places: u32) -> u32 {
        (places - (u64::from(places) * u64::from(self.reserve) / 100) as u32).max(1)
    }

    /// The places of a lobby.
    pub fn lobby_places(&self) -> u32 {
        self.lobby_peers.min(self.room_peers)
    }

    /// The peers that the first frame of a member may describe: those of a full room, and those in
    /// its lobby.
    pub fn max_described_peers(&self) -> usize {
        self.room_peers as usize + self.extra_moderators as usize + self.lobby_places() as usize
    }

    /// The largest `room_peers` with which a first frame fits into an outbox.
    pub fn max_room_peers(&self) -> u32 {
        let largest = self.outbox.0 / (self.metadata.0 + ENVELOPE_BYTES);
        let others = self.extra_moderators as usize + self.lobby_places() as usize;
        u32::try_from(largest.saturating_sub(others)).unwrap_or(u32::MAX).clamp(1, 1_000)
    }
}

/// The section `[timing]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimingSettings {
    /// The time between two pings to a client; 100 ms to 5 min.
    pub ping: TimeSpan,
    /// The time for which a detached peer stays in its room; 100 ms to 5 min.
    pub resume_window: TimeSpan,
    /// The resume window of a peer whose client has announced that its page closes; 100 ms to 5 min,
    /// and never longer than `resume_window`.
    pub going_window: TimeSpan,
    /// How long a node counts as alive after it renewed its lease; it renews after every quarter of
    /// it. 200 ms to 30 s.
    pub lease: TimeSpan,
    /// The longest life of a room; 1 min to 24 h.
    pub room_life: TimeSpan,
    /// How long a step of two peers stays in the timeline of their room; 1 s to 24 h.
    pub timeline: TimeSpan,
    /// The time over which a draining node spreads the reconnects of its clients evenly; at most
    /// `drain`.
    pub drain_spread: TimeSpan,
    /// When a draining process ends, even if clients are still connected; at most 10 min.
    pub drain: TimeSpan,
}

impl Default for TimingSettings {
    fn default() -> Self {
        Self {
            ping: TimeSpan::secs(25),
            resume_window: TimeSpan::secs(30),
            going_window: TimeSpan::secs(5),
            lease: TimeSpan::secs(2),
            room_life: TimeSpan::secs(12 * 60 * 60),
            timeline: TimeSpan::secs(60 * 60),
            drain_spread: TimeSpan::secs(5),
            drain: TimeSpan::secs(8),
        }
    }
}

impl TimingSettings {
    /// The life of a mailbox entry that is not acknowledged. It is longer than the resume window,
    /// because a node may notice up to three leases late that the reader is gone.
    pub fn entry_lifetime(&self) -> TimeSpan {
        TimeSpan(self.resume_window.0 + 3 * self.lease.0)
    }
}
