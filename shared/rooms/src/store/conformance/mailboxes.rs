//! Mailboxes: order, doubles, bounds and ages.

use super::*;

contract! {
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
