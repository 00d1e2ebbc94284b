//! The contract of the store, as tests over both stores: what holds in memory holds in Redis.
//!
//! Owns: the stores under test, and what a commit in a test is made of. Next: a file for each part of the contract.

/// Each test runs over both stores, under its own name in each.
macro_rules! contract {
    (@over $module:ident $kind:ident: $($name:ident $bounds:expr),*) => {
        mod $module {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(Backend::redis(Kind::$kind, $bounds).await).await })*
        }
    };
    ($($(#[$doc:meta])* $name:ident($backend:ident, $bounds:expr) $body:block)*) => {
        $(async fn $name($backend: Backend) $body)*
        mod memory_store {
            use super::*;
            $(#[tokio::test] async fn $name() { super::$name(Backend::memory($bounds)).await })*
        }
        contract! { @over one_server Standalone: $($name $bounds),* }
        contract! { @over one_server_with_tls_and_acl Guarded: $($name $bounds),* }
        contract! { @over behind_sentinels Sentinel: $($name $bounds),* }
        contract! { @over a_cluster Cluster: $($name $bounds),* }
    };
}

mod lineage;
mod mailboxes;
mod nodes;
mod recorded;
mod rooms;
mod server;

use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use signalbox_protocol::{
    LeftReason,
    id::{CallerId, Role, TokenId, UserId},
};
use signalbox_redis::keys;
use signalbox_tests::redis_kinds::{Kind, Lease};

use super::*;
use crate::room::{Member, Presence, RoomSettings, RoomState, Tombstone};

const SMALL: Bounds = Bounds {
    backlog: 8,
    backlog_bytes: 10_000,
    entry_life_ms: 60_000,
    slack_ms: 4_000,
    room_life_ms: 60_000,
    window_ms: 1_000,
    lease_ms: 300,
    hooks: None,
    usage: UsageBounds { pairs: 3, kept_ms: 60_000 },
};

/// What is there of rooms.
async fn rooms_of(server: &Lease) -> Vec<String> {
    server.keys().await.into_iter().filter(|key| key != keys::PARTITION_COUNT).collect()
}

const LEFT: Tombstone = Tombstone { epoch: 1, reason: LeftReason::Left, until: 0 };

/// What came in for the peers of one node, in the order it came.
#[derive(Default)]
struct Arrived {
    seen: Mutex<Vec<Delivery>>,
    noticed: Mutex<Vec<PeerId>>,
    more: tokio::sync::Notify,
}

impl Arrivals for Arrived {
    fn deliver(&self, _: &RoomId, delivery: Delivery) {
        self.seen.lock().unwrap().push(delivery);
        self.more.notify_one();
    }
    fn look_after(&self, _: &RoomId, peers: &[PeerId]) {
        self.noticed.lock().unwrap().extend_from_slice(peers);
        self.more.notify_one();
    }
    fn catch_up(&self, _: &[usize]) {}
}

impl Arrived {
    async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        let enough = async {
            loop {
                let seen = self.seen.lock().unwrap().clone();
                if seen.len() >= count {
                    return seen;
                }
                self.more.notified().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), enough).await.expect("the push came")
    }
}

/// A store as node 1 sees it, and for Redis the same store as node 2 sees it.
struct Backend {
    store: Store,
    other: Option<(Store, Arc<Arrived>)>,
    server: Option<Lease>,
}

fn node(n: u128) -> NodeId {
    NodeId::from_bits(n)
}

fn peer(n: u128) -> PeerId {
    PeerId::from_bits(n)
}

fn room() -> RoomId {
    RoomId::parse("stand-up").unwrap()
}

impl Backend {
    fn memory(bounds: Bounds) -> Self {
        Self { store: Store::memory(bounds, None), other: None, server: None }
    }

    async fn redis(kind: Kind, bounds: Bounds) -> Self {
        let server = kind.lease().await;
        let connect = || RedisStore::connect(&server.url(), &server.settings(), bounds).unwrap();
        let (mine, others) = (connect(), connect());
        let arrived = Arc::new(Arrived::default());
        let arrivals: Arc<dyn Arrivals> = arrived.clone();
        others.listen(&node(2), Arc::downgrade(&arrivals)).unwrap();
        let other = Some((Store::Redis(others), arrived));
        Self { store: Store::Redis(mine), other, server: Some(server) }
    }

    /// One command on the server of the room.
    async fn raw<T: ::redis::FromRedisValue>(&self, cmd: &::redis::Cmd) -> T {
        self.server.as_ref().unwrap().at(keys::partition(&room()), cmd).await
    }

    async fn join(&self, state: &RoomState, who: u128, owner: u128) -> RoomState {
        let mut next = state.clone();
        next.version += 1;
        next.members.insert(peer(who), member(owner));
        let targets: Vec<PeerId> = state.members.keys().cloned().collect();
        let events = if targets.is_empty() { vec![] } else { vec![announcement(who, targets)] };
        let commit = Commit { put: vec![(peer(who), member(owner))], grows: true, events, ..empty(state) };
        assert!(matches!(self.store.commit(&room(), &node(1), &commit).await, Ok(Committed::Applied(..))));
        next
    }

    async fn room_of(&self, owners: &[u128]) -> RoomState {
        let mut state = RoomState::new("0a".into(), "".into());
        for (n, owner) in owners.iter().enumerate() {
            state = self.join(&state, n as u128 + 1, *owner).await;
        }
        state
    }

    async fn append(&self, items: Vec<Item>, state: &RoomState) -> Result<Vec<Appended>, AppendError> {
        self.send(&batch(items, state)).await
    }

    async fn send(&self, batch: &Append) -> Result<Vec<Appended>, AppendError> {
        self.store.append(&room(), &node(1), batch).await.map(|batched| batched.results)
    }

    async fn load(&self) -> Option<RoomState> {
        self.store.load(&room()).await.unwrap().room
    }

    /// The page of a peer of node 1.
    async fn page(&self, who: u128, seq: u64) -> Page {
        match self.store.read(&room(), &reader(who), seq).await.unwrap() {
            Look::Mine(page) => page,
            other => panic!("{other:?}"),
        }
    }
}

fn member(owner: u128) -> Member {
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
        region: None,
        waiting: false,
        muted: false,
        overridden: false,
        presence: Presence::Attached(node(owner)),
        epoch: 1,
        generation: 1,
        mailbox: 5,
    }
}

fn reader(who: u128) -> Reader {
    Reader { peer: peer(who), node: node(1), epoch: 1, lineage: "?".into() }
}

fn empty(state: &RoomState) -> Commit {
    Commit {
        incarnation: state.incarnation.clone(),
        version: state.version,
        put: vec![],
        removed: vec![],
        forgotten: vec![],
        detached: vec![],
        listed: vec![],
        unlisted: vec![],
        notices: vec![],
        grows: false,
        opens: state.members.is_empty(),
        empty: false,
        ends: false,
        settings: None,
        life_ms: SMALL.room_life_ms,
        kept_until: 0,
        events: vec![],
        accepted: vec![],
        feed: vec![],
    }
}

fn announcement(about: u128, targets: Vec<PeerId>) -> Announcement {
    Announcement {
        about: peer(about),
        kind: EntryKind::PeerEntry,
        body: r#"{"type":"peer-joined"}"#.into(),
        targets,
    }
}

fn batch(items: Vec<Item>, state: &RoomState) -> Append {
    let members =
        Arc::new(Members { version: state.version, peers: state.members.keys().cloned().collect() });
    Append { sender: peer(1), epoch: 1, mailbox: 5, acked: 0, floor: 0, handle: None, members, items }
}

fn to(who: u128, id: Option<u64>, text: &str) -> Item {
    Item { id, to: Target::Peer(peer(who)), body: format!(r#"{{"t":"{text}"}}"#).into(), judged: false }
}

fn judged(item: Item) -> Item {
    Item { judged: true, ..item }
}

fn to_all(id: Option<u64>) -> Item {
    Item { id, to: Target::Room, body: r#"{"all":1}"#.into(), judged: false }
}

fn kinds(results: &[Appended]) -> String {
    let letter = |result: &Appended| match result {
        Appended::Written(_) => 'w',
        Appended::Duplicate => 'd',
        Appended::NoSuchPeer => 'n',
        Appended::Backlogged => 'b',
        Appended::Stale => 's',
    };
    results.iter().map(letter).collect()
}
