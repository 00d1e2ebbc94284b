//! The begin and the end of a peer on its connection: join, detach or leave, and a goodbye that arrives.

use std::{sync::Arc, time::Duration};

use signalbox_shared::{
    protocol::{CloseCode, ErrorCode, Joined, LeftReason, ServerMessage},
    token::RoomClaims,
};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    node::Signal,
    registry::{LocalPeer, LocalRoom},
    room::{Input, Member, Outcome, Presence, RoomState},
};

/// How long a closing connection waits for its last bytes to go, and for the client to close.
const LINGER: Duration = Duration::from_secs(2);

/// Why a connection ends.
pub(super) enum End {
    /// The server closes it.
    Close(CloseCode),
    /// The client closed it with this code, and is owed a close frame.
    Closed(u16),
    /// The socket is gone.
    Lost,
}

/// What becomes of the peer when its connection ends.
pub(super) fn part(room: &Arc<LocalRoom>, peer: &LocalPeer, end: &End) {
    let (peer, epoch) = (peer.id.clone(), peer.epoch);
    match end {
        // It was never in, or belongs to somebody else now.
        End::Close(
            CloseCode::RoomFull | CloseCode::UserLimit | CloseCode::Unavailable | CloseCode::Replaced,
        ) => {}
        // The node stops, and nobody here will be there to notice that its grace is over; or the client must begin anew.
        End::Close(CloseCode::GoingAway | CloseCode::SessionGone) => {
            room.post(Input::Leave { peer, epoch, reason: LeftReason::Left })
        }
        _ => room.post(Input::Detach { peer, epoch }),
    }
}

/// Commits the join and writes `joined`.
pub(super) async fn join(
    signal: &Signal,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    claims: &RoomClaims,
) -> Result<(), CloseCode> {
    let member = Member {
        user: claims.sub.clone(),
        role: claims.role.clone(),
        name: claims.name.clone().unwrap_or_else(|| "".into()),
        metadata: claims.metadata.clone().unwrap_or_else(|| signal.empty_metadata.clone()),
        presence: Presence::Attached,
        owner: signal.registry.hub().node.clone(),
        epoch: peer.epoch,
    };
    let input = Input::Join { peer: peer.id.clone(), member: Box::new(member) };
    let (refusal, close, text) = match room.submit(input, None).await {
        Ok((Outcome::Done, state)) => {
            signal.registry.hub().metrics.joins.inc();
            tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %claims.sub, role = %claims.role);
            peer.open(&ServerMessage::Joined(welcome(signal, peer, claims, &state)), 0);
            return Ok(());
        }
        Ok((Outcome::UserLimit, _)) => {
            (ErrorCode::UserLimit, CloseCode::UserLimit, "this user is in the room as often as it may be")
        }
        Ok(_) => (ErrorCode::RoomFull, CloseCode::RoomFull, "the room has no place left"),
        Err(_) => (ErrorCode::Unavailable, CloseCode::Unavailable, "the join could not be stored; try again"),
    };
    peer.send(&[ServerMessage::error(None, refusal, None, text)]);
    Err(close)
}

fn welcome(signal: &Signal, peer: &LocalPeer, claims: &RoomClaims, state: &RoomState) -> Joined {
    Joined {
        peer_id: peer.id.clone(),
        room_id: claims.room.clone(),
        user_id: claims.sub.clone(),
        role: claims.role.clone(),
        permissions: claims.permissions.clone(),
        node: signal.registry.hub().node.clone(),
        peers: state.entries_for(&peer.id),
        ice_servers: signal.ice_servers.clone(),
        ice_policy: signal.settings.ice.policy,
        resume: None,
        seq: 0,
        limits: signal.wire_limits,
        ping_interval: signal.settings.timing.ping.as_ms(),
        features: Vec::new(),
    }
}

/// Lets the goodbye out: writes what waits, the close frame last, then waits for the client to close, both within a bound. Without
/// reading on, the kernel would answer what still comes with a reset, and the client would never see the close code.
pub(super) async fn linger(socket: &TcpStream, peer: &LocalPeer) {
    let goodbye = async {
        while peer.condition().waiting > 0 {
            if socket.writable().await.is_err() {
                return;
            }
            peer.flush();
        }
        // The peer may be gone already.
        let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
        while socket.readable().await.is_ok() && !discard(socket) {
            tokio::task::yield_now().await;
        }
    };
    // A client that neither reads nor closes is cut off.
    let _ = timeout(LINGER, goodbye).await;
}

/// Reads what has come and forgets it; whether the other side has closed. Not in the future above, which every connection carries
/// along all its life.
fn discard(socket: &TcpStream) -> bool {
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
