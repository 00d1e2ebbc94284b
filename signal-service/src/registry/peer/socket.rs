//! What goes out to a peer outside its mailbox, and how its connection ends.
//!
//! Owns: frames into the outbox, pings, the close frame. Nothing is sent once the connection is to end. Next: `outbox` is the buffer.

use std::sync::atomic::Ordering;

use actix_http::ws::OpCode;
use signalbox_protocol::{CloseCode, ServerMessage};

use super::{Lane, LocalPeer};
use crate::registry::outbox::Full;

impl LocalPeer {
    /// Sends frames outside the mailbox, joined into one write.
    pub fn send(&self, messages: &[ServerMessage]) {
        let texts: Vec<String> = messages.iter().map(ServerMessage::to_json).collect();
        let mut lane = self.lane();
        self.send_in(&mut lane, texts.iter().map(String::as_bytes));
    }

    /// Sends frames outside the mailbox to a peer that has had its first one.
    pub fn announce(&self, messages: &[ServerMessage]) {
        let mut lane = self.lane();
        if lane.inbox.is_open() {
            let texts: Vec<String> = messages.iter().map(ServerMessage::to_json).collect();
            self.send_in(&mut lane, texts.iter().map(String::as_bytes));
        }
    }

    /// The node stops: tells a peer that has joined when to come back. Whether it had joined.
    pub fn announce_goodbye(&self, reconnect_in: u64) -> bool {
        let mut lane = self.lane();
        let has_joined = lane.inbox.is_open() || self.waits();
        if has_joined {
            let goaway = ServerMessage::Goaway { reconnect_in }.to_json();
            self.send_in(&mut lane, std::iter::once(goaway.as_bytes()));
        }
        has_joined
    }

    pub(super) fn send_in<'a>(&self, lane: &mut Lane, texts: impl Iterator<Item = &'a [u8]>) {
        if lane.closing.is_some() {
            return;
        }
        match lane.outbox.send(texts) {
            Err(Full) => self.give_up(lane),
            Ok(()) if lane.outbox.is_waiting() => self.wake.notify_one(),
            Ok(()) => {}
        }
    }

    /// Sends a WebSocket ping or pong.
    pub fn control(&self, op: OpCode, payload: &[u8]) {
        self.control_in(&mut self.lane(), op, payload);
    }

    pub(super) fn control_in(&self, lane: &mut Lane, op: OpCode, payload: &[u8]) {
        if lane.closing.is_none() && lane.outbox.control(op, payload) == Err(Full) {
            self.give_up(lane);
        }
    }

    /// Sends a ping whose pong is known again.
    pub fn ping(&self) {
        let mut lane = self.lane();
        lane.pings += 1;
        let payload = lane.pings.to_string();
        self.control_in(&mut lane, OpCode::Ping, payload.as_bytes());
    }

    /// The client answered a ping.
    pub fn ponged(&self, payload: &[u8]) {
        let Ok(number) = std::str::from_utf8(payload).unwrap_or_default().parse::<u64>() else { return };
        let mut lane = self.lane();
        lane.unproven = lane.unproven.filter(|first| number < *first || number > lane.pings);
    }

    /// Whether what came outside the mailbox may not have reached the client.
    pub fn has_unproven(&self) -> bool {
        self.lane().unproven.is_some()
    }

    /// Asks the connection's task to end; the first reason stands. Whether this is the first.
    pub fn close(&self, code: CloseCode) -> bool {
        let mut lane = self.lane();
        let first = lane.closing.is_none();
        lane.closing.get_or_insert(code);
        drop(lane);
        self.wake.notify_one();
        first
    }

    /// Asks for the end with another reason than before.
    pub fn close_instead(&self, code: CloseCode) {
        self.lane().closing = Some(code);
    }

    /// Writes the close frame. Nothing is sent after it.
    pub fn write_close(&self, code: CloseCode) {
        let mut lane = self.lane();
        let code = *lane.closing.get_or_insert(code);
        lane.outbox.close(code);
    }

    /// Answers the client's own close frame (RFC 6455, section 5.5.1). Nothing is sent after it.
    pub fn echo_close(&self, code: u16) {
        let mut lane = self.lane();
        lane.closing.get_or_insert(CloseCode::Left);
        lane.outbox.close_with(code, String::new());
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) {
        let mut lane = self.lane();
        lane.outbox.flush();
        self.note_written(&lane);
    }

    pub(super) fn give_up(&self, lane: &mut Lane) {
        lane.closing.get_or_insert(CloseCode::SlowConsumer);
        self.wake.notify_one();
    }

    pub(super) fn note_written(&self, lane: &Lane) {
        if lane.closing.is_none() {
            // Each entry is one frame, so no more entries wait than frames.
            let waiting = lane.outbox.frames() as u64;
            self.written.fetch_max(lane.inbox.delivered().saturating_sub(waiting), Ordering::Relaxed);
        }
    }
}
