//! A Redis that may have lost acknowledged writes.

use super::*;

/// After a failover a `seq` may be used again and grow beyond the last seq of a client, so numbers
/// alone prove nothing.
#[tokio::test]
async fn a_new_replication_id_renews_every_mailbox() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 1]).await;
    backend.append_entries(vec![message_to(2, Some(3), "before")], &state).await.unwrap();
    let key = redis_keys::room_key(&test_room());
    // The room looks as after a failover: it was written under another replication id.
    backend.run_raw_command::<()>(::redis::cmd("HSET").arg(&key).arg("lin").arg("another")).await;
    let results = backend
        .append_entries(vec![message_to(2, Some(3), "again"), message_to(2, Some(4), "after")], &state)
        .await
        .unwrap();
    assert_eq!(result_letters(&results), "dw", "a known id stays a duplicate");
    let page = backend.owned_page(2, 0).await;
    assert!(page.mailbox_version > 5, "a new version");
    assert_eq!(
        page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [2],
        "no entry of the old version"
    );
    // A reader with the old version continues where the new version begins.
    let renewed = backend
        .store
        .renew_mailbox(&test_room(), &test_reader(2), 5, 9, &refused_ids(&[]))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((renewed.mailbox_version, renewed.base_seq, renewed.last_id), (page.mailbox_version, 1, 9));
    assert_eq!(renewed.state.members.len(), 2);
}

#[tokio::test]
async fn an_emptied_store_is_detected_and_accepts_the_room_again() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 2]).await;
    let before = backend.store.load_room(&test_room()).await.unwrap();
    let cached = before.room.unwrap();
    backend.run_raw_command::<()>(&::redis::cmd("FLUSHALL")).await;
    let reader = MailboxReader { replication_id: before.replication_id.clone(), ..test_reader(1) };
    assert!(
        matches!(backend.store.read_mailbox(&test_room(), &reader, 0).await, Ok(PeerStatus::Left(_))),
        "the same replication id: the store counts as complete"
    );
    assert!(
        matches!(
            backend.store.read_mailbox(&test_room(), &test_reader(1), 0).await,
            Ok(PeerStatus::Forgotten)
        ),
        "another replication id: the store may have lost the peer"
    );
    let restored = cached.rebuild_for_store("L2".into(), 100);
    assert!(restored.members.values().all(|member| member.mailbox_version == 100));
    let written_members = restored.members.clone().into_iter().collect();
    let again = Commit { written_members, opens_room: true, adds_data: true, ..empty_commit(&restored) };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &again).await,
        Ok(CommitResult::Applied(..))
    ));
    assert_eq!(backend.load_room().await.unwrap().members.len(), state.members.len());
}

/// A failover loses a commit, and another commit gets the same version. A node that saw the lost
/// commit is stale nevertheless.
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
    assert_eq!(result_letters(&sent), "s", "peer 4 would not receive the message");
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

/// The server becomes a replica and a master again, and keeps its connections. The calls name the
/// replication id that their connection had before, until the next look at the server.
#[tokio::test]
async fn a_promotion_on_a_kept_connection_renews_every_mailbox() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 1]).await;
    backend.append_entries(vec![message_to(2, Some(1), "before")], &state).await.unwrap();
    backend.run_raw_command::<()>(::redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1)).await;
    backend.run_raw_command::<()>(::redis::cmd("REPLICAOF").arg("NO").arg("ONE")).await;
    let renewal = async {
        for id in 2.. {
            // Unavailable if a look at the server falls between the two commands.
            let _ = backend.append_entries(vec![message_to(2, Some(id), "after")], &state).await;
            let status = backend.store.read_mailbox(&test_room(), &test_reader(2), 0).await;
            if matches!(status, Ok(PeerStatus::Owned(page)) if page.mailbox_version > 5) {
                return;
            }
            let confirm = AppendBatch { sender: test_peer(2), acked_seq: id, ..test_batch(vec![], &state) };
            let _ = backend.append_batch(&confirm).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), renewal).await.expect("the next look finds the new id");
}
