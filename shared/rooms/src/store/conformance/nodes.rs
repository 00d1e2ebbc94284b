//! What nodes hear of each other through Redis.

use super::*;

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
