//! Black-box tests: real processes, real sockets, real Redis.
//!
//! Each module tests one part of the behaviour; its first line says which.
//! - Messages: [`delivery`], [`presence`], [`resume`], [`policy`], [`turn`]
//! - Admission and credentials: [`admission`], [`auth`], [`store_authority`], [`tickets`],
//!   [`token_lifetime`], [`signing_keys`], [`refusals`], [`credential_kinds`], [`credential_roots`],
//!   [`handle_authority`], [`compromised_node`]
//! - Sanctions: [`access_rules`], [`sanctions`], [`return_attempts`], [`mass_revocation`],
//!   [`leaked_api_key`]
//! - Rooms: [`rooms`], [`moderation`], [`lobby`]
//! - Limits: [`limits`], [`peer_limits`], [`table_shares`], [`load_budgets`], [`abuse`],
//!   [`redis_traffic`], [`data_retention`]
//! - Failures: [`outage`], [`drain`], [`node_death`], [`redis_outage`], [`redis_failover`],
//!   [`redis_refusals`], [`partial_failure`], [`lost_refusals`]
//! - Operation: [`boot`], [`configuration`], [`reload`], [`event_feed`], [`timeline`], [`usage`], [`webhooks`],
//!   [`hanging_dependencies`], [`shared_redis`], [`workers`]

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use signalbox_tests::cluster::{Settings, StoreKind, TestCluster};

/// Runs each scenario with each store: in one process, and over Redis with two nodes. Peers join
/// the two nodes in turn. The settings of a scenario stand in brackets. After each scenario the
/// logs, the keys in Redis and the processes are audited.
macro_rules! on_each_store {
    ($($(#[$doc:meta])* async fn $name:ident($cluster:ident $(, [$($setting:expr),* $(,)?])?) $body:block)*) => {$(
        $(#[$doc])*
        async fn $name($cluster: &signalbox_tests::cluster::TestCluster) $body

        mod $name {
            const SETTINGS: signalbox_tests::cluster::Settings<'static> = &[$($($setting),*)?];

            #[tokio::test]
            async fn in_memory() {
                crate::run_audited(signalbox_tests::cluster::StoreKind::Memory, SETTINGS, super::$name).await;
            }

            #[tokio::test]
            async fn over_redis() {
                crate::run_audited(signalbox_tests::cluster::StoreKind::Redis(2), SETTINGS, super::$name).await;
            }
        }
    )*};
}

/// Declares an enum with `ALL`, the list of its values.
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

async fn run_audited(store: StoreKind, settings: Settings<'_>, scenario: impl AsyncFn(&TestCluster)) {
    let cluster = TestCluster::start(store, settings).await;
    scenario(&cluster).await;
    cluster.audit().await;
}

mod abuse;
mod access_rules;
mod admission;
mod auth;
mod boot;
mod compromised_node;
mod configuration;
mod credential_kinds;
mod credential_roots;
mod data_retention;
mod delivery;
mod drain;
mod event_feed;
mod handle_authority;
mod hanging_dependencies;
mod leaked_api_key;
mod limits;
mod load_budgets;
mod lobby;
mod lost_refusals;
mod mass_revocation;
mod moderation;
mod node_death;
mod outage;
mod partial_failure;
mod peer_limits;
mod policy;
mod presence;
mod redis_failover;
mod redis_outage;
mod redis_refusals;
mod redis_traffic;
mod refusals;
mod reload;
mod resume;
mod return_attempts;
mod rooms;
mod sanctions;
mod shared_redis;
mod signing_keys;
mod store_authority;
mod table_shares;
mod tickets;
mod timeline;
mod token_lifetime;
mod turn;
mod usage;
mod webhooks;
mod workers;
