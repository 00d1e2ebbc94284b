//! The end of a connection: what becomes of its peer, and a goodbye that arrives.

use std::{sync::Arc, time::Duration};

use signalbox_protocol::{CloseCode, LeaveReason};
use tokio::{net::TcpStream, time::timeout};

use crate::registry::{LocalPeer, LocalRoom};
use signalbox_rooms::room::RoomInput;

/// How long a closing connection waits for its last bytes to go, and for the client to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Why a connection ends.
pub(super) enum ConnectionEnd {
    /// The server closes it.
    ServerClose(CloseCode),
    /// The client closed it with this code, and is owed a close frame.
    ClientClose(u16),
    /// The socket is gone.
    SocketLost,
}

/// What becomes of the peer when its connection ends.
pub(super) fn detach_or_leave(room: &Arc<LocalRoom>, peer: &LocalPeer, end: &ConnectionEnd) {
    match end {
        // It was never in, or belongs to somebody else now, or to nobody.
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
        // It has no way back, and the others need not wait for it.
        ConnectionEnd::ServerClose(CloseCode::Banned | CloseCode::AddressDenied) => {
            queue_leave(room, peer, LeaveReason::Banned)
        }
        ConnectionEnd::ServerClose(CloseCode::Revoked) => queue_leave(room, peer, LeaveReason::Revoked),
        _ => room.queue_input(RoomInput::Detach { peer: peer.id.clone(), epoch: peer.epoch() }),
    }
    if peer.has_unconfirmed_direct() {
        room.invalidate_mailbox(&peer.id);
    }
}

fn queue_leave(room: &Arc<LocalRoom>, peer: &LocalPeer, reason: LeaveReason) {
    room.queue_input(RoomInput::Leave { peer: peer.id.clone(), epoch: peer.epoch(), reason });
}

/// Lets the goodbye out: writes what waits, the close frame last, then waits for the client to close, both within a bound. Without
/// reading on, the kernel would answer what still comes with a reset, and the client would never see the close code.
pub(super) async fn drain_close(socket: &TcpStream, peer: &LocalPeer) {
    let goodbye = async {
        while peer.pending_work().outbox_bytes > 0 {
            if socket.writable().await.is_err() {
                return;
            }
            peer.flush_outbox();
        }
        // The peer may be gone already.
        let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
        while socket.readable().await.is_ok() && !discard_input(socket) {
            tokio::task::yield_now().await;
        }
    };
    // A client that neither reads nor closes is cut off.
    let _ = timeout(CLOSE_DEADLINE, goodbye).await;
}

/// Reads what has come and forgets it; whether the other side has closed. Not in the future above, which every connection carries
/// along all its life.
fn discard_input(socket: &TcpStream) -> bool {
    let mut sink = [0; 4096];
    // So much, then others have their turn.
    for _ in 0..64 {
        match socket.try_read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
    false
}
