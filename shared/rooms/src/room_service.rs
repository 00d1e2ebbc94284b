//! Changing a room without a socket in it: load, decide, commit, and again if somebody was faster.
//!
//! Owns: [`RoomService`], what the API of a process needs of rooms, and [`RemoteRoomService`], which keeps it for a process that serves no peer. Where one
//! process serves both, its node keeps it, so that its own peers hear at once. Must not: judge who may ask.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use signalbox_protocol::id::{NodeId, RoomId, random_hex};
use tokio::time::timeout;

use crate::{
    commit_builder,
    removal::{RemovalHook, find_removed_peers, removed_peers},
    room::{Decision, InputOutcome, RoomInput, RoomPolicy, RoomState, decide},
    store::{CommitResult, LoadedRoom, RoomStore, StoreUnavailable},
};

/// How often another may be faster before the clerk gives up.
const MAX_COMMIT_ATTEMPTS: usize = 16;

/// How long one change may take, all turns together.
const CHANGE_DEADLINE: Duration = Duration::from_secs(5);

/// What becomes of a change: its outcome and the room as it is then.
pub type ChangeFuture<'a> =
    Pin<Box<dyn Future<Output = Result<(InputOutcome, Arc<RoomState>), StoreUnavailable>> + Send + 'a>>;

/// Rooms as an API sees them.
pub trait RoomService: Send + Sync {
    /// Changes a room. After [`StoreUnavailable`] nobody knows whether it was changed.
    fn change_room<'a>(&'a self, room: &'a RoomId, input: RoomInput) -> ChangeFuture<'a>;
    /// The store of the rooms.
    fn store(&self) -> &RoomStore;
}

/// Changes rooms and serves none.
pub struct RemoteRoomService(Arc<RoomCommitter>);

/// What a change needs, wherever it is made.
struct RoomCommitter {
    store: RoomStore,
    policy: RoomPolicy,
    /// Owns no peer and renews no lease: only commits name it.
    node_id: NodeId,
    removal_hook: RemovalHook,
}

impl RemoteRoomService {
    /// A clerk over a store.
    pub fn new(store: RoomStore, rules: RoomPolicy, on_taken_back: RemovalHook) -> Self {
        Self(Arc::new(RoomCommitter {
            store,
            policy: rules,
            node_id: NodeId::random(),
            removal_hook: on_taken_back,
        }))
    }
}

impl RoomCommitter {
    async fn change_and_retry(
        self: &Arc<Self>,
        room: &RoomId,
        input: RoomInput,
    ) -> Result<(InputOutcome, Arc<RoomState>), StoreUnavailable> {
        let inputs = [input];
        let store = &self.store;
        let mut found = store.load_room(room).await?;
        for _ in 0..MAX_COMMIT_ATTEMPTS {
            let (now, state) = (found.now, into_room_state(found));
            let decision = decide(&state, now, &inputs, &self.policy);
            let outcome = decision.outcomes.first().copied().unwrap_or(InputOutcome::PeerGone);
            if decision.is_empty() {
                return Ok((outcome, Arc::new(state)));
            }
            let commit = commit_builder::build_commit(
                room,
                &self.node_id,
                now,
                &state,
                &decision,
                Vec::new(),
                &self.policy,
            );
            match store.commit(room, &self.node_id, &commit).await {
                Ok(CommitResult::Applied(lineage, _)) => {
                    removed_peers(&decision).for_each(|who| (self.removal_hook)(who));
                    return Ok((
                        outcome,
                        Arc::new(RoomState { replication_id: lineage, ..decision.next_state }),
                    ));
                }
                Ok(CommitResult::Conflict(fresh)) => found = fresh,
                Err(StoreUnavailable) => {
                    self.resolve_unknown_commit(room, &decision);
                    return Err(StoreUnavailable);
                }
            }
        }
        Err(StoreUnavailable)
    }

    /// Nobody knows whether it was done: who was removed all the same must not come back.
    fn resolve_unknown_commit(self: &Arc<Self>, room: &RoomId, decision: &Decision) {
        let doubtful: Vec<_> = removed_peers(decision).collect();
        if doubtful.is_empty() {
            return;
        }
        let (desk, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            find_removed_peers(&desk.store, &room, doubtful)
                .await
                .into_iter()
                .for_each(|who| (desk.removal_hook)(who));
        });
    }
}

impl RoomService for RemoteRoomService {
    fn change_room<'a>(&'a self, room: &'a RoomId, input: RoomInput) -> ChangeFuture<'a> {
        let (desk, room) = (self.0.clone(), room.clone());
        // A task of its own: whoever asked may hang up between a commit and what follows from it.
        let change = tokio::spawn(async move { desk.change_and_retry(&room, input).await });
        Box::pin(async move {
            match timeout(CHANGE_DEADLINE, change).await {
                Ok(Ok(changed)) => changed,
                _ => Err(StoreUnavailable),
            }
        })
    }

    fn store(&self) -> &RoomStore {
        &self.0.store
    }
}

/// The room that was found, or one before its first commit.
fn into_room_state(found: LoadedRoom) -> RoomState {
    found.room.unwrap_or_else(|| RoomState {
        read_at: found.now,
        ..RoomState::new(random_hex().into(), found.replication_id)
    })
}

#[cfg(test)]
mod tests {
    use signalbox_config::ServiceSettings;
    use signalbox_protocol::LeaveReason;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        removal::RemovedPeer,
        room::{
            ManageRoom, Member, PeerSelector, RoomAction, RoomPatch, RoomSettings,
            tests::{test_member, test_peer},
        },
        store::StoreLimits,
    };

    fn test_service() -> RemoteRoomService {
        let settings = ServiceSettings::default();
        let store = RoomStore::in_memory(StoreLimits::new(&settings), None);
        RemoteRoomService::new(store, RoomPolicy::new(&settings), Arc::new(|_| {}))
    }

    fn test_room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    async fn create_test_room(clerk: &RemoteRoomService) -> InputOutcome {
        let now = clerk.store().now_ms();
        let settings = RoomSettings { created_at: now, kept_until: now + 60_000, ..RoomSettings::default() };
        clerk
            .change_room(&test_room(), ManageRoom::from_api(RoomAction::Create(settings.into())))
            .await
            .unwrap()
            .0
    }

    #[tokio::test]
    async fn a_created_room_can_be_changed_and_deleted() {
        let clerk = test_service();
        assert_eq!(create_test_room(&clerk).await, InputOutcome::Done);
        let (outcome, state) =
            clerk.change_room(&test_room(), ManageRoom::from_api(RoomAction::Lock(true))).await.unwrap();
        assert_eq!((outcome, state.settings.locked), (InputOutcome::Done, true));
        clerk.change_room(&test_room(), ManageRoom::from_api(RoomAction::Delete)).await.unwrap();
        let (outcome, _) =
            clerk.change_room(&test_room(), ManageRoom::from_api(RoomAction::Lock(true))).await.unwrap();
        assert_eq!(outcome, InputOutcome::NoSuchRoom);
    }

    #[tokio::test]
    async fn concurrent_changes_are_all_applied() {
        let clerk = Arc::new(test_service());
        create_test_room(&clerk).await;
        let change = |n: u64| {
            let clerk = clerk.clone();
            async move {
                let patch = RoomPatch { max_peers: Some(Some(n as u32)), ..RoomPatch::default() };
                clerk
                    .change_room(&test_room(), ManageRoom::from_api(RoomAction::Configure(patch)))
                    .await
                    .unwrap()
                    .0
            }
        };
        let outcomes = futures_util::future::join_all((1..=8).map(change)).await;
        assert!(outcomes.iter().all(|outcome| *outcome == InputOutcome::Done));
        assert_eq!(clerk.store().load_room(&test_room()).await.unwrap().room.unwrap().version, 9);
    }

    /// Two peers in a room, of whom the first is to be removed.
    async fn add_two_peers(clerk: &RemoteRoomService) -> RoomInput {
        for n in [1, 2] {
            clerk
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
        let (told, mut heard) = mpsc::unbounded_channel();
        let hook: RemovalHook = Arc::new(move |who| told.send(who).unwrap());
        let store = RoomStore::in_memory(StoreLimits::new(&settings), None);
        let clerk = RemoteRoomService::new(store, RoomPolicy::new(&settings), hook);
        let removal = add_two_peers(&clerk).await;
        drop(clerk.change_room(&test_room(), removal));
        assert_eq!(heard.recv().await.unwrap().peer, test_peer(1));
    }

    #[tokio::test]
    async fn an_unknown_commit_reveals_only_the_removed_peers() {
        let clerk = test_service();
        let removal = add_two_peers(&clerk).await;
        clerk.change_room(&test_room(), removal).await.unwrap();
        let doubtful = |n| {
            let Member { user, token, expires, .. } = *test_member(n, 1);
            RemovedPeer { peer: test_peer(n), user, token, token_expires_s: expires }
        };
        let removed = find_removed_peers(clerk.store(), &test_room(), vec![doubtful(1), doubtful(2)]).await;
        assert_eq!(removed.iter().map(|who| &who.peer).collect::<Vec<_>>(), [&test_peer(1)]);
    }
}
