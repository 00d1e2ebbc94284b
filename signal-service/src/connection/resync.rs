//! Resyncs a peer whose shared state may differ: missed entries, a replaced mailbox, a detached
//! peer, a store that has forgotten it.
//!
//! Owns: the decision whether the connection continues, and the repair. Must not: read the socket.
//! Next: `lobby` for a peer in the lobby.

use std::sync::Arc;

use signalbox_protocol::{CloseCode, ServerMessage};
use signalbox_rooms::{
    room::{ClaimProof, InputOutcome, Member, PeerAttachment, PeerClaim, RoomInput},
    store::{MailboxPage, PeerStatus, RequestId, StoreUnavailable},
};
use tokio::time::Instant;

use super::{
    disconnect::{fenced_close_code, left_close_code},
    join::build_joined,
    state::ConnectionState,
};
use crate::registry::MailboxStart;

/// How often the state may change during one resync before it is tried again later.
const MAX_RESYNC_ATTEMPTS: usize = 8;

/// The result of a resync.
pub(super) enum ResyncResult {
    /// The connection continues.
    InSync,
    /// The store does not answer.
    StoreUnavailable,
    /// The connection must end.
    MustClose(CloseCode),
}

/// Reads the entries that the client does not have yet, and repairs what differs.
pub(super) async fn resync_peer(state: &mut ConnectionState<'_>) -> ResyncResult {
    let peer = state.peer;
    for _ in 0..MAX_RESYNC_ATTEMPTS {
        // The peer may become stale during the read; then it must be read again.
        peer.start_read();
        match try_resync(state).await {
            Ok(Some(result)) => return result,
            Ok(None) => {}
            Err(StoreUnavailable) => break,
        }
    }
    peer.fail_read();
    ResyncResult::StoreUnavailable
}

/// One attempt; none if the state has changed and must be read again.
async fn try_resync(state: &mut ConnectionState<'_>) -> Result<Option<ResyncResult>, StoreUnavailable> {
    let (context, peer) = (state.node.registry.context(), state.peer);
    let (reader, since, asked_at) =
        (peer.mailbox_reader(&context.node_id), peer.delivered_seq(), Instant::now());
    Ok(match context.store.read_mailbox(&state.room.id, &reader, since).await? {
        PeerStatus::Owned(page) => {
            state.queue.mark_resynced(page.acked_seq);
            if page.mailbox_version != peer.mailbox_version() || !page.is_contiguous_after(since) {
                renew_mailbox(state).await?;
                return Ok(None);
            }
            if page.dropped_seq > since && !send_snapshot(state, &page, since).await? {
                return Ok(None);
            }
            peer.deliver_page(page, asked_at);
            Some(ResyncResult::InSync)
        }
        PeerStatus::Unowned | PeerStatus::Forgotten => {
            reclaim_peer(state).await?.map(ResyncResult::MustClose)
        }
        PeerStatus::Fenced { is_certain } => match state.uncertain_epoch.take() {
            // The newer connection may be this one: it reclaimed its peer and did not get the
            // answer.
            Some(epoch) if epoch > peer.epoch() => {
                peer.set_epoch(epoch);
                None
            }
            _ => Some(ResyncResult::MustClose(fenced_close_code(is_certain))),
        },
        PeerStatus::Left(reason) => Some(ResyncResult::MustClose(left_close_code(reason))),
    })
}

/// Commits that this node owns the peer, whose socket was never closed, unless a newer connection
/// owns it. Returns a close code if not.
pub(super) async fn reclaim_peer(
    state: &mut ConnectionState<'_>,
) -> Result<Option<CloseCode>, StoreUnavailable> {
    let (room, peer) = (state.room, state.peer);
    let claim = build_claim(state);
    let claimed_replication_id = claim.replication_id.clone();
    let (settled_id, refused) = (state.queue.settled_id(), state.queue.refused_ids().clone());
    let accepted_id = Some(RequestId { peer: peer.id.clone(), id: settled_id, refused });
    state.uncertain_epoch = Some(peer.epoch() + 1);
    let (outcome, room_state) = room.submit_input(RoomInput::Attach(Box::new(claim)), accepted_id).await?;
    state.uncertain_epoch = None;
    tracing::info!(event = "reclaimed", room = %room.id, peer = %peer.id, ?outcome);
    Ok(match outcome {
        InputOutcome::Attached(epoch) => {
            peer.set_epoch(epoch);
            peer.set_replication_id(&room_state.replication_id);
            None
        }
        InputOutcome::Fenced => Some(fenced_close_code(room_state.replication_id == claimed_replication_id)),
        // Another node or the API may have removed the peer first, and recorded the reason.
        _ => {
            let tombstone = room_state.tombstones.get(&peer.id);
            Some(left_close_code(tombstone.map(|tombstone| tombstone.reason)))
        }
    })
}

/// The claim of a connection that still has its socket.
fn build_claim(state: &ConnectionState<'_>) -> PeerClaim {
    let (context, peer) = (state.node.registry.context(), state.peer);
    let known = state.room.known_state().and_then(|known| known.members.get(&peer.id).cloned());
    let mut member =
        Arc::unwrap_or_clone(state.token.apply_to_member(known.unwrap_or_else(|| state.member.clone())));
    if let Some(current) = peer.permissions() {
        member.role = current.role.clone();
        member.permissions = current.permissions.clone();
    }
    let epoch = peer.epoch();
    PeerClaim {
        peer: peer.id.clone(),
        proof: ClaimProof::Connection { epoch },
        replication_id: peer.replication_id(),
        now_s: None,
        member: Member {
            attachment: PeerAttachment::Attached(context.node_id.clone()),
            epoch,
            mailbox_version: context.store.now_ms().max(peer.mailbox_version() + 1),
            generation: state.handle_generation,
            ..member
        },
    }
}

/// Events are missing in the mailbox, and no message is: sends the client a full snapshot of the room,
/// after which its mailbox continues. Returns whether the peer is still a member.
async fn send_snapshot(
    state: &mut ConnectionState<'_>,
    page: &MailboxPage,
    since: u64,
) -> Result<bool, StoreUnavailable> {
    let (node, room, peer) = (state.node, state.room, state.peer);
    let known = room.refresh_view().await?;
    let Some(member) = known.members.get(&peer.id) else { return Ok(false) };
    let member = state.token.apply_to_member(member.clone());
    let start = MailboxStart { mailbox_version: page.mailbox_version, seq: since, acked_seq: page.acked_seq };
    let joined = build_joined(node, room, peer, &member, &known, start, state.handle_generation);
    let (last_id, refused) = (page.last_id, page.refused.clone().into_vec());
    let resumed = ServerMessage::Resumed { joined, recovered: false, last_id, refused };
    state.begin_mailbox(member, &resumed, &known.replication_id, start);
    Ok(true)
}

/// Entries are lost: replaces the mailbox and sends the client a full snapshot of the room.
async fn renew_mailbox(state: &mut ConnectionState<'_>) -> Result<(), StoreUnavailable> {
    let (node, room, peer) = (state.node, state.room, state.peer);
    let context = node.registry.context();
    let (reader, settled_id) = (peer.mailbox_reader(&context.node_id), state.queue.settled_id());
    let (store, refused) = (&context.store, state.queue.refused_ids());
    let renewed = store.renew_mailbox(&room.id, &reader, peer.mailbox_version(), settled_id, refused).await?;
    // None: this node does not own the peer any more; the next attempt finds out.
    let Some(renewed) = renewed else { return Ok(()) };
    let Some(member) = renewed.state.members.get(&peer.id) else { return Ok(()) };
    let member = state.token.apply_to_member(member.clone());
    let start = MailboxStart::acknowledged_up_to(renewed.mailbox_version, renewed.base_seq);
    let joined = build_joined(node, room, peer, &member, &renewed.state, start, state.handle_generation);
    let (last_id, refused) = (renewed.last_id, renewed.refused.into_vec());
    let resumed = ServerMessage::Resumed { joined, recovered: false, last_id, refused };
    context.metrics.mailboxes_renewed.inc();
    tracing::info!(event = "mailbox_renewed", room = %room.id, peer = %peer.id);
    state.begin_mailbox(member, &resumed, &renewed.state.replication_id, start);
    Ok(())
}
