//! Rooms: commits, settings, lives and deadlines.

use signalbox_protocol::E2ee;

use super::*;

contract! {
    what_is_set_for_a_room_comes_back_as_it_was_and_bounds_its_life(backend, SMALL) {
        let state = backend.room_of(&[1]).await;
        let settings = RoomSettings { name: Some("Al \"ice\" 🚦".into()), max_duration: Some(20), locked: true, e2ee: E2ee::Required, roles: Some([Role::parse("guest").unwrap()].into()), ..RoomSettings::default() };
        let set = Commit { settings: Some(settings.into()), life_ms: 20_000, opens: false, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &set).await, Ok(Committed::Applied(..))));
        let found = backend.load().await.unwrap();
        assert_eq!((found.settings.name.as_deref(), found.settings.locked), (Some("Al \"ice\" 🚦"), true));
        assert_eq!((found.settings.demands_e2ee(), found.settings.roles.as_ref().map(|roles| roles[0].as_str())), (true, Some("guest")));
        assert_eq!(found.ends_at, found.began_at + 20_000, "counted from when somebody came in");
    }

    a_kept_room_is_there_without_anybody_until_then_and_its_keys_have_an_end(backend, SMALL) {
        let partition = keys::partition(&room());
        let begin = backend.store.load(&room()).await.unwrap().now;
        let kept_until = begin + 400;
        let settings = RoomSettings { created_at: 1, kept_until, ..RoomSettings::default() };
        let none = RoomState::new("0a".into(), "".into());
        let make = Commit { settings: Some(settings.into()), kept_until, empty: true, opens: false, grows: true, ..empty(&none) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &make).await, Ok(Committed::Applied(..))));
        let state = backend.load().await.unwrap();
        assert_eq!((state.ends_at, state.settings.kept_until), (0, kept_until));
        assert_eq!(backend.store.rooms_in(partition).await.unwrap(), [room()]);
        if backend.server.is_some() {
            let ttl: u64 = backend.raw(::redis::cmd("PTTL").arg(keys::room(&room()))).await;
            assert!(ttl > 100 + SMALL.window_ms && ttl <= 400 + SMALL.window_ms, "until then, and the window: {ttl}");
        }
        let used = backend.join(&RoomState { members: Default::default(), ..state }, 1, 1).await;
        if backend.server.is_some() {
            let ttl: u64 = backend.raw(::redis::cmd("PTTL").arg(keys::room(&room()))).await;
            assert!(ttl > 50_000, "a life is longer than it is kept: {ttl}");
        }
        let last = Commit { removed: vec![(peer(1), LEFT)], empty: true, opens: false, kept_until, ..empty(&used) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &last).await, Ok(Committed::Applied(..))));
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), []);
        tokio::time::sleep(std::time::Duration::from_millis(450)).await;
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), [Due::Room(room())]);
        let state = backend.load().await.unwrap();
        let over = Commit { settings: Some(Default::default()), empty: true, ends: true, opens: false, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &over).await, Ok(Committed::Applied(..))));
        assert!(!backend.load().await.unwrap().settings.is_made());
        // In memory the name stays until somebody looks for what is due.
        assert!(backend.server.is_none() || backend.store.rooms_in(partition).await.unwrap().is_empty());
    }

    a_user_has_so_many_rooms_and_places_come_back_when_they_are_over(backend, SMALL) {
        let (store, user) = (&backend.store, UserId::parse("al:ice@x").unwrap());
        let name = |n: u32| RoomId::parse(&format!("r{n}")).unwrap();
        for (n, taken) in [(1, true), (2, true), (2, true), (3, false)] {
            assert_eq!(store.take_place(&user, &name(n), 300, 2).await.unwrap(), taken, "{n}");
        }
        store.give_place_back(&user, &name(1)).await.unwrap();
        assert!(store.take_place(&user, &name(3), 60_000, 2).await.unwrap());
        tokio::time::sleep(std::time::Duration::from_millis(350)).await;
        assert!(store.take_place(&user, &name(4), 300, 2).await.unwrap(), "the second is over");
        if let Some(server) = &backend.server {
            let mut ttl = ::redis::cmd("PTTL");
            let ttl: i64 = server.at(keys::partition_of_user(&user), ttl.arg(keys::rooms_of(&user))).await;
            assert!(ttl > 0, "{ttl}");
        }
    }

    a_commit_on_a_stale_version_changes_nothing_and_brings_the_fresh_state(backend, SMALL) {
        let first = backend.room_of(&[1]).await;
        let second = backend.join(&first, 2, 1).await;
        let stale = Commit { put: vec![(peer(3), member(1))], ..empty(&first) };
        let Ok(Committed::Conflict(Found { room: Some(fresh), .. })) = backend.store.commit(&room(), &node(1), &stale).await else {
            panic!("a stale commit is a conflict")
        };
        assert_eq!((fresh.version, fresh.members.len()), (second.version, 2));
        let kept = &fresh.members[&peer(1)];
        assert_eq!((&*kept.name, kept.metadata.get(), kept.owner(), kept.epoch), ("Al \"ice\" 🚦", r#"{"a":[1]}"#, Some(&node(1)), 1));
        assert_eq!((kept.mailbox, kept.generation, kept.expires, kept.permissions.len()), (5, 1, 77, 1));
        assert!(fresh.ends_at > fresh.read_at && !fresh.lineage.is_empty());
    }

    a_room_that_exists_is_not_made_again_and_one_that_does_not_is_not_changed(backend, SMALL) {
        let state = backend.room_of(&[1]).await;
        let again = Commit { put: vec![(peer(9), member(1))], ..empty(&RoomState::new("0b".into(), "".into())) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &again).await, Ok(Committed::Conflict(Found { room: Some(_), .. }))));
        let elsewhere = RoomId::parse("elsewhere").unwrap();
        let change = Commit { put: vec![(peer(9), member(1))], ..empty(&state) };
        assert!(matches!(backend.store.commit(&elsewhere, &node(1), &change).await, Ok(Committed::Conflict(Found { room: None, .. }))));
        assert!(backend.store.load(&elsewhere).await.unwrap().room.is_none());
    }

    a_room_that_nobody_is_left_in_is_gone_with_everything_of_it(backend, SMALL) {
        let state = backend.room_of(&[1, 1]).await;
        backend.append(vec![to(2, None, "x")], &state).await.unwrap();
        let end = Commit { removed: vec![(peer(1), LEFT), (peer(2), LEFT)], ends: true, ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &end).await, Ok(Committed::Applied(..))));
        let left = backend.load().await.unwrap();
        assert!(left.members.is_empty() && left.left.len() == 2, "who has left is remembered for a while");
        assert!(matches!(backend.store.read(&room(), &reader(1), 0).await, Ok(Look::Gone(_))));
        assert_eq!(backend.append(vec![to(2, None, "x")], &state).await.unwrap_err(), AppendError::NotOwner);
        // The resume window passes.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        assert!(backend.load().await.is_none());
        if let Some(server) = &backend.server {
            assert_eq!(rooms_of(server).await, [""; 0]);
        }
    }

    a_room_ends_with_its_longest_life(backend, Bounds { room_life_ms: 60, window_ms: 20, ..SMALL }) {
        let state = backend.room_of(&[1, 1]).await;
        // The life of the room passes.
        tokio::time::sleep(std::time::Duration::from_millis(160)).await;
        assert_eq!(backend.append(vec![to(2, None, "x")], &state).await.unwrap_err(), AppendError::NotOwner);
        assert!(backend.load().await.is_none());
    }
}

/// D13: between the decision and the commit the client of a peer has used a newer handle.
#[tokio::test]
async fn a_handle_that_was_confirmed_meanwhile_voids_the_commit() {
    for backend in [Backend::memory(SMALL), Backend::redis(Kind::Standalone, SMALL).await] {
        let state = backend.room_of(&[1, 1]).await;
        let confirm = Append { handle: Some(2), ..batch(vec![], &state) };
        assert_eq!(kinds(&backend.send(&confirm).await.unwrap()), "");
        let taken = |generation| Member { epoch: 2, generation, ..member(1) };
        let late = Commit { put: vec![(peer(1), taken(1))], ..empty(&state) };
        let Ok(Committed::Conflict(Found { room: Some(fresh), .. })) =
            backend.store.commit(&room(), &node(1), &late).await
        else {
            panic!("an old handle took the peer")
        };
        assert_eq!(fresh.members[&peer(1)].generation, 2);
        let good = Commit { put: vec![(peer(1), taken(2))], ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &good).await, Ok(Committed::Applied(..))));
    }
}

#[tokio::test]
async fn a_deadline_is_named_when_it_has_come() {
    for backend in [
        Backend::memory(Bounds { window_ms: 100, ..SMALL }),
        Backend::redis(Kind::Standalone, Bounds { window_ms: 100, ..SMALL }).await,
    ] {
        let state = backend.room_of(&[1, 1]).await;
        let lost = Member { presence: Presence::Detached(0), ..member(1) };
        let detach = Commit { put: vec![(peer(1), lost)], detached: vec![peer(1)], ..empty(&state) };
        assert!(matches!(backend.store.commit(&room(), &node(1), &detach).await, Ok(Committed::Applied(..))));
        let partition = keys::partition(&room());
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), []);
        // The window passes.
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), [Due::Room(room())]);
        assert_eq!(backend.store.due(&[partition]).await.unwrap(), [], "and not again at once");
    }
}
