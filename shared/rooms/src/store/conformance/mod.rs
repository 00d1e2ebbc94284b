//! The contract of the store, tested over the memory store and every kind of Redis.
//!
//! Owns: the stores under test, and the commits and messages of tests. Next: one file for each part
//! of the contract.

/// Runs each test over every store, under its own name in each.
macro_rules! store_tests {
    (@over $module:ident $kind:ident: $($name:ident $limits:expr),*) => {
        mod $module {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(StoreBackend::over_redis(RedisKind::$kind, $limits).await).await })*
        }
    };
    ($($(#[$doc:meta])* $name:ident($backend:ident, $limits:expr) $body:block)*) => {
        $(async fn $name($backend: StoreBackend) $body)*
        mod memory_store {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(StoreBackend::in_memory($limits)).await })*
        }
        store_tests! { @over one_server Standalone: $($name $limits),* }
        store_tests! { @over one_server_with_tls_and_acl Secured: $($name $limits),* }
        store_tests! { @over behind_sentinels Sentinel: $($name $limits),* }
        store_tests! { @over a_cluster Cluster: $($name $limits),* }
        store_tests! { @over a_server_of_several_deployments Shared: $($name $limits),* }
    };
}

mod backlog;
mod mailboxes;
mod nodes;
mod redis_server;
mod refused_ids;
mod replication_id;
mod rooms;
mod shared_bodies;
mod timeline;
mod webhooks_and_usage;

use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use signalbox_protocol::{
    ErrorCode, LeaveReason,
    id::{CallerId, Role, TokenId, UserId},
};
use signalbox_redis::{RedisClient, RedisStartError, redis_keys};
use signalbox_tests::redis_kind::{ExclusiveRedis, RedisKind};

use super::*;
use crate::room::{Member, PeerAttachment, RoomSettings, RoomState, SanctionList, Tombstone};

const SMALL_LIMITS: StoreLimits = StoreLimits {
    backlog: 8,
    backlog_bytes: 10_000,
    lag_bytes: 2_500,
    room_backlog_bytes: 100_000,
    grant_backlog_bytes: 100_000,
    entry_life_ms: 60_000,
    max_deletion_delay_ms: 4_000,
    room_life_ms: 60_000,
    resume_window_ms: 1_000,
    lease_ms: 300,
    webhooks: None,
    usage: UsageLimits { max_pairs: 3, retention_ms: 60_000 },
    timeline: TimelineLimits { max_pairs: 4, max_steps: 5, retention_ms: 60_000 },
};

/// All keys of rooms.
async fn room_keys(server: &ExclusiveRedis) -> Vec<String> {
    server.keys().await.into_iter().filter(|key| key != redis_keys::PARTITION_COUNT_KEY).collect()
}

const LEFT_TOMBSTONE: Tombstone =
    Tombstone { epoch: 1, reason: LeaveReason::Left, token: None, expires_at: 0 };

/// The deliveries and resyncs for the peers of one node, in order.
#[derive(Default)]
struct RecordedEvents {
    deliveries: Mutex<Vec<Delivery>>,
    resynced_peers: Mutex<Vec<PeerId>>,
    changed: tokio::sync::Notify,
}

impl StoreEvents for RecordedEvents {
    fn deliver_entry(&self, _: &RoomId, delivery: Delivery) {
        self.deliveries.lock().unwrap().push(delivery);
        self.changed.notify_one();
    }
    fn resync_peers(&self, _: &RoomId, peers: &[PeerId]) {
        self.resynced_peers.lock().unwrap().extend_from_slice(peers);
        self.changed.notify_one();
    }
    fn resync_partitions(&self, _: &[usize]) {}
}

impl RecordedEvents {
    async fn wait_for_deliveries(&self, count: usize) -> Vec<Delivery> {
        let deliveries = async {
            loop {
                let seen = self.deliveries.lock().unwrap().clone();
                if seen.len() >= count {
                    return seen;
                }
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), deliveries)
            .await
            .expect("the entries are delivered")
    }
}

/// The store of node 1, and for Redis also the store of node 2.
struct StoreBackend {
    store: RoomStore,
    other_node: Option<(RoomStore, Arc<RecordedEvents>)>,
    server: Option<ExclusiveRedis>,
}

fn test_node(n: u128) -> NodeId {
    NodeId::from_bits(n)
}

fn test_peer(n: u128) -> PeerId {
    PeerId::from_bits(n)
}

fn test_room() -> RoomId {
    RoomId::parse("stand-up").unwrap()
}

impl StoreBackend {
    fn in_memory(limits: StoreLimits) -> Self {
        Self { store: RoomStore::in_memory(limits, None), other_node: None, server: None }
    }

    async fn over_redis(kind: RedisKind, limits: StoreLimits) -> Self {
        let server = kind.acquire().await;
        let connect =
            || RedisRoomStore::new(RedisClient::connect(&server.url(), &server.settings()).unwrap(), limits);
        let (own_store, other_store) = (connect(), connect());
        let recorded = Arc::new(RecordedEvents::default());
        let store_events: Arc<dyn StoreEvents> = recorded.clone();
        other_store.subscribe_topics(&test_node(2), Arc::downgrade(&store_events)).unwrap();
        let other_node = Some((RoomStore::Redis(other_store), recorded));
        Self { store: RoomStore::Redis(own_store), other_node, server: Some(server) }
    }

    /// The store as the auth service has it: some keys are its own. None without Redis.
    fn auth_store(&self, limits: StoreLimits) -> Option<RoomStore> {
        let server = self.server.as_ref()?;
        let client = RedisClient::connect(&server.url_for("auth"), &server.settings()).unwrap();
        Some(RoomStore::Redis(RedisRoomStore::new(client, limits)))
    }

    /// Runs one command on the server of the room.
    async fn run_raw_command<T: ::redis::FromRedisValue>(&self, cmd: &::redis::Cmd) -> T {
        self.server.as_ref().unwrap().run_on_partition(redis_keys::partition_of_room(&test_room()), cmd).await
    }

    async fn join_peer(&self, state: &RoomState, peer: u128, owner: u128) -> RoomState {
        let mut next = state.clone();
        next.version += 1;
        next.members.insert(test_peer(peer), test_member(owner).into());
        let targets: Vec<PeerId> = state.members.keys().cloned().collect();
        let events = if targets.is_empty() { vec![] } else { vec![test_event(peer, targets)] };
        let commit = Commit {
            written_members: vec![(test_peer(peer), test_member(owner).into())],
            adds_data: true,
            events,
            ..empty_commit(state)
        };
        assert!(matches!(
            self.store.commit(&test_room(), &test_node(1), &commit).await,
            Ok(CommitResult::Applied(..))
        ));
        next
    }

    async fn create_room(&self, owners: &[u128]) -> RoomState {
        let mut state = RoomState::new("0a".into(), "".into());
        for (n, owner) in owners.iter().enumerate() {
            state = self.join_peer(&state, n as u128 + 1, *owner).await;
        }
        state
    }

    /// Commits an event, and counts the version of the state.
    async fn commit_event(&self, state: &mut RoomState, event: EventEntry) {
        let written_members = vec![(test_peer(1), test_member(1).into())];
        let commit = Commit { written_members, events: vec![event], ..empty_commit(state) };
        let result = self.store.commit(&test_room(), &test_node(1), &commit).await;
        assert!(matches!(result, Ok(CommitResult::Applied(..))), "{result:?}");
        state.version += 1;
    }

    async fn append_entries(
        &self,
        entries: Vec<OutgoingEntry>,
        state: &RoomState,
    ) -> Result<Vec<AppendResult>, AppendError> {
        self.append_batch(&test_batch(entries, state)).await
    }

    async fn append_batch(&self, batch: &AppendBatch) -> Result<Vec<AppendResult>, AppendError> {
        self.store.append(&test_room(), &test_node(1), batch).await.map(|appended| appended.results)
    }

    async fn load_room(&self) -> Option<RoomState> {
        self.store.load_room(&test_room()).await.unwrap().room
    }

    /// The mailbox page of a peer of node 1.
    async fn owned_page(&self, peer: u128, seq: u64) -> MailboxPage {
        match self.store.read_mailbox(&test_room(), &test_reader(peer), seq).await.unwrap() {
            PeerStatus::Owned(page) => page,
            other => panic!("{other:?}"),
        }
    }
}

fn test_member(owner: u128) -> Member {
    Member {
        user: UserId::parse("alice").unwrap(),
        role: Role::parse("guest").unwrap(),
        name: "Al \"ice\" 🚦".into(),
        metadata: RawValue::from_string(r#"{"a":[1]}"#.into()).unwrap().into(),
        permissions: vec!["message".into()].into(),
        token: TokenId::random(),
        issued: 0,
        expires: 77,
        caller: CallerId::app(),
        root: None,
        creation: None,
        grant_expires: None,
        region: None,
        waiting: false,
        muted: false,
        has_assigned_permissions: false,
        attachment: PeerAttachment::Attached(test_node(owner)),
        epoch: 1,
        generation: 1,
        mailbox_version: 5,
    }
}

fn test_reader(peer: u128) -> MailboxReader {
    MailboxReader { peer: test_peer(peer), node: test_node(1), epoch: 1, replication_id: "?".into() }
}

fn empty_commit(state: &RoomState) -> Commit {
    Commit {
        instance_id: state.instance_id.clone(),
        version: state.version,
        decided_at: 0,
        written_members: vec![],
        removed_peers: vec![],
        expired_tombstones: vec![],
        detached_peers: vec![],
        added_nodes: vec![],
        removed_nodes: vec![],
        resync_requests: vec![],
        adds_data: false,
        opens_room: state.members.is_empty(),
        leaves_room_empty: false,
        ends_room: false,
        settings: None,
        sanctions: None,
        max_life_ms: SMALL_LIMITS.room_life_ms,
        kept_until: 0,
        events: vec![],
        accepted_ids: vec![],
        feed_lines: vec![],
    }
}

fn test_event(about: u128, targets: Vec<PeerId>) -> EventEntry {
    EventEntry {
        about_peer: test_peer(about),
        kind: EntryKind::PeerEvent,
        state: Some(StateKind::Updated),
        body: r#"{"type":"peer-joined"}"#.into(),
        targets,
    }
}

fn test_batch(entries: Vec<OutgoingEntry>, state: &RoomState) -> AppendBatch {
    let members =
        Arc::new(MemberList { version: state.version, peers: state.members.keys().cloned().collect() });
    AppendBatch {
        sender: test_peer(1),
        epoch: 1,
        mailbox_version: 5,
        acked_seq: 0,
        token: TokenId::parse("grant-1").unwrap(),
        known_last_id: 0,
        refused: RefusedIds::default(),
        handle_generation: None,
        members,
        entries,
    }
}

fn refused_ids(ids: &[u64]) -> RefusedIds {
    ids.iter().map(|id| (*id, ErrorCode::NotPermitted)).collect()
}

fn request_id(peer: u128, id: u64, refused: &[u64]) -> RequestId {
    RequestId { peer: test_peer(peer), id, refused: refused_ids(refused) }
}

fn message_to(peer: u128, id: Option<u64>, text: &str) -> OutgoingEntry {
    OutgoingEntry {
        id,
        target: MessageTarget::Peer(test_peer(peer)),
        body: format!(r#"{{"t":"{text}"}}"#).into(),
        requires_room_version: false,
    }
}

fn requiring_version(entry: OutgoingEntry) -> OutgoingEntry {
    OutgoingEntry { requires_room_version: true, ..entry }
}

fn message_to_room(id: Option<u64>) -> OutgoingEntry {
    OutgoingEntry {
        id,
        target: MessageTarget::Room,
        body: r#"{"all":1}"#.into(),
        requires_room_version: false,
    }
}

fn result_letters(results: &[AppendResult]) -> String {
    let letter = |result: &AppendResult| match result {
        AppendResult::Written(_) => 'w',
        AppendResult::Duplicate => 'd',
        AppendResult::RefusedBefore(_) => 'e',
        AppendResult::NoSuchPeer => 'n',
        AppendResult::Backlogged(BacklogBound::Mailbox) => 'b',
        AppendResult::Backlogged(BacklogBound::Room) => 'r',
        AppendResult::Backlogged(BacklogBound::Grant) => 'g',
        AppendResult::Backlogged(BacklogBound::Memory) => 'm',
        AppendResult::Stale => 's',
    };
    results.iter().map(letter).collect()
}
