//! Rooms for the HTTP API of a process.
//!
//! Owns: [`RoomService`], what the API needs of rooms, and [`RemoteRoomService`], which implements
//! it in a process that serves no peers. In a process that does, the node implements it, so that
//! its own peers receive events at once. Must not: decide who may change a room.
//! Next: `commit_loop` decides and commits.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use signalbox_config::{LiveValue, ServiceSettings};
use signalbox_protocol::id::{NodeId, RoomId};
use tokio::time::timeout;

use crate::{
    commit_loop::{AppliedCommit, CommitHost, InputBatch, InputResult, commit_inputs, state_or_new},
    removal::{RemovalHook, RemovedPeer},
    room::{RoomInput, RoomPolicy, RoomState},
    store::{LoadedRoom, RoomStore, StoreLimits, StoreUnavailable},
};

/// The time that one change may take, with all its attempts.
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);

/// A change in progress.
pub type ChangeFuture<'a> = Pin<Box<dyn Future<Output = InputResult> + Send + 'a>>;

/// Rooms as the API sees them.
pub trait RoomService: Send + Sync {
    /// Changes a room. After [`StoreUnavailable`] it is unknown whether the room changed.
    fn change_room<'a>(&'a self, room: &'a RoomId, input: RoomInput) -> ChangeFuture<'a>;
    /// The store that holds the rooms.
    fn store(&self) -> &RoomStore;
}

/// Changes rooms in a process that serves no peers.
pub struct RemoteRoomService {
    store: Arc<RoomStore>,
    policy: LiveValue<RoomPolicy>,
    /// The name of this process in commits. It owns no peer and has no lease.
    node_id: NodeId,
    removal_hook: RemovalHook,
}

impl RemoteRoomService {
    /// A service over a store.
    pub fn new(store: RoomStore, policy: RoomPolicy, removal_hook: RemovalHook) -> Self {
        let policy = LiveValue::new(policy);
        Self { store: Arc::new(store), policy, node_id: NodeId::random(), removal_hook }
    }

    /// Puts the limits and the policy of a new configuration in force.
    pub fn reload(&self, settings: &ServiceSettings) {
        self.policy.replace(RoomPolicy::new(settings));
        self.store.set_limits(StoreLimits::new(settings));
    }
}

impl RoomService for RemoteRoomService {
    fn change_room<'a>(&'a self, room: &'a RoomId, input: RoomInput) -> ChangeFuture<'a> {
        let host = RemoteRoom {
            room_id: room.clone(),
            node_id: self.node_id.clone(),
            store: self.store.clone(),
            policy: self.policy.read(RoomPolicy::clone),
            removal_hook: self.removal_hook.clone(),
        };
        // A task of its own: the caller may disconnect between a commit and the removal hook.
        let change = tokio::spawn(host.change(input));
        Box::pin(async move {
            match timeout(CHANGE_DEADLINE, change).await {
                Ok(Ok(result)) => result,
                _ => Err(StoreUnavailable),
            }
        })
    }

    fn store(&self) -> &RoomStore {
        &self.store
    }
}

/// One room, for one change.
struct RemoteRoom {
    room_id: RoomId,
    node_id: NodeId,
    store: Arc<RoomStore>,
    policy: RoomPolicy,
    removal_hook: RemovalHook,
}

impl RemoteRoom {
    async fn change(self, input: RoomInput) -> InputResult {
        let batch = InputBatch { inputs: vec![input], request_ids: vec![None] };
        let result = commit_inputs(&Arc::new(self), &batch).await.map_err(|_| StoreUnavailable)?;
        let outcome = result.outcomes.first().copied().ok_or(StoreUnavailable)?;
        Ok((outcome, result.state))
    }
}

impl CommitHost for RemoteRoom {
    const MAX_COMMIT_ATTEMPTS: usize = 16;

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
        self.policy.clone()
    }

    fn cached_state(&self, _: &[RoomInput]) -> Option<Arc<RoomState>> {
        None
    }

    async fn load_state(&self) -> Result<Arc<RoomState>, StoreUnavailable> {
        Ok(self.adopt_loaded(self.store.load_room(&self.room_id).await?))
    }

    fn adopt_loaded(&self, loaded: LoadedRoom) -> Arc<RoomState> {
        Arc::new(state_or_new(loaded))
    }

    fn notify_removed(&self, removed: RemovedPeer) {
        (self.removal_hook)(&self.room_id, removed);
    }

    fn after_commit(&self, _: AppliedCommit) {}
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::LeaveReason;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        removal::find_removed_peers,
        room::{
            InputOutcome, ManageRoom, Member, PeerSelector, RoomAction, RoomPatch, RoomSettings,
            tests::{test_member, test_peer},
        },
    };

    fn test_service() -> RemoteRoomService {
        let settings = ServiceSettings::default();
        let store = RoomStore::in_memory(StoreLimits::new(&settings), None);
        RemoteRoomService::new(store, RoomPolicy::new(&settings), Arc::new(|_, _| {}))
    }

    fn test_room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    async fn create_test_room(service: &RemoteRoomService) -> InputOutcome {
        let now = service.store().now_ms();
        let settings = RoomSettings { created_at: now, kept_until: now + 60_000, ..RoomSettings::default() };
        service
            .change_room(&test_room(), ManageRoom::from_api(RoomAction::Create(settings.into())))
            .await
            .unwrap()
            .0
    }

    #[tokio::test]
    async fn a_created_room_can_be_changed_and_deleted() {
        let service = test_service();
        assert_eq!(create_test_room(&service).await, InputOutcome::Done);
        let (outcome, state) =
            service.change_room(&test_room(), ManageRoom::from_api(RoomAction::Lock(true))).await.unwrap();
        assert_eq!((outcome, state.settings.locked), (InputOutcome::Done, true));
        service.change_room(&test_room(), ManageRoom::from_api(RoomAction::Delete)).await.unwrap();
        let (outcome, _) =
            service.change_room(&test_room(), ManageRoom::from_api(RoomAction::Lock(true))).await.unwrap();
        assert_eq!(outcome, InputOutcome::NoSuchRoom);
    }

    #[tokio::test]
    async fn concurrent_changes_are_all_applied() {
        let service = Arc::new(test_service());
        create_test_room(&service).await;
        let change = |n: u64| {
            let service = service.clone();
            async move {
                let patch = RoomPatch { max_peers: Some(Some(n as u32)), ..RoomPatch::default() };
                service
                    .change_room(&test_room(), ManageRoom::from_api(RoomAction::Configure(patch)))
                    .await
                    .unwrap()
                    .0
            }
        };
        let outcomes = futures_util::future::join_all((1..=8).map(change)).await;
        assert!(outcomes.iter().all(|outcome| *outcome == InputOutcome::Done));
        assert_eq!(service.store().load_room(&test_room()).await.unwrap().room.unwrap().version, 9);
    }

    /// Adds two peers, and returns the input that removes the first.
    async fn add_two_peers(service: &RemoteRoomService) -> RoomInput {
        for n in [1, 2] {
            service
                .change_room(&test_room(), RoomInput::Join { peer: test_peer(n), member: test_member(n, 1) })
                .await
                .unwrap();
        }
        ManageRoom::from_api(RoomAction::Remove {
            selector: PeerSelector::Peer(test_peer(1)),
            reason: LeaveReason::Removed,
        })
    }

    #[tokio::test]
    async fn the_removal_hook_runs_after_the_caller_has_gone() {
        let settings = ServiceSettings::default();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let hook: RemovalHook = Arc::new(move |_, removed| sender.send(removed).unwrap());
        let store = RoomStore::in_memory(StoreLimits::new(&settings), None);
        let service = RemoteRoomService::new(store, RoomPolicy::new(&settings), hook);
        let removal = add_two_peers(&service).await;
        drop(service.change_room(&test_room(), removal));
        assert_eq!(receiver.recv().await.unwrap().peer, test_peer(1));
    }

    #[tokio::test]
    async fn an_unknown_commit_reveals_only_the_removed_peers() {
        let service = test_service();
        let removal = add_two_peers(&service).await;
        service.change_room(&test_room(), removal).await.unwrap();
        let candidate = |n| {
            let member = *test_member(n, 1);
            let root = member.credential_root();
            let Member {
                user, token, expires: token_expires_s, grant_expires: grant_expires_s, caller, ..
            } = member;
            RemovedPeer { peer: test_peer(n), user, token, token_expires_s, grant_expires_s, caller, root }
        };
        let removed =
            find_removed_peers(service.store(), &test_room(), vec![candidate(1), candidate(2)]).await;
        assert_eq!(removed.iter().map(|removed| &removed.peer).collect::<Vec<_>>(), [&test_peer(1)]);
    }
}
