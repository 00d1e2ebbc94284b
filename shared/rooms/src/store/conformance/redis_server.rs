//! Redis servers that are full, that have lost their scripts, or that must be refused.

use super::*;

#[tokio::test]
async fn a_full_server_refuses_joins_and_messages_but_accepts_leaves() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 1]).await;
    let server = backend.server.as_ref().unwrap();
    backend.run_raw_command::<()>(::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await;
    let join = Commit {
        written_members: vec![(test_peer(3), test_member(1).into())],
        adds_data: true,
        ..empty_commit(&state)
    };
    assert_eq!(backend.store.commit(&test_room(), &test_node(1), &join).await.unwrap_err(), StoreUnavailable);
    let unavailable = AppendError::Unavailable(StoreUnavailable);
    assert_eq!(
        backend.append_entries(vec![message_to(2, None, "x")], &state).await.unwrap_err(),
        unavailable
    );
    let left_event = EventEntry { kind: EntryKind::RoomEvent, ..test_event(1, vec![test_peer(2)]) };
    let leave = Commit {
        removed_peers: vec![(test_peer(1), LEFT_TOMBSTONE)],
        events: vec![left_event],
        ..empty_commit(&state)
    };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &leave).await,
        Ok(CommitResult::Applied(..))
    ));
    let end = Commit {
        version: state.version + 1,
        removed_peers: vec![(test_peer(2), LEFT_TOMBSTONE)],
        ends_room: true,
        ..empty_commit(&state)
    };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &end).await,
        Ok(CommitResult::Applied(..))
    ));
    let keys = room_keys(server).await;
    assert_eq!(keys, [redis_keys::room_key(&test_room())], "only the tombstones remain");
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 1]).await;
    backend.run_raw_command::<()>(::redis::cmd("SCRIPT").arg("FLUSH")).await;
    assert_eq!(
        result_letters(&backend.append_entries(vec![message_to(2, None, "x")], &state).await.unwrap()),
        "w"
    );
}

#[tokio::test]
async fn a_server_that_evicts_keys_is_refused() {
    let server = RedisKind::Standalone.acquire().await;
    let connect = || RedisClient::connect(&server.url(), &server.settings());
    drop(connect().unwrap());
    let _: Vec<()> = server
        .run_on_masters(::redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("allkeys-lru"))
        .await;
    assert!(matches!(connect(), Err(RedisStartError::EvictsKeys(policy)) if policy == "allkeys-lru"));
}

#[tokio::test]
async fn a_server_with_another_partition_count_is_refused() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    backend.run_raw_command::<()>(::redis::cmd("SET").arg(redis_keys::PARTITION_COUNT_KEY).arg(64)).await;
    let (RoomStore::Redis(store), Some((_, recorded))) = (&backend.store, &backend.other_node) else {
        unreachable!()
    };
    let store_events: Arc<dyn StoreEvents> = recorded.clone();
    let refused =
        store.subscribe_topics(&test_node(9), Arc::downgrade(&store_events)).unwrap_err().to_string();
    assert!(refused.contains("64 partitions and this one over 128"), "{refused}");
}
