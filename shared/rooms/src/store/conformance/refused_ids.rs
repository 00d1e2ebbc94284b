//! Ids that were refused although a later id was accepted: they are never taken for accepted.

use super::*;

/// Refused ids and their codes, as a reader of the mailbox sees them.
async fn stored_ids(backend: &StoreBackend) -> (u64, Vec<(u64, ErrorCode)>) {
    let page = backend.owned_page(1, 0).await;
    (page.last_id, page.refused.into_vec().iter().map(|refused| (refused.id, refused.code)).collect())
}

store_tests! {
    a_refused_id_below_an_accepted_id_is_refused_again(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1, 1]).await;
        let fill: Vec<_> = (1..=8).map(|id| message_to(2, Some(id), "x")).collect();
        assert_eq!(result_letters(&backend.append_entries(fill, &state).await.unwrap()), "wwwwwwww");
        // In one call: full, accepted, the refused id again, absent, accepted.
        let batch = vec![message_to(2, Some(9), "x"), message_to(3, Some(10), "x"), message_to(3, Some(9), "x"),
            message_to(9, Some(11), "x"), message_to(3, Some(12), "x")];
        assert_eq!(result_letters(&backend.append_entries(batch, &state).await.unwrap()), "bwenw");
        assert_eq!(stored_ids(&backend).await, (12, vec![(9, ErrorCode::PeerBacklogged), (11, ErrorCode::NoSuchPeer)]));
        // In a later call.
        let again = vec![message_to(3, Some(8), "x"), message_to(3, Some(9), "x"), message_to(3, Some(11), "x"), message_to(3, Some(12), "x")];
        let results = backend.append_entries(again, &state).await.unwrap();
        assert_eq!(result_letters(&results), "deed");
        assert!(matches!(results[1], AppendResult::RefusedBefore(ErrorCode::PeerBacklogged)), "{results:?}");
        assert!(matches!(results[2], AppendResult::RefusedBefore(ErrorCode::NoSuchPeer)), "{results:?}");
        assert_eq!(backend.owned_page(3, 0).await.entries.len(), 2, "nothing was written");
        let renewed = backend.store.renew_mailbox(&test_room(), &test_reader(1), 5, 0, &refused_ids(&[])).await.unwrap().unwrap();
        assert_eq!(renewed.refused.code_of(9), Some(ErrorCode::PeerBacklogged));
    }

    a_refused_id_above_all_accepted_ids_can_be_accepted(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(9, Some(3), "x")], &state).await.unwrap()), "n");
        assert_eq!(stored_ids(&backend).await, (0, vec![]));
        // Reported as refused, and refused in the same call; then it is accepted.
        let batch = AppendBatch { refused: refused_ids(&[3]), ..test_batch(vec![message_to(9, Some(3), "x"), message_to(2, Some(3), "x"), message_to(2, Some(4), "x")], &state) };
        assert_eq!(result_letters(&backend.append_batch(&batch).await.unwrap()), "nww");
        assert_eq!(stored_ids(&backend).await, (4, vec![]));
        assert_eq!(result_letters(&backend.append_entries(vec![message_to(2, Some(3), "x")], &state).await.unwrap()), "d");
    }

    reported_ids_are_kept_when_a_later_id_is_accepted(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        let report = |refused: &[u64], known_last_id, entries| AppendBatch { refused: refused_ids(refused), known_last_id, ..test_batch(entries, &state) };
        // By a message of the call. An id beyond it may still be accepted.
        let batch = report(&[2, 5], 0, vec![message_to(2, Some(1), "x"), message_to(2, Some(3), "x"), message_to(2, Some(2), "x")]);
        assert_eq!(result_letters(&backend.append_batch(&batch).await.unwrap()), "wwe");
        assert_eq!(stored_ids(&backend).await, (3, vec![(2, ErrorCode::NotPermitted)]));
        // Without a message: the node has delivered directly. An id that was accepted stays accepted.
        backend.append_batch(&report(&[1, 5], 6, vec![])).await.unwrap();
        assert_eq!(stored_ids(&backend).await, (6, vec![(2, ErrorCode::NotPermitted), (5, ErrorCode::NotPermitted)]));
        // By a commit.
        let accepted_ids = vec![request_id(1, 9, &[1, 8, 10])];
        let update = Commit { written_members: vec![(test_peer(1), test_member(1).into())], accepted_ids, opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &update).await, Ok(CommitResult::Applied(..))));
        let kept = [2, 5, 8].map(|id| (id, ErrorCode::NotPermitted));
        assert_eq!(stored_ids(&backend).await, (9, kept.to_vec()));
        // By a new mailbox version: the store may have lost some of them.
        let renewed = backend.store.renew_mailbox(&test_room(), &test_reader(1), 5, 11, &refused_ids(&[3, 10, 12])).await.unwrap().unwrap();
        assert_eq!((renewed.last_id, renewed.refused), (11, refused_ids(&[2, 3, 5, 8, 10])));
    }

    the_highest_refused_ids_are_kept(backend, SMALL_LIMITS) {
        const REFUSED: u64 = 3 * RefusedIds::MAX as u64 / 2;
        let state = backend.create_room(&[1, 1]).await;
        for id in 0..REFUSED {
            let results = backend.append_entries(vec![message_to(9, Some(2 * id + 1), "x"), message_to_room_without_reader(2 * id + 2)], &state).await.unwrap();
            assert_eq!(result_letters(&results), "nw");
        }
        let (_, kept) = stored_ids(&backend).await;
        let highest = (REFUSED - RefusedIds::MAX as u64..REFUSED).map(|id| (2 * id + 1, ErrorCode::NoSuchPeer));
        assert_eq!(kept, highest.collect::<Vec<_>>());
    }

    a_peer_that_leaves_leaves_no_refused_ids(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        let batch = vec![message_to(9, Some(1), "x"), message_to(2, Some(2), "x")];
        assert_eq!(result_letters(&backend.append_entries(batch, &state).await.unwrap()), "nw");
        let field = format!("r:{}", test_peer(1));
        if backend.server.is_some() {
            let mut read = ::redis::cmd("HGET");
            read.arg(redis_keys::room_key(&test_room())).arg(&field);
            assert_eq!(backend.run_raw_command::<String>(&read).await, "1 no_such_peer");
        }
        let leave = Commit { removed_peers: vec![(test_peer(1), LEFT_TOMBSTONE)], opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &leave).await, Ok(CommitResult::Applied(..))));
        if backend.server.is_some() {
            let mut fields = ::redis::cmd("HKEYS");
            let fields: Vec<String> = backend.run_raw_command(fields.arg(redis_keys::room_key(&test_room()))).await;
            let of_peer: Vec<_> = fields.iter().filter(|field| field.ends_with(test_peer(1).as_str())).collect();
            assert_eq!(of_peer, [&format!("t:{}", test_peer(1))], "only the tombstone remains");
        }
    }
}

/// A message that is accepted and reaches no peer.
fn message_to_room_without_reader(id: u64) -> OutgoingEntry {
    OutgoingEntry { target: MessageTarget::Withheld, ..message_to(2, Some(id), "x") }
}
