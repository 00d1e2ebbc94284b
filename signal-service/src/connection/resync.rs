//! Looking after a peer whose socket is fine and whose shared state may not be: entries that were missed, a mailbox that broke, a
//! peer that was taken for lost, a store that has forgotten it.

use signalbox_protocol::{CloseCode, LeaveReason, ServerMessage};

use tokio::time::Instant;

use super::{join::build_joined, task::ConnectionTask};
use signalbox_rooms::{
    room::{ClaimProof, InputOutcome, Member, PeerAttachment, PeerClaim, RoomInput},
    store::{PeerStatus, StoreUnavailable},
};

/// How often the state may change while it is looked at, before it is looked at later.
const MAX_RESYNC_ATTEMPTS: usize = 8;

/// What a look brought.
pub(super) enum ResyncResult {
    /// The peer goes on.
    InSync,
    /// The store does not answer.
    StoreUnavailable,
    /// The connection must end.
    MustClose(CloseCode),
}

impl ConnectionTask<'_> {
    /// Reads what the mailbox holds beyond what the client has, and puts right what can be.
    pub(super) async fn resync_peer(&mut self) -> ResyncResult {
        let (hub, peer) = (self.signal.registry.context(), self.peer);
        for _ in 0..MAX_RESYNC_ATTEMPTS {
            // What comes to be doubted while the page is on its way is not answered by it.
            peer.start_read();
            let (reader, since, asked) =
                (peer.mailbox_reader(&hub.node_id), peer.delivered_seq(), Instant::now());
            let turn = match hub.store.read_mailbox(&self.room.id, &reader, since).await {
                Ok(PeerStatus::Owned(page)) => {
                    self.dispatcher.requests.mark_resynced();
                    if page.mailbox_version == peer.mailbox_version() && page.is_contiguous_after(since) {
                        peer.deliver_page(page, asked);
                        return ResyncResult::InSync;
                    }
                    self.renew_mailbox().await
                }
                Ok(PeerStatus::Unowned | PeerStatus::Forgotten) => match self.reclaim_peer().await {
                    Ok(None) => Ok(()),
                    Ok(Some(code)) => return ResyncResult::MustClose(code),
                    Err(StoreUnavailable) => Err(StoreUnavailable),
                },
                Ok(PeerStatus::Fenced { is_certain: certain }) => match self.uncertain_epoch.take() {
                    // The newer connection may be this one: it took its peer back, and was not told.
                    Some(epoch) if epoch > peer.epoch() => {
                        peer.set_epoch(epoch);
                        Ok(())
                    }
                    _ => return ResyncResult::MustClose(fenced_close_code(certain)),
                },
                Ok(PeerStatus::Left(reason)) => return ResyncResult::MustClose(left_close_code(reason)),
                Err(StoreUnavailable) => Err(StoreUnavailable),
            };
            if turn.is_err() {
                break;
            }
        }
        peer.fail_read();
        ResyncResult::StoreUnavailable
    }

    /// The socket was there all the time: the peer is this node's again, unless a newer connection has it.
    pub(super) async fn reclaim_peer(&mut self) -> Result<Option<CloseCode>, StoreUnavailable> {
        let (hub, peer) = (self.signal.registry.context(), self.peer);
        let known = self.room.known_state().and_then(|state| state.members.get(&peer.id).cloned());
        let mut record = self.dispatcher.token.apply_to_member(known.unwrap_or_else(|| self.member.clone()));
        if let Some(powers) = peer.permissions() {
            record.role = powers.role.clone();
            record.permissions = powers.permissions.clone();
        }
        let (epoch, reader) = (peer.epoch(), peer.mailbox_reader(&hub.node_id));
        let mailbox = hub.store.now_ms().max(peer.mailbox_version() + 1);
        let presence = PeerAttachment::Attached(hub.node_id.clone());
        let known_in = reader.replication_id.clone();
        let claim = PeerClaim {
            peer: peer.id.clone(),
            proof: ClaimProof::Connection { epoch },
            replication_id: reader.replication_id,
            now_s: None,
            member: Member {
                attachment: presence,
                epoch,
                mailbox_version: mailbox,
                generation: self.handle_generation,
                ..record
            },
        };
        let accepted = Some((peer.id.clone(), self.dispatcher.requests.settled_id()));
        self.uncertain_epoch = Some(epoch + 1);
        let (outcome, state) = self.room.submit_input(RoomInput::Attach(Box::new(claim)), accepted).await?;
        self.uncertain_epoch = None;
        tracing::info!(event = "taken_back", room = %self.room.id, peer = %peer.id, ?outcome);
        match outcome {
            InputOutcome::Attached(epoch) => {
                peer.set_epoch(epoch);
                peer.set_replication_id(&state.replication_id);
                Ok(None)
            }
            InputOutcome::Fenced => Ok(Some(fenced_close_code(state.replication_id == known_in))),
            // Another node, or the API, may have taken it out of the room first, and said why.
            _ => Ok(Some(left_close_code(state.tombstones.get(&peer.id).map(|tombstone| tombstone.reason)))),
        }
    }

    /// Entries are lost: the client learns so, and goes on from the room as it is.
    pub(super) async fn renew_mailbox(&mut self) -> Result<(), StoreUnavailable> {
        let (hub, peer) = (self.signal.registry.context(), self.peer);
        let (reader, floor) = (peer.mailbox_reader(&hub.node_id), self.dispatcher.requests.settled_id());
        let renewed = hub.store.renew_mailbox(&self.room.id, &reader, peer.mailbox_version(), floor).await?;
        // None: it is not ours any more, which the next look finds out.
        let Some(renewed) = renewed else { return Ok(()) };
        let Some(member) = renewed.state.members.get(&peer.id) else { return Ok(()) };
        let member = &self.dispatcher.token.apply_to_member(member.clone());
        let (mailbox, seq) = (renewed.mailbox_version, renewed.base_seq);
        let joined = build_joined(
            self.signal,
            self.room,
            peer,
            member,
            &renewed.state,
            mailbox,
            self.handle_generation,
            seq,
        );
        let resumed = ServerMessage::Resumed { joined, recovered: false, last_id: renewed.last_id };
        hub.metrics.mailboxes_renewed.inc();
        tracing::info!(event = "mailbox_renewed", room = %self.room.id, peer = %peer.id);
        self.member = member.clone();
        peer.apply_member(member);
        // They were told with it.
        self.deadlines.set_ice_lifetime(Instant::now(), self.signal.ice_directory.credential_lifetime());
        peer.open_mailbox(&resumed, &renewed.state.replication_id, mailbox, seq);
        self.dispatcher.reset_mailbox(seq);
        Ok(())
    }
}

/// How a connection ends whose peer another one has. Where the store may have forgotten which is the newer one, the client comes back with
/// its handle, which tells.
pub(super) fn fenced_close_code(certain: bool) -> CloseCode {
    if certain { CloseCode::Replaced } else { CloseCode::Unavailable }
}

/// How a connection ends whose peer has left.
pub(super) fn left_close_code(reason: Option<LeaveReason>) -> CloseCode {
    match reason {
        Some(LeaveReason::Replaced) => CloseCode::Replaced,
        Some(LeaveReason::Removed) => CloseCode::Removed,
        Some(LeaveReason::Ended) => CloseCode::Ended,
        Some(LeaveReason::Denied) => CloseCode::Denied,
        Some(LeaveReason::Expired) => CloseCode::TokenExpired,
        Some(LeaveReason::Banned) => CloseCode::Banned,
        Some(LeaveReason::Revoked) => CloseCode::Revoked,
        // The longest life of the room is over, or the peer was away for too long: it may join anew.
        Some(LeaveReason::Left | LeaveReason::Timeout) | None => CloseCode::SessionGone,
    }
}
