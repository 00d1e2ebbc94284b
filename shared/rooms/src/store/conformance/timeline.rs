//! The timeline of a room: what is kept, for how long, and what a full timeline drops.

use signalbox_protocol::{FailureCode, PairStep, PathProtocol};
use signalbox_tests::net::eventually;
use tokio::time::{Duration, Instant};

use super::*;
use crate::timeline::{PairReport, PairTimeline, TimelineStep};

const SHORT_LIMITS: StoreLimits = StoreLimits {
    timeline: TimelineLimits { max_pairs: 4, max_steps: 5, retention_ms: 1_500 },
    ..SMALL_LIMITS
};

/// Steps of one peer toward another; each is so many milliseconds old.
fn report(peer: u128, other: u128, root: &str, steps: &[(u64, PairStep)]) -> PairReport {
    let now = Instant::now();
    let steps = steps.iter().map(|(age, step)| (now - Duration::from_millis(*age), (*step).into())).collect();
    PairReport {
        peer: test_peer(peer),
        user: UserId::parse(&format!("user-{peer}")).unwrap(),
        other: test_peer(other),
        other_user: None,
        root: root.into(),
        steps,
    }
}

impl StoreBackend {
    async fn append_steps(&self, reports: &[PairReport]) {
        self.store.append_timeline(&test_room(), reports).await.unwrap();
    }

    async fn read_timeline(&self) -> Vec<PairTimeline> {
        self.store.read_timeline(&test_room()).await.unwrap()
    }

    /// The steps of each pair with the place of its peer in the test, the pair with the newest step
    /// first.
    async fn read_steps(&self) -> Vec<Vec<(u128, &'static str)>> {
        let number = |peer: &PeerId| u128::from_str_radix(peer.as_str(), 16).unwrap();
        let steps = |pair: PairTimeline| {
            pair.steps.iter().map(|step| (number(&step.peer), step.step.step.as_str())).collect()
        };
        self.read_timeline().await.into_iter().map(steps).collect()
    }
}

store_tests! {
    both_peers_write_one_timeline_in_the_order_of_the_times(backend, SMALL_LIMITS) {
        use PairStep::{Answer, Connected, Joined, Offer};
        let before = backend.store.now_ms();
        backend.append_steps(&[report(2, 1, "key:acme", &[(500, Answer), (20, Connected)])]).await;
        backend.append_steps(&[report(1, 2, "key:acme", &[(950, Joined), (700, Offer), (10, Connected)])]).await;
        let expected = [(1, "joined"), (1, "offer"), (2, "answer"), (2, "connected"), (1, "connected")];
        assert_eq!(backend.read_steps().await, [expected]);
        let timeline = backend.read_timeline().await.remove(0);
        // Each peer has named its own user.
        assert_eq!(timeline.users, ["user-1", "user-2"].map(|user| Some(UserId::parse(user).unwrap())));
        assert_eq!(timeline.pair.peers(), &[test_peer(1), test_peer(2)]);
        let joined = timeline.steps[0].at;
        assert!((before - 1_500..=before + 1_500).contains(&joined), "{joined}, {before}");
    }

    every_member_of_an_outcome_is_kept(backend, SMALL_LIMITS) {
        let step = TimelineStep {
            step: PairStep::Failed,
            code: Some(FailureCode::UdpBlocked),
            ms: Some(4_800),
            relayed: Some(false),
            protocol: Some(PathProtocol::Tls),
        };
        let steps = vec![(Instant::now(), step.clone())];
        let reports = [PairReport { steps, other_user: Some(UserId::parse("bob").unwrap()), ..report(1, 2, "guest", &[]) }];
        backend.append_steps(&reports).await;
        let timeline = backend.read_timeline().await.remove(0);
        assert_eq!(timeline.steps[0].step, step);
        assert_eq!(timeline.users[1], Some(UserId::parse("bob").unwrap()));
        // A node that does not know the user leaves it as it is.
        backend.append_steps(&[report(1, 2, "guest", &[(0, PairStep::Closed)])]).await;
        assert_eq!(backend.read_timeline().await[0].users[1], Some(UserId::parse("bob").unwrap()));
    }

    a_pair_keeps_its_newest_steps(backend, SMALL_LIMITS) {
        for _ in 0..7 {
            backend.append_steps(&[report(1, 2, "guest", &[(0, PairStep::Offer)])]).await;
        }
        backend.append_steps(&[report(2, 1, "guest", &[(0, PairStep::Failed)])]).await;
        let steps = backend.read_steps().await.remove(0);
        assert_eq!((steps.len(), steps[4]), (5, (2, "failed")), "{steps:?}");
        // A peer that floods the pair drops its own steps.
        let flood: Vec<_> = (0..7).map(|_| report(1, 2, "guest", &[(0, PairStep::Closed)])).collect();
        backend.append_steps(&flood).await;
        let steps = backend.read_steps().await.remove(0);
        assert_eq!(steps, [(2, "failed"), (1, "closed"), (1, "closed"), (1, "closed"), (1, "closed")]);
    }

    a_full_timeline_drops_the_oldest_pair_of_the_root_that_has_most(backend, SMALL_LIMITS) {
        backend.append_steps(&[report(1, 2, "key:acme", &[(0, PairStep::Offer)])]).await;
        // A flood of guests, in one call and in many.
        for guest in 10..14 {
            backend.append_steps(&[report(guest, 1, "guest", &[(0, PairStep::Offer)])]).await;
        }
        let flood: Vec<_> = (20..26).map(|guest| report(guest, 1, "guest", &[(0, PairStep::Offer)])).collect();
        backend.append_steps(&flood).await;
        let mut first: Vec<u128> = backend.read_steps().await.iter().map(|steps| steps[0].0).collect();
        first.sort_unstable();
        assert_eq!(first, [1, 23, 24, 25]);
        // A new pair of the root with few pairs has a place too.
        backend.append_steps(&[report(3, 4, "key:acme", &[(0, PairStep::Offer)])]).await;
        let mut first: Vec<u128> = backend.read_steps().await.iter().map(|steps| steps[0].0).collect();
        first.sort_unstable();
        assert_eq!(first, [1, 3, 24, 25]);
    }

    a_step_is_gone_after_its_time_also_if_its_pair_goes_on(backend, SHORT_LIMITS) {
        let offers = [(1, 2), (3, 4)].map(|(peer, other)| report(peer, other, "guest", &[(0, PairStep::Offer)]));
        backend.append_steps(&offers).await;
        assert_eq!(backend.read_steps().await.len(), 2);
        let steps = eventually("the offers are old", async || {
            backend.append_steps(&[report(2, 1, "guest", &[(0, PairStep::Closed)])]).await;
            let steps = backend.read_steps().await;
            (!steps.concat().contains(&(1, "offer")) && steps.len() == 1).then_some(steps)
        })
        .await;
        assert!(steps[0].iter().all(|step| *step == (2, "closed")), "{steps:?}");
        backend.append_steps(&[report(2, 1, "guest", &[(0, PairStep::Closed)])]).await;
        if let Some(server) = &backend.server {
            let key = redis_keys::timeline_key(&test_room());
            let text: Vec<String> = backend.run_raw_command(::redis::cmd("HVALS").arg(&key)).await;
            assert_eq!(text.len(), 1, "the other pair is deleted: {text:?}");
            assert!(!text[0].contains("offer"), "the old step is deleted: {text:?}");
            for key in room_keys(server).await {
                let ttl: i64 = backend.run_raw_command(::redis::cmd("PTTL").arg(&key)).await;
                assert!((1..=1_500).contains(&ttl), "{key}: {ttl}");
            }
        }
    }

    the_auth_service_reads_a_timeline(backend, SMALL_LIMITS) {
        backend.append_steps(&[report(1, 2, "guest", &[(0, PairStep::Offer)])]).await;
        if let Some(auth) = backend.auth_store(SMALL_LIMITS) {
            assert_eq!(auth.read_timeline(&test_room()).await.unwrap(), backend.read_timeline().await);
        }
    }
}

#[tokio::test]
async fn the_user_of_the_auth_service_cannot_write_a_timeline() {
    let backend = StoreBackend::over_redis(RedisKind::Secured, SMALL_LIMITS).await;
    let auth = backend.auth_store(SMALL_LIMITS).unwrap();
    let reports = [report(1, 2, "guest", &[(0, PairStep::Offer)])];
    assert_eq!(auth.append_timeline(&test_room(), &reports).await, Err(StoreUnavailable));
    assert_eq!(backend.read_timeline().await, []);
}

#[tokio::test]
async fn a_full_server_takes_no_timeline() {
    let backend = StoreBackend::over_redis(RedisKind::Standalone, SMALL_LIMITS).await;
    backend.run_raw_command::<()>(::redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await;
    let reports = [report(1, 2, "guest", &[(0, PairStep::Offer)])];
    assert_eq!(backend.store.append_timeline(&test_room(), &reports).await, Err(StoreUnavailable));
    assert!(room_keys(backend.server.as_ref().unwrap()).await.is_empty());
}
