//! Changes a room: decide, commit, decide again after a conflict, resolve an unknown outcome.
//!
//! Owns: [`commit_inputs`], the only loop that commits decisions. A node and an API process run it
//! through a [`CommitHost`], which says where the state comes from and what follows a commit.
//! Must not: queue inputs, know a connection, or decide who may change a room.
//! Next: `room::decide` decides, `commit_builder` encodes, `store` commits, `removal` finds peers
//! that must not return.

use std::{future::Future, sync::Arc};

use signalbox_protocol::id::{NodeId, PeerId, RoomId, random_hex};

use crate::{
    commit_builder::{build_commit, build_feed_lines},
    removal::{RemovedPeer, find_removed_peers, removed_peers},
    room::{Decision, InputOutcome, ReplicationId, RoomInput, RoomPolicy, RoomState, decide},
    store::{CommitResult, Delivery, LoadedRoom, RequestId, RoomStore, StoreUnavailable},
};

/// The result of one input: its outcome and the state of the room after it. After
/// [`StoreUnavailable`] it is unknown whether the room changed.
pub type InputResult = Result<(InputOutcome, Arc<RoomState>), StoreUnavailable>;

/// A process that changes one room: a node that serves its peers, or an API process.
pub trait CommitHost: Send + Sync + 'static {
    /// The number of conflicts in a row after which the loop gives up.
    const MAX_COMMIT_ATTEMPTS: usize;

    /// The room.
    fn room_id(&self) -> &RoomId;

    /// The node in whose name the room is changed.
    fn node_id(&self) -> &NodeId;

    /// The store that holds the room.
    fn store(&self) -> &RoomStore;

    /// The rules of the room at this moment.
    fn policy(&self) -> RoomPolicy;

    /// A state on which these inputs may be decided without asking the store. A state that is too
    /// old causes a conflict and no harm. None: the state must be loaded first.
    fn cached_state(&self, inputs: &[RoomInput]) -> Option<Arc<RoomState>>;

    /// Loads the current state.
    ///
    /// # Errors
    /// [`StoreUnavailable`].
    fn load_state(&self) -> impl Future<Output = Result<Arc<RoomState>, StoreUnavailable>> + Send;

    /// Keeps a state that the store returned with a conflict, and gives the state to decide on.
    fn adopt_loaded(&self, loaded: LoadedRoom) -> Arc<RoomState>;

    /// A moderator or the API has removed a peer. Must not block.
    fn notify_removed(&self, removed: RemovedPeer);

    /// A commit was applied. Must not block.
    fn after_commit(&self, commit: AppliedCommit);
}

/// Inputs that are decided together and committed at once.
#[derive(Debug)]
pub struct InputBatch {
    /// The inputs, in order.
    pub inputs: Vec<RoomInput>,
    /// For each input: the id of the request that caused the input.
    pub request_ids: Vec<Option<RequestId>>,
}

/// The changes of a commit, for the process that committed.
#[derive(Debug)]
pub struct AppliedCommit {
    /// The state before the commit.
    pub before: Arc<RoomState>,
    /// The state after the commit.
    pub state: Arc<RoomState>,
    /// Entries for peers of this node.
    pub deliveries: Vec<Delivery>,
    /// Peers of this node that another connection owns now, or that left, or left the lobby.
    pub resync_peers: Vec<PeerId>,
}

/// The result of a batch that was committed, or that changed nothing.
#[derive(Debug)]
pub struct BatchResult {
    /// One outcome for each input.
    pub outcomes: Vec<InputOutcome>,
    /// The state of the room after the batch.
    pub state: Arc<RoomState>,
}

/// The store did not answer.
#[derive(Debug)]
pub struct BatchFailure {
    /// The decision that may have been committed. None: the room was not changed.
    pub uncertain: Option<Decision>,
}

impl From<StoreUnavailable> for BatchFailure {
    fn from(_: StoreUnavailable) -> Self {
        Self { uncertain: None }
    }
}

impl InputBatch {
    /// The ids of the requests that the decision carries out. A refused request does not use its
    /// id.
    fn accepted_ids(&self, decision: &Decision) -> Vec<RequestId> {
        let results = self.request_ids.iter().zip(&decision.outcomes);
        let applied = results.filter(|(_, outcome)| outcome.is_applied());
        applied.filter_map(|(request_id, _)| request_id.clone()).collect()
    }
}

/// Decides a batch on the state of the room and commits the decision. After a conflict the batch
/// is decided again on the state that won.
///
/// # Errors
/// [`BatchFailure`], also after [`CommitHost::MAX_COMMIT_ATTEMPTS`] conflicts.
pub async fn commit_inputs<H: CommitHost>(
    host: &Arc<H>,
    batch: &InputBatch,
) -> Result<BatchResult, BatchFailure> {
    let mut cached = host.cached_state(&batch.inputs);
    let mut is_current = cached.is_none();
    let mut conflicts = 0;
    while conflicts < H::MAX_COMMIT_ATTEMPTS {
        let before = match cached.take() {
            Some(state) => state,
            None => host.load_state().await?,
        };
        match commit_once(host, batch, before, is_current).await? {
            CommitAttempt::Finished(result) => return Ok(result),
            CommitAttempt::NeedsCurrentState => {}
            CommitAttempt::Conflict(loaded) => {
                cached = Some(host.adopt_loaded(loaded));
                conflicts += 1;
            }
        }
        is_current = true;
    }
    Err(StoreUnavailable.into())
}

enum CommitAttempt {
    Finished(BatchResult),
    /// The decision changes nothing. No commit compares its state with the store, and a refusal
    /// must not rest on an old state.
    NeedsCurrentState,
    Conflict(LoadedRoom),
}

async fn commit_once<H: CommitHost>(
    host: &Arc<H>,
    batch: &InputBatch,
    before: Arc<RoomState>,
    is_current: bool,
) -> Result<CommitAttempt, BatchFailure> {
    let (room, node, policy) = (host.room_id(), host.node_id(), host.policy());
    let now = host.store().now_ms().max(before.read_at);
    let decision = decide(&before, now, &batch.inputs, &policy);
    if decision.is_empty() {
        return Ok(match is_current {
            true => CommitAttempt::Finished(BatchResult { outcomes: decision.outcomes, state: before }),
            false => CommitAttempt::NeedsCurrentState,
        });
    }
    let accepted_ids = batch.accepted_ids(&decision);
    let mut commit = build_commit(node, now, &before, &decision, accepted_ids, &policy);
    if host.store().has_feed_reader() {
        commit.feed_lines = build_feed_lines(room, node, now, &before, &decision);
    }
    match host.store().commit(room, node, &commit).await {
        Ok(CommitResult::Applied(replication_id, deliveries)) => {
            Ok(CommitAttempt::Finished(finish_commit(host, before, decision, replication_id, deliveries)))
        }
        Ok(CommitResult::Conflict(loaded)) => Ok(CommitAttempt::Conflict(loaded)),
        Err(StoreUnavailable) => {
            resolve_unknown_commit(host, &decision);
            Err(BatchFailure { uncertain: Some(decision) })
        }
    }
}

fn finish_commit<H: CommitHost>(
    host: &Arc<H>,
    before: Arc<RoomState>,
    decision: Decision,
    replication_id: ReplicationId,
    deliveries: Vec<Delivery>,
) -> BatchResult {
    if !decision.removed_members.is_empty() {
        removed_peers(&decision).for_each(|removed| host.notify_removed(removed));
    }
    let owned_here = decision.peers_to_resync(&before).filter(|(owner, _)| *owner == host.node_id());
    let resync_peers = owned_here.map(|(_, peer)| peer.clone()).collect();
    let state = Arc::new(RoomState { replication_id, ..decision.next_state });
    host.after_commit(AppliedCommit { before, state: state.clone(), deliveries, resync_peers });
    BatchResult { outcomes: decision.outcomes, state }
}

/// Finds out which peers a commit with an unknown outcome has removed, and reports those: a removed
/// peer must not return.
fn resolve_unknown_commit<H: CommitHost>(host: &Arc<H>, decision: &Decision) {
    let candidates: Vec<_> = removed_peers(decision).collect();
    if candidates.is_empty() {
        return;
    }
    let host = host.clone();
    tokio::spawn(async move {
        for removed in find_removed_peers(host.store(), host.room_id(), candidates).await {
            host.notify_removed(removed);
        }
    });
}

/// The state that a load has brought, or the state of a room before its first commit.
pub fn state_or_new(loaded: LoadedRoom) -> RoomState {
    loaded.room.unwrap_or_else(|| RoomState {
        read_at: loaded.now,
        ..RoomState::new(random_hex().into(), loaded.replication_id)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use signalbox_config::ServiceSettings;
    use signalbox_protocol::LeaveReason;

    use super::*;
    use crate::{
        room::tests::{test_member, test_peer},
        store::{RefusedIds, StoreLimits},
    };

    /// A host whose cached state is always that of a room before its first commit.
    struct TestHost {
        room_id: RoomId,
        node_id: NodeId,
        store: RoomStore,
        loads: AtomicUsize,
    }

    impl TestHost {
        fn new() -> Arc<Self> {
            let store = RoomStore::in_memory(StoreLimits::new(&ServiceSettings::default()), None);
            let (room_id, node_id) = (RoomId::parse("r").unwrap(), NodeId::from_bits(1));
            Arc::new(Self { room_id, node_id, store, loads: AtomicUsize::new(0) })
        }
    }

    impl CommitHost for TestHost {
        const MAX_COMMIT_ATTEMPTS: usize = 2;

        fn room_id(&self) -> &RoomId {
            &self.room_id
        }

        fn node_id(&self) -> &NodeId {
            &self.node_id
        }

        fn store(&self) -> &RoomStore {
            &self.store
        }

        fn policy(&self) -> RoomPolicy {
            RoomPolicy::new(&ServiceSettings::default())
        }

        fn cached_state(&self, _: &[RoomInput]) -> Option<Arc<RoomState>> {
            Some(Arc::new(RoomState::new("unknown".into(), ReplicationId::default())))
        }

        async fn load_state(&self) -> Result<Arc<RoomState>, StoreUnavailable> {
            self.loads.fetch_add(1, Ordering::Relaxed);
            Ok(self.adopt_loaded(self.store.load_room(&self.room_id).await?))
        }

        fn adopt_loaded(&self, loaded: LoadedRoom) -> Arc<RoomState> {
            Arc::new(state_or_new(loaded))
        }

        fn notify_removed(&self, _: RemovedPeer) {}

        fn after_commit(&self, _: AppliedCommit) {}
    }

    fn join(n: u8) -> RoomInput {
        RoomInput::Join { peer: test_peer(n), member: test_member(n, 1) }
    }

    fn leave(n: u8) -> RoomInput {
        RoomInput::Leave { peer: test_peer(n), epoch: 1, reason: LeaveReason::Left }
    }

    fn request_id(id: u64) -> RequestId {
        RequestId { peer: test_peer(1), id, refused: RefusedIds::default() }
    }

    fn batch(inputs: Vec<RoomInput>) -> InputBatch {
        let request_ids = inputs.iter().zip(1..).map(|(_, id)| Some(request_id(id))).collect();
        InputBatch { inputs, request_ids }
    }

    #[tokio::test]
    async fn a_conflict_is_decided_again_on_the_state_that_won() {
        let host = TestHost::new();
        commit_inputs(&host, &batch(vec![join(1)])).await.unwrap();
        let result = commit_inputs(&host, &batch(vec![join(2)])).await.unwrap();
        assert_eq!(result.outcomes, [InputOutcome::Done]);
        assert_eq!(result.state.members.len(), 2);
        assert_eq!(host.loads.load(Ordering::Relaxed), 0, "the conflict brought the state");
    }

    #[tokio::test]
    async fn a_refusal_rests_on_a_loaded_state() {
        let host = TestHost::new();
        commit_inputs(&host, &batch(vec![join(1)])).await.unwrap();
        let result = commit_inputs(&host, &batch(vec![leave(1)])).await.unwrap();
        assert_eq!(result.outcomes, [InputOutcome::Done], "the peer is unknown to the cached state only");
        assert_eq!(host.loads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_refused_request_does_not_use_its_id() {
        let state = RoomState::new("r".into(), "L1".into());
        let batch = batch(vec![join(1), leave(2), leave(1)]);
        let policy = RoomPolicy::new(&ServiceSettings::default());
        let decision = decide(&state, 0, &batch.inputs, &policy);
        assert_eq!(batch.accepted_ids(&decision), [request_id(1), request_id(3)]);
    }
}
