//! A Redis that may have forgotten what it acknowledged.

use super::*;

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
