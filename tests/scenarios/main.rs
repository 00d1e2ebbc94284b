//! What Signalbox does, seen from outside: real processes, real sockets, real Redis.
//!
//! Each file is one promise: [`delivery`] and [`presence`] what peers hear, [`admission`] who is let in, [`boot`] what is refused
//! at the start, [`abuse`] what bad input does, [`bounds`] where limits are, [`outage`] what happens when a part stops, [`hygiene`] what
//! Redis and logs hold, [`feed`] what operators hear.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

/// Runs each scenario in one process and over Redis with two nodes, so that peers that join in turn are on different nodes.
/// Settings stand in brackets. After each the cluster is audited: logs, keys, processes.
macro_rules! on_each_store {
    ($($(#[$doc:meta])* async fn $name:ident($cluster:ident $(, [$($setting:expr),* $(,)?])?) $body:block)*) => {$(
        $(#[$doc])*
        mod $name {
            #[expect(unused_imports, reason = "not every scenario needs everything")]
            use super::*;

            async fn scenario($cluster: &signalbox_tests::cluster::TestCluster) $body

            async fn on(store: signalbox_tests::cluster::Store) {
                let cluster = signalbox_tests::cluster::TestCluster::start(store, &[$($($setting),*)?]).await;
                scenario(&cluster).await;
                cluster.audit().await;
            }

            #[tokio::test]
            async fn in_memory() {
                on(signalbox_tests::cluster::Store::Memory).await;
            }

            #[tokio::test]
            async fn over_redis() {
                on(signalbox_tests::cluster::Store::Redis(2)).await;
            }
        }
    )*};
}

mod abuse;
mod admission;
mod boot;
mod bounds;
mod delivery;
mod feed;
mod hygiene;
mod outage;
mod presence;
