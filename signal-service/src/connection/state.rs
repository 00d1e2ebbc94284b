//! The state of one connection, apart from its socket.
//!
//! Owns: the request queue, the token in force, the record of the member, the deadlines. Must not:
//! read or write the socket (`task`), or decide anything. `resync` and `lobby` change it; `task`
//! drives it.

use std::sync::Arc;

use signalbox_protocol::{ServerMessage, clock, id::PeerId};
use signalbox_rooms::room::{Member, ReplicationId};
use tokio::time::{Duration, Instant};

use super::{
    connection_token::ConnectionToken, deadlines::ConnectionDeadlines, join::JoinedPeer,
    request_queue::RequestQueue,
};
use crate::{
    node::SignalNode,
    registry::{LocalPeer, LocalRoom, MailboxStart},
    usage_meter::ConnectionTimer,
};

/// The state of one connection, apart from its socket.
pub(super) struct ConnectionState<'a> {
    pub(super) node: &'a SignalNode,
    pub(super) room: &'a Arc<LocalRoom>,
    pub(super) peer: &'a Arc<LocalPeer>,
    pub(super) queue: RequestQueue,
    /// The token in force.
    pub(super) token: ConnectionToken<'a>,
    /// The record of the member, for the case that the store and the view have lost it.
    pub(super) member: Arc<Member>,
    /// What the client knows about moderators, while it is in the lobby.
    pub(super) moderator_present: bool,
    /// The generation of the handle that the client has.
    pub(super) handle_generation: u64,
    /// The epoch that this connection may have got from a call whose answer was lost.
    pub(super) uncertain_epoch: Option<u64>,
    pub(super) deadlines: ConnectionDeadlines,
    /// Measures the connected time; none while the peer waits in the lobby.
    usage_timer: Option<ConnectionTimer>,
}

impl<'a> ConnectionState<'a> {
    /// The state right after the first frame.
    pub(super) fn new(
        node: &'a SignalNode,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        joined: JoinedPeer,
    ) -> Self {
        let now = Instant::now();
        let ping_interval =
            jitter_ping_interval(node.settings.read(|settings| settings.timing.ping.0), &peer.id);
        let token_lifetime = (joined.member.issued, joined.member.expires);
        let mut deadlines = ConnectionDeadlines::new(now, clock::now_ms(), ping_interval, token_lifetime);
        deadlines.set_ice_lifetime(now, node.ice_directory.credential_lifetime());
        Self {
            node,
            room,
            peer,
            queue: RequestQueue::new(
                room.clone(),
                peer.clone(),
                (joined.last_id, joined.refused),
                joined.acked_seq,
            ),
            token: ConnectionToken::new(node, room, peer, &joined.member),
            member: joined.member,
            moderator_present: joined.moderator_present,
            handle_generation: joined.handle_generation,
            uncertain_epoch: None,
            deadlines,
            usage_timer: None,
        }
    }

    /// Sends the first frame of a mailbox, which holds the record of the member and new ICE
    /// servers, and starts to deliver its entries.
    pub(super) fn begin_mailbox(
        &mut self,
        member: Arc<Member>,
        first_frame: &ServerMessage,
        replication_id: &ReplicationId,
        start: MailboxStart,
    ) {
        self.peer.apply_member(&member);
        self.member = member;
        self.deadlines.set_ice_lifetime(Instant::now(), self.node.ice_directory.credential_lifetime());
        self.peer.open_mailbox(first_frame, replication_id, start);
        self.queue.reset_mailbox(start);
    }

    /// The peer is in the room: counts its time, and its join if that was never counted.
    pub(super) fn start_usage_timer(&mut self, is_first_join: bool) {
        let pair = || (self.member.caller.clone(), self.room.id.clone());
        let meter = self.node.usage_meter.as_ref();
        self.usage_timer = meter.map(|meter| meter.start_timer(pair(), is_first_join));
    }
}

/// Shortens the interval by up to a tenth, differently for each peer, so that pings do not go out
/// at the same time.
fn jitter_ping_interval(interval: Duration, peer: &PeerId) -> Duration {
    let hash = |sum: u32, byte: u8| sum.wrapping_mul(31).wrapping_add(u32::from(byte));
    let share = peer.as_str().bytes().fold(0_u32, hash) % 1_000;
    interval - interval / 10_000 * share
}
