//! A peer in the lobby: it has a socket, and sees nothing of the room until a moderator admits it.
//!
//! Owns: the check whether the peer is a member now, and its `joined`. The store writes no entry to
//! the mailbox before the peer is a member, so every entry that is there must be delivered. The
//! inbox stays closed until `joined` is sent. The room state lists the peers in the lobby, so that
//! any node can admit a peer and any node can resume it. Must not: admit a peer. Next: `resync` for
//! a member.

use std::sync::Arc;

use signalbox_protocol::{CloseCode, ServerMessage};
use signalbox_rooms::{
    room::{Member, RoomState},
    store::{MailboxPage, PeerStatus, RefusedIds, StoreUnavailable},
};

use super::{
    disconnect::{fenced_close_code, left_close_code},
    join::build_joined,
    resync::{ResyncResult, reclaim_peer},
    state::ConnectionState,
};
use crate::registry::MailboxStart;

/// How often the state may change during one resync before it is tried again later.
const MAX_LOBBY_ATTEMPTS: usize = 4;

/// Finds out whether the peer still waits in the lobby, and joins it if not.
pub(super) async fn resync_in_lobby(state: &mut ConnectionState<'_>) -> ResyncResult {
    let peer = state.peer;
    for _ in 0..MAX_LOBBY_ATTEMPTS {
        peer.start_read();
        match try_resync_in_lobby(state).await {
            Ok(Some(result)) => return result,
            Ok(None) => {}
            Err(StoreUnavailable) => break,
        }
    }
    peer.fail_read();
    ResyncResult::StoreUnavailable
}

/// One attempt; none if the state has changed and must be read again.
async fn try_resync_in_lobby(
    state: &mut ConnectionState<'_>,
) -> Result<Option<ResyncResult>, StoreUnavailable> {
    let (context, peer) = (state.node.registry.context(), state.peer);
    // The room is read before the mailbox. So an entry that is written meanwhile is in both, which
    // does no harm; in the other order it would be missed.
    state.room.refresh_view().await?;
    let known = state.room.known_state();
    let reader = peer.mailbox_reader(&context.node_id);
    match context.store.read_mailbox(&state.room.id, &reader, 0).await? {
        PeerStatus::Owned(page) => {
            state.queue.mark_resynced(page.acked_seq);
            let member = known.as_ref().and_then(|known| Some((known.members.get(&peer.id)?, known)));
            match member {
                Some((member, known)) if member.waiting => {
                    send_moderator_change(state, known.has_admitter());
                    Ok(Some(ResyncResult::InSync))
                }
                Some((member, known)) => join_from_lobby(state, member, known, page).await.map(Some),
                None => Ok(None),
            }
        }
        PeerStatus::Unowned | PeerStatus::Forgotten => {
            Ok(reclaim_peer(state).await?.map(ResyncResult::MustClose))
        }
        PeerStatus::Fenced { is_certain } => Ok(Some(ResyncResult::MustClose(fenced_close_code(is_certain)))),
        PeerStatus::Left(reason) => Ok(Some(ResyncResult::MustClose(left_close_code(reason)))),
    }
}

/// Notifies the peer if the first moderator has come or the last one has left.
fn send_moderator_change(state: &mut ConnectionState<'_>, moderator_present: bool) {
    if state.moderator_present != moderator_present {
        state.moderator_present = moderator_present;
        state.peer.send_messages(&[ServerMessage::LobbyUpdated { moderator_present }]);
    }
}

/// The peer is a member: sends `joined`, then the entries of its mailbox.
async fn join_from_lobby(
    state: &mut ConnectionState<'_>,
    member: &Arc<Member>,
    known: &Arc<RoomState>,
    page: MailboxPage,
) -> Result<ResyncResult, StoreUnavailable> {
    let (node, room, peer) = (state.node, state.room, state.peer);
    let context = node.registry.context();
    let (mut member, mut known) = (member.clone(), known.clone());
    let mut start = MailboxStart::acknowledged_up_to(page.mailbox_version, 0);
    let is_whole = page.is_contiguous_after(0);
    if page.dropped_seq > 0 {
        // `joined` stands for dropped events, so it must not be older than they are.
        known = room.refresh_view().await?;
    }
    if !is_whole {
        // Some entries were lost: the mailbox is replaced and begins with the room as it is.
        let reader = peer.mailbox_reader(&context.node_id);
        let (store, refused) = (&context.store, RefusedIds::default());
        let renewed = store.renew_mailbox(&room.id, &reader, page.mailbox_version, 0, &refused).await?;
        let Some(renewed) = renewed else { return Err(StoreUnavailable) };
        let Some(found) = renewed.state.members.get(&peer.id) else {
            return Ok(ResyncResult::MustClose(CloseCode::SessionGone));
        };
        member = found.clone();
        start = MailboxStart::acknowledged_up_to(renewed.mailbox_version, renewed.base_seq);
        known = Arc::new(renewed.state);
    }
    context.metrics.joins.inc();
    tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %member.user, role = %member.role);
    let member = state.token.apply_to_member(member);
    let joined = build_joined(node, room, peer, &member, &known, start, state.handle_generation);
    state.begin_mailbox(member, &ServerMessage::Joined(joined), &known.replication_id, start);
    state.start_usage_timer(true);
    peer.start_replay(is_whole.then_some(page));
    node.registry.mark_rooms_stale([room.id.clone()]);
    Ok(ResyncResult::InSync)
}
