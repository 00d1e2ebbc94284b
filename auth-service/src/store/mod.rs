//! Redis, asked and answered. Nothing is stored yet: tokens carry all they say.
//!
//! Owns: the pool, the check of the server, readiness. Must not: subscribe; [`crate::feed`] has a connection of its own,
//! because a pooled one would go back with its subscriptions. Every wait has a deadline.

mod redis;

pub use redis::{RedisStore, StoreError};
