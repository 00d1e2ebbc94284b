//! A peer that waits to be let in: it has a socket and a place, and neither hears nor says anything of the room.
//!
//! Nothing is written to its mailbox before it is a member, so what is there then came after that: nobody's first message to it is
//! lost. Its inbox stays shut until `joined` has been written. Who waits is in the shared state, so that it may be let in on any node,
//! and come back to any.

use std::sync::Arc;

use signalbox_protocol::{CloseCode, ServerMessage, WaitingMessage};
use tokio::time::Instant;

use super::{
    join::{JoinedPeer, build_joined, build_resume_handle},
    resync::{ResyncResult, fenced_close_code, left_close_code},
    task::ConnectionTask,
};
use crate::{
    node::SignalNode,
    registry::{LocalPeer, LocalRoom},
};
use signalbox_rooms::{
    room::{Member, RoomState},
    store::{MailboxPage, PeerStatus, StoreUnavailable},
};

/// How often the state may change while it is looked at, before it is looked at later.
const MAX_LOBBY_ATTEMPTS: usize = 4;

/// Writes the first frame of one who waits.
pub(super) fn enter_lobby(
    signal: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    member: &Member,
    state: &RoomState,
    generation: u64,
    resumed: bool,
) -> JoinedPeer {
    tracing::info!(event = "waiting", room = %room.id, peer = %peer.id, user = %member.user, resumed);
    let waiting = WaitingMessage {
        peer_id: peer.id.clone(),
        room_id: room.id.clone(),
        user_id: member.user.clone(),
        role: member.role.clone(),
        node: signal.registry.context().node_id.clone(),
        resume: build_resume_handle(
            signal,
            room,
            peer,
            member,
            &state.replication_id,
            member.mailbox_version,
            generation,
        ),
        seq: 0,
        limits: signal.current_wire_limits(),
        ping_interval: signal.settings.timing.ping.as_ms(),
        features: vec!["resume".to_owned()],
    };
    peer.set_replication_id(&state.replication_id);
    peer.send_messages(&[ServerMessage::Waiting(waiting)]);
    // It may have been let in before anybody here would have been told.
    peer.mark_stale();
    JoinedPeer {
        member: member.clone(),
        handle_generation: generation,
        is_resumed: resumed,
        last_id: 0,
        acked_seq: 0,
    }
}

impl ConnectionTask<'_> {
    /// Finds out whether the peer still waits.
    pub(super) async fn resync_in_lobby(&mut self) -> ResyncResult {
        for _ in 0..MAX_LOBBY_ATTEMPTS {
            self.peer.start_read();
            match self.try_resync_in_lobby().await {
                Ok(Some(looked)) => return looked,
                Ok(None) => {}
                Err(StoreUnavailable) => break,
            }
        }
        self.peer.fail_read();
        ResyncResult::StoreUnavailable
    }

    /// None: the state has changed and must be looked at again.
    async fn try_resync_in_lobby(&mut self) -> Result<Option<ResyncResult>, StoreUnavailable> {
        let (hub, peer) = (self.signal.registry.context(), self.peer);
        // The room before the mailbox: what comes between stands in both, which does no harm; the other way round it would be missed.
        self.room.refresh_view().await?;
        let state = self.room.known_state();
        match hub.store.read_mailbox(&self.room.id, &peer.mailbox_reader(&hub.node_id), 0).await? {
            PeerStatus::Owned(page) => {
                self.dispatcher.requests.mark_resynced();
                let member = state.as_ref().and_then(|state| Some((state.members.get(&peer.id)?, state)));
                match member {
                    Some((member, _)) if member.waiting => Ok(Some(ResyncResult::InSync)),
                    Some((member, state)) => self.join_from_lobby(member, state, page).await.map(Some),
                    None => Ok(None),
                }
            }
            PeerStatus::Unowned | PeerStatus::Forgotten => {
                Ok(self.reclaim_peer().await?.map(ResyncResult::MustClose))
            }
            PeerStatus::Fenced { is_certain: certain } => {
                Ok(Some(ResyncResult::MustClose(fenced_close_code(certain))))
            }
            PeerStatus::Left(reason) => Ok(Some(ResyncResult::MustClose(left_close_code(reason)))),
        }
    }

    /// It is a member: writes `joined`, and lets out what has come since.
    async fn join_from_lobby(
        &mut self,
        member: &Member,
        state: &Arc<RoomState>,
        page: MailboxPage,
    ) -> Result<ResyncResult, StoreUnavailable> {
        let (signal, room, peer) = (self.signal, self.room, self.peer);
        let (mut member, mut state) = (member.clone(), state.clone());
        let (mut mailbox, mut seq) = (page.mailbox_version, 0);
        let is_whole = page.is_contiguous_after(0);
        if !is_whole {
            // Some of it is lost with another history of the store: it begins with the room as it is.
            let reader = peer.mailbox_reader(&signal.registry.context().node_id);
            let renewed = signal
                .registry
                .context()
                .store
                .renew_mailbox(&room.id, &reader, page.mailbox_version, 0)
                .await?;
            let Some(renewed) = renewed else { return Err(StoreUnavailable) };
            let Some(found) = renewed.state.members.get(&peer.id) else {
                return Ok(ResyncResult::MustClose(CloseCode::SessionGone));
            };
            member = found.clone();
            (mailbox, seq) = (renewed.mailbox_version, renewed.base_seq);
            state = Arc::new(renewed.state);
        }
        signal.registry.context().metrics.joins.inc();
        tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %member.user, role = %member.role);
        member = self.dispatcher.token.apply_to_member(member);
        peer.apply_member(&member);
        let joined = build_joined(signal, room, peer, &member, &state, mailbox, self.handle_generation, seq);
        self.member = member;
        self.start_usage_timer(true);
        // They were told with it.
        self.deadlines.set_ice_lifetime(Instant::now(), signal.ice_directory.credential_lifetime());
        peer.open_mailbox(&ServerMessage::Joined(joined), &state.replication_id, mailbox, seq);
        self.dispatcher.reset_mailbox(seq);
        peer.start_replay(is_whole.then_some(page));
        signal.registry.mark_rooms_stale([room.id.clone()]);
        Ok(ResyncResult::InSync)
    }
}
