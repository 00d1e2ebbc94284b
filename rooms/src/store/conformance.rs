//! The contract of the store, as tests over both stores: what holds in memory holds in Redis.

mod recorded;

use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use signalbox_shared::{
    id::{CallerId, Role, TokenId, UserId},
    keys,
    protocol::LeftReason,
};
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

contract! {
    what_is_set_for_a_room_comes_back_as_it_was_and_bounds_its_life(backend, SMALL) {
        let state = backend.room_of(&[1]).await;
        let settings = RoomSettings { name: Some("Al \"ice\" 🚦".into()), max_duration: Some(20), locked: true, ..RoomSettings::default() };
        let set = Commit { settings: Some(settings.into()), life_ms: 20_000, opens: false, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &set).await, Ok(Committed::Applied(..))));
        let found = backend.load().await.unwrap();
        assert_eq!((found.settings.name.as_deref(), found.settings.locked), (Some("Al \"ice\" 🚦"), true));
        assert_eq!(found.ends_at, found.began_at + 20_000, "counted from when somebody came in");
    }

    a_kept_room_is_there_without_anybody_until_then_and_its_keys_have_an_end(backend, SMALL) {
        let partition = keys::partition(&room());
        let begin = backend.store.load(&room()).await.unwrap().now;
        let kept_until = begin + 400;
        let settings = RoomSettings { created_at: 1, kept_until, ..RoomSettings::default() };
        let none = RoomState::new("0a".into(), "".into());
        let make = Commit { settings: Some(settings.into()), kept_until, empty: true, opens: false, grows: true, ..empty(&none) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &make).await, Ok(Committed::Applied(..))));
        let state = backend.load().await.unwrap();
        assert_eq!((state.ends_at, state.settings.kept_until), (0, kept_until));
        assert_eq!(backend.store.rooms_in(partition).await.unwrap(), [room()]);
        if backend.server.is_some() {
            let ttl: u64 = backend.raw(::redis::cmd("PTTL").arg(keys::room(&room()))).await;
            assert!(ttl > 100 + SMALL.window_ms && ttl <= 400 + SMALL.window_ms, "until then, and the window: {ttl}");
        }
        let used = backend.join(&RoomState { members: Default::default(), ..state }, 1, 1).await;
        if backend.server.is_some() {
            let ttl: u64 = backend.raw(::redis::cmd("PTTL").arg(keys::room(&room()))).await;
            assert!(ttl > 50_000, "a life is longer than it is kept: {ttl}");
        }
        let last = Commit { removed: vec![(peer(1), LEFT)], empty: true, opens: false, kept_until, ..empty(&used) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &last).await, Ok(Committed::Applied(..))));
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), []);
        tokio::time::sleep(std::time::Duration::from_millis(450)).await;
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), [Due::Room(room())]);
        let state = backend.load().await.unwrap();
        let over = Commit { settings: Some(Default::default()), empty: true, ends: true, opens: false, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &over).await, Ok(Committed::Applied(..))));
        assert!(!backend.load().await.unwrap().settings.is_made());
        // In memory the name stays until somebody looks for what is due.
        assert!(backend.server.is_none() || backend.store.rooms_in(partition).await.unwrap().is_empty());
    }

    one_who_waits_is_reached_by_nobody_until_it_is_let_in(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        let put = |waiting| vec![(peer(2), Member { waiting, ..member(1) })];
        let wait = Commit { put: put(true), opens: false, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &wait).await, Ok(Committed::Applied(..))));
        assert!(backend.load().await.unwrap().members[&peer(2)].waiting);
        assert_eq!(kinds(&backend.append(vec![to(2, Some(1), "x")], &state).await.unwrap()), "n");
        let admit = Commit { put: put(false), opens: false, version: state.version + 1, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &admit).await, Ok(Committed::Applied(..))));
        assert_eq!(kinds(&backend.append(vec![to(2, Some(1), "x")], &state).await.unwrap()), "w");
    }

    a_user_has_so_many_rooms_and_places_come_back_when_they_are_over(backend, SMALL) {
        let (store, user) = (&backend.store, UserId::parse("al:ice@x").unwrap());
        let name = |n: u32| RoomId::parse(&format!("r{n}")).unwrap();
        for (n, taken) in [(1, true), (2, true), (2, true), (3, false)] {
            assert_eq!(store.take_place(&user, &name(n), 300, 2).await.unwrap(), taken, "{n}");
        }
        store.give_place_back(&user, &name(1)).await.unwrap();
        assert!(store.take_place(&user, &name(3), 60_000, 2).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(350)).await;
        assert!(store.take_place(&user, &name(4), 300, 2).await.unwrap(), "the second is over");
        if let Some(server) = &backend.server {
            let mut ttl = ::redis::cmd("PTTL");
            let ttl: i64 = server.at(keys::partition_of_user(&user), ttl.arg(keys::rooms_of(&user))).await;
            assert!(ttl > 0, "{ttl}");
        }
    }

    a_commit_on_a_stale_version_changes_nothing_and_brings_the_fresh_state(backend, SMALL) {
        let first = backend.room_of(&[1]).await;
        let second = backend.join(&first, 2, 1).await;
        let stale = Commit { put: vec![(peer(3), member(1))], ..empty(&first) };
        let Ok(Committed::Conflict(Found { room: Some(fresh), .. })) = backend.store.commit(&room(), &node(1), &stale).await else {
            panic!("a stale commit is a conflict")
        };
        assert_eq!((fresh.version, fresh.members.len()), (second.version, 2));
        let kept = &fresh.members[&peer(1)];
        assert_eq!((&*kept.name, kept.metadata.get(), kept.owner(), kept.epoch), ("Al \"ice\" 🚦", r#"{"a":[1]}"#, Some(&node(1)), 1));
        assert_eq!((kept.mailbox, kept.generation, kept.expires, kept.permissions.len()), (5, 1, 77, 1));
        assert!(fresh.ends_at > fresh.read_at && !fresh.lineage.is_empty());
    }

    a_room_that_exists_is_not_made_again_and_one_that_does_not_is_not_changed(backend, SMALL) {
        let state = backend.room_of(&[1]).await;
        let again = Commit { put: vec![(peer(9), member(1))], ..empty(&RoomState::new("0b".into(), "".into())) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &again).await, Ok(Committed::Conflict(Found { room: Some(_), .. }))));
        let elsewhere = RoomId::parse("elsewhere").unwrap();
        let change = Commit { put: vec![(peer(9), member(1))], ..empty(&state) };
        assert!(matches!(backend.store.commit(&elsewhere, &node(1), &change).await, Ok(Committed::Conflict(Found { room: None, .. }))));
        assert!(backend.store.load(&elsewhere).await.unwrap().room.is_none());
    }

    entries_are_contiguous_over_events_and_messages_and_come_back_when_read(backend, SMALL) {
        let state = backend.room_of(&[1, 1, 1]).await;
        let results = backend.append(vec![to(2, Some(5), "a"), to_all(None), to(2, Some(6), "b")], &state).await.unwrap();
        assert_eq!(kinds(&results), "www");
        let Appended::Written(handed) = &results[2] else { unreachable!() };
        assert_eq!((handed[0].peer.clone(), handed[0].mailbox, handed[0].entry.seq), (peer(2), 5, 4));
        let page = backend.page(2, 0).await;
        assert_eq!((page.mailbox, page.head, page.acked, page.last_id), (5, 4, 0, 0));
        let page = page.entries;
        let read: Vec<_> = page.iter().map(|entry| (entry.seq, entry.id, entry.kind)).collect();
        use EntryKind::{Forwarded, PeerEntry};
        assert_eq!(read, [(1, None, PeerEntry), (2, Some(5), Forwarded), (3, None, Forwarded), (4, Some(6), Forwarded)]);
        assert_eq!(page[3], handed[0].entry);
        assert_eq!(backend.page(2, 3).await.entries.len(), 1);
    }

    an_id_that_was_accepted_is_a_duplicate_and_writes_nothing(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        let items = || vec![to(2, Some(7), "a"), to(2, Some(8), "b")];
        assert_eq!(kinds(&backend.append(items(), &state).await.unwrap()), "ww");
        assert_eq!(kinds(&backend.append(items(), &state).await.unwrap()), "dd");
        assert_eq!(backend.page(2, 0).await.entries.len(), 2);
    }

    a_refused_message_does_not_use_up_its_id(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        assert_eq!(kinds(&backend.append(vec![to(9, Some(1), "x"), to(2, Some(2), "y")], &state).await.unwrap()), "nw");
        assert_eq!(kinds(&backend.append(vec![to(9, Some(3), "x")], &state).await.unwrap()), "n");
        assert_eq!(kinds(&backend.append(vec![to(2, Some(3), "x")], &state).await.unwrap()), "w");
    }

    an_id_accepted_by_a_commit_counts_for_messages(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        let update = Commit { put: vec![(peer(1), member(1))], accepted: vec![(peer(1), 4)], ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &update).await, Ok(Committed::Applied(..))));
        let results = backend.append(vec![to(2, Some(4), "x"), to(2, Some(5), "y")], &state).await.unwrap();
        assert_eq!(kinds(&results), "dw");
    }

    only_the_owner_of_the_epoch_may_append(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        let zombie = Append { epoch: 0, ..batch(vec![to(2, None, "x")], &state) };
        assert_eq!(backend.send(&zombie).await.unwrap_err(), AppendError::NotOwner);
        let thief = batch(vec![to(2, None, "x")], &state);
        assert_eq!(backend.store.append(&room(), &node(3), &thief).await.unwrap_err(), AppendError::NotOwner);
        let stranger = Append { sender: peer(9), ..batch(vec![to(2, None, "x")], &state) };
        assert_eq!(backend.send(&stranger).await.unwrap_err(), AppendError::NotOwner);
        assert_eq!(backend.page(2, 0).await.entries, []);
    }

    a_message_to_the_room_on_a_stale_view_stops_the_batch_there(backend, SMALL) {
        let old = backend.room_of(&[1, 1]).await;
        let new = backend.join(&old, 3, 1).await;
        let items = || vec![to(2, Some(1), "x"), to_all(Some(2)), to(2, Some(3), "y")];
        assert_eq!(kinds(&backend.append(items(), &old).await.unwrap()), "ws");
        assert_eq!(kinds(&backend.append(items(), &new).await.unwrap()), "dww");
    }

    what_rests_on_a_stale_view_of_its_target_is_not_written(backend, SMALL) {
        let old = backend.room_of(&[1, 1]).await;
        let new = backend.join(&old, 3, 1).await;
        let items = || vec![to(2, Some(1), "x"), judged(to(2, Some(2), "y")), to(2, Some(3), "z")];
        assert_eq!(kinds(&backend.append(items(), &old).await.unwrap()), "ws");
        assert_eq!(kinds(&backend.append(vec![judged(to(9, Some(2), "y"))], &old).await.unwrap()), "s");
        assert_eq!(kinds(&backend.append(items(), &new).await.unwrap()), "dww");
        assert_eq!(kinds(&backend.append(vec![judged(to(9, Some(4), "y"))], &new).await.unwrap()), "n");
    }

    what_is_kept_back_takes_its_number_and_reaches_nobody(backend, SMALL) {
        let old = backend.room_of(&[1, 1]).await;
        let new = backend.join(&old, 3, 1).await;
        let kept = || vec![judged(Item { to: Target::Nobody, ..to(2, Some(1), "x") })];
        assert_eq!(kinds(&backend.append(kept(), &old).await.unwrap()), "s");
        let heads = [backend.page(2, 0).await.head, backend.page(3, 0).await.head];
        let results = backend.append(kept(), &new).await.unwrap();
        assert!(matches!(&results[..], [Appended::Written(handed)] if handed.is_empty()), "{results:?}");
        assert_eq!(kinds(&backend.append(kept(), &new).await.unwrap()), "d");
        assert_eq!([backend.page(2, 0).await.head, backend.page(3, 0).await.head], heads);
    }

    a_full_mailbox_refuses_messages_to_it_and_to_the_room_until_it_is_acknowledged(backend, SMALL) {
        let state = backend.room_of(&[1, 1, 1]).await;
        let fill: Vec<_> = (1..=8).map(|id| to(2, Some(id), "x")).collect();
        assert_eq!(kinds(&backend.append(fill, &state).await.unwrap()), "wwwwwwwb", "the join of peer 3 took one place");
        assert_eq!(kinds(&backend.append(vec![to_all(Some(9)), to(3, Some(10), "x")], &state).await.unwrap()), "bw");
        let read = Append { sender: peer(2), acked: 3, ..batch(vec![], &state) };
        assert_eq!(kinds(&backend.send(&read).await.unwrap()), "");
        assert_eq!(kinds(&backend.append(vec![to(2, Some(11), "x")], &state).await.unwrap()), "w");
        assert_eq!(backend.page(2, 0).await.entries[0].seq, 4, "what was acknowledged is gone");
    }

    a_mailbox_is_full_by_bytes_too(backend, Bounds { backlog_bytes: 200, ..SMALL }) {
        let state = backend.room_of(&[1, 1]).await;
        let long = "x".repeat(150);
        let results = backend.append(vec![to(2, None, &long), to(2, None, &long), to(2, None, "y")], &state).await.unwrap();
        assert_eq!(kinds(&results), "wwb");
    }

    events_reach_a_full_mailbox_which_stays_bounded(backend, SMALL) {
        let mut state = backend.room_of(&[1, 1]).await;
        for n in 0..30 {
            let update = Commit { put: vec![(peer(1), member(1))], events: vec![announcement(1, vec![peer(2)])], ..empty(&state) };
            assert!(matches!(backend.store.commit(&room(), &node(1), &update).await, Ok(Committed::Applied(..))), "{n}");
            state.version += 1;
        }
        let page = backend.page(2, 0).await.entries;
        assert_eq!((page.len(), page[0].seq, page[15].seq), (16, 15, 30));
    }

    entries_older_than_their_life_are_gone(backend, Bounds { entry_life_ms: 500, ..SMALL }) {
        let state = backend.room_of(&[1, 1]).await;
        backend.append(vec![to(2, Some(1), "old")], &state).await.unwrap();
        // The life of an entry passes.
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        backend.append(vec![to(2, Some(2), "new")], &state).await.unwrap();
        let page = backend.page(2, 0).await.entries;
        assert_eq!(page.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2]);
    }

    a_room_that_nobody_is_left_in_is_gone_with_everything_of_it(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        backend.append(vec![to(2, None, "x")], &state).await.unwrap();
        let end = Commit { removed: vec![(peer(1), LEFT), (peer(2), LEFT)], ends: true, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &end).await, Ok(Committed::Applied(..))));
        let left = backend.load().await.unwrap();
        assert!(left.members.is_empty() && left.left.len() == 2, "who has left is remembered for a while");
        assert!(matches!(backend.store.read(&room(), &reader(1), 0).await, Ok(Look::Gone(_))));
        assert_eq!(backend.append(vec![to(2, None, "x")], &state).await.unwrap_err(), AppendError::NotOwner);
        // The resume window passes.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert!(backend.load().await.is_none());
        if let Some(server) = &backend.server {
            assert_eq!(rooms_of(server).await, [""; 0]);
        }
    }

    a_room_ends_with_its_longest_life(backend, Bounds { room_life_ms: 60, window_ms: 20, ..SMALL }) {
        let state = backend.room_of(&[1, 1]).await;
        // The life of the room passes.
        tokio::time::sleep(std::time::Duration::from_millis(160)).await;
        assert_eq!(backend.append(vec![to(2, None, "x")], &state).await.unwrap_err(), AppendError::NotOwner);
        assert!(backend.load().await.is_none());
    }
}

#[tokio::test]
async fn another_node_is_pushed_what_was_written_for_its_peers_and_nothing_else() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 2, 1, 2]).await;
    let arrived = backend.other.as_ref().map(|(_, arrived)| arrived.clone()).unwrap();
    let results = backend
        .append(vec![to_all(Some(1)), to(2, Some(2), "line\nbreak"), to(3, Some(3), "mine")], &state)
        .await;
    let handed: usize =
        results.unwrap().iter().map(|r| if let Appended::Written(d) = r { d.len() } else { 0 }).sum();
    assert_eq!(handed, 2, "peer 3 is ours: the room's message and its own");
    // Peer 2 heard of peers 3 and 4, then both heard the room's message, then peer 2 its own.
    let seen = arrived.wait_for(5).await;
    let order: Vec<_> = seen.iter().map(|d| (d.peer.clone(), d.entry.seq, d.entry.id)).collect();
    assert_eq!(order[..2], [(peer(2), 1, None), (peer(2), 2, None)]);
    assert!(order[2..4].contains(&(peer(2), 3, Some(1))) && order[2..4].contains(&(peer(4), 1, Some(1))));
    assert_eq!(order[4], (peer(2), 4, Some(2)));
    assert_eq!(&*seen[4].entry.body, "{\"t\":\"line\nbreak\"}");
    let (other, _) = backend.other.as_ref().unwrap();
    let theirs = Reader { node: node(2), ..reader(2) };
    let Ok(Look::Mine(page)) = other.read(&room(), &theirs, 3).await else { panic!("node 2 owns peer 2") };
    assert_eq!(page.entries[0], seen[4].entry, "pushed and read are the same");
}

#[tokio::test]
async fn every_key_has_a_ttl_from_the_step_that_wrote_it() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 2]).await;
    backend.append(vec![to(2, Some(1), "x")], &state).await.unwrap();
    let server = backend.server.as_ref().unwrap();
    let keys = rooms_of(server).await;
    assert_eq!(keys.len(), 4, "the room, the deadlines and two mailboxes: {keys:?}");
    for key in keys {
        let ttl: i64 = backend.raw(::redis::cmd("PTTL").arg(&key)).await;
        // The deadlines of a partition last as long as any room of it may be kept.
        let most = if key.ends_with(":due") { 24 * 60 * 60 * 1_000 + 1_000 } else { 61_000 };
        assert!(ttl > 0 && ttl <= most, "{key}: {ttl}");
    }
}

/// D1: after a failover the same `seq` may be given out again and grow past what a client has, so numbers alone prove nothing.
#[tokio::test]
async fn in_another_lineage_every_mailbox_is_a_new_one() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 1]).await;
    backend.append(vec![to(2, Some(3), "before")], &state).await.unwrap();
    let key = keys::room(&room());
    // What a failover looks like from the room: the server's replication id is not the one it was written under.
    backend.raw::<()>(::redis::cmd("HSET").arg(&key).arg("lin").arg("another")).await;
    let results =
        backend.append(vec![to(2, Some(3), "again"), to(2, Some(4), "after")], &state).await.unwrap();
    assert_eq!(kinds(&results), "dw", "what the store still knows to be accepted stays so");
    let page = backend.page(2, 0).await;
    assert!(page.mailbox > 5, "a new number");
    assert_eq!(
        page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [2],
        "nothing of the old mailbox"
    );
    // A reader that knew the old number goes on where the new one begins.
    let renewed = backend.store.renew(&room(), &reader(2), 5, 9).await.unwrap().unwrap();
    assert_eq!((renewed.mailbox, renewed.seq, renewed.last_id), (page.mailbox, 1, 9));
    assert_eq!(renewed.state.members.len(), 2);
}

#[tokio::test]
async fn a_store_that_was_emptied_says_so_and_takes_the_room_back() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 2]).await;
    let before = backend.store.load(&room()).await.unwrap();
    let known = before.room.unwrap();
    backend.raw::<()>(&::redis::cmd("FLUSHALL")).await;
    let here = Reader { lineage: before.lineage.clone(), ..reader(1) };
    assert!(
        matches!(backend.store.read(&room(), &here, 0).await, Ok(Look::Gone(_))),
        "nothing says that it was forgotten"
    );
    assert!(
        matches!(backend.store.read(&room(), &reader(1), 0).await, Ok(Look::Forgotten)),
        "another lineage does"
    );
    let restored = known.restored("L2".into(), 100);
    assert!(restored.members.values().all(|member| member.mailbox == 100));
    let put = restored.members.clone().into_iter().collect();
    let again = Commit { put, opens: true, grows: true, ..empty(&restored) };
    assert!(matches!(backend.store.commit(&room(), &node(1), &again).await, Ok(Committed::Applied(..))));
    assert_eq!(backend.load().await.unwrap().members.len(), state.members.len());
}

#[tokio::test]
async fn a_node_that_loses_a_peer_is_told_and_a_dead_one_can_be_found() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 2]).await;
    let (other, arrived) = backend.other.as_ref().unwrap();
    let list = Commit { listed: vec![node(2)], ..empty(&state) };
    assert!(matches!(backend.store.commit(&room(), &node(1), &list).await, Ok(Committed::Applied(..))));
    let partition = keys::partition(&room());
    assert_eq!(other.rooms_on(partition, &node(2)).await.unwrap(), [room()]);
    other.unlist(&room(), &node(2)).await.unwrap();
    assert_eq!(other.rooms_on(partition, &node(2)).await.unwrap(), [room()], "it has a peer there");
    let taken = Member { epoch: 2, ..member(1) };
    let take = Commit {
        version: state.version + 1,
        put: vec![(peer(2), taken)],
        unlisted: vec![node(2)],
        notices: vec![(node(2), vec![peer(2)])],
        ..empty(&state)
    };
    assert!(matches!(backend.store.commit(&room(), &node(1), &take).await, Ok(Committed::Applied(..))));
    assert!(other.rooms_on(partition, &node(2)).await.unwrap().is_empty());
    let told = async {
        while arrived.noticed.lock().unwrap().is_empty() {
            arrived.more.notified().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), told).await.unwrap();
    assert_eq!(*arrived.noticed.lock().unwrap(), [peer(2)]);
    let theirs = Reader { node: node(2), ..reader(2) };
    assert!(
        matches!(other.read(&room(), &theirs, 0).await, Ok(Look::Fenced { certain: false })),
        "it never asked in this lineage"
    );
    let here = Reader { lineage: other.load(&room()).await.unwrap().lineage, ..theirs };
    assert!(matches!(other.read(&room(), &here, 0).await, Ok(Look::Fenced { certain: true })));
}

#[tokio::test]
async fn a_lease_ends_and_the_dead_are_named_until_they_are_forgotten() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let store = &backend.store;
    assert!(!store.renew_lease(&node(1)).await.unwrap().held, "it is new");
    let census = store.renew_lease(&node(2)).await.unwrap();
    assert_eq!((census.alive.len(), census.dead.len()), (2, 0));
    assert!(store.renew_lease(&node(1)).await.unwrap().held);
    // The lease of node 2 passes.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let census = store.renew_lease(&node(1)).await.unwrap();
    assert!(!census.held, "so has its own");
    assert_eq!((census.alive, census.dead), (vec![node(1)], vec![node(2)]));
    store.forget_node(&node(2)).await.unwrap();
    assert_eq!(store.renew_lease(&node(1)).await.unwrap().dead, []);
}

/// D13: between the decision and the commit the client of a peer has used a newer handle.
#[tokio::test]
async fn a_handle_that_was_confirmed_meanwhile_voids_the_commit() {
    for backend in [Backend::memory(SMALL), Backend::redis(Kind::Standalone, SMALL).await] {
        let state = backend.room_of(&[1, 1]).await;
        let confirm = Append { handle: Some(2), ..batch(vec![], &state) };
        assert_eq!(kinds(&backend.send(&confirm).await.unwrap()), "");
        let taken = |generation| Member { epoch: 2, generation, ..member(1) };
        let late = Commit { put: vec![(peer(1), taken(1))], ..empty(&state) };
        let Ok(Committed::Conflict(Found { room: Some(fresh), .. })) =
            backend.store.commit(&room(), &node(1), &late).await
        else {
            panic!("an old handle took the peer")
        };
        assert_eq!(fresh.members[&peer(1)].generation, 2);
        let good = Commit { put: vec![(peer(1), taken(2))], ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &good).await, Ok(Committed::Applied(..))));
    }
}

#[tokio::test]
async fn a_deadline_is_named_when_it_has_come() {
    for backend in [
        Backend::memory(Bounds { window_ms: 100, ..SMALL }),
        Backend::redis(Kind::Standalone, Bounds { window_ms: 100, ..SMALL }).await,
    ] {
        let state = backend.room_of(&[1, 1]).await;
        let lost = Member { presence: Presence::Detached(0), ..member(1) };
        let detach = Commit { put: vec![(peer(1), lost)], detached: vec![peer(1)], ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &detach).await, Ok(Committed::Applied(..))));
        let partition = keys::partition(&room());
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), []);
        // The window passes.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), [Due::Room(room())]);
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), [], "and not again at once");
    }
}

#[tokio::test]
async fn what_is_too_old_in_a_quiet_mailbox_is_cut_off_at_its_deadline() {
    let bounds = Bounds { entry_life_ms: 2_000, slack_ms: 500, ..SMALL };
    let backend = Backend::redis(Kind::Standalone, bounds).await;
    let state = backend.room_of(&[1, 1]).await;
    let partition = keys::partition(&room());
    backend.append(vec![to(2, Some(1), "old")], &state).await.unwrap();
    // Most of its life passes, then another entry comes and the mailbox lives on.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    backend.append(vec![to(2, Some(2), "new")], &state).await.unwrap();
    assert_eq!(backend.store.due(&[partition]).await.unwrap(), []);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let due = backend.store.due(&[partition]).await.unwrap();
    assert_eq!(due, [Due::Mailboxes(room(), vec![peer(2)])], "that of peer 1 expires by itself");
    backend.store.trim(&room(), &[peer(2)]).await.unwrap();
    let left: Vec<_> = backend.page(2, 0).await.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(left, [Some(2)]);
}

#[tokio::test]
async fn a_full_server_takes_no_join_and_no_message_but_every_leave() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 1]).await;
    let server = backend.server.as_ref().unwrap();
    backend.raw::<()>(::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await;
    let join = Commit { put: vec![(peer(3), member(1))], grows: true, ..empty(&state) };
    assert_eq!(backend.store.commit(&room(), &node(1), &join).await.unwrap_err(), Unavailable);
    let unavailable = AppendError::Unavailable(Unavailable);
    assert_eq!(backend.append(vec![to(2, None, "x")], &state).await.unwrap_err(), unavailable);
    let left = Announcement { kind: EntryKind::Presence, ..announcement(1, vec![peer(2)]) };
    let leave = Commit { removed: vec![(peer(1), LEFT)], events: vec![left], ..empty(&state) };
    assert!(matches!(backend.store.commit(&room(), &node(1), &leave).await, Ok(Committed::Applied(..))));
    let end =
        Commit { version: state.version + 1, removed: vec![(peer(2), LEFT)], ends: true, ..empty(&state) };
    assert!(matches!(backend.store.commit(&room(), &node(1), &end).await, Ok(Committed::Applied(..))));
    let left = rooms_of(server).await;
    assert_eq!(left, [keys::room(&room())], "who has left");
}

#[tokio::test]
async fn a_mailbox_that_expired_does_not_count_as_full() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 1]).await;
    let five = || (0..5).map(|_| to(2, None, "x")).collect::<Vec<_>>();
    assert_eq!(kinds(&backend.append(five(), &state).await.unwrap()), "wwwww");
    let key = keys::mailbox(&room(), &peer(2));
    backend.raw::<()>(::redis::cmd("DEL").arg(key)).await;
    assert_eq!(kinds(&backend.append(five(), &state).await.unwrap()), "wwwww");
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 1]).await;
    backend.raw::<()>(::redis::cmd("SCRIPT").arg("FLUSH")).await;
    assert_eq!(kinds(&backend.append(vec![to(2, None, "x")], &state).await.unwrap()), "w");
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Kind::Standalone.lease().await;
    let connect = || RedisStore::connect(&server.url(), &server.settings(), SMALL);
    drop(connect().unwrap());
    let _: Vec<()> =
        server.everywhere(::redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("allkeys-lru")).await;
    assert!(matches!(connect(), Err(StartError::Evicts(policy)) if policy == "allkeys-lru"));
}

#[tokio::test]
async fn a_server_whose_rooms_are_spread_otherwise_is_refused() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    backend.raw::<()>(::redis::cmd("SET").arg(keys::PARTITION_COUNT).arg(64)).await;
    let (Store::Redis(store), Some((_, arrived))) = (&backend.store, &backend.other) else { unreachable!() };
    let arrivals: Arc<dyn Arrivals> = arrived.clone();
    let refused = store.listen(&node(9), Arc::downgrade(&arrivals)).unwrap_err().to_string();
    assert!(refused.contains("64 partitions and this one over 128"), "{refused}");
}

/// D1: a failover lost a commit, and others made one of the same number. Who saw the lost one is out of date all the same.
#[tokio::test]
async fn a_version_that_was_lost_is_not_taken_for_another_of_its_number() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let before = backend.room_of(&[1, 1]).await;
    let key = keys::room(&room());
    let old: Vec<u8> = backend.raw(::redis::cmd("DUMP").arg(&key)).await;
    let lost = backend.join(&before, 3, 1).await;
    // The failover.
    backend.raw::<()>(::redis::cmd("RESTORE").arg(&key).arg(60_000).arg(&old[..]).arg("REPLACE")).await;
    backend.raw::<()>(::redis::cmd("HSET").arg(&key).arg("lin").arg("another")).await;
    let healed = backend.load().await.unwrap();
    backend.join(&healed, 4, 1).await;
    let sent = backend.append(vec![to_all(Some(1))], &lost).await.unwrap();
    assert_eq!(kinds(&sent), "s", "peer 4 would not hear it");
    let leave = Commit {
        removed: vec![(peer(1), LEFT)],
        events: vec![announcement(1, vec![peer(2), peer(3)])],
        ..empty(&lost)
    };
    assert!(matches!(backend.store.commit(&room(), &node(1), &leave).await, Ok(Committed::Conflict(_))));
}

#[tokio::test]
async fn only_the_owner_of_the_epoch_may_give_its_mailbox_up() {
    for backend in [Backend::memory(SMALL), Backend::redis(Kind::Standalone, SMALL).await] {
        backend.room_of(&[1, 1]).await;
        let (zombie, thief) = (Reader { epoch: 0, ..reader(2) }, Reader { node: node(3), ..reader(2) });
        for stranger in [zombie, thief, reader(9)] {
            assert!(backend.store.renew(&room(), &stranger, 5, 0).await.unwrap().is_none());
        }
        assert_eq!(backend.page(2, 0).await.mailbox, 5);
        assert!(backend.store.renew(&room(), &reader(2), 5, 0).await.unwrap().unwrap().mailbox > 5);
    }
}

#[tokio::test]
async fn what_was_read_of_an_older_mailbox_is_not_taken_for_the_newer_one() {
    for backend in [Backend::memory(SMALL), Backend::redis(Kind::Standalone, SMALL).await] {
        let state = backend.room_of(&[1, 1]).await;
        backend.append(vec![to(2, Some(1), "x"), to(2, Some(2), "y")], &state).await.unwrap();
        let late = Append { sender: peer(2), mailbox: 4, acked: 2, ..batch(vec![], &state) };
        assert_eq!(kinds(&backend.send(&late).await.unwrap()), "");
        let page = backend.page(2, 0).await;
        assert_eq!((page.acked, page.entries.len()), (0, 2));
    }
}

#[tokio::test]
async fn a_shattered_mailbox_is_another_one_and_its_node_is_told() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    backend.room_of(&[1, 2]).await;
    let (other, arrived) = backend.other.as_ref().unwrap();
    backend.store.shatter(&room(), &peer(2)).await.unwrap();
    let told = async {
        while arrived.noticed.lock().unwrap().is_empty() {
            arrived.more.notified().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), told).await.unwrap();
    assert_eq!(*arrived.noticed.lock().unwrap(), [peer(2)]);
    let Look::Mine(page) = other.read(&room(), &Reader { node: node(2), ..reader(2) }, 0).await.unwrap()
    else {
        panic!("it is still its own")
    };
    assert!(page.mailbox > 5);
}
