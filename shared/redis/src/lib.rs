//! Redis as both services use it: one server, a master behind Sentinels, or a Cluster, over TCP,
//! TLS or a Unix socket.
//!
//! - [`RedisClient`]: the one client of a process: its start, commands, scripts and topics
//! - [`RedisScript`]: a Lua script as a `static`; [`ScriptCall`], [`ReplyReader`]: its arguments
//!   and reply
//! - [`RedisStartError`], [`RedisUnavailable`], [`RequestFailure`]: errors
//! - [`MemoryLevel`]: how full the memory of a server is
//! - [`redis_keys`]: all keys and topics; [`RedisNamespace`]: their names in a shared Redis
//! - [`KeyCommand`]: a command on one key; [`RedisCommand`]: the table of commands in use, whose
//!   permissions `permission_check` tries
//! - [`RefusalCode`]: what servers refuse; `refusal_log` keeps it
//! - `redis_shards`: the masters; `redis_shard`: one with its connections; `connection_pool`: pooled
//!   connections
//! - `redis_topology`: the masters of the slots; `master_finder` asks servers for them, and
//!   `shard_map` is one answer
//! - `redis_target`: the URL, and how a connection is opened; `server_info`: what a server must be
//!
//! Owns: connections, redirections, deadlines. Must not: know the text of a script or the meaning
//! of a key, or send a request again whose outcome is unknown. docs/decisions/0004 says why the
//! driver's Cluster and Sentinel clients are not used, and 0008 why each process has one client.

mod client_state;
mod connection_pool;
mod interruption_clock;
mod jitter;
mod master_finder;
mod memory_level;
mod permission_check;
mod redis_address;
mod redis_client;
mod redis_command;
mod redis_error;
pub mod redis_keys;
mod redis_namespace;
mod redis_script;
mod redis_shard;
mod redis_shards;
mod redis_target;
mod redis_topology;
mod refusal_log;
mod runtime_thread;
mod server_info;
mod shard_map;

pub use interruption_clock::InterruptionClock;
pub use memory_level::MemoryLevel;
pub use redis_address::RedisAddress;
pub use redis_client::{RedisClient, ReplyReader, ScriptCall, TopicListener, TopicProbe, value_text};
pub use redis_command::{CommandSubject, KeyCommand, RedisCommand};
pub use redis_error::{RedisStartError, RedisUnavailable, RequestFailure};
pub use redis_namespace::RedisNamespace;
pub use redis_script::RedisScript;
pub use refusal_log::RefusalCode;
