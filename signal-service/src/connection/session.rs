//! The loop of one connection: join, then frames in and entries out until it ends, then detach or leave.
//!
//! One task for each connection. It never waits for another peer: what it sends goes to the store, what it is sent comes through
//! its outbox.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use signalbox_config::Limits;
use signalbox_protocol::{CloseCode, ServerMessage, clock, id::PeerId};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::{
    deadlines::{Deadlines, Due},
    enter::{Entered, enter},
    frames::{Break, Frames, Progress},
    life::{End, linger, part},
    look::{Looked, gone},
    reader::Reader,
    refresh::Badge,
    requests::{Requests, Verdict},
};
use crate::{
    door::{Place, Wish},
    node::Signal,
    registry::{Condition, LocalPeer, LocalRoom},
    standing::Standing,
    usage::Connected,
};
use signalbox_rooms::{room::Member, store::Look};

/// How long an entry that is ahead waits for the missing one before the mailbox is read.
const REORDER: Duration = Duration::from_millis(25);

/// How long a connection that must end waits to hear why.
const WHY: Duration = Duration::from_millis(500);

/// Between two attempts to read a mailbox while the store is away.
const READ_AGAIN: Duration = Duration::from_millis(250);

/// How often a connection reads before others of its worker have their turn. Being readable costs a task nothing of its share of
/// the runtime, so it must give way by itself.
const READS_A_TURN: usize = 8;

/// Whether a connection has read what there was.
enum Turn {
    /// It has, or takes no more for now.
    Enough,
    /// There may be more, and it is others' turn.
    Over,
}

/// Serves one connection until it ends. The `101` has been written.
pub(super) async fn run(
    signal: Arc<Signal>,
    place: Place,
    (wish, standing): (Wish, Standing),
    socket: TcpStream,
    early: BytesMut,
) {
    // Small frames must not wait for each other.
    let _ = socket.set_nodelay(true);
    let socket = Arc::new(socket);
    let limits = Limits { backlog: signal.registry.hub().limits.backlog(), ..signal.settings.limits.clone() };
    let peer = LocalPeer::new(wish.peer(), standing, socket.clone(), &limits);
    let room = signal.registry.register(wish.room(), &peer);
    if signal.door.is_draining() {
        // It came through the door just before it was closed; whoever says goodbye may have missed it.
        peer.close(CloseCode::GoingAway);
    }
    let metrics = &signal.registry.hub().metrics;
    metrics.connections.inc();
    let is_new = wish.is_new();
    let entered = if is_gone(&socket) {
        Err(End::Lost)
    } else {
        enter(&signal, &room, &peer, wish).await.map_err(End::Close)
    };
    let (end, has_left) = match entered {
        Ok(entered) => {
            let mut session = Session::new(&signal, &entered, &room, &peer, socket.clone(), early);
            if !entered.member.waiting {
                session.count(is_new);
            }
            session.serve().await
        }
        Err(end) => (end, false),
    };
    let end = match end {
        End::Close(CloseCode::Revoked) => End::Close(why_revoked(&signal, &room, &peer).await),
        end => end,
    };
    if !has_left && peer.epoch() > 0 {
        part(&room, &peer, &end);
    }
    // After its last input is queued: a room with nobody and nothing in it is forgotten, and a stop would not wait for it.
    room.unregister(&peer);
    match end {
        End::Close(code) => {
            metrics.closed(code);
            tracing::debug!(event = "closing", room = %room.id, peer = %peer.id, reason = code.reason());
            peer.write_close(code);
            linger(&socket, &peer).await;
        }
        End::Closed(code) => {
            peer.echo_close(code);
            linger(&socket, &peer).await;
        }
        End::Lost => {}
    }
    metrics.connections.dec();
    drop(place);
}

/// A peer that is removed from its room has its grant taken back too, and either may be heard of first. The room says more.
async fn why_revoked(signal: &Signal, room: &LocalRoom, peer: &LocalPeer) -> CloseCode {
    if room.is_open() {
        let hub = signal.registry.hub();
        let reader = peer.reader(&hub.node);
        let look = timeout(WHY, hub.store.read(&room.id, &reader, 0)).await;
        if let Ok(Ok(Look::Gone(Some(reason)))) = look {
            let code = gone(Some(reason));
            peer.close_instead(code);
            return code;
        }
    }
    CloseCode::Revoked
}

/// One connection at work.
pub(super) struct Session<'a> {
    pub(super) signal: &'a Signal,
    pub(super) room: &'a Arc<LocalRoom>,
    pub(super) peer: &'a Arc<LocalPeer>,
    pub(super) input: Reader<'a>,
    /// Which handle its client has.
    pub(super) generation: u64,
    /// The peer's record, should nobody else have it any more.
    pub(super) record: Member,
    /// The epoch that its node may have been given by a call whose answer was lost.
    pub(super) maybe_epoch: Option<u64>,
    socket: Arc<TcpStream>,
    frames: Frames,
    pub(super) deadlines: Deadlines,
    heard: Instant,
    /// So long a client may say nothing at all.
    silence: Duration,
    read_mailbox_at: Option<Instant>,
    /// Counts its time; none while it waits in the lobby.
    connected: Option<Connected>,
}

impl<'a> Session<'a> {
    fn new(
        signal: &'a Signal,
        entered: &Entered,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        socket: Arc<TcpStream>,
        early: BytesMut,
    ) -> Self {
        let now = Instant::now();
        let limits = &signal.settings.limits;
        let ping_every = jittered(signal.settings.timing.ping.0, &peer.id);
        let life = (entered.member.issued, entered.member.expires);
        let mut deadlines = Deadlines::new(now, clock::now_ms(), ping_every, life);
        deadlines.set_ice(now, signal.ice.life());
        let requests = Requests::new(room.clone(), peer.clone(), entered.floor, entered.told);
        let badge = Badge::new(signal, room, peer, &entered.member);
        let unconfirmed = entered.resumed.then_some(entered.generation);
        Self {
            signal,
            room,
            peer,
            input: Reader::new(signal, room, peer, badge, requests, unconfirmed),
            generation: entered.generation,
            record: entered.member.clone(),
            maybe_epoch: None,
            socket,
            frames: Frames::new(limits.frame.0, early),
            deadlines,
            heard: now,
            silence: signal.settings.timing.ping.0.mul_f32(2.5),
            read_mailbox_at: None,
            connected: None,
        }
    }

    /// It is in the room: from now on its time counts, and, where it was never counted before, its join.
    pub(super) fn count(&mut self, is_new: bool) {
        let pair = || (self.record.caller.clone(), self.room.id.clone());
        self.connected = self.signal.meter.as_ref().map(|meter| meter.connected(pair(), is_new));
    }

    /// Serves until the end; also whether the peer has left by then.
    async fn serve(mut self) -> (End, bool) {
        let end = self.drive().await;
        let has_left = match end {
            End::Close(code) => code == CloseCode::Left,
            // What the client sent before it closed still counts: a page says `leave` and is gone.
            End::Closed(_) | End::Lost => self.input.finish().await,
        };
        (end, has_left)
    }

    async fn drive(&mut self) -> End {
        // Bytes may have come with the upgrade request.
        let mut readable = true;
        loop {
            // Before anything is read: a node may have slept over the end of a token.
            if let Some(code) = self.keep_time() {
                return End::Close(code);
            }
            if readable {
                match self.read() {
                    Ok(Turn::Over) => tokio::task::yield_now().await,
                    Ok(Turn::Enough) => {}
                    Err(end) => return end,
                }
            }
            if let Some(end) = self.settle().await {
                return end;
            }
            let condition = self.peer.condition();
            let mut interest = Interest::ERROR;
            if !self.input.requests.is_full() {
                interest |= Interest::READABLE;
            }
            if condition.waiting > 0 {
                self.signal.registry.hub().metrics.outbox_waits(condition.waiting);
                interest |= Interest::WRITABLE;
            }
            // While the socket has not taken the last page, the next one waits for it.
            let read_at = self.read_mailbox_at.filter(|_| condition.waiting == 0);
            let deadline = read_at.map_or(self.deadlines.next(), |at| at.min(self.deadlines.next()));
            readable = false;
            tokio::select! {
                // Finished calls first, so that answers leave before more work is taken; then deliveries; then input.
                biased;
                verdict = self.input.requests.finished(&mut self.input.answers) => match verdict {
                    Verdict::GoOn => {}
                    Verdict::Look => {
                        self.peer.doubt();
                        self.read_mailbox_at = Some(Instant::now());
                    }
                    Verdict::Left => {
                        self.input.send_answers();
                        return End::Close(CloseCode::Left);
                    }
                },
                refreshed = self.input.badge.finished() => self.answer_refresh(refreshed),
                () = self.peer.woken() => {}
                ready = self.socket.ready(interest) => match ready {
                    Ok(ready) => {
                        if ready.is_writable() {
                            self.peer.flush();
                        }
                        readable = ready.is_readable() || ready.is_read_closed() || ready.is_error();
                    }
                    Err(_) => return End::Lost,
                },
                () = sleep_until(deadline) => {}
            }
        }
    }

    /// Reads what the socket holds, up to the bound on waiting requests.
    fn read(&mut self) -> Result<Turn, End> {
        for _ in 0..READS_A_TURN {
            let input = &mut self.input;
            let progress = self.frames.read(&self.socket, &mut |incoming| input.take(incoming));
            if !matches!(progress, Ok(Progress::Blocked)) {
                self.heard = Instant::now();
            }
            match progress {
                Ok(Progress::More) if !self.input.requests.is_full() => {}
                Ok(Progress::More | Progress::Blocked) => return Ok(Turn::Enough),
                Ok(Progress::End) => return Err(End::Lost),
                Err(Break::Closed(code)) => return Err(End::Closed(code)),
                Err(Break::Close(code)) => {
                    self.input.send_answers();
                    return Err(End::Close(code));
                }
            }
        }
        Ok(Turn::Over)
    }

    /// Between two waits: sends answers, starts the next call, looks after the mailbox.
    async fn settle(&mut self) -> Option<End> {
        self.input.start();
        self.input.send_answers();
        if let Some(life) = self.input.badge.changed() {
            self.deadlines.set_token(Instant::now(), clock::now_ms(), life);
        }
        let condition = self.peer.condition();
        if let Some(code) = condition.closing {
            return Some(End::Close(code));
        }
        if let Some(due) = condition.should_tell {
            self.input.acknowledge(due);
        }
        self.plan_look(&condition);
        if condition.waiting == 0 && self.read_mailbox_at.is_some_and(|at| at <= Instant::now()) {
            self.read_mailbox_at = None;
            let looked = if self.peer.waits() { self.look_in_lobby().await } else { self.look_after().await };
            match looked {
                // Pages are bounded: there may be another.
                Looked::Fine => self.plan_look(&self.peer.condition()),
                Looked::Away => self.read_mailbox_at = Some(Instant::now() + READ_AGAIN),
                Looked::Over(code) => return Some(End::Close(code)),
            }
        }
        None
    }

    /// When to look after the peer, if it must be. An entry that is only ahead may be overtaken by the missing one in a moment.
    fn plan_look(&mut self, condition: &Condition) {
        let patience = if condition.is_replaying { Duration::ZERO } else { REORDER };
        self.read_mailbox_at = match (condition.needs_reading, self.read_mailbox_at) {
            (false, _) => None,
            (true, None) => Some(Instant::now() + patience),
            (true, planned) => planned,
        };
    }

    /// Does what is due; why the connection must end, if it must.
    fn keep_time(&mut self) -> Option<CloseCode> {
        let now = Instant::now();
        while let Some(due) = self.deadlines.due(now, clock::now_ms) {
            match due {
                Due::Ended => return Some(CloseCode::TokenExpired),
                Due::Warn(expires_in) => self.peer.send(&[ServerMessage::TokenExpiring { expires_in }]),
                Due::Ping if now.duration_since(self.heard) > self.silence => {
                    return Some(CloseCode::PingTimeout);
                }
                Due::Ping => self.peer.ping(),
                Due::Ice => self.push_ice(),
            }
        }
        None
    }
}

/// Whether the client has closed meanwhile: a node that slept may find requests of clients that have long gone elsewhere, and must not
/// take their peers from there.
fn is_gone(socket: &TcpStream) -> bool {
    matches!(socket.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_)))
}

/// Up to a tenth shorter, each peer its own share, so that pings do not come in step.
fn jittered(every: Duration, peer: &PeerId) -> Duration {
    let share =
        peer.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)))
            % 1_000;
    every - every / 10_000 * share
}
