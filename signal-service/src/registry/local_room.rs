//! One room on this node: its local peers, its view of the shared state, and its input queue.
//!
//! Owns: the connections of the room, delivery to them, and the driver: inputs become commits, with
//! one commit in flight. Inputs that arrive during a commit go into the next one. Must not: decide
//! or commit by itself; `signalbox_rooms::commit_loop` does. Next: `forward` appends messages,
//! `local_peer` writes entries to a socket.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use signalbox_protocol::{
    LeaveReason,
    id::{IdMap, NodeId, PeerId, RoomId, random_hex},
};
use smallvec::SmallVec;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::local_peer::LocalPeer;
use crate::node_context::{NodeContext, STORE_RETRY_DELAY};
use signalbox_rooms::{
    commit_loop::{
        AppliedCommit, BatchFailure, CommitHost, InputBatch, InputResult, commit_inputs, state_or_new,
    },
    removal::RemovedPeer,
    room::{ClaimProof, InputOutcome, ReplicationId, RoomInput, RoomPolicy, RoomState, decide},
    store::{Delivery, EntryKind, LoadedRoom, MemberList, RequestId, RoomStore, StoreUnavailable},
};

/// Between two counts of the bytes that wait in a room.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(1);

type RoomMap = Mutex<HashMap<RoomId, Arc<LocalRoom>>>;

/// A room with peers or inputs on this node.
pub struct LocalRoom {
    /// The id of the room.
    pub id: RoomId,
    /// The number of the worker that serves the peers, from the first connection on.
    pub worker: OnceLock<usize>,
    pub(super) context: Arc<NodeContext>,
    room_map: Weak<RoomMap>,
    // A std mutex: held to queue an input, find a peer or replace the view, never across an await.
    state: Mutex<LocalRoomState>,
}

#[derive(Default)]
struct LocalRoomState {
    peers: IdMap<PeerId, Arc<LocalPeer>>,
    /// Connections that ask for a peer and do not own it yet.
    pending_connections: Vec<Arc<LocalPeer>>,
    /// A cached state of the room.
    view: Option<Arc<RoomState>>,
    members: Arc<MemberList>,
    /// Whether a local peer has received an event that the view does not contain.
    is_view_stale: bool,
    input_queue: Vec<QueuedInput>,
    is_driving: bool,
    /// When the bytes that wait in the room were last counted again.
    recounted_at: Option<Instant>,
}

/// An input that waits for its commit.
struct QueuedInput {
    input: RoomInput,
    request_id: Option<RequestId>,
    result_sender: Option<oneshot::Sender<InputResult>>,
}

impl LocalRoomState {
    fn is_idle(&self) -> bool {
        self.peers.is_empty()
            && self.pending_connections.is_empty()
            && self.input_queue.is_empty()
            && !self.is_driving
    }
}

impl LocalRoom {
    pub(super) fn new(id: RoomId, context: Arc<NodeContext>, room_map: Weak<RoomMap>) -> Arc<Self> {
        Arc::new(Self { id, worker: OnceLock::new(), context, room_map, state: Mutex::default() })
    }

    fn lock_state(&self) -> MutexGuard<'_, LocalRoomState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection that asks for a peer: it receives the entries of the peer from now on.
    pub(super) fn add_pending(&self, peer: &Arc<LocalPeer>) {
        self.lock_state().pending_connections.push(peer.clone());
    }

    /// Makes a connection the local one of its peer. Another local connection of the peer is resynced,
    /// and ends. The epoch decides which connection is older: two connections may be activated in any
    /// order.
    pub fn activate_peer(&self, peer: &Arc<LocalPeer>) {
        let mut state = self.lock_state();
        state.pending_connections.retain(|other| !Arc::ptr_eq(other, peer));
        let current = state.peers.get(&peer.id).cloned();
        let older = match current {
            Some(newer) if newer.epoch() > peer.epoch() => Some(peer.clone()),
            _ => state.peers.insert(peer.id.clone(), peer.clone()),
        };
        drop(state);
        older.iter().for_each(|older| older.mark_stale());
    }

    /// Removes a connection that has ended. The entries of its peer stay in the mailbox.
    pub fn unregister_connection(&self, peer: &Arc<LocalPeer>) {
        let mut state = self.lock_state();
        state.pending_connections.retain(|other| !Arc::ptr_eq(other, peer));
        if state.peers.get(&peer.id).is_some_and(|found| Arc::ptr_eq(found, peer)) {
            state.peers.remove(&peer.id);
        }
        drop(state);
        self.forget_if_idle();
    }

    /// The local peers.
    pub fn local_peers(&self) -> Vec<Arc<LocalPeer>> {
        self.lock_state().peers.values().cloned().collect()
    }

    /// The local peers, and the connections that ask for a peer.
    pub fn local_connections(&self) -> Vec<Arc<LocalPeer>> {
        let state = self.lock_state();
        state.peers.values().chain(&state.pending_connections).cloned().collect()
    }

    /// A local peer.
    pub fn find_peer(&self, peer: &PeerId) -> Option<Arc<LocalPeer>> {
        self.lock_state().peers.get(peer).cloned()
    }

    /// Whether the store that holds the room answers.
    pub fn is_store_available(&self) -> bool {
        self.context.store.is_room_available(&self.id)
    }

    /// The number of local peers.
    pub(super) fn local_peer_count(&self) -> usize {
        self.lock_state().peers.len()
    }

    /// The number of members in the view.
    pub fn member_count(&self) -> usize {
        self.lock_state().members.peers.len()
    }

    /// The view.
    pub fn known_state(&self) -> Option<Arc<RoomState>> {
        self.lock_state().view.clone()
    }

    pub(super) fn known_members(&self) -> Arc<MemberList> {
        self.lock_state().members.clone()
    }

    /// The members and the view, of one version.
    pub(super) fn members_and_state(&self) -> (Arc<MemberList>, Option<Arc<RoomState>>) {
        let state = self.lock_state();
        (state.members.clone(), state.view.clone())
    }

    /// Delivers the entries that this node wrote in one call.
    pub(super) fn deliver_entries(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        let deliveries = deliveries.into_iter();
        let mut found: SmallVec<[(Arc<LocalPeer>, Delivery); 1]> =
            SmallVec::with_capacity(deliveries.size_hint().0);
        let state = self.lock_state();
        for delivery in deliveries {
            let pending = state.pending_connections.iter().filter(|peer| peer.id == delivery.peer);
            found.extend(pending.map(|peer| (peer.clone(), delivery.clone())));
            if let Some(peer) = state.peers.get(&delivery.peer) {
                found.push((peer.clone(), delivery));
            }
        }
        drop(state);
        found.into_iter().for_each(|(peer, delivery)| peer.deliver_entry(delivery));
    }

    /// Delivers an entry that another node wrote. After an event of the room the view is loaded.
    pub(super) fn deliver_remote_entry(self: &Arc<Self>, delivery: Delivery) {
        if delivery.entry.kind != EntryKind::Forwarded {
            let mut state = self.lock_state();
            state.is_view_stale = true;
            self.start_driver(&mut state);
        }
        self.deliver_entries([delivery]);
    }

    /// Gives the mailbox of a peer a new version. The connection of the peer has ended, and direct
    /// messages may not have arrived. The new version tells the next connection to resync.
    pub fn invalidate_mailbox(self: &Arc<Self>, peer: &PeerId) {
        let (room, peer) = (self.clone(), peer.clone());
        self.context.runtime.spawn(async move {
            while room.context.store.invalidate_mailbox(&room.id, &peer).await.is_err() {
                sleep(STORE_RETRY_DELAY).await;
            }
        });
    }

    /// Counts the bytes that wait in the room again, at most once in [`RECOUNT_INTERVAL`]: a message
    /// was refused, and the store may count too much.
    pub(super) fn recount_backlog(&self) {
        let mut state = self.lock_state();
        if state.recounted_at.is_some_and(|at| at.elapsed() < RECOUNT_INTERVAL) {
            return;
        }
        state.recounted_at = Some(Instant::now());
        let (members, room, context) = (state.members.clone(), self.id.clone(), self.context.clone());
        drop(state);
        self.context.runtime.spawn(async move {
            // After a failure the next refusal counts again.
            let _ = context.store.recount_backlog(&room, &members).await;
        });
    }

    /// Whether the room has no connection and no input.
    pub fn is_idle(&self) -> bool {
        self.lock_state().is_idle()
    }

    /// Compares the local peers with the heads of their mailboxes. A peer that has missed entries reads
    /// its mailbox.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    pub async fn compare_heads(&self) -> Result<(), StoreUnavailable> {
        let (peers, asked) = (self.local_peers(), Instant::now());
        let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id.clone()).collect();
        let heads = self.context.store.load_mailbox_heads(&self.id, &ids).await?;
        for (peer, head) in peers.iter().zip(&heads) {
            peer.compare_head(&self.context.node_id, head, asked);
        }
        self.forget_if_idle();
        Ok(())
    }

    /// Removes an idle room from the registry.
    pub fn forget_if_idle(&self) {
        let Some(rooms) = self.room_map.upgrade() else { return };
        let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // Connections and inputs are added only under the lock of the map or of this room: the room
        // stays idle until it is removed.
        let is_idle = self.lock_state().is_idle();
        if is_idle && rooms.get(&self.id).is_some_and(|found| std::ptr::eq(&**found, self)) {
            rooms.remove(&self.id);
        }
    }
}

impl LocalRoom {
    /// Queues an input at once; the future waits for its result. `request_id` is the id of the request
    /// that caused the input.
    pub fn submit_input(
        self: &Arc<Self>,
        input: RoomInput,
        request_id: Option<RequestId>,
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
        request_id: Option<RequestId>,
    ) -> impl Future<Output = InputResult> + Send + use<> {
        let (sender, result) = oneshot::channel();
        self.push_input(state, QueuedInput { input, request_id, result_sender: Some(sender) });
        async move { result.await.unwrap_or(Err(StoreUnavailable)) }
    }

    fn push_input(self: &Arc<Self>, state: &mut LocalRoomState, queued: QueuedInput) {
        state.input_queue.push(queued);
        self.start_driver(state);
    }

    fn start_driver(self: &Arc<Self>, state: &mut LocalRoomState) {
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
                    sleep(STORE_RETRY_DELAY).await;
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
        decision.outcomes.first().copied().ok_or(StoreUnavailable)
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
            // The caller may no longer wait.
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
        sleep(STORE_RETRY_DELAY).await;
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
        // An unknown room is decided as a new room. If it exists, the conflict returns its state.
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
        self.deliver_entries(commit.deliveries);
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
            Some(RoomInput::Detach { peer: claim.peer.clone(), epoch: *epoch, is_going: false })
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

#[cfg(test)]
mod tests {
    use signalbox_config::ServiceSettings;
    use signalbox_protocol::id::NodeId;
    use signalbox_rooms::store::{RoomStore, StoreLimits};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{connection_subject::ConnectionSubject, node_metrics::NodeMetrics};

    async fn open_socket() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap())
    }

    fn sample_subject(room: &RoomId) -> ConnectionSubject {
        use signalbox_protocol::{
            CredentialRoot,
            id::{TokenId, UserId},
        };
        let (user, token) = (UserId::parse("ann").unwrap(), TokenId::random());
        ConnectionSubject {
            room: room.clone(),
            user,
            token,
            issued_s: 0,
            root: CredentialRoot::App,
            address: None,
        }
    }

    /// Two connections got the same peer, one after the other. Their tasks may learn of it in any
    /// order.
    #[tokio::test]
    async fn the_connection_with_the_newest_epoch_keeps_the_peer() {
        let settings = ServiceSettings::default();
        let store = RoomStore::in_memory(StoreLimits::new(&settings), None);
        let context = NodeContext::new(NodeId::from_bits(1), store, &settings, NodeMetrics::new().unwrap());
        let name = RoomId::parse("r").unwrap();
        let room = LocalRoom::new(name.clone(), context.clone(), Weak::new());
        let mut connections = Vec::new();
        for epoch in [2, 3] {
            let peer = LocalPeer::new(
                PeerId::from_bits(7),
                sample_subject(&name),
                Arc::default(),
                open_socket().await,
                &settings.limits,
                context.socket_budget.open_connection(),
            );
            room.add_pending(&peer);
            peer.set_epoch(epoch);
            connections.push(peer);
        }
        room.activate_peer(&connections[1]);
        room.activate_peer(&connections[0]);
        room.unregister_connection(&connections[0]);
        let found = room.find_peer(&connections[1].id).expect("the newest connection");
        assert!(Arc::ptr_eq(&found, &connections[1]));
    }
}
