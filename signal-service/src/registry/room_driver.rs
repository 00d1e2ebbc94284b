//! The driver of one room: inputs become commits, with one commit in flight. Inputs that arrive
//! during a commit go into the next one.
//!
//! Owns: the input queue, retries while the store is unavailable, and the view, a cached state of
//! the room. Must not: decide or commit by itself; `signalbox_rooms::commit_loop` does.
//! Next: `local_room` delivers what a commit brings.

use std::{future::Future, sync::Arc, time::Duration};

use signalbox_protocol::{
    LeaveReason,
    id::{NodeId, PeerId, RoomId, random_hex},
};
use tokio::{sync::oneshot, time::sleep};

use super::local_room::{LocalRoom, LocalRoomState};
use signalbox_rooms::{
    commit_loop::{
        AppliedCommit, BatchFailure, CommitHost, InputBatch, InputResult, commit_inputs, state_or_new,
    },
    removal::RemovedPeer,
    room::{ClaimProof, InputOutcome, ReplicationId, RoomInput, RoomPolicy, RoomState, decide},
    store::{LoadedRoom, MemberList, RoomStore, StoreUnavailable},
};

/// The pause between two attempts to commit an input that must not be lost.
pub(super) const COMMIT_RETRY_DELAY: Duration = Duration::from_millis(250);

/// An input that waits for its commit.
pub(super) struct QueuedInput {
    input: RoomInput,
    request_id: Option<(PeerId, u64)>,
    result_sender: Option<oneshot::Sender<InputResult>>,
}

impl LocalRoom {
    /// Queues an input at once; the future waits for its result. `request_id` is the peer and the
    /// message id of the request that caused the input.
    pub fn submit_input(
        self: &Arc<Self>,
        input: RoomInput,
        request_id: Option<(PeerId, u64)>,
    ) -> impl Future<Output = InputResult> + Send + use<> {
        self.push_watched(&mut self.lock_state(), input, request_id)
    }

    /// Queues an input that must be committed although no caller waits for it.
    pub fn queue_input(self: &Arc<Self>, input: RoomInput) {
        self.push_input(&mut self.lock_state(), QueuedInput { input, request_id: None, result_sender: None });
    }

    /// Detaches peers of this node without a connection, as [`LocalRoom::submit_input`]. The list of
    /// connections is read in the same step: a peer that joins later must not be missing in it.
    pub(super) fn submit_reconcile(self: &Arc<Self>) -> impl Future<Output = InputResult> + Send + use<> {
        let mut state = self.lock_state();
        let pending = state.pending_connections.iter().map(|peer| peer.id.clone());
        let connected_peers = state.peers.keys().cloned().chain(pending).collect();
        let input = RoomInput::ReconcileNode { node: self.context.node_id.clone(), connected_peers };
        self.push_watched(&mut state, input, None)
    }

    fn push_watched(
        self: &Arc<Self>,
        state: &mut LocalRoomState,
        input: RoomInput,
        request_id: Option<(PeerId, u64)>,
    ) -> impl Future<Output = InputResult> + Send + use<> {
        let (sender, result) = oneshot::channel();
        self.push_input(state, QueuedInput { input, request_id, result_sender: Some(sender) });
        async move { result.await.unwrap_or(Err(StoreUnavailable)) }
    }

    fn push_input(self: &Arc<Self>, state: &mut LocalRoomState, queued: QueuedInput) {
        state.input_queue.push(queued);
        self.start_driver(state);
    }

    pub(super) fn start_driver(self: &Arc<Self>, state: &mut LocalRoomState) {
        if !std::mem::replace(&mut state.is_driving, true) {
            let room = self.clone();
            // On the runtime of the node: topics are read on another thread, and HTTP workers stop
            // before rooms do.
            self.context.runtime.spawn(async move { room.run_driver().await });
        }
    }

    async fn run_driver(self: Arc<Self>) {
        loop {
            let (queued, is_view_stale) = {
                let mut state = self.lock_state();
                let queued = std::mem::take(&mut state.input_queue);
                state.is_driving = !queued.is_empty() || state.is_view_stale;
                (queued, state.is_view_stale)
            };
            if !queued.is_empty() {
                self.commit_queued(queued).await;
            } else if is_view_stale {
                if self.refresh_view().await.is_err() {
                    sleep(COMMIT_RETRY_DELAY).await;
                }
            } else {
                return self.forget_if_idle();
            }
        }
    }

    /// Loads the room into the view.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn refresh_view(&self) -> Result<Arc<RoomState>, StoreUnavailable> {
        self.lock_state().is_view_stale = false;
        match self.context.store.load_room(&self.id).await {
            Ok(loaded) => Ok(self.adopt_loaded(loaded)),
            Err(StoreUnavailable) => {
                self.lock_state().is_view_stale = true;
                Err(StoreUnavailable)
            }
        }
    }

    /// The outcome that an input would have now. Changes nothing.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn preview_outcome(&self, input: RoomInput) -> Result<InputOutcome, StoreUnavailable> {
        let view = self.refresh_view().await;
        self.forget_if_idle();
        let view = view?;
        let decision = decide(&view, view.read_at, &[input], &self.policy());
        Ok(decision.outcomes.first().copied().unwrap_or(InputOutcome::PeerGone))
    }

    async fn commit_queued(self: &Arc<Self>, queued: Vec<QueuedInput>) {
        let mut batch = InputBatch { inputs: Vec::new(), request_ids: Vec::new() };
        let mut senders = Vec::new();
        for QueuedInput { input, request_id, result_sender } in queued {
            batch.inputs.push(input);
            batch.request_ids.push(request_id);
            senders.push(result_sender);
        }
        let result = commit_inputs(self, &batch).await;
        let results: Vec<InputResult> = match &result {
            Ok(result) => {
                result.outcomes.iter().map(|outcome| Ok((*outcome, result.state.clone()))).collect()
            }
            Err(_) => batch.inputs.iter().map(|_| Err(StoreUnavailable)).collect(),
        };
        for (sender, result) in senders.into_iter().zip(results) {
            // The caller may have gone.
            let _ = sender.map(|sender| sender.send(result));
        }
        if let Err(failure) = result {
            self.retry_later(&batch.inputs, &failure).await;
        }
    }

    /// The store did not answer. Inputs that must not be lost are queued again after a pause. A
    /// change that may have been applied, and that no connection serves, is undone. Local peers
    /// read their mailboxes, since entries may have been written.
    async fn retry_later(&self, inputs: &[RoomInput], failure: &BatchFailure) {
        self.lock_state().is_view_stale = true;
        if failure.uncertain.is_some() {
            self.local_peers().iter().for_each(|peer| peer.mark_uncertain());
        }
        sleep(COMMIT_RETRY_DELAY).await;
        let outcomes = failure.uncertain.as_ref().map(|decision| &decision.outcomes);
        let follow_ups = inputs.iter().enumerate().filter_map(|(index, input)| {
            follow_up_input(input, outcomes.and_then(|outcomes| outcomes.get(index)))
        });
        let queued = follow_ups.map(|input| QueuedInput { input, request_id: None, result_sender: None });
        self.lock_state().input_queue.extend(queued);
    }

    fn set_view(&self, view: Arc<RoomState>) {
        let members = MemberList {
            version: view.version,
            peers: view.members.iter().filter(|(_, m)| !m.waiting).map(|(peer, _)| peer.clone()).collect(),
        };
        let mut state = self.lock_state();
        state.members = Arc::new(members);
        state.view = Some(view);
    }
}

impl CommitHost for LocalRoom {
    /// The batch has no other chance: its requests wait, and other nodes make progress meanwhile.
    const MAX_COMMIT_ATTEMPTS: usize = usize::MAX;

    fn room_id(&self) -> &RoomId {
        &self.id
    }

    fn node_id(&self) -> &NodeId {
        &self.context.node_id
    }

    fn store(&self) -> &RoomStore {
        &self.context.store
    }

    fn policy(&self) -> RoomPolicy {
        self.context.limits.room_policy()
    }

    /// The view. An input that depends on the clock of the store, or on whether the store may have
    /// forgotten the room, needs a loaded state.
    fn cached_state(&self, inputs: &[RoomInput]) -> Option<Arc<RoomState>> {
        let view = self.known_state();
        let needs_loaded_state = |input: &RoomInput| match input {
            RoomInput::CheckDeadlines => true,
            RoomInput::Attach(claim) | RoomInput::Replace { old_peer: claim, .. } => {
                view.is_none() || matches!(claim.proof, ClaimProof::Connection { .. })
            }
            _ => false,
        };
        if inputs.iter().any(needs_loaded_state) {
            return None;
        }
        // For an unknown room: decided as a new room. If the room exists, the conflict brings it.
        let new_room = || Arc::new(RoomState::new(random_hex().into(), ReplicationId::default()));
        Some(view.unwrap_or_else(new_room))
    }

    async fn load_state(&self) -> Result<Arc<RoomState>, StoreUnavailable> {
        self.refresh_view().await
    }

    fn adopt_loaded(&self, loaded: LoadedRoom) -> Arc<RoomState> {
        let forgotten = loaded
            .room
            .is_none()
            .then(|| self.known_state())
            .flatten()
            .filter(|view| view.replication_id != loaded.replication_id && !view.members.is_empty());
        let state = match forgotten {
            // The store has forgotten a room that this node knows: the node creates it again.
            Some(view) => view.rebuild_for_store(loaded.replication_id, loaded.now),
            None => state_or_new(loaded),
        };
        let state = Arc::new(state);
        self.set_view(state.clone());
        state
    }

    fn notify_removed(&self, removed: RemovedPeer) {
        self.context.notify_removed(&self.id, removed);
    }

    fn after_commit(&self, commit: AppliedCommit) {
        let opened = commit.before.members.is_empty() && !commit.state.members.is_empty();
        self.context.metrics.rooms_opened.inc_by(u64::from(opened));
        self.set_view(commit.state);
        commit.deliveries.into_iter().for_each(|delivery| self.deliver_entry(delivery));
        let changed = commit.resync_peers.iter().filter_map(|peer| self.find_peer(peer));
        changed.for_each(|peer| peer.mark_stale());
    }
}

/// What must still be done about an input after a commit with an unknown outcome.
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
        // A refreshed token is valid already, and its client has the ack.
        (
            RoomInput::Detach { .. }
            | RoomInput::Leave { .. }
            | RoomInput::ReconcileNode { .. }
            | RoomInput::RefreshToken { .. },
            _,
        ) => Some(input.clone()),
        // The caller repeats the input if it is still needed.
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
