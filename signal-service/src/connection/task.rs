//! The loop of one connection: join, then frames in and entries out until it ends, then detach or leave.
//!
//! One task for each connection. It never waits for another peer: what it sends goes to the store, what it is sent comes through
//! its outbox.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use signalbox_config::LimitSettings;
use signalbox_protocol::{CloseCode, ServerMessage, clock, id::PeerId};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::{
    connection_token::ConnectionToken,
    deadlines::{ConnectionDeadlines, DueAction},
    disconnect::{ConnectionEnd, detach_or_leave, drain_close},
    dispatcher::MessageDispatcher,
    frame_reader::{FrameReader, ReadEnd, ReadProgress},
    join::{JoinedPeer, join_or_resume},
    request_queue::{NextStep, RequestQueue},
    resync::{ResyncResult, left_close_code},
};
use crate::{
    admission::{ConnectIntent, ConnectionPermit},
    connection_subject::ConnectionSubject,
    node::SignalNode,
    node_context::STORE_RETRY_DELAY,
    registry::{LocalPeer, LocalRoom, PendingWork},
    usage_meter::ConnectionTimer,
};
use signalbox_rooms::{room::Member, store::PeerStatus};

/// How long an entry that is ahead waits for the missing one before the mailbox is read.
const REORDER_WAIT: Duration = Duration::from_millis(25);

/// How long a connection that must end waits to hear why.
const CLOSE_REASON_WAIT: Duration = Duration::from_millis(500);

/// How often a connection reads before others of its worker have their turn. Being readable costs a task nothing of its share of
/// the runtime, so it must give way by itself.
const READS_PER_TURN: usize = 8;

/// Whether a connection has read what there was.
enum ReadTurn {
    /// It has, or takes no more for now.
    Done,
    /// There may be more, and it is others' turn.
    Yield,
}

/// Serves one connection until it ends. The `101` has been written.
pub(super) async fn run_connection(
    signal: Arc<SignalNode>,
    place: ConnectionPermit,
    (wish, standing): (ConnectIntent, ConnectionSubject),
    socket: TcpStream,
    early: BytesMut,
) {
    // Small frames must not wait for each other.
    let _ = socket.set_nodelay(true);
    let socket = Arc::new(socket);
    let limits = LimitSettings {
        backlog: signal.registry.context().limits.backlog(),
        ..signal.settings.limits.clone()
    };
    let peer = LocalPeer::new(wish.peer_id(), standing, socket.clone(), &limits);
    let room = signal.registry.register_connection(wish.room_id(), &peer);
    if signal.admission.is_draining() {
        // It came through the door just before it was closed; whoever says goodbye may have missed it.
        peer.request_close(CloseCode::GoingAway);
    }
    let metrics = &signal.registry.context().metrics;
    metrics.connections.inc();
    let is_new = wish.is_first_join();
    let entered = if is_socket_closed(&socket) {
        Err(ConnectionEnd::SocketLost)
    } else {
        join_or_resume(&signal, &room, &peer, wish).await.map_err(ConnectionEnd::ServerClose)
    };
    let (end, has_left) = match entered {
        Ok(entered) => {
            let mut session = ConnectionTask::new(&signal, &entered, &room, &peer, socket.clone(), early);
            if !entered.member.waiting {
                session.start_usage_timer(is_new);
            }
            session.run_until_end().await
        }
        Err(end) => (end, false),
    };
    let end = match end {
        ConnectionEnd::ServerClose(CloseCode::Revoked) => {
            ConnectionEnd::ServerClose(find_revoked_reason(&signal, &room, &peer).await)
        }
        end => end,
    };
    if !has_left && peer.epoch() > 0 {
        detach_or_leave(&room, &peer, &end);
    }
    // After its last input is queued: a room with nobody and nothing in it is forgotten, and a stop would not wait for it.
    room.unregister_connection(&peer);
    match end {
        ConnectionEnd::ServerClose(code) => {
            metrics.count_close(code);
            tracing::debug!(event = "closing", room = %room.id, peer = %peer.id, reason = code.reason());
            peer.write_close(code);
            drain_close(&socket, &peer).await;
        }
        ConnectionEnd::ClientClose(code) => {
            peer.echo_close(code);
            drain_close(&socket, &peer).await;
        }
        ConnectionEnd::SocketLost => {}
    }
    metrics.connections.dec();
    drop(place);
}

/// A peer that is removed from its room has its grant taken back too, and either may be heard of first. The room says more.
async fn find_revoked_reason(signal: &SignalNode, room: &LocalRoom, peer: &LocalPeer) -> CloseCode {
    if room.is_store_available() {
        let hub = signal.registry.context();
        let reader = peer.mailbox_reader(&hub.node_id);
        let look = timeout(CLOSE_REASON_WAIT, hub.store.read_mailbox(&room.id, &reader, 0)).await;
        if let Ok(Ok(PeerStatus::Left(Some(reason)))) = look {
            let code = left_close_code(Some(reason));
            peer.override_close(code);
            return code;
        }
    }
    CloseCode::Revoked
}

/// One connection at work.
pub(super) struct ConnectionTask<'a> {
    pub(super) signal: &'a SignalNode,
    pub(super) room: &'a Arc<LocalRoom>,
    pub(super) peer: &'a Arc<LocalPeer>,
    pub(super) dispatcher: MessageDispatcher<'a>,
    /// Which handle its client has.
    pub(super) handle_generation: u64,
    /// The peer's record, should nobody else have it any more.
    pub(super) member: Member,
    /// The epoch that its node may have been given by a call whose answer was lost.
    pub(super) uncertain_epoch: Option<u64>,
    socket: Arc<TcpStream>,
    frame_reader: FrameReader,
    pub(super) deadlines: ConnectionDeadlines,
    last_heard_at: Instant,
    /// So long a client may say nothing at all.
    max_silence: Duration,
    read_mailbox_at: Option<Instant>,
    /// Counts its time; none while it waits in the lobby.
    usage_timer: Option<ConnectionTimer>,
}

impl<'a> ConnectionTask<'a> {
    fn new(
        signal: &'a SignalNode,
        entered: &JoinedPeer,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        socket: Arc<TcpStream>,
        early: BytesMut,
    ) -> Self {
        let now = Instant::now();
        let limits = &signal.settings.limits;
        let ping_every = jitter_ping_interval(signal.settings.timing.ping.0, &peer.id);
        let life = (entered.member.issued, entered.member.expires);
        let mut deadlines = ConnectionDeadlines::new(now, clock::now_ms(), ping_every, life);
        deadlines.set_ice_lifetime(now, signal.ice_directory.credential_lifetime());
        let requests = RequestQueue::new(room.clone(), peer.clone(), entered.last_id, entered.acked_seq);
        let badge = ConnectionToken::new(signal, room, peer, &entered.member);
        let unconfirmed = entered.is_resumed.then_some(entered.handle_generation);
        Self {
            signal,
            room,
            peer,
            dispatcher: MessageDispatcher::new(signal, room, peer, badge, requests, unconfirmed),
            handle_generation: entered.handle_generation,
            member: entered.member.clone(),
            uncertain_epoch: None,
            socket,
            frame_reader: FrameReader::new(limits.frame.0, early),
            deadlines,
            last_heard_at: now,
            max_silence: signal.settings.timing.ping.0.mul_f32(2.5),
            read_mailbox_at: None,
            usage_timer: None,
        }
    }

    /// It is in the room: from now on its time counts, and, where it was never counted before, its join.
    pub(super) fn start_usage_timer(&mut self, is_new: bool) {
        let pair = || (self.member.caller.clone(), self.room.id.clone());
        self.usage_timer = self.signal.usage_meter.as_ref().map(|meter| meter.start_timer(pair(), is_new));
    }

    /// Serves until the end; also whether the peer has left by then.
    async fn run_until_end(mut self) -> (ConnectionEnd, bool) {
        let end = self.run_loop().await;
        let has_left = match end {
            ConnectionEnd::ServerClose(code) => code == CloseCode::Left,
            // What the client sent before it closed still counts: a page says `leave` and is gone.
            ConnectionEnd::ClientClose(_) | ConnectionEnd::SocketLost => {
                self.dispatcher.finish_requests().await
            }
        };
        (end, has_left)
    }

    async fn run_loop(&mut self) -> ConnectionEnd {
        // Bytes may have come with the upgrade request.
        let mut readable = true;
        loop {
            // Before anything is read: a node may have slept over the end of a token.
            if let Some(code) = self.run_due_actions() {
                return ConnectionEnd::ServerClose(code);
            }
            if readable {
                match self.read_frames() {
                    Ok(ReadTurn::Yield) => tokio::task::yield_now().await,
                    Ok(ReadTurn::Done) => {}
                    Err(end) => return end,
                }
            }
            if let Some(end) = self.process_pending_work().await {
                return end;
            }
            let condition = self.peer.pending_work();
            let mut interest = Interest::ERROR;
            if !self.dispatcher.requests.is_full() {
                interest |= Interest::READABLE;
            }
            if condition.outbox_bytes > 0 {
                self.signal.registry.context().metrics.record_outbox_bytes(condition.outbox_bytes);
                interest |= Interest::WRITABLE;
            }
            // While the socket has not taken the last page, the next one waits for it.
            let read_at = self.read_mailbox_at.filter(|_| condition.outbox_bytes == 0);
            let deadline =
                read_at.map_or(self.deadlines.next_deadline(), |at| at.min(self.deadlines.next_deadline()));
            readable = false;
            tokio::select! {
                // Finished calls first, so that answers leave before more work is taken; then deliveries; then input.
                biased;
                verdict = self.dispatcher.requests.wait_for_call(&mut self.dispatcher.answers) => match verdict {
                    NextStep::Continue => {}
                    NextStep::Resync => {
                        self.peer.mark_stale();
                        self.read_mailbox_at = Some(Instant::now());
                    }
                    NextStep::Left => {
                        self.dispatcher.send_answers();
                        return ConnectionEnd::ServerClose(CloseCode::Left);
                    }
                },
                refreshed = self.dispatcher.token.wait_for_refresh() => self.answer_refresh(refreshed),
                () = self.peer.wait_for_work() => {}
                ready = self.socket.ready(interest) => match ready {
                    Ok(ready) => {
                        if ready.is_writable() {
                            self.peer.flush_outbox();
                        }
                        readable = ready.is_readable() || ready.is_read_closed() || ready.is_error();
                    }
                    Err(_) => return ConnectionEnd::SocketLost,
                },
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Reads what the socket holds, up to the bound on waiting requests.
    fn read_frames(&mut self) -> Result<ReadTurn, ConnectionEnd> {
        for _ in 0..READS_PER_TURN {
            let input = &mut self.dispatcher;
            let progress =
                self.frame_reader.read_socket(&self.socket, &mut |incoming| input.handle_frame(incoming));
            if !matches!(progress, Ok(ReadProgress::Blocked)) {
                self.last_heard_at = Instant::now();
            }
            match progress {
                Ok(ReadProgress::More) if !self.dispatcher.requests.is_full() => {}
                Ok(ReadProgress::More | ReadProgress::Blocked) => return Ok(ReadTurn::Done),
                Ok(ReadProgress::EndOfStream) => return Err(ConnectionEnd::SocketLost),
                Err(ReadEnd::ClientClose(code)) => return Err(ConnectionEnd::ClientClose(code)),
                Err(ReadEnd::ServerClose(code)) => {
                    self.dispatcher.send_answers();
                    return Err(ConnectionEnd::ServerClose(code));
                }
            }
        }
        Ok(ReadTurn::Yield)
    }

    /// Between two waits: sends answers, starts the next call, looks after the mailbox.
    async fn process_pending_work(&mut self) -> Option<ConnectionEnd> {
        self.dispatcher.start_next_call();
        self.dispatcher.send_answers();
        if let Some(life) = self.dispatcher.token.take_changed_lifetime() {
            self.deadlines.set_token_lifetime(Instant::now(), clock::now_ms(), life);
        }
        let condition = self.peer.pending_work();
        if let Some(code) = condition.close_code {
            return Some(ConnectionEnd::ServerClose(code));
        }
        if let Some(due) = condition.ack_up_to {
            self.dispatcher.acknowledge_entries(due);
        }
        self.plan_resync(&condition);
        if condition.outbox_bytes == 0 && self.read_mailbox_at.is_some_and(|at| at <= Instant::now()) {
            self.read_mailbox_at = None;
            let looked =
                if self.peer.is_in_lobby() { self.resync_in_lobby().await } else { self.resync_peer().await };
            match looked {
                // Pages are bounded: there may be another.
                ResyncResult::InSync => self.plan_resync(&self.peer.pending_work()),
                ResyncResult::StoreUnavailable => {
                    self.read_mailbox_at = Some(Instant::now() + STORE_RETRY_DELAY)
                }
                ResyncResult::MustClose(code) => return Some(ConnectionEnd::ServerClose(code)),
            }
        }
        None
    }

    /// When to look after the peer, if it must be. An entry that is only ahead may be overtaken by the missing one in a moment.
    fn plan_resync(&mut self, condition: &PendingWork) {
        let patience = if condition.is_replaying { Duration::ZERO } else { REORDER_WAIT };
        self.read_mailbox_at = match (condition.needs_mailbox_read, self.read_mailbox_at) {
            (false, _) => None,
            (true, None) => Some(Instant::now() + patience),
            (true, planned) => planned,
        };
    }

    /// Does what is due; why the connection must end, if it must.
    fn run_due_actions(&mut self) -> Option<CloseCode> {
        let now = Instant::now();
        while let Some(due) = self.deadlines.take_due_action(now, clock::now_ms) {
            match due {
                DueAction::TokenExpired => return Some(CloseCode::TokenExpired),
                DueAction::WarnExpiry(expires_in) => {
                    self.peer.send_messages(&[ServerMessage::TokenExpiring { expires_in }])
                }
                DueAction::Ping if now.duration_since(self.last_heard_at) > self.max_silence => {
                    return Some(CloseCode::PingTimeout);
                }
                DueAction::Ping => self.peer.send_ping(),
                DueAction::RefreshIce => self.send_ice_servers(),
            }
        }
        None
    }
}

/// Whether the client has closed meanwhile: a node that slept may find requests of clients that have long gone elsewhere, and must not
/// take their peers from there.
fn is_socket_closed(socket: &TcpStream) -> bool {
    matches!(socket.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_)))
}

/// Up to a tenth shorter, each peer its own share, so that pings do not come in step.
fn jitter_ping_interval(every: Duration, peer: &PeerId) -> Duration {
    let share =
        peer.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
            % 1_000;
    every - every / 10_000 * share
}
