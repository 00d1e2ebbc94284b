//! The end of a connection: its close code, the input for its peer, and a close handshake that
//! reaches the client.
//!
//! Owns: whether the peer is detached or leaves, and the bounded wait for the last bytes. Must not:
//! decide that a connection ends; `task`, `join`, `resync` and `lobby` do.

use std::{sync::Arc, time::Duration};

use signalbox_protocol::{CloseCode, LeaveReason};
use tokio::{net::TcpStream, time::timeout};

use crate::registry::{LocalPeer, LocalRoom};
use signalbox_rooms::room::RoomInput;

/// How long a closing connection waits for its last bytes to be sent and for the client to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The code of RFC 6455, section 7.4.1, with which a browser closes the socket of a page that it
/// closes.
pub(super) const GOING_AWAY: u16 = 1001;

/// Why a connection ends.
pub(super) enum ConnectionEnd {
    /// The server closes it.
    ServerClose(CloseCode),
    /// The client closed it with this code and expects a close frame.
    ClientClose(u16),
    /// The socket is closed or broken.
    SocketLost,
    /// The socket is closed or broken, and the client had announced it with `going`.
    PageClosed,
}

/// Whether the peer leaves with its connection, or has left before.
pub(super) fn ends_peer(end: &ConnectionEnd) -> bool {
    matches!(
        end,
        ConnectionEnd::ServerClose(
            CloseCode::SessionGone
                | CloseCode::TokenExpired
                | CloseCode::Removed
                | CloseCode::Ended
                | CloseCode::Denied
                | CloseCode::Banned
                | CloseCode::Revoked
                | CloseCode::AddressDenied
        )
    )
}

/// Queues the detach or the leave of the peer when its connection ends.
pub(super) fn detach_or_leave(room: &Arc<LocalRoom>, peer: &LocalPeer, end: &ConnectionEnd) {
    match end {
        // The peer was never in the room, has another owner, or has left already.
        ConnectionEnd::ServerClose(
            CloseCode::RoomFull
            | CloseCode::UserLimit
            | CloseCode::TokenInUse
            | CloseCode::Unavailable
            | CloseCode::Replaced
            | CloseCode::SessionGone
            | CloseCode::Removed
            | CloseCode::Ended
            | CloseCode::Denied,
        ) => {}
        ConnectionEnd::ServerClose(CloseCode::TokenExpired) => queue_leave(room, peer, LeaveReason::Expired),
        // The peer cannot return, so the others need not wait for it.
        ConnectionEnd::ServerClose(CloseCode::Banned | CloseCode::AddressDenied) => {
            queue_leave(room, peer, LeaveReason::Banned)
        }
        ConnectionEnd::ServerClose(CloseCode::Revoked) => queue_leave(room, peer, LeaveReason::Revoked),
        _ => {
            let is_going = matches!(end, ConnectionEnd::ClientClose(GOING_AWAY) | ConnectionEnd::PageClosed);
            room.queue_input(RoomInput::Detach { peer: peer.id.clone(), epoch: peer.epoch(), is_going });
        }
    }
    if peer.has_unconfirmed_direct() {
        room.invalidate_mailbox(&peer.id);
    }
}

fn queue_leave(room: &Arc<LocalRoom>, peer: &LocalPeer, reason: LeaveReason) {
    room.queue_input(RoomInput::Leave { peer: peer.id.clone(), epoch: peer.epoch(), reason });
}

/// Writes the outbox, whose last frame is the close frame, and waits for the client to close; both
/// within [`CLOSE_DEADLINE`]. It reads on: otherwise the kernel would answer later bytes with a
/// reset, and the client would never see the close code.
pub(super) async fn drain_close(socket: &TcpStream, peer: &LocalPeer) {
    let close = async {
        while peer.pending_work().blocked_bytes > 0 {
            if socket.writable().await.is_err() {
                return;
            }
            peer.flush_outbox();
        }
        // The socket may be closed already.
        let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
        while socket.readable().await.is_ok() && !discard_input(socket) {
            tokio::task::yield_now().await;
        }
    };
    // The connection of a client that neither reads nor closes is dropped.
    let _ = timeout(CLOSE_DEADLINE, close).await;
}

/// Reads and drops bytes. Returns whether the other side has closed. A function of its own, because
/// its buffer would enlarge the future of every connection.
fn discard_input(socket: &TcpStream) -> bool {
    let mut sink = [0; 4096];
    // Then other tasks have their turn.
    for _ in 0..64 {
        match socket.try_read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
    false
}

/// The close code of a connection whose peer has another owner. If the store may have lost a newer
/// epoch, the client must resume: its handle decides which connection is newer.
pub(super) fn fenced_close_code(is_certain: bool) -> CloseCode {
    if is_certain { CloseCode::Replaced } else { CloseCode::Unavailable }
}

/// The close code of a connection whose peer has left the room.
pub(super) fn left_close_code(reason: Option<LeaveReason>) -> CloseCode {
    match reason {
        Some(LeaveReason::Replaced) => CloseCode::Replaced,
        Some(LeaveReason::Removed) => CloseCode::Removed,
        Some(LeaveReason::Ended) => CloseCode::Ended,
        Some(LeaveReason::Denied) => CloseCode::Denied,
        Some(LeaveReason::Expired) => CloseCode::TokenExpired,
        Some(LeaveReason::Banned) => CloseCode::Banned,
        Some(LeaveReason::Revoked) => CloseCode::Revoked,
        // The room has ended or the resume window is over: the client may join again.
        Some(LeaveReason::Left | LeaveReason::Timeout) | None => CloseCode::SessionGone,
    }
}
