//! The Redis server itself: full, restarted, unfit.

use super::*;

#[tokio::test]
async fn a_full_server_takes_no_join_and_no_message_but_every_leave() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 1]).await;
    let server = backend.server.as_ref().unwrap();
    backend.raw::<()>(::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await;
    let join = Commit { put: vec![(peer(3), member(1))], grows: true, ..empty(&state) };
    assert_eq!(backend.store.commit(&room(), &node(1), &join).await.unwrap_err(), Unavailable);
    let unavailable = AppendError::Unavailable(Unavailable);
    assert_eq!(backend.append(vec![to(2, None, "x")], &state).await.unwrap_err(), unavailable);
    let left = Announcement { kind: EntryKind::Presence, ..announcement(1, vec![peer(2)]) };
    let leave = Commit { removed: vec![(peer(1), LEFT)], events: vec![left], ..empty(&state) };
    assert!(matches!(backend.store.commit(&room(), &node(1), &leave).await, Ok(Committed::Applied(..))));
    let end =
        Commit { version: state.version + 1, removed: vec![(peer(2), LEFT)], ends: true, ..empty(&state) };
    assert!(matches!(backend.store.commit(&room(), &node(1), &end).await, Ok(Committed::Applied(..))));
    let left = rooms_of(server).await;
    assert_eq!(left, [keys::room(&room())], "who has left");
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    let state = backend.room_of(&[1, 1]).await;
    backend.raw::<()>(::redis::cmd("SCRIPT").arg("FLUSH")).await;
    assert_eq!(kinds(&backend.append(vec![to(2, None, "x")], &state).await.unwrap()), "w");
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Kind::Standalone.lease().await;
    let connect = || RedisStore::connect(&server.url(), &server.settings(), SMALL);
    drop(connect().unwrap());
    let _: Vec<()> =
        server.everywhere(::redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("allkeys-lru")).await;
    assert!(matches!(connect(), Err(StartError::Evicts(policy)) if policy == "allkeys-lru"));
}

#[tokio::test]
async fn a_server_whose_rooms_are_spread_otherwise_is_refused() {
    let backend = Backend::redis(Kind::Standalone, SMALL).await;
    backend.raw::<()>(::redis::cmd("SET").arg(keys::PARTITION_COUNT).arg(64)).await;
    let (Store::Redis(store), Some((_, arrived))) = (&backend.store, &backend.other) else { unreachable!() };
    let arrivals: Arc<dyn Arrivals> = arrived.clone();
    let refused = store.listen(&node(9), Arc::downgrade(&arrivals)).unwrap_err().to_string();
    assert!(refused.contains("64 partitions and this one over 128"), "{refused}");
}
