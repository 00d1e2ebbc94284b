//! What Signalbox does, seen from outside: real processes, real sockets, real Redis.
//!
//! Each file is one promise: [`delivery`] and [`presence`] what peers hear, [`admission`] who is let in, [`refused`] and who is not, by kind, place and defect, [`boot`] what is refused
//! at the start, [`abuse`] what bad input does, [`bounds`] where limits are, [`outage`] what happens when a part stops, [`resume`] who comes back,
//! [`token_life`] how long a token counts, [`tickets`] and how a ticket opens one connection, [`turn`] what is told of ICE servers,
//! [`node_death`], [`drain`], [`redis_away`] and [`ha`] what is lost when a node or Redis goes (nothing), [`cost`] what Redis is asked,
//! [`keys`] what happens when keys change and nobody can ask for them, [`hygiene`] what Redis and logs hold, [`feed`] what operators hear,
//! [`taken_back`], [`ways_back`] and [`crowd`] what was taken back stays away, also from a thousand at once,
//! [`rooms`] what the API does to rooms, [`moderation`] what members may do to others, [`lobby`] who waits to be let in.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use signalbox_tests::cluster::{Settings, Store, TestCluster};

/// Runs each scenario in one process and over Redis with two nodes, so that peers that join in turn are on different nodes.
/// Settings stand in brackets. After each the cluster is audited: logs, keys, processes.
macro_rules! on_each_store {
    ($($(#[$doc:meta])* async fn $name:ident($cluster:ident $(, [$($setting:expr),* $(,)?])?) $body:block)*) => {$(
        $(#[$doc])*
        async fn $name($cluster: &signalbox_tests::cluster::TestCluster) $body

        mod $name {
            const SETTINGS: signalbox_tests::cluster::Settings<'static> = &[$($($setting),*)?];

            #[tokio::test]
            async fn in_memory() {
                crate::audited(signalbox_tests::cluster::Store::Memory, SETTINGS, super::$name).await;
            }

            #[tokio::test]
            async fn over_redis() {
                crate::audited(signalbox_tests::cluster::Store::Redis(2), SETTINGS, super::$name).await;
            }
        }
    )*};
}

/// An enum that knows all its values.
macro_rules! all_of {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($value:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($value),* }
        impl $name {
            $vis const ALL: &[Self] = &[$(Self::$value),*];
        }
    };
}

async fn audited(store: Store, settings: Settings<'_>, scenario: impl AsyncFn(&TestCluster)) {
    let cluster = TestCluster::start(store, settings).await;
    scenario(&cluster).await;
    cluster.audit().await;
}

mod abuse;
mod access_rules;
mod admission;
mod auth;
mod between;
mod boot;
mod bounds;
mod cost;
mod crowd;
mod delivery;
mod drain;
mod feed;
mod ha;
mod hygiene;
mod keys;
mod kinds;
mod lobby;
mod moderation;
mod node_death;
mod outage;
mod policy;
mod presence;
mod redis_outage;
mod refusals;
mod resume;
mod return_attempts;
mod rooms;
mod tickets;
mod token_lifetime;
mod turn;
mod usage;
mod webhooks;
