//! Pooled connections to one master, for requests whose order does not matter.
//!
//! Owns: a deadpool of connections, opened when they are first needed. A connection serves one
//! request at a time, so a long reply does not hold up the messages on the shared connection. Must
//! not: open a connection outside the client's thread; a worker that stops would close it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use deadpool_redis::{Connection, Hook, HookError, Manager, Metrics, Pool, PoolError, Runtime};
use futures_util::FutureExt as _;
use redis::{RedisResult, aio::MultiplexedConnection};

use crate::{
    client_state::ClientState, redis_address::RedisAddress, redis_error::RedisStartError,
    redis_script::load_scripts, server_info,
};

/// Connections to one master. Each request takes two round trips, so a few connections carry
/// thousands of requests a second. Further requests wait until their deadline.
const POOL_SIZE: usize = 16;

/// See the module.
pub(crate) struct ConnectionPool {
    pool: Pool,
    client: Arc<ClientState>,
    runtime: tokio::runtime::Handle,
    /// Older connections are not used again. A std mutex: held to read or replace the time.
    oldest_usable: Arc<Mutex<Instant>>,
}

impl ConnectionPool {
    /// A pool without connections.
    ///
    /// # Errors
    /// An address that the driver does not accept. There is none: the URL was read before.
    pub(crate) fn new(
        client: &Arc<ClientState>,
        address: &RedisAddress,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, RedisStartError> {
        let target = client.target();
        let explain = |reason: String| RedisStartError::WrongServer(format!("{address}: {reason}"));
        let manager = target
            .connection_info(address)
            .and_then(|info| Manager::new_with_config(info, target.connection_config()))
            .map_err(|error| explain(error.to_string()))?;
        let deadline = Some(target.deadline);
        let state = client.clone();
        let prepare = Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
            let state = state.clone();
            async move { prepare_connection(&state, connection).await }.boxed()
        });
        let oldest_usable = Arc::new(Mutex::new(Instant::now()));
        let oldest = oldest_usable.clone();
        let check_age = Hook::sync_fn(move |_, metrics: &Metrics| {
            let is_usable = metrics.created >= *oldest.lock().unwrap_or_else(PoisonError::into_inner);
            if is_usable { Ok(()) } else { Err(HookError::message("it may lead to another server")) }
        });
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(deadline)
            .create_timeout(deadline)
            .recycle_timeout(deadline)
            .post_create(prepare)
            .pre_recycle(check_age)
            .build()
            .map_err(|error| explain(error.to_string()))?;
        Ok(Self { pool, client: client.clone(), runtime: runtime.clone(), oldest_usable })
    }

    /// Replaces all connections: the address leads to another server now, or the server was lost. A
    /// server that has become a replica keeps its connections open and answers on them.
    pub(crate) fn replace_connections(&self) {
        let oldest = Instant::now();
        *self.oldest_usable.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
        // Those that are in use are dropped before their next use.
        self.pool.retain(|_, metrics| metrics.created >= oldest);
    }

    /// A connection to a master, with the scripts loaded. It returns to the pool when it is
    /// dropped.
    ///
    /// # Errors
    /// [`RedisStartError`].
    pub(crate) async fn take_connection(
        &self,
        address: &RedisAddress,
    ) -> Result<Connection, RedisStartError> {
        let pool = self.pool.clone();
        match self.runtime.spawn(async move { pool.get().await }).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)))) => {
                Err(self.client.explain_error(address, &error))
            }
            Ok(Err(error)) => Err(RedisStartError::NoAnswer(error.to_string())),
            Err(_) => Err(RedisStartError::NoAnswer("the store's thread has stopped".to_owned())),
        }
    }

    /// Closes the connections that wait; a connection in use is closed after its request.
    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

/// Checks that the server is a master and permits what the pool sends, and loads the scripts.
async fn prepare_connection(
    client: &ClientState,
    connection: &mut MultiplexedConnection,
) -> Result<(), HookError> {
    let info: RedisResult<String> = server_info::replication_command().query_async(connection).await;
    if !server_info::is_master(&info.map_err(HookError::Backend)?) {
        return Err(HookError::message("it is a replica"));
    }
    // The pool sends UNWATCH before it uses a connection again. Without the permission it would open
    // a connection for each request.
    redis::cmd("UNWATCH").exec_async(connection).await.map_err(HookError::Backend)?;
    load_scripts(connection, &client.scripts.scripts_after(0)).await.map_err(HookError::Backend)
}
