//! Deliveries, resyncs and leases of several nodes over one Redis.

use super::*;

#[tokio::test]
async fn another_node_receives_only_entries_for_its_peers() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 2, 1, 2]).await;
    let recorded = backend.other_node.as_ref().map(|(_, recorded)| recorded.clone()).unwrap();
    let results = backend
        .append_entries(
            vec![
                message_to_room(Some(1)),
                message_to(2, Some(2), "line\nbreak"),
                message_to(3, Some(3), "own"),
            ],
            &state,
        )
        .await;
    let delivered: usize =
        results.unwrap().iter().map(|r| if let AppendResult::Written(d) = r { d.len() } else { 0 }).sum();
    assert_eq!(delivered, 2, "node 1 owns peer 3: the message to the room and the message to peer 3");
    // Peer 2 receives the joins of peers 3 and 4. Then both peers receive the message to the room,
    // and peer 2 its own message.
    let seen = recorded.wait_for_deliveries(5).await;
    let order: Vec<_> = seen.iter().map(|d| (d.peer.clone(), d.entry.seq, d.entry.id)).collect();
    assert_eq!(order[..2], [(test_peer(2), 1, None), (test_peer(2), 2, None)]);
    assert!(
        order[2..4].contains(&(test_peer(2), 3, Some(1)))
            && order[2..4].contains(&(test_peer(4), 1, Some(1)))
    );
    assert_eq!(order[4], (test_peer(2), 4, Some(2)));
    assert_eq!(&*seen[4].entry.body, "{\"t\":\"line\nbreak\"}");
    let (other, _) = backend.other_node.as_ref().unwrap();
    let reader = MailboxReader { node: test_node(2), ..test_reader(2) };
    let Ok(PeerStatus::Owned(page)) = other.read_mailbox(&test_room(), &reader, 3).await else {
        panic!("node 2 owns peer 2")
    };
    assert_eq!(page.entries[0], seen[4].entry, "the delivered entry and the stored entry are equal");
}

#[tokio::test]
async fn a_node_that_loses_a_peer_is_notified_and_a_dead_node_is_found() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 2]).await;
    let (other, recorded) = backend.other_node.as_ref().unwrap();
    let list = Commit { added_nodes: vec![test_node(2)], ..empty_commit(&state) };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &list).await,
        Ok(CommitResult::Applied(..))
    ));
    let partition = redis_keys::partition_of_room(&test_room());
    assert_eq!(other.list_rooms_of_node(partition, &test_node(2)).await.unwrap(), [test_room()]);
    other.unlist_node(&test_room(), &test_node(2)).await.unwrap();
    assert_eq!(
        other.list_rooms_of_node(partition, &test_node(2)).await.unwrap(),
        [test_room()],
        "node 2 still owns a peer of the room"
    );
    let attached = Member { epoch: 2, ..test_member(1) };
    let attach = Commit {
        version: state.version + 1,
        written_members: vec![(test_peer(2), attached.into())],
        removed_nodes: vec![test_node(2)],
        resync_requests: vec![(test_node(2), vec![test_peer(2)])],
        ..empty_commit(&state)
    };
    assert!(matches!(
        backend.store.commit(&test_room(), &test_node(1), &attach).await,
        Ok(CommitResult::Applied(..))
    ));
    assert!(other.list_rooms_of_node(partition, &test_node(2)).await.unwrap().is_empty());
    let resynced = async {
        while recorded.resynced_peers.lock().unwrap().is_empty() {
            recorded.changed.notified().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), resynced).await.unwrap();
    assert_eq!(*recorded.resynced_peers.lock().unwrap(), [test_peer(2)]);
    let reader = MailboxReader { node: test_node(2), ..test_reader(2) };
    assert!(
        matches!(
            other.read_mailbox(&test_room(), &reader, 0).await,
            Ok(PeerStatus::Fenced { is_certain: false })
        ),
        "the reader has another replication id"
    );
    let current_reader = MailboxReader {
        replication_id: other.load_room(&test_room()).await.unwrap().replication_id,
        ..reader
    };
    assert!(matches!(
        other.read_mailbox(&test_room(), &current_reader, 0).await,
        Ok(PeerStatus::Fenced { is_certain: true })
    ));
}

#[tokio::test]
async fn a_node_with_an_expired_lease_is_dead_until_it_is_forgotten() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let store = &backend.store;
    assert!(!store.renew_lease(&test_node(1)).await.unwrap().had_lease, "the node is new");
    let census = store.renew_lease(&test_node(2)).await.unwrap();
    assert_eq!((census.live_nodes.len(), census.dead_nodes.len()), (2, 0));
    assert!(store.renew_lease(&test_node(1)).await.unwrap().had_lease);
    // The lease of node 2 passes.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let census = store.renew_lease(&test_node(1)).await.unwrap();
    assert!(!census.had_lease, "the lease of node 1 has passed too");
    assert_eq!((census.live_nodes, census.dead_nodes), (vec![test_node(1)], vec![test_node(2)]));
    store.forget_node(&test_node(2)).await.unwrap();
    assert_eq!(store.renew_lease(&test_node(1)).await.unwrap().dead_nodes, []);
}

#[tokio::test]
async fn an_invalidated_mailbox_gets_a_new_version_and_its_node_is_notified() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    backend.create_room(&[1, 2]).await;
    let (other, recorded) = backend.other_node.as_ref().unwrap();
    backend.store.invalidate_mailbox(&test_room(), &test_peer(2)).await.unwrap();
    let resynced = async {
        while recorded.resynced_peers.lock().unwrap().is_empty() {
            recorded.changed.notified().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), resynced).await.unwrap();
    assert_eq!(*recorded.resynced_peers.lock().unwrap(), [test_peer(2)]);
    let PeerStatus::Owned(page) = other
        .read_mailbox(&test_room(), &MailboxReader { node: test_node(2), ..test_reader(2) }, 0)
        .await
        .unwrap()
    else {
        panic!("node 2 still owns peer 2")
    };
    assert!(page.mailbox_version > 5);
}
