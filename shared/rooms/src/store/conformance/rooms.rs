//! Rooms: commits, settings, life and deadlines.

use signalbox_protocol::E2eeMode;

use super::*;
use crate::room::{RoomCreator, RoomCreatorKind};

store_tests! {
    room_settings_are_stored_unchanged_and_bound_the_room_life(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1]).await;
        let settings = RoomSettings { name: Some("Al \"ice\" 🚦".into()), max_duration: Some(20), locked: true, e2ee: E2eeMode::Required, roles: Some([Role::parse("guest").unwrap()].into()), ..RoomSettings::default() };
        let set = Commit { settings: Some(settings.into()), max_life_ms: 20_000, opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &set).await, Ok(CommitResult::Applied(..))));
        let found = backend.load_room().await.unwrap();
        assert_eq!((found.settings.name.as_deref(), found.settings.locked), (Some("Al \"ice\" 🚦"), true));
        assert_eq!((found.settings.requires_e2ee(), found.settings.roles.as_ref().map(|roles| roles[0].as_str())), (true, Some("guest")));
        assert_eq!(found.ends_at, found.started_at + 20_000, "counted from the first join");
    }

    sanctions_are_stored_replaced_and_deleted_with_the_room(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1]).await;
        let json = r#"[{"user":"mal:lory@x","source":"guest","block":{"reason":"removed","until":77},"muted":true},{"user":"eve","role":{"role":"viewer","permissions":["message"]}}]"#;
        let list = Arc::new(SanctionList::from_json(json));
        assert_eq!(list.to_json(), json, "each kind of sanction");
        let put = |sanctions, state: &RoomState| Commit { sanctions: Some(sanctions), opens_room: false, ..empty_commit(state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &put(list.clone(), &state)).await, Ok(CommitResult::Applied(..))));
        let state = backend.load_room().await.unwrap();
        assert_eq!(state.sanctions, list);
        let other = Commit { opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &other).await, Ok(CommitResult::Applied(..))));
        let state = backend.load_room().await.unwrap();
        assert_eq!(state.sanctions, list, "another commit keeps them");
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &put(Arc::default(), &state)).await, Ok(CommitResult::Applied(..))));
        let state = backend.load_room().await.unwrap();
        assert!(state.sanctions.is_empty());
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &put(list, &state)).await, Ok(CommitResult::Applied(..))));
        let state = backend.load_room().await.unwrap();
        let end = Commit { removed_peers: vec![(test_peer(1), LEFT_TOMBSTONE)], leaves_room_empty: true, ends_room: true, opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &end).await, Ok(CommitResult::Applied(..))));
        assert!(backend.load_room().await.unwrap().sanctions.is_empty(), "they end with the room");
    }

    a_kept_room_exists_empty_until_its_retention_ends(backend, SMALL_LIMITS) {
        let partition = redis_keys::partition_of_room(&test_room());
        let begin = backend.store.load_room(&test_room()).await.unwrap().now;
        let kept_until = begin + 400;
        let settings = RoomSettings { created_at: 1, kept_until, ..RoomSettings::default() };
        let none = RoomState::new("0a".into(), "".into());
        let create = Commit { settings: Some(settings.into()), kept_until, leaves_room_empty: true, opens_room: false, adds_data: true, ..empty_commit(&none) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &create).await, Ok(CommitResult::Applied(..))));
        let state = backend.load_room().await.unwrap();
        assert_eq!((state.ends_at, state.settings.kept_until), (0, kept_until));
        let alone = backend.store.load_room_settings(&test_room()).await.unwrap().unwrap();
        assert_eq!(alone.to_json(), state.settings.to_json(), "the settings without the members");
        assert_eq!(backend.store.list_rooms_in_partition(partition).await.unwrap(), [test_room()]);
        if backend.server.is_some() {
            let ttl: u64 = backend.run_raw_command(::redis::cmd("PTTL").arg(redis_keys::room_key(&test_room()))).await;
            assert!(ttl > 100 + SMALL_LIMITS.resume_window_ms && ttl <= 400 + SMALL_LIMITS.resume_window_ms, "the retention and the resume window: {ttl}");
        }
        let used = backend.join_peer(&RoomState { members: Default::default(), ..state }, 1, 1).await;
        if backend.server.is_some() {
            let ttl: u64 = backend.run_raw_command(::redis::cmd("PTTL").arg(redis_keys::room_key(&test_room()))).await;
            assert!(ttl > 50_000, "the life is longer than the retention: {ttl}");
        }
        let last = Commit { removed_peers: vec![(test_peer(1), LEFT_TOMBSTONE)], leaves_room_empty: true, opens_room: false, kept_until, ..empty_commit(&used) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &last).await, Ok(CommitResult::Applied(..))));
        assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), []);
        tokio::time::sleep(std::time::Duration::from_millis(450)).await;
        assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), [DueItem::Room(test_room())]);
        let state = backend.load_room().await.unwrap();
        let over = Commit { settings: Some(Default::default()), leaves_room_empty: true, ends_room: true, opens_room: false, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &over).await, Ok(CommitResult::Applied(..))));
        assert!(!backend.load_room().await.unwrap().settings.is_created());
        let ended = backend.store.load_room_settings(&test_room()).await.unwrap();
        assert!(ended.is_none_or(|settings| !settings.is_created()));
        // The memory store lists the name until the room is due.
        assert!(backend.server.is_none() || backend.store.list_rooms_in_partition(partition).await.unwrap().is_empty());
    }

    a_user_can_create_a_room_again_when_an_older_one_ends(backend, SMALL_LIMITS) {
        let auth_store = backend.auth_store(SMALL_LIMITS);
        let (store, user) = (auth_store.as_ref().unwrap_or(&backend.store), RoomCreator { kind: RoomCreatorKind::User, id: "al:ice@x".into() });
        let key = RoomCreator { kind: RoomCreatorKind::Key, ..user.clone() };
        let name = |n: u32| RoomId::parse(&format!("r{n}")).unwrap();
        for (n, has_place) in [(1, true), (2, true), (2, true), (3, false)] {
            assert_eq!(store.reserve_room(&user, &name(n), 300, 2).await.unwrap(), has_place, "{n}");
        }
        assert!(store.reserve_room(&key, &name(3), 300, 1).await.unwrap(), "a key of the same name has its own places");
        assert!(!store.reserve_room(&key, &name(4), 300, 1).await.unwrap());
        store.release_room(&user, &name(1)).await.unwrap();
        assert!(store.reserve_room(&user, &name(3), 60_000, 2).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(350)).await;
        assert!(store.reserve_room(&user, &name(4), 300, 2).await.unwrap(), "the retention of the second room has ended");
        if let Some(server) = &backend.server {
            let mut ttl = ::redis::cmd("PTTL");
            let ttl: i64 = server.run_on_partition(redis_keys::partition_of_creator("al:ice@x"), ttl.arg(redis_keys::created_rooms_key("al:ice@x"))).await;
            assert!(ttl > 0, "{ttl}");
        }
    }

    a_commit_on_a_stale_version_is_a_conflict_with_the_current_state(backend, SMALL_LIMITS) {
        let first = backend.create_room(&[1]).await;
        let second = backend.join_peer(&first, 2, 1).await;
        let stale = Commit { written_members: vec![(test_peer(3), test_member(1).into())], ..empty_commit(&first) };
        let Ok(CommitResult::Conflict(LoadedRoom { room: Some(fresh), .. })) = backend.store.commit(&test_room(), &test_node(1), &stale).await else {
            panic!("a stale commit is a conflict")
        };
        assert_eq!((fresh.version, fresh.members.len()), (second.version, 2));
        let kept = &fresh.members[&test_peer(1)];
        assert_eq!((&*kept.name, kept.metadata.get(), kept.owner(), kept.epoch), ("Al \"ice\" 🚦", r#"{"a":[1]}"#, Some(&test_node(1)), 1));
        assert_eq!((kept.mailbox_version, kept.generation, kept.expires, kept.permissions.len()), (5, 1, 77, 1));
        assert!(fresh.ends_at > fresh.read_at && !fresh.replication_id.is_empty());
    }

    an_existing_room_is_not_created_and_a_missing_room_is_not_changed(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1]).await;
        let again = Commit { written_members: vec![(test_peer(9), test_member(1).into())], ..empty_commit(&RoomState::new("0b".into(), "".into())) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &again).await, Ok(CommitResult::Conflict(LoadedRoom { room: Some(_), .. }))));
        let elsewhere = RoomId::parse("elsewhere").unwrap();
        let change = Commit { written_members: vec![(test_peer(9), test_member(1).into())], ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&elsewhere, &test_node(1), &change).await, Ok(CommitResult::Conflict(LoadedRoom { room: None, .. }))));
        assert!(backend.store.load_room(&elsewhere).await.unwrap().room.is_none());
    }

    an_empty_room_is_deleted_with_all_its_keys(backend, SMALL_LIMITS) {
        let state = backend.create_room(&[1, 1]).await;
        backend.append_entries(vec![message_to(2, None, "x")], &state).await.unwrap();
        let with_token = Tombstone { token: Some(TokenId::random().sibling(2)), ..LEFT_TOMBSTONE };
        let end = Commit { removed_peers: vec![(test_peer(1), LEFT_TOMBSTONE), (test_peer(2), with_token.clone())], ends_room: true, ..empty_commit(&state) };
        assert!(matches!(backend.store.commit(&test_room(), &test_node(1), &end).await, Ok(CommitResult::Applied(..))));
        let left = backend.load_room().await.unwrap();
        assert!(left.members.is_empty() && left.tombstones.len() == 2, "peers that have left are remembered for a while");
        assert_eq!((&left.tombstones[&test_peer(1)].token, &left.tombstones[&test_peer(2)].token), (&None, &with_token.token));
        assert!(matches!(backend.store.read_mailbox(&test_room(), &test_reader(1), 0).await, Ok(PeerStatus::Left(_))));
        assert_eq!(backend.append_entries(vec![message_to(2, None, "x")], &state).await.unwrap_err(), AppendError::NotOwner);
        // The resume window passes.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert!(backend.load_room().await.is_none());
        if let Some(server) = &backend.server {
            assert_eq!(room_keys(server).await, [""; 0]);
        }
    }

    a_room_expires_at_its_maximum_life(backend, StoreLimits { room_life_ms: 60, resume_window_ms: 20, ..SMALL_LIMITS }) {
        let state = backend.create_room(&[1, 1]).await;
        // The life of the room passes.
        tokio::time::sleep(std::time::Duration::from_millis(160)).await;
        assert_eq!(backend.append_entries(vec![message_to(2, None, "x")], &state).await.unwrap_err(), AppendError::NotOwner);
        assert!(backend.load_room().await.is_none());
    }
}

/// The client of a peer uses a newer handle between the decision and the commit.
#[tokio::test]
async fn a_newer_confirmed_handle_refuses_the_commit() {
    for backend in [
        StoreBackend::in_memory(SMALL_LIMITS),
        StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await,
    ] {
        let state = backend.create_room(&[1, 1]).await;
        let confirm = AppendBatch { handle_generation: Some(2), ..test_batch(vec![], &state) };
        assert_eq!(result_letters(&backend.append_batch(&confirm).await.unwrap()), "");
        let attached = |generation| Member { epoch: 2, generation, ..test_member(1) };
        let late =
            Commit { written_members: vec![(test_peer(1), attached(1).into())], ..empty_commit(&state) };
        let Ok(CommitResult::Conflict(LoadedRoom { room: Some(fresh), .. })) =
            backend.store.commit(&test_room(), &test_node(1), &late).await
        else {
            panic!("a commit with an old handle was applied")
        };
        assert_eq!(fresh.members[&test_peer(1)].generation, 2);
        let good =
            Commit { written_members: vec![(test_peer(1), attached(2).into())], ..empty_commit(&state) };
        assert!(matches!(
            backend.store.commit(&test_room(), &test_node(1), &good).await,
            Ok(CommitResult::Applied(..))
        ));
    }
}

#[tokio::test]
async fn a_peer_with_a_short_window_is_due_before_the_others() {
    let limits = StoreLimits { resume_window_ms: 60_000, ..SMALL_LIMITS };
    for backend in
        [StoreBackend::in_memory(limits), StoreBackend::over_redis(RedisKind::Standalone, limits).await]
    {
        let state = backend.create_room(&[1, 1]).await;
        let detach = |version, decided_at, window| Commit {
            version,
            decided_at,
            written_members: vec![(
                test_peer(1),
                Member { attachment: PeerAttachment::Detached(decided_at + window), ..test_member(1) }.into(),
            )],
            detached_peers: vec![test_peer(1)],
            ..empty_commit(&state)
        };
        // The time of the decision is not the time of the store: the store counts the window itself.
        let short = detach(state.version, 5_000, 100);
        // A later write of a detached member does not prolong its window.
        let again = detach(state.version + 1, 5_000, 50_000);
        for commit in [short, again] {
            let result = backend.store.commit(&test_room(), &test_node(1), &commit).await;
            assert!(matches!(result, Ok(CommitResult::Applied(..))));
        }
        let partition = redis_keys::partition_of_room(&test_room());
        assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), []);
        // The short window passes.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), [DueItem::Room(test_room())]);
    }
}

#[tokio::test]
async fn a_due_room_is_listed_once_when_its_deadline_has_passed() {
    for backend in [
        StoreBackend::in_memory(StoreLimits { resume_window_ms: 100, ..SMALL_LIMITS }),
        StoreBackend::over_redis(
            RedisKind::Standalone,
            StoreLimits { resume_window_ms: 100, ..SMALL_LIMITS },
        )
        .await,
    ] {
        let state = backend.create_room(&[1, 1]).await;
        let lost = Member { attachment: PeerAttachment::Detached(0), ..test_member(1) };
        let detach = Commit {
            written_members: vec![(test_peer(1), lost.into())],
            detached_peers: vec![test_peer(1)],
            ..empty_commit(&state)
        };
        assert!(matches!(
            backend.store.commit(&test_room(), &test_node(1), &detach).await,
            Ok(CommitResult::Applied(..))
        ));
        let partition = redis_keys::partition_of_room(&test_room());
        assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), []);
        // The resume window passes.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert_eq!(backend.store.poll_due_items(&[partition]).await.unwrap(), [DueItem::Room(test_room())]);
        assert_eq!(
            backend.store.poll_due_items(&[partition]).await.unwrap(),
            [],
            "and not again immediately"
        );
    }
}
