//! What the task of a connection waits for, and its timer.
//!
//! Owns: the order in which the causes of a wake-up are looked at, and one timer that is moved only
//! for an earlier deadline. Must not: act; `task` does.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use signalbox_protocol::ServerMessage;
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::{connection_token::RefreshOutcome, request_queue::NextStep, state::ConnectionState};

/// Why the task continues.
pub(super) enum WakeUp {
    /// A store call has finished.
    CallFinished(NextStep),
    /// The refresh of the token has finished.
    TokenRefreshed(Box<RefreshOutcome>),
    /// The peer has work, or a deadline has passed.
    Work,
    /// The socket takes bytes again.
    Writable,
    /// The socket may be read.
    Readable,
    /// The socket is broken.
    SocketLost,
}

/// What the next wait is for, besides calls and work.
#[derive(Clone, Copy)]
pub(super) struct WaitPlan {
    /// Whether the socket should be read.
    pub(super) reads: bool,
    /// Whether bytes wait for the socket.
    pub(super) writes: bool,
    /// When to continue in any case.
    pub(super) deadline: Instant,
}

/// Waits. Finished calls come first, so that answers leave before more work is taken; then
/// deliveries; then input.
pub(super) async fn wait_for_wake_up(
    state: &mut ConnectionState<'_>,
    socket: &TcpStream,
    timer: &mut DeadlineTimer,
    answers: &mut Vec<ServerMessage>,
    plan: WaitPlan,
) -> WakeUp {
    poll_fn(|context| {
        if let Poll::Ready(step) = state.queue.poll_call(context, answers) {
            return Poll::Ready(WakeUp::CallFinished(step));
        }
        if let Poll::Ready(outcome) = state.token.poll_refresh(context) {
            return Poll::Ready(WakeUp::TokenRefreshed(Box::new(outcome)));
        }
        if state.peer.poll_work(context).is_ready() {
            return Poll::Ready(WakeUp::Work);
        }
        if plan.writes
            && let Poll::Ready(ready) = socket.poll_write_ready(context)
        {
            return Poll::Ready(ready.map_or(WakeUp::SocketLost, |()| WakeUp::Writable));
        }
        if plan.reads
            && let Poll::Ready(ready) = socket.poll_read_ready(context)
        {
            return Poll::Ready(ready.map_or(WakeUp::SocketLost, |()| WakeUp::Readable));
        }
        timer.poll_until(context, plan.deadline).map(|()| WakeUp::Work)
    })
    .await
}

/// The timer of a connection. The deadline of a wait is nearly always later than that of the wait
/// before, so the timer fires early at times and is then set anew. That is cheaper than to set it
/// for each wait.
pub(super) struct DeadlineTimer {
    sleep: Pin<Box<Sleep>>,
}

impl DeadlineTimer {
    pub(super) fn new(deadline: Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(deadline)) }
    }

    fn poll_until(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
