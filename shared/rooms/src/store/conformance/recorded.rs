//! What is kept beside rooms: events for webhooks, and usage.

use crate::usage::DayUsage;

use super::*;

fn lines(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| format!(r#"{{"id":"evt_{n}"}}"#).into()).collect()
}

async fn commit_with(backend: &Backend, state: &RoomState, count: usize) -> Committed {
    let commit = Commit { put: vec![(peer(1), member(1))], grows: true, feed: lines(count), ..empty(state) };
    backend.store.commit(&room(), &node(1), &commit).await.unwrap()
}

async fn recorded(backend: &Backend) -> Vec<(String, Vec<String>)> {
    let stream = keys::hooks(keys::partition(&room()));
    backend.raw(::redis::cmd("XRANGE").arg(stream).arg("-").arg("+")).await
}

fn recording(most: u64, life_ms: u64) -> Bounds {
    Bounds { hooks: Some(HookBounds { most, life_ms }), ..SMALL }
}

#[tokio::test]
async fn what_webhooks_must_be_told_is_kept_in_the_step_that_made_it() {
    for kind in [Kind::Standalone, Kind::Cluster] {
        let backend = Backend::redis(kind, recording(10, 60_000)).await;
        let state = RoomState::new("0a".into(), "".into());
        assert!(matches!(commit_with(&backend, &state, 2).await, Committed::Applied(..)));
        // What is not applied is not told.
        assert!(matches!(commit_with(&backend, &state, 2).await, Committed::Conflict(_)));
        let told = recorded(&backend).await;
        let told: Vec<_> = told.iter().map(|(_, fields)| fields.join(" ")).collect();
        assert_eq!(told, [r#"d {"id":"evt_0"}"#, r#"d {"id":"evt_1"}"#]);
        let stream = keys::hooks(keys::partition(&room()));
        let ttl: i64 = backend.raw(::redis::cmd("PTTL").arg(stream)).await;
        assert!((1..=60_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn where_nobody_is_to_be_told_nothing_is_kept() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    commit_with(&backend, &RoomState::new("0a".into(), "".into()), 2).await;
    assert_eq!(recorded(&backend).await, []);
}

#[tokio::test]
async fn what_is_beyond_the_bounds_of_number_and_age_goes_and_is_counted() {
    let backend = Backend::redis(Kind::Standalone, recording(3, 400)).await;
    let state = RoomState::new("0a".into(), "".into());
    commit_with(&backend, &state, 5).await;
    let of_state = keys::hooks_state(keys::partition(&room()));
    let lost = async || -> u64 { backend.raw(::redis::cmd("HGET").arg(&of_state).arg("lost")).await };
    assert_eq!((recorded(&backend).await.len(), lost().await), (3, 2));
    let ttl: i64 = backend.raw(::redis::cmd("PTTL").arg(&of_state)).await;
    assert!((1..=400).contains(&ttl), "{ttl}");
    // They grow older than they are kept while another one keeps the stream.
    tokio::time::sleep(Duration::from_millis(250)).await;
    let next = backend.load().await.unwrap();
    commit_with(&backend, &next, 1).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let next = backend.load().await.unwrap();
    commit_with(&backend, &next, 1).await;
    assert_eq!((recorded(&backend).await.len(), lost().await), (2, 3 + 2));
}

fn pair(room: &str) -> Pair {
    (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap())
}

/// The usage of a day as it stands there.
async fn usage(backend: &Backend, day: Day) -> DayUsage {
    let Some(server) = &backend.server else { return backend.store.usage_book().unwrap().day(day) };
    let key = keys::usage(&day.to_string());
    let Store::Redis(store) = &backend.store else { unreachable!() };
    let mut cmd = ::redis::cmd("HGETALL");
    cmd.arg(&key);
    assert!(server.keys().await.contains(&key));
    let value = store.raw(&key, &cmd).await;
    let fields: Vec<(String, String)> = ::redis::from_redis_value(value).unwrap();
    DayUsage::from_fields(&fields)
}

#[tokio::test]
async fn usage_adds_up_and_what_is_sent_twice_counts_once() {
    for backend in [
        Backend::memory(SMALL),
        Backend::redis(Kind::Standalone, SMALL).await,
        Backend::redis(Kind::Cluster, SMALL).await,
    ] {
        let (store, day) = (&backend.store, Day::parse("2026-11-21").unwrap());
        let amount = |joins, ms| Amount { joins, ms };
        store
            .add_usage(&node(1), 1, day, &[(pair("a"), amount(1, 10)), (pair("b"), amount(0, 3))])
            .await
            .unwrap();
        if backend.server.is_some() {
            // Its answer was lost.
            store.add_usage(&node(1), 1, day, &[(pair("a"), amount(1, 10))]).await.unwrap();
        }
        store.add_usage(&node(1), 2, day, &[(pair("a"), amount(2, 9_007_199_254_740))]).await.unwrap();
        store.add_usage(&node(2), 1, day, &[(pair("a"), amount(4, 0))]).await.unwrap();
        let found = usage(&backend, day).await;
        let of = |room: &str| found[&("shop".to_owned(), room.to_owned())];
        assert_eq!((of("a"), of("b")), (amount(7, 9_007_199_254_750), amount(0, 3)));
    }
}

#[tokio::test]
async fn beyond_so_many_pairs_rooms_are_counted_together() {
    for backend in [Backend::memory(SMALL), Backend::redis(Kind::Standalone, SMALL).await] {
        let day = Day::parse("2026-11-21").unwrap();
        let one = Amount { joins: 1, ms: 5 };
        let batch: Vec<_> = ["a", "b", "c", "d", "e"].map(|room| (pair(room), one)).into();
        for number in [1, 2] {
            backend.store.add_usage(&node(1), number, day, &batch).await.unwrap();
        }
        let found = usage(&backend, day).await;
        let joins: Vec<_> = found.iter().map(|((_, room), amount)| (&**room, amount.joins)).collect();
        assert_eq!(joins, [("a", 2), ("b", 2), ("c", 2), ("~other", 4)]);
    }
}

#[tokio::test]
async fn a_day_has_its_ttl_from_the_step_that_wrote_it() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let day = Day::parse("2026-11-21").unwrap();
    backend.store.add_usage(&node(1), 1, day, &[(pair("a"), Amount::default())]).await.unwrap();
    let ttl: i64 = backend.raw(::redis::cmd("PTTL").arg(keys::usage("2026-11-21"))).await;
    assert!((1..=60_000).contains(&ttl), "{ttl}");
}
