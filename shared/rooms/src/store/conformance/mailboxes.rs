//! Mailboxes: order, duplicates, bounds and expiry.

use super::*;

store_tests! {
    a_peer_in_the_lobby_receives_no_message_until_admitted(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        let put = |waiting| vec![(test_peer(2), Member { waiting, ..test_member(1) }.into())];
        let wait = Commit { written_members: put(true), opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &wait).await, Ok(CommitResult::Applied(..))));
        assert!(backend.load_room().await.unwrap().members[&test_peer(2)].waiting);
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(2, Some(1), "x")], &state).await.unwrap()), "n");
        let admit = Commit { written_members: put(false), opens_room: false, version: state.version + 1, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &admit).await, Ok(CommitResult::Applied(..))));
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(2, Some(1), "x")], &state).await.unwrap()), "w");
    }

    entries_of_events_and_messages_are_contiguous_and_can_be_read(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1, 1]).await;
        let results = backend.append_entries(vec![message_to(2, Some(5), "a"), message_to_room(None), message_to(2, Some(6), "b")], &state).await.unwrap();
        assert_eq!(result_letters(&results), "www");
        let AppendResult::Written(deliveries) = &results[2] else { unreachable!() };
        assert_eq!((deliveries[0].peer.clone(), deliveries[0].mailbox_version, deliveries[0].entry.seq), (test_peer(2), 5, 4));
        let page = backend.owned_page(2, 0).await;
        assert_eq!((page.mailbox_version, page.last_seq, page.acked_seq, page.last_id), (5, 4, 0, 0));
        let page = page.entries;
        let read: Vec<_> = page.iter().map(|entry| (entry.seq, entry.id, entry.kind)).collect();
        use EntryKind::{Forwarded, PeerEvent};
        assert_eq!(read, [(1, None, PeerEvent), (2, Some(5), Forwarded), (3, None, Forwarded), (4, Some(6), Forwarded)]);
        assert_eq!(page[3], deliveries[0].entry);
        assert_eq!(backend.owned_page(2, 3).await.entries.len(), 1);
    }

    an_event_keeps_its_type_in_the_mailbox_and_on_the_way_to_another_node(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1, 2]).await;
        let kinds = [EntryKind::RoomEvent, EntryKind::PeerLeft, EntryKind::PermissionsChanged, EntryKind::PeerEvent];
        let event = |kind| EventEntry { kind, state: None, ..test_event(1, vec![test_peer(2), test_peer(3)]) };
        let commit = Commit { events: kinds.map(event).into(), opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &commit).await, Ok(CommitResult::Applied(..))));
        let page = backend.owned_page(2, 1).await.entries;
        assert_eq!(page.iter().map(|entry| entry.kind).collect::<Vec<_>>(), kinds);
        if let Some((_, events)) = &backend.other_node {
            let delivered = events.wait_for_deliveries(4).await;
            let last: Vec<_> = delivered.iter().rev().take(4).rev().map(|delivery| delivery.entry.kind).collect();
            assert_eq!(last, kinds);
        }
    }

    a_repeated_message_id_writes_nothing(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        let items = || vec![message_to(2, Some(7), "a"), message_to(2, Some(8), "b")];
        assert_eq!(result_letters(&backend.append_entries(items(), &state).await.unwrap()), "ww");
        assert_eq!(result_letters(&backend.append_entries(items(), &state).await.unwrap()), "dd");
        assert_eq!(backend.owned_page(2, 0).await.entries.len(), 2);
    }

    a_refused_message_does_not_use_up_its_id(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(9, Some(1), "x"), message_to(2, Some(2), "y")], &state).await.unwrap()), "nw");
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(9, Some(3), "x")], &state).await.unwrap()), "n");
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(2, Some(3), "x")], &state).await.unwrap()), "w");
    }

    an_id_accepted_by_a_commit_counts_for_messages(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        let update = Commit { written_members: vec![(test_peer(1), test_member(1).into())], accepted_ids: vec![request_id(1, 4, &[])], ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &update).await, Ok(CommitResult::Applied(..))));
        let results = backend.append_entries(vec![message_to(2, Some(4), "x"), message_to(2, Some(5), "y")], &state).await.unwrap();
        assert_eq!(result_letters(&results), "dw");
    }

    only_the_owner_of_the_epoch_may_append(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        let zombie = AppendBatch { epoch: 0, ..test_batch(vec![message_to(2, None, "x")], &state) };
        assert_eq!(backend.append_batch(&zombie).await.unwrap_err(), AppendError::NotOwner);
        let thief = test_batch(vec![message_to(2, None, "x")], &state);
        assert_eq!(backend.store.append(&test_room(), &test_node(3), &thief).await.unwrap_err(), AppendError::NotOwner);
        let stranger = AppendBatch { sender: test_peer(9), ..test_batch(vec![message_to(2, None, "x")], &state) };
        assert_eq!(backend.append_batch(&stranger).await.unwrap_err(), AppendError::NotOwner);
        assert_eq!(backend.owned_page(2, 0).await.entries, []);
    }

    a_message_to_the_room_on_a_stale_view_stops_the_batch_there(backend, SMALL_LIMITS) {
        let old = backend.create_room(&[1, 1]).await;
        let new = backend.join_peer(&old, 3, 1).await;
        let items = || vec![message_to(2, Some(1), "x"), message_to_room(Some(2)), message_to(2, Some(3), "y")];
        assert_eq!(result_letters(&backend.append_entries(items(), &old).await.unwrap()), "ws");
        assert_eq!(result_letters(&backend.append_entries(items(), &new).await.unwrap()), "dww");
    }

    a_message_that_requires_a_room_version_is_refused_on_a_stale_view(backend, SMALL_LIMITS) {
        let old = backend.create_room(&[1, 1]).await;
        let new = backend.join_peer(&old, 3, 1).await;
        let items = || vec![message_to(2, Some(1), "x"), requiring_version(message_to(2, Some(2), "y")), message_to(2, Some(3), "z")];
        assert_eq!(result_letters(&backend.append_entries(items(), &old).await.unwrap()), "ws");
        assert_eq!(result_letters(&backend.append_entries(vec![requiring_version(message_to(9, Some(2), "y"))], &old).await.unwrap()), "s");
        assert_eq!(result_letters(&backend.append_entries(items(), &new).await.unwrap()), "dww");
        assert_eq!(result_letters(&backend.append_entries(vec![requiring_version(message_to(9, Some(4), "y"))], &new).await.unwrap()), "n");
    }

    a_withheld_message_uses_its_id_and_reaches_no_peer(backend, SMALL_LIMITS) {
        let old = backend.create_room(&[1, 1]).await;
        let new = backend.join_peer(&old, 3, 1).await;
        let withheld = || vec![requiring_version(OutgoingEntry { target: MessageTarget::Withheld, ..message_to(2, Some(1), "x") })];
        assert_eq!(result_letters(&backend.append_entries(withheld(), &old).await.unwrap()), "s");
        let heads = [backend.owned_page(2, 0).await.last_seq, backend.owned_page(3, 0).await.last_seq];
        let results = backend.append_entries(withheld(), &new).await.unwrap();
        assert!(matches!(&results[..], [AppendResult::Written(deliveries)] if deliveries.is_empty()), "{results:?}");
        assert_eq!(result_letters(&backend.append_entries(withheld(), &new).await.unwrap()), "d");
        assert_eq!([backend.owned_page(2, 0).await.last_seq, backend.owned_page(3, 0).await.last_seq], heads);
    }

    a_full_mailbox_refuses_messages_until_it_is_acknowledged(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1, 1]).await;
        let fill: Vec<_> = (1..=9).map(|id| message_to(2, Some(id), "x")).collect();
        assert_eq!(result_letters(&backend.append_entries(fill, &state).await.unwrap()), "wwwwwwwwb", "the join of peer 3 does not count");
        assert_eq!(result_letters(&backend.append_entries(vec![message_to_room(Some(9)), message_to(3, Some(10), "x")], &state).await.unwrap()), "bw");
        let read = AppendBatch { sender: test_peer(2), acked_seq: 3, ..test_batch(vec![], &state) };
        assert_eq!(result_letters(&backend.append_batch(&read).await.unwrap()), "");
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(2, Some(11), "x")], &state).await.unwrap()), "w");
        assert_eq!(backend.owned_page(2, 0).await.entries[0].seq, 4, "acknowledged entries are deleted");
    }

    a_mailbox_is_also_bounded_in_bytes(backend, StoreLimits { backlog_bytes: 200, ..SMALL_LIMITS }) {
        let state = backend.create_room(&[1, 1]).await;
        let long = "x".repeat(150);
        let results = backend.append_entries(vec![message_to(2, None, &long), message_to(2, None, &long), message_to(2, None, "y")], &state).await.unwrap();
        assert_eq!(result_letters(&results), "wwb");
    }

    events_reach_a_full_mailbox_which_stays_bounded(backend, SMALL_LIMITS) {
        let mut state = backend.create_room(&[1, 1]).await;
        // Messages of the application are never refused, and nothing replaces them.
        for _ in 0..30 {
            let message = EventEntry { kind: EntryKind::RoomEvent, state: None, ..test_event(1, vec![test_peer(2)]) };
            backend.commit_event(&mut state, message).await;
        }
        let page = backend.owned_page(2, 0).await;
        assert_eq!((page.entries.len(), page.entries[0].seq, page.entries[15].seq), (16, 15, 30));
        assert!(page.is_contiguous_after(14) && !page.is_contiguous_after(13), "the oldest were pushed out");
    }

    events_push_no_message_out_and_only_the_latest_state_remains(backend, SMALL_LIMITS) {
        let mut state = backend.create_room(&[1, 1]).await;
        let fill: Vec<_> = (1..=8).map(|id| message_to(2, Some(id), "x")).collect();
        assert_eq!(result_letters(&backend.append_entries(fill, &state).await.unwrap()), "wwwwwwww");
        for about in 10..40 {
            for kind in [StateKind::Joined, StateKind::Attachment, StateKind::Updated, StateKind::Left] {
                let event = EventEntry { state: Some(kind), ..test_event(about, vec![test_peer(2)]) };
                backend.commit_event(&mut state, event).await;
            }
        }
        let page = backend.owned_page(2, 0).await;
        let (messages, events): (Vec<_>, Vec<_>) = page.entries.iter().partition(|entry| entry.kind == EntryKind::Forwarded);
        assert_eq!(messages.iter().map(|entry| entry.id).collect::<Vec<_>>(), (1..=8).map(Some).collect::<Vec<_>>());
        assert!((1..=8).contains(&events.len()), "{events:?}");
        assert_eq!((events.last().unwrap().seq, page.last_seq), (128, 128));
        assert!(page.is_contiguous_after(0), "no message is missing");
        assert!((9..128).contains(&page.dropped_seq), "the oldest leaves were dropped: {}", page.dropped_seq);
        // The counts are right again after an acknowledgement.
        let read = AppendBatch { sender: test_peer(2), acked_seq: 128, ..test_batch(vec![], &state) };
        backend.append_batch(&read).await.unwrap();
        let page = backend.owned_page(2, 128).await;
        assert_eq!((page.entries.len(), page.acked_seq), (0, 128));
        let fill: Vec<_> = (11..=19).map(|id| message_to(2, Some(id), "x")).collect();
        assert_eq!(result_letters(&backend.append_entries(fill, &state).await.unwrap()), "wwwwwwwwb");
    }

    a_peer_stays_announced_before_its_messages(backend, StoreLimits { backlog: 32, ..SMALL_LIMITS }) {
        let mut state = backend.create_room(&[1, 1]).await;
        let event = |kind, about| EventEntry { state: Some(kind), ..test_event(about, vec![test_peer(2)]) };
        backend.commit_event(&mut state, event(StateKind::Joined, 1)).await;
        backend.append_entries(vec![message_to(2, Some(1), "x")], &state).await.unwrap();
        backend.commit_event(&mut state, event(StateKind::Left, 1)).await;
        backend.commit_event(&mut state, event(StateKind::Joined, 8)).await;
        for _ in 0..20 {
            backend.commit_event(&mut state, event(StateKind::Updated, 8)).await;
        }
        let seqs: Vec<_> = backend.owned_page(2, 0).await.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs[..4], [1, 2, 3, 4], "announced, message, left, announced");
        assert_eq!(*seqs.last().unwrap(), 24);
        assert!(seqs.len() <= 17, "{seqs:?}");
    }

    an_acknowledgement_of_a_dropped_event_frees_the_messages_before_it(backend, SMALL_LIMITS) {
        let mut state = backend.create_room(&[1, 1]).await;
        backend.append_entries(vec![message_to(2, Some(1), "x")], &state).await.unwrap();
        for _ in 0..12 {
            backend.commit_event(&mut state, test_event(9, vec![test_peer(2)])).await;
        }
        let seqs: Vec<_> = backend.owned_page(2, 0).await.entries.iter().map(|entry| entry.seq).collect();
        assert!(!seqs.contains(&5), "{seqs:?}");
        let read = AppendBatch { sender: test_peer(2), acked_seq: 5, ..test_batch(vec![], &state) };
        backend.append_batch(&read).await.unwrap();
        let page = backend.owned_page(2, 5).await;
        assert!(page.acked_seq == 5 && page.is_contiguous_after(5) && !page.is_contiguous_after(4));
        let fill: Vec<_> = (2..=10).map(|id| message_to(2, Some(id), "x")).collect();
        assert_eq!(result_letters(&backend.append_entries(fill, &state).await.unwrap()), "wwwwwwwwb");
    }

    expired_entries_are_dropped(backend, StoreLimits { entry_life_ms: 500, ..SMALL_LIMITS }) {
        let state = backend.create_room(&[1, 1]).await;
        backend.append_entries(vec![message_to(2, Some(1), "old")], &state).await.unwrap();
        // The life of an entry passes.
        tokio::time::sleep(std::time::Duration::from_millis(800)).await;
        backend.append_entries(vec![message_to(2, Some(2), "new")], &state).await.unwrap();
        let page = backend.owned_page(2, 0).await.entries;
        assert_eq!(page.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2]);
    }
}

#[tokio::test]
async fn only_the_owner_of_the_epoch_may_renew_its_mailbox() {
    for backend in [
        StoreBackend::in_memory(SMALL_LIMITS),
        StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await,
    ] {
        backend.create_room(&[1, 1]).await;
        let (zombie, thief) = (
            MailboxReader { epoch: 0, ..test_reader(2) },
            MailboxReader { node: test_node(3), ..test_reader(2) },
        );
        for stranger in [zombie, thief, test_reader(9)] {
            assert!(
                backend
                    .store
                    .renew_mailbox(&test_room(), &stranger, 5, 0, &refused_ids(&[]))
                    .await
                    .unwrap()
                    .is_none()
            );
        }
        assert_eq!(backend.owned_page(2, 0).await.mailbox_version, 5);
        assert!(
            backend
                .store
                .renew_mailbox(&test_room(), &test_reader(2), 5, 0, &refused_ids(&[]))
                .await
                .unwrap()
                .unwrap()
                .mailbox_version
                > 5
        );
    }
}

#[tokio::test]
async fn an_acknowledgement_for_an_older_mailbox_version_is_ignored() {
    for backend in [
        StoreBackend::in_memory(SMALL_LIMITS),
        StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await,
    ] {
        let state = backend.create_room(&[1, 1]).await;
        backend
            .append_entries(vec![message_to(2, Some(1), "x"), message_to(2, Some(2), "y")], &state)
            .await
            .unwrap();
        let late = AppendBatch {
            sender: test_peer(2),
            mailbox_version: 4,
            acked_seq: 2,
            ..test_batch(vec![], &state)
        };
        assert_eq!(result_letters(&backend.append_batch(&late).await.unwrap()), "");
        let page = backend.owned_page(2, 0).await;
        assert_eq!((page.acked_seq, page.entries.len()), (0, 2));
    }
}

#[tokio::test]
async fn an_expired_mailbox_does_not_count_as_full() {
    let limits = StoreLimits { entry_life_ms: 300, max_deletion_delay_ms: 200, ..SMALL_LIMITS };
    let backend = StoreBackend::over_redis(RedisKind::Standalone, limits).await;
    let state = backend.create_room(&[1, 1]).await;
    let five = || (0..5).map(|_| message_to(2, None, "x")).collect::<Vec<_>>();
    assert_eq!(result_letters(&backend.append_entries(five(), &state).await.unwrap()), "wwwww");
    let key = redis_keys::mailbox_key(&test_room(), &test_peer(2));
    // The life of the entries and half of the delay pass.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(backend.run_raw_command::<u64>(::redis::cmd("EXISTS").arg(key)).await, 0);
    assert_eq!(result_letters(&backend.append_entries(five(), &state).await.unwrap()), "wwwww");
    let page = backend.owned_page(2, 0).await;
    assert_eq!((page.acked_seq, page.last_seq), (5, 10));
}

#[tokio::test]
async fn expired_entries_of_a_quiet_mailbox_are_trimmed_at_its_deadline() {
    let limits = StoreLimits { entry_life_ms: 2_000, max_deletion_delay_ms: 500, ..SMALL_LIMITS };
    let backend = StoreBackend::over_redis(RedisKind::Standalone, limits).await;
    let state = backend.create_room(&[1, 1]).await;
    let partition = redis_keys::partition_of_room(&test_room());
    backend.append_entries(vec![message_to(2, Some(1), "old")], &state).await.unwrap();
    // Most of the life of the entry passes, then another entry renews the TTL of the mailbox.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    backend.append_entries(vec![message_to(2, Some(2), "new")], &state).await.unwrap();
    assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), []);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let due = backend.store.poll_due_items(&[partition]).await.unwrap();
    assert_eq!(
        due,
        [DueItem::Mailboxes(test_room(), vec![test_peer(2)])],
        "the mailbox of peer 1 expires by its TTL"
    );
    backend.store.trim_mailboxes(&test_room(), &[test_peer(2)]).await.unwrap();
    let remaining: Vec<_> = backend.owned_page(2, 0).await.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(remaining, [Some(2)]);
}

#[tokio::test]
async fn every_key_gets_its_ttl_in_the_script_that_writes_it() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let state = backend.create_room(&[1, 2]).await;
    backend.append_entries(vec![message_to(2, Some(1), "x")], &state).await.unwrap();
    let server = backend.server.as_ref().unwrap();
    let keys = room_keys(server).await;
    assert_eq!(keys.len(), 4, "the room, the deadlines and two mailboxes: {keys:?}");
    for key in keys {
        let ttl: i64 = backend.run_raw_command(::redis::cmd("PTTL").arg(&key)).await;
        let max_ttl = match redis_keys::KeyKind::of_key(&key) {
            // The deadlines of a partition last as long as any room of it may be kept.
            Some(redis_keys::KeyKind::Due) => 24 * 60 * 60 * 1_000 + 1_000,
            // The life of an entry and half of the delay with which it may be deleted.
            Some(redis_keys::KeyKind::Mailbox) => 60_000 + 2_000,
            _ => 61_000,
        };
        assert!(ttl > 0 && ttl <= max_ttl, "{key}: {ttl}");
    }
}
