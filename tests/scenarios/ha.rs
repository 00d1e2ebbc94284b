//! A master of Redis dies with what it had acknowledged, or slots move: nobody loses anything without being told.

use std::time::Duration;

use signalbox_tests::{
    backend::Backend, checker::check, cluster::Settings, fleet::Fleet, history::Run, swarm::Swarm,
};

use crate::node_death::plan;

const SETTINGS: Settings<'static> = &[
    ("TIMING__RESUME_WINDOW", "10s"),
    ("TIMING__LEASE", "1s"),
    ("TIMING__PING", "2s"),
    ("REDIS__DEADLINE", "500ms"),
];
const WINDOW: Duration = Duration::from_secs(10);

/// Load, what is done, load again; judged by the clients. The number of gaps that were announced.
async fn under_load(backend: Backend, strike: impl AsyncFn(&mut Fleet)) -> u64 {
    let mut fleet = Fleet::start(backend, 2, SETTINGS).await;
    let swarm = Swarm::start(&plan(&fleet, 40));
    swarm.all_live(Duration::from_secs(20)).await;
    strike(&mut fleet).await;
    let histories = swarm.finish(Duration::from_secs(25)).await;
    let verdict = check(&Run { histories, window: WINDOW, ..Run::default() });
    verdict.assert_clean();
    assert_eq!(verdict.lost_peers, 0, "nobody had to join anew: {verdict}");
    fleet.audit();
    verdict.resyncs
}

/// The replica has missed what was acknowledged for most of a second: everybody is told.
#[tokio::test]
async fn a_failover_that_loses_writes_is_announced() {
    let resyncs = under_load(Backend::start_sentinel().await, async |fleet| {
        let Backend::Sentinel(sentinel) = &mut fleet.store else { unreachable!() };
        sentinel.cut_replication().await;
        // What is written now is lost.
        tokio::time::sleep(Duration::from_millis(700)).await;
        sentinel.kill_master().await;
        sentinel.master().await;
    })
    .await;
    assert!(resyncs > 0, "writes were lost, and nobody was told");
}

/// The same in one shard of three.
#[tokio::test]
async fn a_dead_master_of_a_shard_is_announced() {
    under_load(Backend::start_cluster().await, async |fleet| {
        fleet.store.fail_over(1).await;
    })
    .await;
}

/// Slots move from one master to another while their rooms talk.
#[tokio::test]
async fn moving_slots_loses_nothing() {
    under_load(Backend::start_cluster().await, async |fleet| {
        for salt in 0..3 {
            fleet.store.reshard(salt).await;
        }
    })
    .await;
}
