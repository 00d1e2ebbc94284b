//! What goes out to a peer outside its mailbox, and how its connection ends.
//!
//! Owns: frames into the outbox, pings, the close frame. Nothing is sent once the connection is to end. Next: `outbox` is the buffer.

use std::sync::atomic::Ordering;

use actix_http::ws::OpCode;
use signalbox_protocol::{CloseCode, ServerMessage};

use super::{DeliveryState, LocalPeer};
use crate::registry::outbox::OutboxFull;

impl LocalPeer {
    /// Sends frames outside the mailbox, joined into one write.
    pub fn send_messages(&self, messages: &[ServerMessage]) {
        let texts: Vec<String> = messages.iter().map(ServerMessage::to_json).collect();
        let mut lane = self.lock_delivery();
        self.send_locked(&mut lane, texts.iter().map(String::as_bytes));
    }

    /// Sends frames outside the mailbox to a peer that has had its first one.
    pub fn send_if_open(&self, messages: &[ServerMessage]) {
        let mut lane = self.lock_delivery();
        if lane.inbox.is_open() {
            let texts: Vec<String> = messages.iter().map(ServerMessage::to_json).collect();
            self.send_locked(&mut lane, texts.iter().map(String::as_bytes));
        }
    }

    /// The node stops: tells a peer that has joined when to come back. Whether it had joined.
    pub fn announce_drain(&self, reconnect_in: u64) -> bool {
        let mut lane = self.lock_delivery();
        let has_joined = lane.inbox.is_open() || self.is_in_lobby();
        if has_joined {
            let goaway = ServerMessage::Goaway { reconnect_in }.to_json();
            self.send_locked(&mut lane, std::iter::once(goaway.as_bytes()));
        }
        has_joined
    }

    pub(super) fn send_locked<'a>(&self, lane: &mut DeliveryState, texts: impl Iterator<Item = &'a [u8]>) {
        if lane.close_code.is_some() {
            return;
        }
        match lane.outbox.send_texts(texts) {
            Err(OutboxFull) => self.close_slow_consumer(lane),
            Ok(()) if lane.outbox.has_pending() => self.task_wake.notify_one(),
            Ok(()) => {}
        }
    }

    /// Sends a WebSocket ping or pong.
    pub fn send_control(&self, op: OpCode, payload: &[u8]) {
        self.send_control_locked(&mut self.lock_delivery(), op, payload);
    }

    pub(super) fn send_control_locked(&self, lane: &mut DeliveryState, op: OpCode, payload: &[u8]) {
        if lane.close_code.is_none() && lane.outbox.send_control(op, payload) == Err(OutboxFull) {
            self.close_slow_consumer(lane);
        }
    }

    /// Sends a ping whose pong is known again.
    pub fn send_ping(&self) {
        let mut lane = self.lock_delivery();
        lane.sent_pings += 1;
        let payload = lane.sent_pings.to_string();
        self.send_control_locked(&mut lane, OpCode::Ping, payload.as_bytes());
    }

    /// The client answered a ping.
    pub fn record_pong(&self, payload: &[u8]) {
        let Ok(number) = std::str::from_utf8(payload).unwrap_or_default().parse::<u64>() else { return };
        let mut lane = self.lock_delivery();
        lane.awaited_pong = lane.awaited_pong.filter(|first| number < *first || number > lane.sent_pings);
    }

    /// Whether what came outside the mailbox may not have reached the client.
    pub fn has_unconfirmed_direct(&self) -> bool {
        self.lock_delivery().awaited_pong.is_some()
    }

    /// Asks the connection's task to end; the first reason stands. Whether this is the first.
    pub fn request_close(&self, code: CloseCode) -> bool {
        let mut lane = self.lock_delivery();
        let first = lane.close_code.is_none();
        lane.close_code.get_or_insert(code);
        drop(lane);
        self.task_wake.notify_one();
        first
    }

    /// Asks for the end with another reason than before.
    pub fn override_close(&self, code: CloseCode) {
        self.lock_delivery().close_code = Some(code);
    }

    /// Writes the close frame. Nothing is sent after it.
    pub fn write_close(&self, code: CloseCode) {
        let mut lane = self.lock_delivery();
        let code = *lane.close_code.get_or_insert(code);
        lane.outbox.queue_close(code);
    }

    /// Answers the client's own close frame (RFC 6455, section 5.5.1). Nothing is sent after it.
    pub fn echo_close(&self, code: u16) {
        let mut lane = self.lock_delivery();
        lane.close_code.get_or_insert(CloseCode::Left);
        lane.outbox.queue_close_frame(code, String::new());
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush_outbox(&self) {
        let mut lane = self.lock_delivery();
        lane.outbox.flush_pending();
        self.record_written(&lane);
    }

    pub(super) fn close_slow_consumer(&self, lane: &mut DeliveryState) {
        lane.close_code.get_or_insert(CloseCode::SlowConsumer);
        self.task_wake.notify_one();
    }

    pub(super) fn record_written(&self, lane: &DeliveryState) {
        if lane.close_code.is_none() {
            // Each entry is one frame, so no more entries wait than frames.
            let waiting = lane.outbox.pending_frames() as u64;
            self.written_seq.fetch_max(lane.inbox.delivered_seq().saturating_sub(waiting), Ordering::Relaxed);
        }
    }
}
