//! A Redis that may have forgotten what it acknowledged.

use super::*;

/// D1: after a failover the same `seq` may be given out again and grow past what a client has, so numbers alone prove nothing.
#[tokio::test]
async fn a_new_replication_id_renews_every_mailbox() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 1]).await;
    backend.append_entries(vec![message_to(2, Some(3), "before")], &state).await.unwrap();
    let key = redis_keys::room_key(&test_room());
    // What a failover looks like from the room: the server's replication id is not the one it was written under.
    backend.run_raw_command::<()>(::redis::cmd("HSET").arg(&key).arg("lin").arg("another")).await;
    let results = backend
        .append_entries(vec![message_to(2, Some(3), "again"), message_to(2, Some(4), "after")], &state)
        .await
        .unwrap();
    assert_eq!(result_letters(&results), "dw", "what the store still knows to be accepted stays so");
    let page = backend.owned_page(2, 0).await;
    assert!(page.mailbox_version > 5, "a new number");
    assert_eq!(
        page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [2],
        "nothing of the old mailbox"
    );
    // A reader that knew the old number goes on where the new one begins.
    let renewed = backend.store.renew_mailbox(&test_room(), &test_reader(2), 5, 9).await.unwrap().unwrap();
    assert_eq!((renewed.mailbox_version, renewed.base_seq, renewed.last_id), (page.mailbox_version, 1, 9));
    assert_eq!(renewed.state.members.len(), 2);
}

#[tokio::test]
async fn an_emptied_store_is_detected_and_accepts_the_room_again() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 2]).await;
    let before = backend.store.load_room(&test_room()).await.unwrap();
    let known = before.room.unwrap();
    backend.run_raw_command::<()>(&::redis::cmd("FLUSHALL")).await;
    let here = MailboxReader { replication_id: before.replication_id.clone(), ..test_reader(1) };
    assert!(
        matches!(backend.store.read_mailbox(&test_room(), &here, 0).await, Ok(PeerStatus::Left(_))),
        "nothing says that it was forgotten"
    );
    assert!(
        matches!(
            backend.store.read_mailbox(&test_room(), &test_reader(1), 0).await,
            Ok(PeerStatus::Forgotten)
        ),
        "another lineage does"
    );
    let restored = known.rebuild_for_store("L2".into(), 100);
    assert!(restored.members.values().all(|member| member.mailbox_version == 100));
    let put = restored.members.clone().into_iter().collect();
    let again = Commit { written_members: put, opens_room: true, adds_data: true, ..empty_commit(&restored) };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &again).await,
        Ok(CommitResult::Applied(..))
    ));
    assert_eq!(backend.load_room().await.unwrap().members.len(), state.members.len());
}

/// D1: a failover lost a commit, and others made one of the same number. Who saw the lost one is out of date all the same.
#[tokio::test]
async fn a_lost_room_version_is_not_confused_with_a_later_one() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let before = backend.create_room(&[1, 1]).await;
    let key = redis_keys::room_key(&test_room());
    let old: Vec<u8> = backend.run_raw_command(::redis::cmd("DUMP").arg(&key)).await;
    let lost = backend.join_peer(&before, 3, 1).await;
    // The failover.
    backend
        .run_raw_command::<()>(::redis::cmd("RESTORE").arg(&key).arg(60_000).arg(&old[..]).arg("REPLACE"))
        .await;
    backend.run_raw_command::<()>(::redis::cmd("HSET").arg(&key).arg("lin").arg("another")).await;
    let healed = backend.load_room().await.unwrap();
    backend.join_peer(&healed, 4, 1).await;
    let sent = backend.append_entries(vec![message_to_room(Some(1))], &lost).await.unwrap();
    assert_eq!(result_letters(&sent), "s", "peer 4 would not hear it");
    let leave = Commit {
        removed_peers: vec![(test_peer(1), LEFT_TOMBSTONE)],
        events: vec![test_event(1, vec![test_peer(2), test_peer(3)])],
        ..empty_commit(&lost)
    };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &leave).await,
        Ok(CommitResult::Conflict(_))
    ));
}
