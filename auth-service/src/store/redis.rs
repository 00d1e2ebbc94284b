//! The pool of connections, and whether the server behind it will do.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_redis::{
    Manager, Pool, PoolError, Runtime,
    redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind, cmd, pipe},
};
use tokio::time::timeout;

/// Readiness probes come one at a time; two may overlap.
const POOL_SIZE: usize = 2;

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer; it may come back.
    #[error("Redis does not answer: {0}")]
    Unreachable(String),
    /// The driver does not take its URL.
    #[error("REDIS_URL is not usable: {0}")]
    BadUrl(String),
    /// It answers, and will not do until somebody changes it.
    #[error("{0}")]
    Unfit(String),
}

/// Request and response with Redis.
pub struct RedisStore {
    pool: Pool,
    deadline: Duration,
    /// Whether the server was seen to be fit; it may not have been there at boot.
    fit: AtomicBool,
}

impl RedisStore {
    /// A pool for `url`; connects when it is first used. No call takes longer than `deadline`.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`].
    pub fn open(url: &str, deadline: Duration) -> Result<Self, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(deadline))
            .set_response_timeout(Some(deadline));
        let manager =
            Manager::new_with_config(url, config).map_err(|error| StoreError::BadUrl(error.to_string()))?;
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::BadUrl(error.to_string()))?;
        Ok(Self { pool, deadline, fit: AtomicBool::new(false) })
    }

    /// Asks the server: what it is where that is not known yet, a PING afterwards.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ready(&self) -> Result<(), StoreError> {
        let asked =
            async { if self.fit.load(Ordering::Relaxed) { self.ping().await } else { self.check().await } };
        match timeout(self.deadline, asked).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Unreachable("no answer in time".to_owned())),
        }
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.get().await.map_err(pool_error)?;
        cmd("PING").exec_async(&mut connection).await.map_err(redis_error)
    }

    /// `INFO` and not `CONFIG GET`: the former needs no more than `+info`, which a narrow ACL user can be given.
    async fn check(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.get().await.map_err(pool_error)?;
        let mut info = pipe();
        info.cmd("INFO").arg("server").cmd("INFO").arg("memory");
        let (server, memory): (String, String) =
            info.query_async(&mut connection).await.map_err(redis_error)?;
        judge(&server, &memory).map_err(StoreError::Unfit)?;
        self.fit.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn judge(server: &str, memory: &str) -> Result<(), String> {
    let version = value(server, "redis_version").unwrap_or("unknown");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < 7 {
        return Err(format!("Redis {version} is too old; 7.0 or newer is needed, for sharded pub/sub"));
    }
    match value(memory, "maxmemory_policy") {
        Some("noeviction") => Ok(()),
        policy => Err(format!(
            "Redis may throw keys away (maxmemory-policy {}); set maxmemory-policy noeviction",
            policy.unwrap_or("unknown")
        )),
    }
}

fn value<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

fn pool_error(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => redis_error(error),
        other => StoreError::Unreachable(other.to_string()),
    }
}

fn redis_error(error: RedisError) -> StoreError {
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
            StoreError::Unfit("Redis refused the user or the password of REDIS_URL".to_owned())
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            StoreError::Unfit("Redis does not let this user ask; give it +info +ping +unwatch".to_owned())
        }
        _ => StoreError::Unreachable(error.category().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_and_one_that_evicts_are_refused() {
        let server =
            |version: &str| format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n");
        let memory = |policy: &str| format!("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\n");
        assert_eq!(judge(&server("7.0.15"), &memory("noeviction")), Ok(()));
        assert_eq!(judge(&server("10.2.0"), &memory("noeviction")), Ok(()));
        for (version, policy, expected) in [
            ("6.2.14", "noeviction", "6.2.14 is too old"),
            ("", "noeviction", "too old"),
            ("7.2.0", "allkeys-lru", "allkeys-lru"),
            ("7.2.0", "volatile-ttl", "set maxmemory-policy noeviction"),
        ] {
            let error = judge(&server(version), &memory(policy)).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[actix_web::test]
    async fn a_server_that_is_not_there_is_unreachable_within_the_deadline() {
        let store = RedisStore::open("redis://127.0.0.1:1/", Duration::from_millis(200)).unwrap();
        assert!(matches!(store.ready().await, Err(StoreError::Unreachable(_))));
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let Err(error) = RedisStore::open("redis://user:hunter2@:x", Duration::from_secs(1)) else {
            panic!("taken")
        };
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
