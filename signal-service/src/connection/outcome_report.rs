//! The outcomes of a client, and what its connection did before: the metrics, and the timeline of the
//! room.
//!
//! Owns: which peers an outcome may be about. Must not: wait, answer with an ack, or reach another
//! peer. What the store does not take is lost.

use std::sync::Arc;

use signalbox_protocol::{
    ErrorCode, PairOutcome, ServerMessage,
    id::{PeerId, UserId},
};
use signalbox_rooms::{
    room::{Member, RoomState},
    timeline::PairReport,
};

use super::{pair_activity::TimedSteps, state::ConnectionState};
use crate::{
    registry::{LocalPeer, LocalRoom, RoomRegistry},
    timeline_writer::TimelineWriter,
};

/// The parts of a connection that a report needs; they outlive the connection.
pub(super) struct OutcomeReporter {
    registry: Arc<RoomRegistry>,
    writer: TimelineWriter,
    room: Arc<LocalRoom>,
    sender: Arc<LocalPeer>,
    member: Arc<Member>,
}

impl OutcomeReporter {
    pub(super) fn new(state: &ConnectionState<'_>) -> Self {
        Self {
            registry: state.node.registry.clone(),
            writer: state.node.timeline_writer.clone(),
            room: state.room.clone(),
            sender: state.peer.clone(),
            member: state.member.clone(),
        }
    }

    /// Reports an outcome if it is about a peer of the room. A peer that this node does not know may
    /// have joined through another node a moment ago: then the room is read first. Returns whether it
    /// is.
    pub(super) fn report_outcome(self, outcome: PairOutcome, steps: TimedSteps) -> bool {
        if let Some(state) = self.room.known_state()
            && knows_peer(&state, &outcome.peer)
        {
            self.report_known(&state, &outcome, steps);
            return false;
        }
        let runtime = self.registry.context().runtime.clone();
        runtime.spawn(async move {
            let Ok(loaded) = self.registry.context().store.load_room(&self.room.id).await else { return };
            match loaded.room.filter(|state| knows_peer(state, &outcome.peer)) {
                Some(state) => self.report_known(&state, &outcome, steps),
                None => self.refuse(),
            }
        });
        true
    }

    fn report_known(&self, state: &RoomState, outcome: &PairOutcome, steps: TimedSteps) {
        self.registry.context().metrics.count_pair_outcome(outcome);
        let report = self.build_report(state, outcome.peer.clone(), steps);
        self.writer.queue_reports(&self.room.id, vec![report]);
    }

    /// Reports the attempts for which the client has reported no outcome.
    pub(super) fn report_open_attempts(&self, attempts: Vec<(PeerId, TimedSteps)>) {
        let Some(state) = self.room.known_state() else { return };
        let known = attempts.into_iter().filter(|(peer, _)| knows_peer(&state, peer));
        let reports = known.map(|(peer, steps)| self.build_report(&state, peer, steps)).collect();
        self.writer.queue_reports(&self.room.id, reports);
    }

    fn build_report(&self, state: &RoomState, other: PeerId, steps: TimedSteps) -> PairReport {
        let other_user: Option<UserId> = state.members.get(&other).map(|member| member.user.clone());
        PairReport {
            peer: self.sender.id.clone(),
            user: self.member.user.clone(),
            other,
            other_user,
            root: self.member.credential_root().to_string().into(),
            steps,
        }
    }

    fn refuse(&self) {
        let code = ErrorCode::NoSuchPeer;
        self.registry.context().metrics.count_refused_message(code);
        let text = "no peer of this room has this peerId";
        self.sender.send_if_open(&[ServerMessage::error(None, code, Some("peer"), text)]);
    }
}

/// Whether an outcome may be about a peer: it is in the room, or has just left. A peer in the lobby
/// is unknown to the others.
fn knows_peer(state: &RoomState, peer: &PeerId) -> bool {
    state.members.get(peer).is_some_and(|member| !member.waiting) || state.tombstones.contains_key(peer)
}
