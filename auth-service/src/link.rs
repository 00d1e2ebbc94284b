//! Redis for what this service keeps there: one connection for each master, found when it first answers.
//!
//! Owns: the scripts, and that the process starts without Redis. Must not: retry a call; its outcome may be unknown.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{Cmd, Script, Value};
use signalbox_config as config;
use signalbox_redis::{Link, Unavailable};

/// The scripts, in the order in which they are loaded: one is called by its place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ScriptId {
    Poll,
    Finish,
    Put,
    Release,
}

impl ScriptId {
    fn scripts() -> Vec<Script> {
        // What they write is bounded, and a full Redis must be able to empty itself.
        let allowed = |text: &str| Script::new(&format!("#!lua flags=allow-oom\n{text}"));
        vec![
            allowed(include_str!("webhooks/lua/poll.lua")),
            allowed(include_str!("webhooks/lua/finish.lua")),
            allowed(include_str!("webhooks/lua/put.lua")),
            allowed(include_str!("webhooks/lua/release.lua")),
        ]
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedLink {
    link: Arc<OnceLock<Arc<Link>>>,
}

impl SharedLink {
    /// Begins to connect, and tries until it has. Call inside a runtime.
    pub fn open(url: &str, settings: &config::Redis) -> Self {
        let shared = Self::default();
        let (link, url, settings) = (Arc::downgrade(&shared.link), url.to_owned(), settings.clone());
        tokio::spawn(async move {
            let mut told = false;
            while link.strong_count() > 0 {
                let (url, of) = (url.clone(), settings.clone());
                let connected =
                    tokio::task::spawn_blocking(move || Link::connect(&url, &of, ScriptId::scripts()));
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

    fn get(&self) -> Result<&Arc<Link>, Unavailable> {
        self.link.get().ok_or(Unavailable)
    }

    /// Milliseconds since 1970 by the store's clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.get().map_or_else(|_| signalbox_protocol::clock::now_ms(), |link| link.now_ms())
    }

    /// Whether keys of different partitions must not meet in one script.
    pub(crate) fn is_cluster(&self) -> bool {
        self.get().is_ok_and(|link| link.topology().map().is_cluster())
    }

    pub(crate) async fn call(&self, partition: usize, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.get()?.call(partition, cmd).await
    }

    pub(crate) async fn call_key(&self, key: &str, cmd: &Cmd) -> Result<Value, Unavailable> {
        self.get()?.call_key(key, cmd).await
    }

    pub(crate) async fn script(
        &self,
        partition: usize,
        script: ScriptId,
        keys: &[String],
        args: &[Vec<u8>],
    ) -> Result<Value, Unavailable> {
        self.get()?.script(partition, script as usize, keys, args).await
    }
}
