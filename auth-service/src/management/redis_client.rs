//! Redis for what this service keeps there: one connection for each master, found when it first answers.
//!
//! Owns: the scripts, and that the process starts without Redis. Must not: retry a call; its outcome may be unknown.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{Cmd, Script, Value};
use signalbox_config as config;
use signalbox_redis::{RedisClient, RedisUnavailable};

/// The scripts, in the order in which they are loaded: one is called by its place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WebhookScript {
    Poll,
    Finish,
    Put,
    Release,
}

impl WebhookScript {
    fn all_scripts() -> Vec<Script> {
        // What they write is bounded, and a full Redis must be able to empty itself.
        let allowed = |text: &str| Script::new(&format!("#!lua flags=allow-oom\n{text}"));
        vec![
            allowed(include_str!("webhooks/lua/poll_partitions.lua")),
            allowed(include_str!("webhooks/lua/write_outcomes.lua")),
            allowed(include_str!("webhooks/lua/put_events.lua")),
            allowed(include_str!("webhooks/lua/release_leases.lua")),
        ]
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct LazyRedisClient {
    client: Arc<OnceLock<Arc<RedisClient>>>,
}

impl LazyRedisClient {
    /// Begins to connect, and tries until it has. Call inside a runtime.
    pub fn connect_in_background(url: &str, settings: &config::RedisSettings) -> Self {
        let shared = Self::default();
        let (link, url, settings) = (Arc::downgrade(&shared.client), url.to_owned(), settings.clone());
        tokio::spawn(async move {
            let mut told = false;
            while link.strong_count() > 0 {
                let (url, of) = (url.clone(), settings.clone());
                let connected = tokio::task::spawn_blocking(move || {
                    RedisClient::connect(&url, &of, WebhookScript::all_scripts())
                });
                match connected.await {
                    Ok(Ok(connected)) => {
                        if let Some(link) = link.upgrade() {
                            let _ = link.set(connected);
                        }
                        return;
                    }
                    // Once: it may be Redis that is not there, or a permission that lacks for good.
                    Ok(Err(error)) if !std::mem::replace(&mut told, true) => {
                        tracing::warn!(event = "redis_missing", %error, "webhooks and usage have no Redis and keep trying");
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
                tokio::time::sleep(settings.reconnect.0.max(Duration::from_millis(100))).await;
            }
        });
        shared
    }

    fn client(&self) -> Result<&Arc<RedisClient>, RedisUnavailable> {
        self.client.get().ok_or(RedisUnavailable)
    }

    /// Milliseconds since 1970 by the store's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.client().map_or_else(|_| signalbox_protocol::clock::now_ms(), |link| link.now_ms())
    }

    /// Whether keys of different partitions must not meet in one script.
    pub(crate) fn is_cluster(&self) -> bool {
        self.client().is_ok_and(|link| link.topology().current_map().is_cluster())
    }

    pub(crate) async fn call(&self, partition: usize, cmd: &Cmd) -> Result<Value, RedisUnavailable> {
        self.client()?.run_command(partition, cmd).await
    }

    pub(crate) async fn call_key(&self, key: &str, cmd: &Cmd) -> Result<Value, RedisUnavailable> {
        self.client()?.run_key_command(key, cmd).await
    }

    pub(crate) async fn call_script(
        &self,
        partition: usize,
        script: WebhookScript,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, RedisUnavailable> {
        self.client()?.run_script(partition, script as usize, keys, args).await
    }
}
