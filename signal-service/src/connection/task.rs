//! The task of one connection: join, then frames in and entries out until it ends, then detach or
//! leave.
//!
//! Owns: the socket, the loop, the answers that wait for the socket. It acts on
//! the values that the others return: the actions of `dispatcher`, the outcomes of `request_queue`,
//! `connection_token` and `resync`. Must not: wait for another peer; messages go to the store, and
//! entries come through the outbox of the peer. Next: `join` for the first frame, `dispatcher` for
//! the frames after it.

use std::{io, mem::MaybeUninit, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use signalbox_config::LimitSettings;
use signalbox_protocol::{
    CloseCode, ErrorCode, PairOutcome, PairStep, ServerMessage, clock, problem::Problem,
};
use signalbox_rooms::{room::Member, store::PeerStatus};
use tokio::{io::Interest, net::TcpStream, time::Instant};

use super::{
    connection_token::RefreshOutcome,
    deadlines::DueAction,
    disconnect::{ConnectionEnd, GOING_AWAY, detach_or_leave, drain_close, ends_peer, left_close_code},
    dispatcher::{DispatchAction, ErrorAnswer, MessageDispatcher},
    frame_reader::{FrameReader, IncomingFrame, ReadEnd, ReadProgress},
    join::{JoinedPeer, build_resume_handle, join_or_resume},
    lobby::resync_in_lobby,
    outcome_report::OutcomeReporter,
    pair_activity::{PairActivity, TimedSteps},
    request_queue::{NextStep, PeerRequest},
    resync::{ResyncResult, resync_peer},
    state::ConnectionState,
    wait::{DeadlineTimer, WaitPlan, WakeUp, wait_for_wake_up},
};
use crate::{
    admission::{ConnectIntent, ConnectionPermit},
    connection_subject::ConnectionSubject,
    node::SignalNode,
    node_context::STORE_RETRY_DELAY,
    node_metrics::ConnectionCount,
    peer_rate::{FrameRate, PeerRate},
    registry::{LocalPeer, LocalRoom, PendingWork, start_flush_task},
};

/// How long an entry that is ahead waits for the missing one before the mailbox is read.
const REORDER_WAIT: Duration = Duration::from_millis(25);

/// How long a connection stays open after `going`: a page may also send `leave` while it closes.
const GOING_WAIT: Duration = Duration::from_millis(500);

/// The number of reads before other connections of the same worker have their turn. A socket that
/// is readable costs a task nothing of its share of the runtime, so the task must yield by itself.
const READS_PER_TURN: usize = 2;

/// The cost of a refresh in frames: the node verifies a signature.
const REFRESH_COST: u32 = 9;

/// The result of one turn of reading.
enum ReadTurn {
    /// The socket holds no more, or the queue is full.
    Done,
    /// The socket may hold more; other tasks have their turn first.
    Yield,
}

/// A connection whose `101` has been sent, with the results of its admission.
pub(super) struct AdmittedConnection {
    pub(super) permit: ConnectionPermit,
    pub(super) count: ConnectionCount,
    pub(super) intent: ConnectIntent,
    pub(super) subject: ConnectionSubject,
    pub(super) rate: Arc<PeerRate>,
    /// The bytes that were read behind the upgrade request.
    pub(super) early_bytes: BytesMut,
}

/// What a connection has as long as it lives.
struct OpenConnection {
    node: Arc<SignalNode>,
    room: Arc<LocalRoom>,
    peer: Arc<LocalPeer>,
    rate: Arc<PeerRate>,
    socket: Arc<TcpStream>,
    // Held until the connection has ended.
    _count: ConnectionCount,
    _permit: ConnectionPermit,
}

/// Serves one connection until it ends, on the worker of its room.
///
/// An idle connection should take little memory, so what is needed for the first frame is in boxes:
/// a future keeps space for each local variable of each of its steps.
pub(super) async fn run_connection(
    node: Arc<SignalNode>,
    admitted: Box<AdmittedConnection>,
    socket: TcpStream,
) {
    let (connection, first_step) = open_connection(node, admitted, socket);
    let OpenConnection { node, room, peer, rate, socket, .. } = &connection;
    let (end, has_left) = serve_peer(&connection, first_step).await;
    rate.end_attachment(&peer.id, peer.epoch());
    node.admission.peer_rates().keep(&peer.access_subject(), rate);
    if !has_left && peer.epoch() > 0 {
        detach_or_leave(room, peer, &end);
    }
    // After its last input is queued: a drain must wait for that input, and does not wait for a
    // room without peers and inputs.
    room.unregister_connection(peer);
    match end {
        ConnectionEnd::ServerClose(code) => {
            node.registry.context().metrics.count_close(code);
            tracing::debug!(event = "closing", room = %room.id, peer = %peer.id, reason = code.reason());
            peer.write_close(code);
            Box::pin(drain_close(socket, peer)).await;
        }
        ConnectionEnd::ClientClose(code) => {
            peer.echo_close(code);
            Box::pin(drain_close(socket, peer)).await;
        }
        ConnectionEnd::SocketLost | ConnectionEnd::PageClosed => {}
    }
}

/// What only the first frame needs.
struct FirstStep {
    intent: ConnectIntent,
    early_bytes: BytesMut,
}

fn open_connection(
    node: Arc<SignalNode>,
    admitted: Box<AdmittedConnection>,
    socket: TcpStream,
) -> (OpenConnection, Box<FirstStep>) {
    let AdmittedConnection { permit, count, intent, subject, rate, early_bytes } = *admitted;
    // Small frames must not wait for each other.
    let _ = socket.set_nodelay(true);
    start_flush_task();
    let socket = Arc::new(socket);
    let context = node.registry.context();
    let limits = LimitSettings {
        backlog: context.limits.backlog(),
        ..node.settings.read(|settings| settings.limits.clone())
    };
    let counted_bytes = context.socket_budget.open_connection();
    let handle_token = intent.token().handle_token.clone();
    let peer =
        LocalPeer::new(intent.peer_id(), subject, handle_token, socket.clone(), &limits, counted_bytes);
    let room = node.registry.register_connection(intent.room_id(), &peer);
    if node.admission.is_draining() {
        // The drain began after this connection was admitted, and may have missed it.
        peer.request_close(CloseCode::GoingAway);
    }
    let connection = OpenConnection { node, room, peer, rate, socket, _count: count, _permit: permit };
    (connection, Box::new(FirstStep { intent, early_bytes }))
}

/// Joins and serves the peer until the connection ends. Also returns whether the peer has left the
/// room.
async fn serve_peer(connection: &OpenConnection, first_step: Box<FirstStep>) -> (ConnectionEnd, bool) {
    let (end, has_left) = match Box::pin(join_peer(connection, first_step)).await {
        Ok(task) => task.run_until_end().await,
        Err(end) => (end, false),
    };
    match end {
        ConnectionEnd::ServerClose(CloseCode::Revoked) => {
            let OpenConnection { node, room, peer, .. } = connection;
            (ConnectionEnd::ServerClose(Box::pin(find_revoked_reason(node, room, peer)).await), has_left)
        }
        end => (end, has_left),
    }
}

/// Sends the first frame.
async fn join_peer(
    connection: &OpenConnection,
    first_step: Box<FirstStep>,
) -> Result<Box<ConnectionTask<'_>>, ConnectionEnd> {
    let OpenConnection { node, room, peer, rate, socket, .. } = connection;
    let FirstStep { intent, early_bytes } = *first_step;
    if is_socket_closed(socket) {
        return Err(ConnectionEnd::SocketLost);
    }
    let is_first_join = intent.is_first_join();
    let joined = join_or_resume(node, room, peer, intent).await.map_err(ConnectionEnd::ServerClose)?;
    let is_in_lobby = joined.member.waiting;
    let socket = (socket.clone(), early_bytes);
    let mut task = Box::new(ConnectionTask::new(node, room, peer, joined, socket, rate.clone()));
    if !is_in_lobby {
        task.state.start_usage_timer(is_first_join);
    }
    Ok(task)
}

/// The removal of a peer also revokes its grant, and this node may learn either first. The store
/// knows the more precise reason, unless it does not answer within `redis.deadline`.
async fn find_revoked_reason(node: &SignalNode, room: &LocalRoom, peer: &LocalPeer) -> CloseCode {
    let context = node.registry.context();
    let reader = peer.mailbox_reader(&context.node_id);
    match context.store.read_mailbox(&room.id, &reader, 0).await {
        Ok(PeerStatus::Left(Some(reason))) => left_close_code(Some(reason)),
        _ => CloseCode::Revoked,
    }
}

/// One connection that has sent its first frame.
struct ConnectionTask<'a> {
    state: ConnectionState<'a>,
    dispatcher: MessageDispatcher<'a>,
    socket: Arc<TcpStream>,
    frame_reader: FrameReader,
    rate: Arc<PeerRate>,
    /// When the connection of a closing page ends.
    going_until: Option<Instant>,
    /// The next frame waits until then for its token.
    read_paused_until: Option<Instant>,
    timer: DeadlineTimer,
    /// The answers that the next write sends.
    answers: Vec<ServerMessage>,
    /// The generation of a new handle, until the first text frame proves that the client has it.
    unconfirmed_handle: Option<u64>,
    last_heard_at: Instant,
    /// The longest silence of a client.
    max_silence: Duration,
    read_mailbox_at: Option<Instant>,
}

impl<'a> ConnectionTask<'a> {
    fn new(
        node: &'a SignalNode,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        joined: JoinedPeer,
        (socket, early_bytes): (Arc<TcpStream>, BytesMut),
        rate: Arc<PeerRate>,
    ) -> Self {
        let now = Instant::now();
        let settings = node.settings.load();
        let attachment = (peer.id.clone(), joined.member.epoch);
        rate.begin_attachment(joined.previous.as_ref(), attachment, frame_rate(node), now);
        let is_resumed = joined.is_resumed;
        let unconfirmed_handle = is_resumed.then_some(joined.handle_generation);
        let state = ConnectionState::new(node, room, peer, joined);
        Self {
            timer: DeadlineTimer::new(state.deadlines.next_deadline()),
            state,
            dispatcher: MessageDispatcher::new(node, peer, PairActivity::new(is_resumed)),
            socket,
            frame_reader: FrameReader::new(settings.limits.frame.0, early_bytes, peer.open_buffer()),
            rate,
            going_until: None,
            read_paused_until: None,
            answers: Vec::new(),
            unconfirmed_handle,
            last_heard_at: now,
            max_silence: settings.timing.ping.0.mul_f32(2.5),
            read_mailbox_at: None,
        }
    }

    /// Runs until the connection ends. Also returns whether the peer has left the room.
    async fn run_until_end(mut self: Box<Self>) -> (ConnectionEnd, bool) {
        let end = self.run_loop().await;
        let has_left = match end {
            ConnectionEnd::ServerClose(code) => code == CloseCode::Left,
            // A page may send `leave` and close at once: the requests before the close still count.
            _ => Box::pin(self.state.queue.finish(&mut self.answers)).await,
        };
        let leaves = has_left || ends_peer(&end);
        self.report_open_attempts(if leaves { PairStep::Left } else { PairStep::Detached });
        match end {
            ConnectionEnd::ClientClose(_) | ConnectionEnd::SocketLost if self.going_until.is_some() => {
                (ConnectionEnd::PageClosed, has_left)
            }
            end => (end, has_left),
        }
    }

    async fn run_loop(&mut self) -> ConnectionEnd {
        // Bytes may have come with the upgrade request.
        let mut is_readable = true;
        loop {
            if self.going_until.is_some_and(|until| until <= Instant::now()) {
                return ConnectionEnd::ClientClose(GOING_AWAY);
            }
            // Before any read: the token may have expired while the machine slept.
            if let Some(code) = self.run_due_actions() {
                return ConnectionEnd::ServerClose(code);
            }
            if is_readable || self.read_paused_until.is_some_and(|until| until <= Instant::now()) {
                match self.read_frames() {
                    Ok(ReadTurn::Yield) => tokio::task::yield_now().await,
                    Ok(ReadTurn::Done) => {}
                    Err(end) => return end,
                }
            }
            if let Some(end) = self.process_pending_work().await {
                return end;
            }
            let plan = self.plan_wait();
            let Self { state, socket, timer, answers, .. } = self;
            is_readable = false;
            match wait_for_wake_up(state, socket, timer, answers, plan).await {
                WakeUp::CallFinished(NextStep::Continue) | WakeUp::Work => {}
                WakeUp::CallFinished(NextStep::Resync) => {
                    self.state.peer.mark_stale();
                    self.read_mailbox_at = Some(Instant::now());
                }
                WakeUp::CallFinished(NextStep::Left) => {
                    self.send_answers();
                    return ConnectionEnd::ServerClose(CloseCode::Left);
                }
                WakeUp::TokenRefreshed(outcome) => self.answer_refresh(*outcome),
                WakeUp::Writable => self.state.peer.flush_outbox(),
                WakeUp::Readable => is_readable = true,
                WakeUp::SocketLost => return ConnectionEnd::SocketLost,
            }
        }
    }

    /// What the next wait is for.
    fn plan_wait(&self) -> WaitPlan {
        let blocked_bytes = self.state.peer.pending_work().blocked_bytes;
        if blocked_bytes > 0 {
            self.state.node.registry.context().metrics.record_outbox_bytes(blocked_bytes);
        }
        // The next page waits until the socket has taken the last one.
        let read_at = self.read_mailbox_at.filter(|_| blocked_bytes == 0);
        let optional = [read_at, self.read_paused_until, self.going_until].into_iter().flatten();
        WaitPlan {
            reads: !self.state.queue.is_full() && self.read_paused_until.is_none(),
            writes: blocked_bytes > 0,
            deadline: optional.fold(self.state.deadlines.next_deadline(), Instant::min),
        }
    }

    /// Reads the frames that the socket holds, until the queue is full or the next frame must wait.
    fn read_frames(&mut self) -> Result<ReadTurn, ConnectionEnd> {
        for _ in 0..READS_PER_TURN {
            // The frames that were read before a pause come first, unless the client has gone.
            if self.read_paused_until.is_some() {
                if is_read_closed(&self.socket) {
                    return Err(ConnectionEnd::SocketLost);
                }
                self.handle_frames()?;
                if self.read_paused_until.is_some() {
                    return Ok(ReadTurn::Done);
                }
            }
            let progress = self.frame_reader.read_socket(&self.socket);
            if progress != ReadProgress::Blocked {
                self.last_heard_at = Instant::now();
            }
            self.handle_frames()?;
            match progress {
                ReadProgress::EndOfStream => return Err(ConnectionEnd::SocketLost),
                ReadProgress::More if !self.state.queue.is_full() => {}
                _ => return Ok(ReadTurn::Done),
            }
        }
        Ok(ReadTurn::Yield)
    }

    /// Handles the frames that were read, until none is whole or the next one must wait.
    fn handle_frames(&mut self) -> Result<(), ConnectionEnd> {
        self.dispatch_frames().map_err(|end| match end {
            ReadEnd::ClientClose(code) => ConnectionEnd::ClientClose(code),
            ReadEnd::ServerClose(code) => {
                self.send_answers();
                ConnectionEnd::ServerClose(code)
            }
        })
    }

    fn dispatch_frames(&mut self) -> Result<(), ReadEnd> {
        // One time for all frames of a read: it takes microseconds to handle them.
        let (rate, now) = (frame_rate(self.state.node), Instant::now());
        loop {
            self.read_paused_until = self.rate.read_pause(rate, now).map(|pause| now + pause);
            if self.read_paused_until.is_some() {
                self.frame_reader.release_buffer();
                return Ok(());
            }
            let Some(frame) = self.frame_reader.next_frame()? else { return Ok(()) };
            if matches!(frame, IncomingFrame::Text(_))
                && let Some(handle_generation) = self.unconfirmed_handle.take()
            {
                self.state.queue.confirm_handle(handle_generation);
            }
            let decision = self.rate.check_frame(rate, now);
            match self.dispatcher.dispatch(frame, decision)? {
                DispatchAction::Ignore => {}
                DispatchAction::Queue(request) => self.queue_request(request),
                DispatchAction::StartRefresh { id, token } => self.start_refresh(id, token),
                DispatchAction::RecordGoing => self.going_until = Some(now + GOING_WAIT),
                DispatchAction::RecordReceived(seq) => self.record_received(seq),
                DispatchAction::RecordOutcome(outcome, steps) => self.record_outcome(outcome, steps),
                DispatchAction::AnswerPing { id } => self.answers.push(ServerMessage::Pong { id }),
                DispatchAction::AnswerError(ErrorAnswer { id, code, field, text }) => {
                    self.state.queue.record_refused(id, code);
                    self.answer_error(id, code, field, &text);
                }
                DispatchAction::AnswerRateLimited { id } => self.answer_rate_limited(id),
            }
        }
    }

    fn queue_request(&mut self, request: PeerRequest) {
        let is_forward = matches!(request, PeerRequest::Forward(_));
        let is_sent_to_room = request.is_sent_to_room();
        let metrics = &self.state.node.registry.context().metrics;
        if !self.state.queue.push_request(request, &mut self.answers) {
            metrics.count_refused_message(ErrorCode::Unavailable);
            return;
        }
        if is_forward {
            metrics.forwarded_messages.inc();
        }
        if is_sent_to_room {
            // A frame for each member costs more in a large room: one frame for every ten members.
            self.charge_extra(self.state.room.member_count() as u32 / 10);
        }
    }

    fn charge_extra(&self, extra: u32) {
        self.rate.charge_extra(frame_rate(self.state.node), extra);
    }

    fn record_received(&mut self, seq: u64) {
        if !self.state.queue.record_received(seq) {
            let text = "the server has not sent an entry with this seq";
            self.answer_error(None, ErrorCode::BadMessage, Some("seq"), text);
        }
    }

    fn record_outcome(&self, outcome: PairOutcome, steps: TimedSteps) {
        if OutcomeReporter::new(&self.state).report_outcome(outcome, steps) {
            // The read of a large room costs more.
            self.charge_extra(self.state.room.member_count() as u32 / 10);
        }
    }

    fn report_open_attempts(&mut self, end: PairStep) {
        let attempts = self.dispatcher.take_open_attempts(end);
        if !attempts.is_empty() {
            OutcomeReporter::new(&self.state).report_open_attempts(attempts);
        }
    }

    fn answer_error(&mut self, id: Option<u64>, code: ErrorCode, field: Option<&str>, text: &str) {
        self.state.node.registry.context().metrics.count_refused_message(code);
        self.answers.push(ServerMessage::error(id, code, field, text));
    }

    fn answer_rate_limited(&mut self, id: Option<u64>) {
        // `rate_limited` is final for an id. An id whose outcome is unknown must come again, so it
        // gets another code.
        let (code, text) = if id.is_some_and(|id| self.state.queue.is_blocked_by_earlier(id)) {
            (
                ErrorCode::Unavailable,
                "too many frames; wait, then send this id again, and the later ids after it",
            )
        } else {
            self.state.queue.record_refused(id, ErrorCode::RateLimited);
            (ErrorCode::RateLimited, "too many frames; wait, then send this again under a new id")
        };
        self.state.node.registry.context().metrics.count_refused_message(code);
        let wait = self.rate.time_until_pass(frame_rate(self.state.node));
        let retry_ms = Some(wait.as_millis().max(1) as u32);
        self.answers.push(ServerMessage::Error { id, code, message: text.to_owned(), field: None, retry_ms });
    }

    fn send_answers(&mut self) {
        if !self.answers.is_empty() {
            self.state.peer.send_messages(&self.answers);
            self.answers.clear();
        }
    }

    /// Starts the refresh of the token. A verified token is in force at once, and is then committed
    /// to the room.
    fn start_refresh(&mut self, id: Option<u64>, token: String) {
        self.charge_extra(REFRESH_COST);
        if self.state.token.is_refreshing() {
            let text = "an earlier refresh is not finished; wait for its answer, then send this again";
            return self.answer_error(id, ErrorCode::RateLimited, Some("token"), text);
        }
        if let Some(RefreshOutcome::Refused(id, problem)) = self.state.token.start_refresh(id, token) {
            self.answer_refused_token(id, &problem);
        }
    }

    fn answer_refused_token(&mut self, id: Option<u64>, problem: &Problem) {
        let code = if problem.status == 503 { ErrorCode::Unavailable } else { ErrorCode::BadToken };
        self.answer_error(id, code, Some("token"), &problem.detail);
    }

    /// Answers a refresh: an `ack`, the new token data, and new ICE servers if the role has another
    /// ICE policy.
    fn answer_refresh(&mut self, outcome: RefreshOutcome) {
        let role_before = self.state.member.role.clone();
        let (id, durable) = match outcome {
            RefreshOutcome::Refused(id, problem) => return self.answer_refused_token(id, &problem),
            RefreshOutcome::Committed(id, member) => {
                self.state.member = member;
                (id, true)
            }
            RefreshOutcome::Uncommitted(id) => (id, false),
        };
        let member = self.state.token.apply_to_member(self.state.member.clone());
        let ack = id.map(|id| ServerMessage::Ack { id, duplicate: false, durable });
        let refreshed = self.build_token_refreshed(&member);
        let policy = |role| self.state.node.ice_directory.policy_for_role(role);
        let ice_policy_changed = policy(&member.role) != policy(&role_before);
        self.state.member = member;
        let (room, peer) = (self.state.room, self.state.peer);
        tracing::debug!(event = "refreshed", room = %room.id, peer = %peer.id, durable);
        peer.send_messages(&ack.into_iter().chain([refreshed]).collect::<Vec<_>>());
        if ice_policy_changed {
            self.send_ice_servers();
        }
    }

    fn build_token_refreshed(&self, member: &Member) -> ServerMessage {
        let ConnectionState { node, peer, handle_generation, .. } = &self.state;
        let (replication_id, mailbox_version) = (peer.replication_id(), peer.mailbox_version());
        ServerMessage::TokenRefreshed {
            expires_in: (member.expires * 1_000).saturating_sub(clock::now_ms()),
            role: member.role.clone(),
            permissions: member.permissions.clone(),
            resume: build_resume_handle(
                node,
                peer,
                member,
                &replication_id,
                mailbox_version,
                *handle_generation,
            ),
        }
    }

    /// Sends new TURN credentials and sets the time of the next ones.
    fn send_ice_servers(&mut self) {
        let record = self.state.token.token_record();
        let (region, grant) = (record.region.as_ref(), record.token.grant());
        let ice = self.state.node.ice_directory.client_config(&record.role, region, grant, clock::now_s());
        let expires_in = ice.lifetime.map(|lifetime| lifetime.as_millis() as u64);
        let (ice_servers, ice_policy) = (ice.servers, ice.policy);
        self.state.peer.send_messages(&[ServerMessage::IceServers { ice_servers, ice_policy, expires_in }]);
        self.state.deadlines.set_ice_lifetime(Instant::now(), ice.lifetime);
    }

    /// The work between two waits: starts the next call, sends answers, acknowledges entries,
    /// resyncs the peer.
    async fn process_pending_work(&mut self) -> Option<ConnectionEnd> {
        self.state.queue.start_next_call(&mut self.answers);
        self.send_answers();
        if let Some(lifetime) = self.state.token.take_changed_lifetime() {
            self.state.deadlines.set_token_lifetime(Instant::now(), clock::now_ms(), lifetime);
        }
        let pending = self.state.peer.pending_work();
        if let Some(code) = pending.close_code {
            return Some(ConnectionEnd::ServerClose(code));
        }
        // The answer to a leave ends the connection. A resync beside it might find that the peer has
        // left, and close the connection as lost before the answer.
        if self.state.queue.is_leaving() {
            self.read_mailbox_at = None;
            return None;
        }
        if let Some(due_seq) = pending.ack_up_to {
            self.state.queue.acknowledge_entries(due_seq);
        }
        self.plan_resync(&pending);
        if pending.blocked_bytes == 0 && self.read_mailbox_at.is_some_and(|at| at <= Instant::now()) {
            self.read_mailbox_at = None;
            let result = if self.state.peer.is_in_lobby() {
                Box::pin(resync_in_lobby(&mut self.state)).await
            } else {
                Box::pin(resync_peer(&mut self.state)).await
            };
            match result {
                // One read brings one page; there may be more.
                ResyncResult::InSync => self.plan_resync(&self.state.peer.pending_work()),
                ResyncResult::StoreUnavailable => {
                    self.read_mailbox_at = Some(Instant::now() + STORE_RETRY_DELAY);
                }
                ResyncResult::MustClose(code) => return Some(ConnectionEnd::ServerClose(code)),
            }
        }
        None
    }

    /// Sets the time of the next resync, if one is needed. A missing entry may still come within
    /// [`REORDER_WAIT`].
    fn plan_resync(&mut self, pending: &PendingWork) {
        let wait = if pending.is_replaying { Duration::ZERO } else { REORDER_WAIT };
        self.read_mailbox_at = match (pending.needs_mailbox_read, self.read_mailbox_at) {
            (false, _) => None,
            (true, None) => Some(Instant::now() + wait),
            (true, planned) => planned,
        };
    }

    /// Runs the due actions. Returns a close code if the connection must end.
    fn run_due_actions(&mut self) -> Option<CloseCode> {
        let now = Instant::now();
        while let Some(action) = self.state.deadlines.take_due_action(now, clock::now_ms) {
            match action {
                DueAction::TokenExpired => return Some(CloseCode::TokenExpired),
                DueAction::WarnExpiry(expires_in) => {
                    self.state.peer.send_messages(&[ServerMessage::TokenExpiring { expires_in }]);
                }
                DueAction::Ping if now.duration_since(self.last_heard_at) > self.max_silence => {
                    return Some(CloseCode::PingTimeout);
                }
                DueAction::Ping => self.state.peer.send_ping(),
                DueAction::RefreshIce => self.send_ice_servers(),
            }
        }
        None
    }
}

/// The rate limit in force.
fn frame_rate(node: &SignalNode) -> FrameRate {
    node.registry.context().limits.burst_and_rate().into()
}

/// Whether the client has closed the socket, even if some of its bytes are not read yet.
fn is_read_closed(socket: &TcpStream) -> bool {
    let ready = socket.ready(Interest::READABLE).now_or_never();
    ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
}

/// Whether the client has closed already. A node that was suspended may find requests of clients
/// that have reconnected to another node, and must not take their peers from that node. The system
/// is asked, because the runtime does not know yet what has come from a socket that it just got.
fn is_socket_closed(socket: &TcpStream) -> bool {
    match socket2::SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
