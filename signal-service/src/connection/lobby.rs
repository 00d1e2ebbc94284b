//! A peer that waits to be let in: it has a socket and a place, and neither hears nor says anything of the room.
//!
//! Nothing is written to its mailbox before it is a member, so what is there then came after that: nobody's first message to it is
//! lost. Its inbox stays shut until `joined` has been written. Who waits is in the shared state, so that it may be let in on any node,
//! and come back to any.

use std::sync::Arc;

use signalbox_protocol::{CloseCode, ServerMessage, Waiting};
use tokio::time::Instant;

use super::{
    enter::{Entered, seal, welcome},
    look::{Looked, fenced, gone},
    session::Session,
};
use crate::{
    node::Signal,
    registry::{LocalPeer, LocalRoom},
};
use signalbox_rooms::{
    room::{Member, RoomState},
    store::{Look, Page, Unavailable},
};

/// How often the state may change while it is looked at, before it is looked at later.
const MOST_TURNS: usize = 4;

/// Writes the first frame of one who waits.
pub(super) fn wait(
    signal: &Signal,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    member: &Member,
    state: &RoomState,
    generation: u64,
    resumed: bool,
) -> Entered {
    tracing::info!(event = "waiting", room = %room.id, peer = %peer.id, user = %member.user, resumed);
    let waiting = Waiting {
        peer_id: peer.id.clone(),
        room_id: room.id.clone(),
        user_id: member.user.clone(),
        role: member.role.clone(),
        node: signal.registry.hub().node.clone(),
        resume: seal(signal, room, peer, member, &state.lineage, member.mailbox, generation),
        seq: 0,
        limits: signal.wire_limits(),
        ping_interval: signal.settings.timing.ping.as_ms(),
        features: vec!["resume".to_owned()],
    };
    peer.set_lineage(&state.lineage);
    peer.send(&[ServerMessage::Waiting(waiting)]);
    // It may have been let in before anybody here would have been told.
    peer.doubt();
    Entered { member: member.clone(), generation, resumed, floor: 0, told: 0 }
}

impl Session<'_> {
    /// Finds out whether the peer still waits.
    pub(super) async fn look_in_lobby(&mut self) -> Looked {
        for _ in 0..MOST_TURNS {
            self.peer.begin_read();
            match self.find_in_lobby().await {
                Ok(Some(looked)) => return looked,
                Ok(None) => {}
                Err(Unavailable) => break,
            }
        }
        self.peer.fail_read();
        Looked::Away
    }

    /// None: the state has changed and must be looked at again.
    async fn find_in_lobby(&mut self) -> Result<Option<Looked>, Unavailable> {
        let (hub, peer) = (self.signal.registry.hub(), self.peer);
        // The room before the mailbox: what comes between stands in both, which does no harm; the other way round it would be missed.
        self.room.refresh().await?;
        let state = self.room.known();
        match hub.store.read(&self.room.id, &peer.reader(&hub.node), 0).await? {
            Look::Mine(page) => {
                self.input.requests.release();
                let member = state.as_ref().and_then(|state| Some((state.members.get(&peer.id)?, state)));
                match member {
                    Some((member, _)) if member.waiting => Ok(Some(Looked::Fine)),
                    Some((member, state)) => self.let_in(member, state, page).await.map(Some),
                    None => Ok(None),
                }
            }
            Look::Unowned | Look::Forgotten => Ok(self.take_back().await?.map(Looked::Over)),
            Look::Fenced { certain } => Ok(Some(Looked::Over(fenced(certain)))),
            Look::Gone(reason) => Ok(Some(Looked::Over(gone(reason)))),
        }
    }

    /// It is a member: writes `joined`, and lets out what has come since.
    async fn let_in(
        &mut self,
        member: &Member,
        state: &Arc<RoomState>,
        page: Page,
    ) -> Result<Looked, Unavailable> {
        let (signal, room, peer) = (self.signal, self.room, self.peer);
        let (mut member, mut state) = (member.clone(), state.clone());
        let (mut mailbox, mut seq) = (page.mailbox, 0);
        let is_whole = page.continues(0);
        if !is_whole {
            // Some of it is lost with another history of the store: it begins with the room as it is.
            let reader = peer.reader(&signal.registry.hub().node);
            let renewed = signal.registry.hub().store.renew(&room.id, &reader, page.mailbox, 0).await?;
            let Some(renewed) = renewed else { return Err(Unavailable) };
            let Some(found) = renewed.state.members.get(&peer.id) else {
                return Ok(Looked::Over(CloseCode::SessionGone));
            };
            member = found.clone();
            (mailbox, seq) = (renewed.mailbox, renewed.seq);
            state = Arc::new(renewed.state);
        }
        signal.registry.hub().metrics.joins.inc();
        tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %member.user, role = %member.role);
        member = self.input.badge.applied_to(member);
        peer.follow(&member);
        let joined = welcome(signal, room, peer, &member, &state, mailbox, self.generation, seq);
        self.record = member;
        self.count(true);
        // They were told with it.
        self.deadlines.set_ice(Instant::now(), signal.ice.life());
        peer.open(&ServerMessage::Joined(joined), &state.lineage, mailbox, seq);
        self.input.begin_mailbox(seq);
        peer.replay(is_whole.then_some(page));
        signal.registry.doubt([room.id.clone()]);
        Ok(Looked::Fine)
    }
}
