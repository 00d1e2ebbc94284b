//! Looking after a peer whose socket is fine and whose shared state may not be: entries that were missed, a mailbox that broke, a
//! peer that was taken for lost, a store that has forgotten it.

use signalbox_protocol::{CloseCode, LeftReason, ServerMessage};

use tokio::time::Instant;

use super::{enter::welcome, session::Session};
use signalbox_rooms::{
    room::{Claim, Input, Member, Outcome, Presence, Proof},
    store::{Look, Unavailable},
};

/// How often the state may change while it is looked at, before it is looked at later.
const MOST_TURNS: usize = 8;

/// What a look brought.
pub(super) enum Looked {
    /// The peer goes on.
    Fine,
    /// The store does not answer.
    Away,
    /// The connection must end.
    Over(CloseCode),
}

impl Session<'_> {
    /// Reads what the mailbox holds beyond what the client has, and puts right what can be.
    pub(super) async fn look_after(&mut self) -> Looked {
        let (hub, peer) = (self.signal.registry.hub(), self.peer);
        for _ in 0..MOST_TURNS {
            // What comes to be doubted while the page is on its way is not answered by it.
            peer.begin_read();
            let (reader, since, asked) = (peer.reader(&hub.node), peer.delivered(), Instant::now());
            let turn = match hub.store.read(&self.room.id, &reader, since).await {
                Ok(Look::Mine(page)) => {
                    self.input.requests.release();
                    if page.mailbox == peer.mailbox() && page.continues(since) {
                        peer.deliver_page(page, asked);
                        return Looked::Fine;
                    }
                    self.renew().await
                }
                Ok(Look::Unowned | Look::Forgotten) => match self.take_back().await {
                    Ok(None) => Ok(()),
                    Ok(Some(code)) => return Looked::Over(code),
                    Err(Unavailable) => Err(Unavailable),
                },
                Ok(Look::Fenced { certain }) => match self.maybe_epoch.take() {
                    // The newer connection may be this one: it took its peer back, and was not told.
                    Some(epoch) if epoch > peer.epoch() => {
                        peer.set_epoch(epoch);
                        Ok(())
                    }
                    _ => return Looked::Over(fenced(certain)),
                },
                Ok(Look::Gone(reason)) => return Looked::Over(gone(reason)),
                Err(Unavailable) => Err(Unavailable),
            };
            if turn.is_err() {
                break;
            }
        }
        peer.fail_read();
        Looked::Away
    }

    /// The socket was there all the time: the peer is this node's again, unless a newer connection has it.
    pub(super) async fn take_back(&mut self) -> Result<Option<CloseCode>, Unavailable> {
        let (hub, peer) = (self.signal.registry.hub(), self.peer);
        let known = self.room.known().and_then(|state| state.members.get(&peer.id).cloned());
        let mut record = self.input.badge.applied_to(known.unwrap_or_else(|| self.record.clone()));
        if let Some(powers) = peer.powers() {
            record.role = powers.role.clone();
            record.permissions = powers.permissions.clone();
        }
        let (epoch, reader) = (peer.epoch(), peer.reader(&hub.node));
        let mailbox = hub.store.now_ms().max(peer.mailbox() + 1);
        let presence = Presence::Attached(hub.node.clone());
        let known_in = reader.lineage.clone();
        let claim = Claim {
            peer: peer.id.clone(),
            proof: Proof::Socket { epoch },
            lineage: reader.lineage,
            now_s: None,
            member: Member { presence, epoch, mailbox, generation: self.generation, ..record },
        };
        let accepted = Some((peer.id.clone(), self.input.requests.floor()));
        self.maybe_epoch = Some(epoch + 1);
        let (outcome, state) = self.room.submit(Input::Attach(Box::new(claim)), accepted).await?;
        self.maybe_epoch = None;
        tracing::info!(event = "taken_back", room = %self.room.id, peer = %peer.id, ?outcome);
        match outcome {
            Outcome::Attached(epoch) => {
                peer.set_epoch(epoch);
                peer.set_lineage(&state.lineage);
                Ok(None)
            }
            Outcome::Replaced => Ok(Some(fenced(state.lineage == known_in))),
            // Another node, or the API, may have taken it out of the room first, and said why.
            _ => Ok(Some(gone(state.left.get(&peer.id).map(|tombstone| tombstone.reason)))),
        }
    }

    /// Entries are lost: the client learns so, and goes on from the room as it is.
    pub(super) async fn renew(&mut self) -> Result<(), Unavailable> {
        let (hub, peer) = (self.signal.registry.hub(), self.peer);
        let (reader, floor) = (peer.reader(&hub.node), self.input.requests.floor());
        let renewed = hub.store.renew(&self.room.id, &reader, peer.mailbox(), floor).await?;
        // None: it is not ours any more, which the next look finds out.
        let Some(renewed) = renewed else { return Ok(()) };
        let Some(member) = renewed.state.members.get(&peer.id) else { return Ok(()) };
        let member = &self.input.badge.applied_to(member.clone());
        let (mailbox, seq) = (renewed.mailbox, renewed.seq);
        let joined =
            welcome(self.signal, self.room, peer, member, &renewed.state, mailbox, self.generation, seq);
        let resumed = ServerMessage::Resumed { joined, recovered: false, last_id: renewed.last_id };
        hub.metrics.broken.inc();
        tracing::info!(event = "mailbox_renewed", room = %self.room.id, peer = %peer.id);
        self.record = member.clone();
        peer.follow(member);
        // They were told with it.
        self.deadlines.set_ice(Instant::now(), self.signal.ice.life());
        peer.open(&resumed, &renewed.state.lineage, mailbox, seq);
        self.input.begin_mailbox(seq);
        Ok(())
    }
}

/// How a connection ends whose peer another one has. Where the store may have forgotten which is the newer one, the client comes back with
/// its handle, which tells.
pub(super) fn fenced(certain: bool) -> CloseCode {
    if certain { CloseCode::Replaced } else { CloseCode::Unavailable }
}

/// How a connection ends whose peer has left.
pub(super) fn gone(reason: Option<LeftReason>) -> CloseCode {
    match reason {
        Some(LeftReason::Replaced) => CloseCode::Replaced,
        Some(LeftReason::Removed) => CloseCode::Removed,
        Some(LeftReason::Ended) => CloseCode::Ended,
        Some(LeftReason::Denied) => CloseCode::Denied,
        Some(LeftReason::Expired) => CloseCode::TokenExpired,
        Some(LeftReason::Banned) => CloseCode::Banned,
        Some(LeftReason::Revoked) => CloseCode::Revoked,
        // The longest life of the room is over, or the peer was away for too long: it may join anew.
        Some(LeftReason::Left | LeftReason::Timeout) | None => CloseCode::SessionGone,
    }
}
