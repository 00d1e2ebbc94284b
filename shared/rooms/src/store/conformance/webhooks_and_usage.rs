//! Events for webhooks, and usage.

use crate::usage::DayUsage;

use super::*;

fn feed_lines(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!(r#"{{"id":"evt_{n}"}}"#).into()).collect()
}

async fn commit_with_feed(backend: &StoreBackend, state: &RoomState, count: usize) -> CommitResult {
    let commit = Commit {
        written_members: vec![(test_peer(1), test_member(1).into())],
        adds_data: true,
        feed_lines: feed_lines(count),
        ..empty_commit(state)
    };
    backend.store.commit(&test_room(), &test_node(1), &commit).await.unwrap()
}

async fn recorded_events(backend: &StoreBackend) -> Vec<(String, Vec<String>)> {
    let stream = redis_keys::webhook_queue_key(redis_keys::partition_of_room(&test_room()));
    backend.run_raw_command(::redis::cmd("XRANGE").arg(stream).arg("-").arg("+")).await
}

fn limits_with_webhooks(max_events: u64, event_life_ms: u64) -> StoreLimits {
    StoreLimits { webhooks: Some(WebhookLimits { max_events, event_life_ms }), ..SMALL_LIMITS }
}

#[tokio::test]
async fn webhook_events_are_written_in_the_commit_that_causes_them() {
    for kind in [RedisKind::Standalone, RedisKind::Cluster] {
        let backend = StoreBackend::over_redis(kind, limits_with_webhooks(10, 60_000)).await;
        let state = RoomState::new("0a".into(), "".into());
        assert!(matches!(commit_with_feed(&backend, &state, 2).await, CommitResult::Applied(..)));
        // A commit that is not applied records no event.
        assert!(matches!(commit_with_feed(&backend, &state, 2).await, CommitResult::Conflict(_)));
        let recorded = recorded_events(&backend).await;
        let recorded: Vec<_> = recorded.iter().map(|(_, fields)| fields.join(" ")).collect();
        assert_eq!(recorded, [r#"d {"id":"evt_0"}"#, r#"d {"id":"evt_1"}"#]);
        let stream = redis_keys::webhook_queue_key(redis_keys::partition_of_room(&test_room()));
        let ttl: i64 = backend.run_raw_command(::redis::cmd("PTTL").arg(stream)).await;
        assert!((1..=60_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn without_webhooks_no_event_is_recorded() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    commit_with_feed(&backend, &RoomState::new("0a".into(), "".into()), 2).await;
    assert_eq!(recorded_events(&backend).await, []);
}

#[tokio::test]
async fn webhook_events_beyond_the_limits_are_dropped_and_counted() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, limits_with_webhooks(3, 400)).await;
    let state = RoomState::new("0a".into(), "".into());
    commit_with_feed(&backend, &state, 5).await;
    let state_key = redis_keys::webhook_state_key(redis_keys::partition_of_room(&test_room()));
    let lost =
        async || -> u64 { backend.run_raw_command(::redis::cmd("HGET").arg(&state_key).arg("lost")).await };
    assert_eq!((recorded_events(&backend).await.len(), lost().await), (3, 2));
    let ttl: i64 = backend.run_raw_command(::redis::cmd("PTTL").arg(&state_key)).await;
    assert!((1..=400).contains(&ttl), "{ttl}");
    // The first events expire while later events keep the stream.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let next = backend.load_room().await.unwrap();
    commit_with_feed(&backend, &next, 1).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let next = backend.load_room().await.unwrap();
    commit_with_feed(&backend, &next, 1).await;
    assert_eq!((recorded_events(&backend).await.len(), lost().await), (2, 3 + 2));
}

/// While no process delivers events, a room fills the stream. The events of another stay.
#[tokio::test]
async fn full_stream_takes_the_events_of_the_room_that_has_most() {
    for kind in [RedisKind::Standalone, RedisKind::Cluster] {
        let backend = StoreBackend::over_redis(kind, limits_with_webhooks(6, 60_000)).await;
        let stream = redis_keys::webhook_queue_key(redis_keys::partition_of_room(&test_room()));
        for n in 0..2 {
            let line = format!(r#"{{"id":"evt_quiet_{n}","room":"quiet"}}"#);
            let mut add = ::redis::cmd("XADD");
            add.arg(&stream).arg("*").arg("d").arg(line);
            let _: String = backend.run_raw_command(&add).await;
        }
        commit_with_feed(&backend, &RoomState::new("0a".into(), "".into()), 10).await;
        let recorded = recorded_events(&backend).await;
        assert_eq!(recorded.len(), 6);
        let of_quiet = recorded.iter().filter(|(_, fields)| fields[1].contains("quiet")).count();
        assert_eq!(of_quiet, 2, "{kind:?}: {recorded:?}");
    }
}

/// A tenant with many rooms fills the stream. The events of another tenant stay, also where those of
/// the flood are all newer.
#[tokio::test]
async fn full_stream_takes_the_events_of_the_root_that_has_most() {
    for (max_events, quiet) in [(6, 2), (900, 300)] {
        let backend =
            StoreBackend::over_redis(RedisKind::Standalone, limits_with_webhooks(max_events, 60_000)).await;
        let stream = redis_keys::webhook_queue_key(redis_keys::partition_of_room(&test_room()));
        let line = |root: &str, room: &str| format!(r#"{{"id":"evt_1","room":"{room}","root":"{root}"}}"#);
        for _ in 0..quiet {
            let mut add = ::redis::cmd("XADD");
            add.arg(&stream).arg("*").arg("d").arg(line("key:globex", "globex-1"));
            let _: String = backend.run_raw_command(&add).await;
        }
        let mut state = RoomState::new("0a".into(), "".into());
        for batch in 0..10 {
            let count = max_events / 3;
            let room = |n: u64| format!("acme-{batch}-{n}");
            let commit = Commit {
                written_members: vec![(test_peer(1), test_member(1).into())],
                adds_data: true,
                feed_lines: (0..count).map(|n| line("key:acme", &room(n)).into()).collect(),
                ..empty_commit(&state)
            };
            backend.store.commit(&test_room(), &test_node(1), &commit).await.unwrap();
            state = backend.load_room().await.unwrap();
        }
        let recorded = recorded_events(&backend).await;
        let of_globex = recorded.iter().filter(|(_, fields)| fields[1].contains("globex")).count();
        assert_eq!(of_globex, quiet, "of {} events", recorded.len());
    }
}

fn usage_pair(room: &str) -> UsageKey {
    (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap())
}

/// The usage of a day in the store.
async fn load_usage(backend: &StoreBackend, day: UtcDay) -> DayUsage {
    let Some(server) = &backend.server else { return backend.store.usage_book().unwrap().read_day(day) };
    let key = redis_keys::usage_key(&day.to_string());
    let read = ::redis::cmd("HGETALL").arg(&key).clone();
    let found = server.try_run_on_masters::<Vec<(String, String)>>(&read).await;
    let fields = found.into_iter().flatten().find(|fields| !fields.is_empty()).unwrap();
    DayUsage::from_fields(&fields)
}

#[tokio::test]
async fn repeated_usage_batches_are_counted_once() {
    for backend in [
        StoreBackend::in_memory(SMALL_LIMITS),
        StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await,
        StoreBackend::over_redis(RedisKind::Cluster, SMALL_LIMITS).await,
    ] {
        let (store, day) = (&backend.store, UtcDay::parse("2026-11-21").unwrap());
        let amount = |joins, ms| UsageAmount { joins, connected_ms: ms };
        store
            .add_usage(
                &test_node(1),
                1,
                day,
                &[(usage_pair("a"), amount(1, 10)), (usage_pair("b"), amount(0, 3))],
            )
            .await
            .unwrap();
        if backend.server.is_some() {
            // The node repeats the call, because the reply was lost.
            store.add_usage(&test_node(1), 1, day, &[(usage_pair("a"), amount(1, 10))]).await.unwrap();
        }
        store
            .add_usage(&test_node(1), 2, day, &[(usage_pair("a"), amount(2, 9_007_199_254_740))])
            .await
            .unwrap();
        store.add_usage(&test_node(2), 1, day, &[(usage_pair("a"), amount(4, 0))]).await.unwrap();
        let found = load_usage(&backend, day).await;
        let amount_of = |room: &str| found[&("shop".to_owned(), room.to_owned())];
        assert_eq!((amount_of("a"), amount_of("b")), (amount(7, 9_007_199_254_750), amount(0, 3)));
    }
}

#[tokio::test]
async fn rooms_beyond_the_pair_limit_are_counted_together() {
    for backend in [
        StoreBackend::in_memory(SMALL_LIMITS),
        StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await,
    ] {
        let day = UtcDay::parse("2026-11-21").unwrap();
        let one = UsageAmount { joins: 1, connected_ms: 5 };
        let batch: Vec<_> = ["a", "b", "c", "d", "e"].map(|room| (usage_pair(room), one)).into();
        for number in [1, 2] {
            backend.store.add_usage(&test_node(1), number, day, &batch).await.unwrap();
        }
        let found = load_usage(&backend, day).await;
        let joins: Vec<_> = found.iter().map(|((_, room), amount)| (&**room, amount.joins)).collect();
        assert_eq!(joins, [("a", 2), ("b", 2), ("c", 2), ("~other", 4)]);
    }
}

#[tokio::test]
async fn a_usage_day_gets_its_ttl_in_the_script_that_writes_it() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    let day = UtcDay::parse("2026-11-21").unwrap();
    backend
        .store
        .add_usage(&test_node(1), 1, day, &[(usage_pair("a"), UsageAmount::default())])
        .await
        .unwrap();
    let ttl: i64 =
        backend.run_raw_command(::redis::cmd("PTTL").arg(redis_keys::usage_key("2026-11-21"))).await;
    assert!((1..=60_000).contains(&ttl), "{ttl}");
}
