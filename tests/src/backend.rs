//! The store of a fleet, and what can be done to it, whatever kind it is.

use std::net::SocketAddr;

use crate::redis::TestRedis;

/// The store of a fleet.
pub enum Backend {
    /// One server, reached through a proxy for each node.
    Single(TestRedis),
}

impl Backend {
    /// One server.
    pub async fn start_single() -> Self {
        Self::Single(TestRedis::start().await)
    }

    /// The URL for the product.
    pub fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
        }
    }

    /// Where the server is, if it is one that a proxy can stand before.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Single(redis) => Some(redis.address),
        }
    }

    /// The single server.
    ///
    /// # Panics
    /// If it is another kind of store.
    pub fn single(&mut self) -> &mut TestRedis {
        match self {
            Self::Single(redis) => redis,
        }
    }

    /// The servers that hold data.
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Single(redis) => vec![redis.pid()],
        }
    }

    /// From now on there is no memory for anything new.
    pub async fn fill(&self) {
        self.max_memory("1").await;
    }

    /// There is memory again.
    pub async fn unfill(&self) {
        self.max_memory("0").await;
    }

    async fn max_memory(&self, bytes: &str) {
        let Self::Single(redis) = self;
        let mut connection = redis.connect().await;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes);
        command.query_async::<()>(&mut connection).await.expect("CONFIG SET");
    }
}
