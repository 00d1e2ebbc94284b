//! The driver of one room: inputs become commits, one in flight, and what comes meanwhile is folded into the next one.
//!
//! Owns: the queue, deciding again on each conflict, and the view, a cache that follows what local peers are told.

use std::sync::Arc;

use signalbox_protocol::{
    LeaveReason,
    id::{PeerId, random_hex},
};
use tokio::sync::oneshot;

use super::local_room::{LocalRoom, LocalRoomState};
use crate::node_context::{NodeContext, STORE_RETRY_DELAY};
use signalbox_rooms::{
    commit_builder,
    removal::removed_peers,
    room::{ClaimProof, Decision, InputOutcome, ReplicationId, RoomInput, RoomState, decide},
    store::{CommitResult, LoadedRoom, MemberList, StoreUnavailable},
};

/// What became of an input: its outcome and the room as it is now, or nobody knows.
pub(super) type InputResult = Result<(InputOutcome, Arc<RoomState>), StoreUnavailable>;

/// An input that waits for its commit.
pub(super) struct QueuedInput {
    input: RoomInput,
    accepted_id: Option<(PeerId, u64)>,
    result_sender: Option<oneshot::Sender<InputResult>>,
}

impl LocalRoom {
    /// Queues an input and waits for what becomes of it. `accepted` is the id that the peer's request carried.
    pub async fn submit_input(
        self: &Arc<Self>,
        input: RoomInput,
        accepted: Option<(PeerId, u64)>,
    ) -> InputResult {
        self.queue_and_watch(input, accepted).await.unwrap_or(Err(StoreUnavailable))
    }

    /// Queues an input; the answer comes through what is returned.
    pub(super) fn queue_and_watch(
        self: &Arc<Self>,
        input: RoomInput,
        accepted: Option<(PeerId, u64)>,
    ) -> oneshot::Receiver<InputResult> {
        let (tx, rx) = oneshot::channel();
        self.push_input(QueuedInput { input, accepted_id: accepted, result_sender: Some(tx) });
        rx
    }

    /// Queues a look at who of this node is there without a socket. In one step with the list of those who have one, or who joins
    /// meanwhile would be missing there.
    pub(super) fn queue_reconcile(self: &Arc<Self>) -> oneshot::Receiver<InputResult> {
        let (tx, rx) = oneshot::channel();
        let mut inner = self.lock_state();
        let live =
            inner.peers.keys().cloned().chain(inner.pending_connections.iter().map(|peer| peer.id.clone()));
        let input =
            RoomInput::ReconcileNode { node: self.context.node_id.clone(), connected_peers: live.collect() };
        inner.input_queue.push(QueuedInput { input, accepted_id: None, result_sender: Some(tx) });
        self.start_driver(&mut inner);
        rx
    }

    /// Queues an input that must happen whoever waits for it.
    pub fn queue_input(self: &Arc<Self>, input: RoomInput) {
        self.push_input(QueuedInput { input, accepted_id: None, result_sender: None });
    }

    fn push_input(self: &Arc<Self>, queued: QueuedInput) {
        let mut inner = self.lock_state();
        inner.input_queue.push(queued);
        self.start_driver(&mut inner);
    }

    pub(super) fn start_driver(self: &Arc<Self>, inner: &mut LocalRoomState) {
        if !std::mem::replace(&mut inner.is_driving, true) {
            let room = self.clone();
            // Not on the worker that happens to be here: topics are read elsewhere, and workers stop before rooms do.
            self.context.runtime.spawn(async move { room.run_driver().await });
        }
    }

    async fn run_driver(self: Arc<Self>) {
        loop {
            let (batch, behind) = {
                let mut inner = self.lock_state();
                let batch = std::mem::take(&mut inner.input_queue);
                inner.is_driving = !batch.is_empty() || inner.is_view_stale;
                (batch, inner.is_view_stale)
            };
            if !batch.is_empty() {
                self.commit_batch(batch).await;
            } else if behind {
                if self.refresh_view().await.is_err() {
                    tokio::time::sleep(STORE_RETRY_DELAY).await;
                }
            } else {
                return self.forget_if_idle();
            }
        }
    }

    /// Reads the room. None if there is none.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn refresh_view(&self) -> Result<LoadedRoom, StoreUnavailable> {
        self.lock_state().is_view_stale = false;
        match self.context.store.load_room(&self.id).await {
            Ok(found) => {
                self.adopt_loaded(&found);
                Ok(found)
            }
            Err(StoreUnavailable) => {
                self.lock_state().is_view_stale = true;
                Err(StoreUnavailable)
            }
        }
    }

    /// What would become of an input now. Nothing is changed.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn preview_outcome(&self, input: RoomInput) -> Result<InputOutcome, StoreUnavailable> {
        let outcome = self.refresh_view().await.map(|_| {
            let view = self.view_or_new();
            decide(&view, view.read_at, &[input], &self.context.limits.room_policy())
                .outcomes
                .first()
                .copied()
        });
        self.forget_if_idle();
        Ok(outcome?.unwrap_or(InputOutcome::PeerGone))
    }

    /// Commits a batch, deciding again on each conflict.
    async fn commit_batch(self: &Arc<Self>, batch: Vec<QueuedInput>) {
        let hub = &self.context;
        let inputs: Vec<RoomInput> = batch.iter().map(|queued| queued.input.clone()).collect();
        // Whether the view has been compared with the store since the batch came.
        let mut fresh = false;
        loop {
            if !fresh && inputs.iter().any(|input| self.needs_fresh_view(input)) {
                fresh = true;
                if self.refresh_view().await.is_err() {
                    return self.requeue_batch(batch, None).await;
                }
            }
            let view = self.view_or_new();
            let now = hub.store.now_ms().max(view.read_at);
            let rules = hub.limits.room_policy();
            let decision = decide(&view, now, &inputs, &rules);
            if decision.is_empty() && !fresh {
                // No commit will compare the view, and a refusal must not rest on an old one.
                fresh = true;
                if self.refresh_view().await.is_err() {
                    return self.requeue_batch(batch, None).await;
                }
                continue;
            }
            if decision.is_empty() {
                return answer_batch(batch, &decision.outcomes, &view);
            }
            let commit = commit_builder::build_commit(
                &self.id,
                &hub.node_id,
                now,
                &view,
                &decision,
                accepted_ids(&batch, &decision),
                &rules,
            );
            match hub.store.commit(&self.id, &hub.node_id, &commit).await {
                Ok(CommitResult::Applied(lineage, deliveries)) => {
                    let opened = view.members.is_empty() && !decision.next_state.members.is_empty();
                    hub.metrics.rooms_opened.inc_by(u64::from(opened));
                    let lost = changed_local_peers(hub, &view, &decision);
                    hub.notify_removed(&self.id, removed_peers(&decision));
                    let next = Arc::new(RoomState { replication_id: lineage, ..decision.next_state });
                    self.set_view(Some(next.clone()));
                    deliveries.into_iter().for_each(|delivery| self.deliver_entry(delivery));
                    lost.iter().filter_map(|peer| self.find_peer(peer)).for_each(|peer| peer.mark_stale());
                    return answer_batch(batch, &decision.outcomes, &next);
                }
                Ok(CommitResult::Conflict(found)) => {
                    self.adopt_loaded(&found);
                    fresh = true;
                }
                Err(StoreUnavailable) => {
                    hub.resolve_uncertain_removals(&self.id, &decision);
                    return self.requeue_batch(batch, Some(&decision)).await;
                }
            }
        }
    }

    /// What rests on the store's clock, or on whether it may have forgotten the room, is not decided on a guess.
    fn needs_fresh_view(&self, input: &RoomInput) -> bool {
        match input {
            RoomInput::CheckDeadlines => true,
            RoomInput::Attach(claim) | RoomInput::Replace { old_peer: claim, .. } => {
                self.lock_state().view.is_none() || matches!(claim.proof, ClaimProof::Connection { .. })
            }
            _ => false,
        }
    }

    /// The store did not answer. Requests learn so; what must happen is queued again after a pause, and what may have been applied
    /// without anybody to serve it is taken back. Local peers read their mailboxes, since entries may have been written.
    async fn requeue_batch(self: &Arc<Self>, batch: Vec<QueuedInput>, decision: Option<&Decision>) {
        self.lock_state().is_view_stale = true;
        let mut again = Vec::new();
        for (place, queued) in batch.into_iter().enumerate() {
            let outcome = decision.and_then(|decision| decision.outcomes.get(place));
            if let Some(input) = follow_up_input(&queued.input, outcome) {
                again.push(QueuedInput { input, accepted_id: None, result_sender: None });
            }
            if let Some(waiting) = queued.result_sender {
                // The asker may have gone.
                let _ = waiting.send(Err(StoreUnavailable));
            }
        }
        if decision.is_some() {
            self.local_peers().iter().for_each(|peer| peer.mark_uncertain());
        }
        tokio::time::sleep(STORE_RETRY_DELAY).await;
        self.lock_state().input_queue.extend(again);
    }

    fn view_or_new(&self) -> Arc<RoomState> {
        // Nothing known: decide as for a new room; if it exists, the conflict brings it.
        let unknown = || Arc::new(RoomState::new(random_hex().into(), ReplicationId::default()));
        self.lock_state().view.clone().unwrap_or_else(unknown)
    }

    fn adopt_loaded(&self, found: &LoadedRoom) {
        let forgotten = |view: &Arc<RoomState>| {
            let may_be = view.replication_id != found.replication_id && !view.members.is_empty();
            may_be.then(|| view.rebuild_for_store(found.replication_id.clone(), found.now))
        };
        let view = match &found.room {
            Some(room) => room.clone(),
            // The store has forgotten a room that this node knows: it is made again as it was.
            None => self.known_state().as_ref().and_then(forgotten).unwrap_or_else(|| RoomState {
                read_at: found.now,
                ..RoomState::new(random_hex().into(), found.replication_id.clone())
            }),
        };
        self.set_view(Some(Arc::new(view)));
    }

    fn set_view(&self, view: Option<Arc<RoomState>>) {
        let members = view.as_ref().map_or_else(MemberList::default, |view| MemberList {
            version: view.version,
            peers: view.members.iter().filter(|(_, m)| !m.waiting).map(|(peer, _)| peer.clone()).collect(),
        });
        let mut inner = self.lock_state();
        inner.members = Arc::new(members);
        inner.view = view;
    }
}

/// The ids of the requests that the decision carries out. One that it refuses has not used its id up.
fn accepted_ids(batch: &[QueuedInput], decision: &Decision) -> Vec<(PeerId, u64)> {
    let done = |outcome: &InputOutcome| {
        matches!(outcome, InputOutcome::Done | InputOutcome::Removed(_) | InputOutcome::Attached(_))
    };
    let carried = batch.iter().zip(&decision.outcomes).filter(|(_, outcome)| done(outcome));
    carried.filter_map(|(queued, _)| queued.accepted_id.clone()).collect()
}

fn changed_local_peers(hub: &NodeContext, view: &RoomState, decision: &Decision) -> Vec<PeerId> {
    let ours = view.members.iter().filter(|(_, member)| member.owner() == Some(&hub.node_id));
    let changed = ours.filter(|(peer, member)| {
        let after = decision.next_state.members.get(*peer);
        after.is_none_or(|after| {
            let admitted = member.waiting && !after.waiting;
            after.epoch != member.epoch || after.owner() != member.owner() || admitted
        })
    });
    changed.map(|(peer, _)| peer.clone()).collect()
}

/// What must be done about an input whose fate is unknown, beside telling its asker.
fn follow_up_input(input: &RoomInput, outcome: Option<&InputOutcome>) -> Option<RoomInput> {
    match (input, outcome) {
        (RoomInput::Join { peer, member }, _) => {
            Some(RoomInput::Leave { peer: peer.clone(), epoch: member.epoch, reason: LeaveReason::Left })
        }
        (RoomInput::Replace { new_peer: peer, .. }, Some(InputOutcome::Done)) => {
            Some(RoomInput::Leave { peer: peer.clone(), epoch: 1, reason: LeaveReason::Left })
        }
        (RoomInput::Attach(claim), Some(InputOutcome::Attached(epoch))) => {
            Some(RoomInput::Detach { peer: claim.peer.clone(), epoch: *epoch })
        }
        // A refresh was good when it was shown, and its client was told so.
        (
            RoomInput::Detach { .. }
            | RoomInput::Leave { .. }
            | RoomInput::ReconcileNode { .. }
            | RoomInput::RefreshToken { .. },
            _,
        ) => Some(input.clone()),
        // Asked for again by whoever still wants it.
        (
            RoomInput::UpdateRecord { .. }
            | RoomInput::NodeDied { .. }
            | RoomInput::CheckDeadlines
            | RoomInput::Attach(_)
            | RoomInput::Replace { .. }
            | RoomInput::Manage(_),
            _,
        ) => None,
    }
}

fn answer_batch(batch: Vec<QueuedInput>, outcomes: &[InputOutcome], state: &Arc<RoomState>) {
    for (queued, outcome) in batch.into_iter().zip(outcomes) {
        if let Some(waiting) = queued.result_sender {
            // The asker may have gone.
            let _ = waiting.send(Ok((*outcome, state.clone())));
        }
    }
}
