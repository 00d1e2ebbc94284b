//! Redis as both services use it: one server, a master behind Sentinels, or a Cluster, over TCP, TLS or a socket.
//!
//! - [`RedisTarget`]: where the URL points, and one connection to one server
//! - [`RedisStartError`]: what an operator is told; `server`: what a server must be
//! - [`RedisTopology`]: which server is the master of which slot, kept up to date; [`ShardMap`]: one state of it; `find`: how it is found out
//! - [`RedisClient`]: commands and scripts, one multiplexed connection per shard, every outcome handled in one place
//! - [`TopicSubscriber`]: sharded topics, on connections of their own, proven live
//!
//! Owns: connections, redirections, deadlines. Must not: know a key or a script (the caller brings them), or send anything twice
//! whose outcome is unknown. docs/decisions/0004 says why the driver's own Cluster and Sentinel clients are not used.

mod jitter;
mod master_finder;
mod redis_address;
mod redis_client;
mod redis_error;
pub mod redis_keys;
mod redis_shard;
mod redis_target;
mod redis_topology;
mod reply_outcome;
mod runtime_thread;
mod server_info;
mod shard_map;

pub use redis_address::RedisAddress;
pub use redis_client::{RedisClient, TopicListener, TopicProbe, TopicSubscriber};
pub use redis_error::{RedisStartError, RedisUnavailable};
pub use redis_target::RedisTarget;
pub use redis_topology::RedisTopology;
pub use server_info::{check_server_info, is_master};
pub use shard_map::{ShardMap, key_slot, partition_slot};
