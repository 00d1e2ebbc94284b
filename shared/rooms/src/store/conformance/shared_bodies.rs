//! A long message for several peers that do not read is stored once.

use super::*;

/// A message to the room of about 900 bytes.
fn long_message() -> OutgoingEntry {
    OutgoingEntry { body: format!(r#"{{"t":"{}"}}"#, "x".repeat(900)).into(), ..message_to_room(None) }
}

impl StoreBackend {
    /// Writes the members of peers, attached to node 1 or detached.
    async fn write_members(&self, peers: &[u128], is_attached: bool, state: &RoomState) -> RoomState {
        let detached = Member { attachment: PeerAttachment::Detached(0), ..test_member(1) };
        let member = if is_attached { test_member(1) } else { detached };
        let written_members = peers.iter().map(|peer| (test_peer(*peer), member.clone().into())).collect();
        let commit = Commit { written_members, opens_room: false, ..empty_commit(state) };
        let applied = self.store.commit(&test_room(), &test_node(1), &commit).await;
        assert!(matches!(applied, Ok(CommitResult::Applied(..))), "{applied:?}");
        RoomState { version: state.version + 1, ..state.clone() }
    }

    /// Appends long messages to the room, all at once.
    async fn append_long(&self, count: usize, state: &RoomState) {
        let results = self.append_entries(vec![long_message(); count], state).await.unwrap();
        assert_eq!(result_letters(&results), "w".repeat(count));
    }

    /// Reads the bodies of the messages that wait for a peer. It then confirms all entries but the
    /// last `unconfirmed`.
    async fn read_bodies(&self, peer: u128, unconfirmed: u64, state: &RoomState) -> Vec<Arc<str>> {
        let page = self.owned_page(peer, 0).await;
        let acked_seq = page.last_seq - unconfirmed;
        let confirm = AppendBatch { sender: test_peer(peer), acked_seq, ..test_batch(vec![], state) };
        self.append_batch(&confirm).await.unwrap();
        let messages = page.entries.into_iter().filter(|entry| entry.kind == EntryKind::Forwarded);
        messages.map(|entry| entry.body.clone()).collect()
    }

    /// Checks the number of shared bodies, if the store is Redis.
    async fn assert_bodies(&self, expected: u64, reason: &str) {
        if self.server.is_some() {
            let key = redis_keys::bodies_key(&test_room());
            let stored: u64 = self.run_raw_command(::redis::cmd("XLEN").arg(key)).await;
            assert_eq!(stored, expected, "{reason}");
        }
    }
}

store_tests! {
    a_long_message_is_stored_once_for_peers_that_do_not_read(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1, 1, 1, 1]).await;
        let state = backend.write_members(&[2, 3, 4], false, &state).await;
        backend.append_long(2, &state).await;
        backend.assert_bodies(2, "one for each message").await;
        let bodies = vec![long_message().body; 2];
        assert_eq!(backend.read_bodies(5, 0, &state).await, bodies, "the peer that reads has its own copies");
        let state = backend.write_members(&[2, 3], true, &state).await;
        for peer in [2, 3] {
            assert_eq!(backend.read_bodies(peer, 0, &state).await, bodies);
        }
        backend.assert_bodies(2, "peer 4 has not read them").await;
        let removed_peers = vec![(test_peer(4), LEFT_TOMBSTONE)];
        let remove = Commit { removed_peers, opens_room: false, ..empty_commit(&state) };
        backend.store.commit(&test_room(), &test_node(1), &remove).await.unwrap();
        backend.assert_bodies(0, "peer 4 has left").await;
    }

    a_shared_body_is_kept_until_its_last_reader_confirms(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1, 1]).await;
        let state = backend.write_members(&[2, 3], false, &state).await;
        backend.append_long(1, &state).await;
        // The second message is later by the clock of the store.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        backend.append_long(1, &state).await;
        let state = backend.write_members(&[2, 3], true, &state).await;
        assert_eq!(backend.read_bodies(2, 1, &state).await.len(), 2);
        backend.assert_bodies(2, "peer 3 has confirmed nothing").await;
        assert_eq!(backend.read_bodies(3, 1, &state).await.len(), 2);
        backend.assert_bodies(1, "both have confirmed the first message").await;
        for peer in [2, 3] {
            assert_eq!(backend.read_bodies(peer, 0, &state).await, [long_message().body]);
        }
        backend.assert_bodies(0, "both have confirmed all").await;
    }
}

#[tokio::test]
async fn shared_bodies_expire_with_their_entries() {
    let limits = StoreLimits { entry_life_ms: 300, max_deletion_delay_ms: 200, ..SMALL_LIMITS };
    let backend = StoreBackend::over_redis(RedisKind::Standalone, limits).await;
    let state = backend.create_room(&[1, 1, 1]).await;
    let state = backend.write_members(&[2, 3], false, &state).await;
    backend.append_long(2, &state).await;
    backend.assert_bodies(2, "before their end").await;
    // The life of an entry and the delay pass.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    backend.assert_bodies(0, "after their end").await;
    let results = backend.append_entries(vec![message_to(2, None, "next")], &state).await.unwrap();
    assert_eq!(result_letters(&results), "w");
    let state = backend.write_members(&[2, 3], true, &state).await;
    assert_eq!(backend.read_bodies(2, 0, &state).await.len(), 1);
}
