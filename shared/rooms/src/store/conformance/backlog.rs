//! The bounds on the bytes that wait in a room, and on those of one grant.

use super::*;

/// A body of 100 bytes.
fn hundred_bytes(target: MessageTarget) -> OutgoingEntry {
    let body = format!(r#"{{"t":"{}"}}"#, "x".repeat(92)).into();
    OutgoingEntry { id: None, target, body, requires_room_version: false }
}

fn to_peer(peer: u128) -> OutgoingEntry {
    hundred_bytes(MessageTarget::Peer(test_peer(peer)))
}

impl StoreBackend {
    /// Peer 1 of node 1 sends; the others are detached.
    async fn create_room_with_detached(&self, detached: u128) -> RoomState {
        let state = self.create_room(&vec![1; detached as usize + 1]).await;
        let peers: Vec<PeerId> = (2..detached + 2).map(test_peer).collect();
        let member = || Member { attachment: PeerAttachment::Detached(0), ..test_member(1) };
        let written_members = peers.iter().map(|peer| (peer.clone(), member().into())).collect();
        let detach =
            Commit { written_members, detached_peers: peers, opens_room: false, ..empty_commit(&state) };
        self.apply(&detach).await;
        RoomState { version: state.version + 1, ..state }
    }

    async fn apply(&self, commit: &Commit) {
        let applied = self.store.commit(&test_room(), &test_node(1), commit).await;
        assert!(matches!(applied, Ok(CommitResult::Applied(..))), "{applied:?}");
    }

    /// Attaches a detached peer to node 1, which then confirms all its entries.
    async fn attach_and_confirm(&self, peer: u128, state: &RoomState) -> RoomState {
        let written_members = vec![(test_peer(peer), test_member(1).into())];
        self.apply(&Commit { written_members, opens_room: false, ..empty_commit(state) }).await;
        let head = self.owned_page(peer, 0).await.last_seq;
        let confirm = AppendBatch { sender: test_peer(peer), acked_seq: head, ..test_batch(vec![], state) };
        self.append_batch(&confirm).await.unwrap();
        RoomState { version: state.version + 1, ..state.clone() }
    }

    async fn remove(&self, peer: u128, state: &RoomState) -> RoomState {
        let removed_peers = vec![(test_peer(peer), LEFT_TOMBSTONE)];
        self.apply(&Commit { removed_peers, opens_room: false, ..empty_commit(state) }).await;
        let mut next = RoomState { version: state.version + 1, ..state.clone() };
        next.members.remove(&test_peer(peer));
        next
    }

    async fn send(&self, entries: Vec<OutgoingEntry>, state: &RoomState) -> String {
        result_letters(&self.append_entries(entries, state).await.unwrap())
    }

    async fn send_as(&self, token: &str, entries: Vec<OutgoingEntry>, state: &RoomState) -> String {
        let token = TokenId::parse(token).unwrap();
        result_letters(
            &self.append_batch(&AppendBatch { token, ..test_batch(entries, state) }).await.unwrap(),
        )
    }

    /// The fields of the room hash that count bytes, if the store is Redis.
    async fn counted_fields(&self) -> Option<Vec<(String, String)>> {
        self.server.as_ref()?;
        let cmd = ::redis::cmd("HGETALL").arg(redis_keys::room_key(&test_room())).clone();
        let fields: Vec<(String, Vec<u8>)> = self.run_raw_command(&cmd).await;
        // Packed values are no text.
        let fields =
            fields.into_iter().filter_map(|(name, value)| Some((name, String::from_utf8(value).ok()?)));
        let is_count = |name: &str| name == "wb" || name.starts_with("s:") || name.starts_with("q:");
        Some(fields.filter(|(name, value)| is_count(name) && value != "0").collect())
    }

    async fn assert_nothing_waits(&self) {
        assert!(
            self.counted_fields().await.is_none_or(|fields| fields.is_empty()),
            "{:?}",
            self.counted_fields().await
        );
    }
}

const ROOM_LIMITS: StoreLimits = StoreLimits { room_backlog_bytes: 400, ..SMALL_LIMITS };
const GRANT_LIMITS: StoreLimits = StoreLimits { grant_backlog_bytes: 350, ..SMALL_LIMITS };

store_tests! {
    bytes_that_wait_in_a_room_are_bounded_for_peers_that_do_not_read(backend, ROOM_LIMITS) {
        let state = backend.create_room_with_detached(3).await;
        let sent = backend.send((0..6).map(|_| to_peer(2)).collect(), &state).await;
        assert_eq!(sent, "wwwwrr", "the events of the joins do not count");
        assert_eq!(backend.send(vec![to_peer(3), hundred_bytes(MessageTarget::Room)], &state).await, "rr");
        // Peer 4 reads again.
        let state = backend.attach_and_confirm(4, &state).await;
        assert_eq!(backend.send(vec![to_peer(4), to_peer(4), to_peer(3)], &state).await, "wwr");
    }

    confirmed_bytes_of_a_room_are_free_again(backend, ROOM_LIMITS) {
        let state = backend.create_room_with_detached(2).await;
        assert_eq!(backend.send(vec![to_peer(2); 5], &state).await, "wwwwr");
        let state = backend.attach_and_confirm(2, &state).await;
        assert_eq!(backend.send(vec![to_peer(3); 5], &state).await, "wwwwr");
    }

    bytes_of_a_peer_that_left_are_free_again(backend, ROOM_LIMITS) {
        let state = backend.create_room_with_detached(2).await;
        assert_eq!(backend.send(vec![to_peer(2); 5], &state).await, "wwwwr");
        let state = backend.remove(2, &state).await;
        assert_eq!(backend.send(vec![to_peer(3); 5], &state).await, "wwwwr");
        backend.remove(3, &state).await;
        backend.assert_nothing_waits().await;
    }

    bytes_of_one_grant_are_bounded_for_peers_that_do_not_read(backend, GRANT_LIMITS) {
        let state = backend.create_room_with_detached(2).await;
        assert_eq!(backend.send_as("a.1", vec![hundred_bytes(MessageTarget::Room); 3], &state).await, "wwg");
        assert_eq!(backend.send_as("a.2", vec![to_peer(2)], &state).await, "g", "another token of the grant");
        assert_eq!(backend.send_as("b", vec![to_peer(2)], &state).await, "w", "another grant");
        // Peer 3 confirms 200 bytes of grant a.
        let state = backend.attach_and_confirm(3, &state).await;
        assert_eq!(backend.send_as("a.2", vec![to_peer(2); 3], &state).await, "wwg");
        // Without the peers nothing is charged.
        let state = backend.remove(2, &state).await;
        let state = backend.attach_and_confirm(1, &state).await;
        let state = backend.attach_and_confirm(3, &state).await;
        backend.assert_nothing_waits().await;
        assert_eq!(backend.send_as("a", vec![to_peer(3); 5], &state).await, "wwwww", "an attached peer reads");
    }

    an_attached_peer_for_which_much_waits_does_not_read(backend, StoreLimits { lag_bytes: 250, ..GRANT_LIMITS }) {
        let state = backend.create_room(&[1, 1]).await;
        assert_eq!(backend.send(vec![to_peer(2); 8], &state).await, "wwwwwwwg", "three before it lags, four after");
    }

    expired_bytes_are_free_again(backend, StoreLimits { entry_life_ms: 400, ..ROOM_LIMITS }) {
        let state = backend.create_room_with_detached(2).await;
        assert_eq!(backend.send(vec![to_peer(2); 5], &state).await, "wwwwr");
        // The life of the entries passes. The TTL deletes the mailbox uncounted.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        backend.store.recount_backlog(&test_room(), &test_batch(vec![], &state).members).await.unwrap();
        assert_eq!(backend.send(vec![to_peer(3); 5], &state).await, "wwwwr");
    }

    events_do_not_count_and_messages_that_are_pushed_out_count_no_more(backend, StoreLimits { room_backlog_bytes: 2_000, ..SMALL_LIMITS }) {
        let mut state = backend.create_room_with_detached(1).await;
        for n in 0..200 {
            backend.commit_event(&mut state, test_event(n, vec![test_peer(2)])).await;
        }
        backend.assert_nothing_waits().await;
        for _ in 0..200 {
            let message = EventEntry { kind: EntryKind::RoomEvent, state: None, ..test_event(1, vec![test_peer(2)]) };
            backend.commit_event(&mut state, message).await;
        }
        if let Some(fields) = backend.counted_fields().await {
            let waiting = fields.iter().find(|(name, _)| name == "wb").map(|(_, bytes)| bytes.parse::<usize>().unwrap());
            // Sixteen entries at most, some of them events.
            assert!(waiting.is_some_and(|bytes| bytes <= 16 * 22), "{fields:?}");
        }
    }
}

/// A node of an earlier release counts nothing.
#[tokio::test]
async fn a_recount_repairs_wrong_counts() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, ROOM_LIMITS).await;
    let state = backend.create_room_with_detached(2).await;
    let key = redis_keys::room_key(&test_room());
    let wrong = ["wb", "900000", "s:gone", "5", "s:grant-1", "900000"];
    backend.run_raw_command::<()>(::redis::cmd("HSET").arg(&key).arg(&wrong)).await;
    assert_eq!(backend.send(vec![to_peer(2)], &state).await, "r");
    backend.store.recount_backlog(&test_room(), &test_batch(vec![], &state).members).await.unwrap();
    assert_eq!(backend.send(vec![to_peer(2)], &state).await, "w");
    let fields = backend.counted_fields().await.unwrap();
    assert!(fields.contains(&("s:grant-1".to_owned(), "100".to_owned())), "{fields:?}");
    assert!(!fields.iter().any(|(name, _)| name == "s:gone"), "{fields:?}");
}
