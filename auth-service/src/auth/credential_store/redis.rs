//! The pools of connections, one for each master, and whether the servers behind them will do.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_redis::{
    Connection, Manager, Pool, PoolError, Runtime,
    redis::{AsyncConnectionConfig, cmd},
};
use signalbox_config as config;
use signalbox_redis::{
    RedisAddress, RedisStartError, RedisTarget, RedisTopology, check_server_info, is_master,
};
use tokio::{sync::OnceCell, time::timeout};

/// Connections to one master. Each call is one round trip, so that a few carry thousands a second; more wait, within their deadline.
const POOL_SIZE: usize = 16;

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    /// It does not answer; it may come back.
    #[error("Redis does not answer: {0}")]
    Unreachable(String),
    /// The URL or the certificates cannot be used.
    #[error("REDIS_URL is not usable: {0}")]
    BadUrl(String),
    /// It answers, and will not do until somebody changes it.
    #[error("{0}")]
    Unsuitable(String),
}

/// Request and response with Redis: one server, a master behind Sentinels, or all masters of a Cluster.
pub struct RedisCredentialStore {
    target: RedisTarget,
    pub(super) deadline: Duration,
    /// Found out when Redis first answers; it may not have been there at boot.
    topology: OnceCell<Arc<RedisTopology>>,
    // A std mutex: held for one map operation.
    masters: Mutex<MasterPools>,
}

#[derive(Default)]
struct MasterPools {
    pools: HashMap<RedisAddress, Pool>,
    /// Those that were seen to be fit.
    verified: HashSet<RedisAddress>,
}

impl RedisCredentialStore {
    /// Pools for `url`; connects when they are first used. No call takes longer than `redis.deadline`.
    ///
    /// # Errors
    /// [`RedisSetupError::BadUrl`].
    pub fn open(url: &str, settings: &config::RedisSettings) -> Result<Self, RedisSetupError> {
        let target =
            RedisTarget::new(url, settings).map_err(|error| RedisSetupError::BadUrl(error.to_string()))?;
        let deadline = settings.deadline.0;
        Ok(Self { target, deadline, topology: OnceCell::new(), masters: Mutex::default() })
    }

    /// Asks every master: what it is where that is not known yet, whether it still is one afterwards.
    ///
    /// # Errors
    /// See [`RedisSetupError`].
    pub async fn check_ready(&self) -> Result<(), RedisSetupError> {
        match timeout(self.deadline, self.check_all_masters()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RedisSetupError::Unreachable("no answer in time".to_owned())),
        }
    }

    /// Who has what; found out when Redis first answers.
    pub(super) async fn topology(&self) -> Result<&Arc<RedisTopology>, RedisSetupError> {
        Ok(self.topology.get_or_try_init(|| RedisTopology::try_discover(&self.target)).await?)
    }

    /// A connection to a master, for one request.
    pub(super) async fn connection(&self, address: &RedisAddress) -> Result<Connection, RedisSetupError> {
        self.pool(address)?.get().await.map_err(|error| pool_error(address, error))
    }

    async fn check_all_masters(&self) -> Result<(), RedisSetupError> {
        let map = self.topology().await?.current_map();
        if !map.is_complete() {
            return Err(RedisSetupError::Unreachable("no server has some of the cluster's slots".to_owned()));
        }
        for address in map.masters() {
            self.check_master(address).await?;
        }
        self.lock_masters().pools.retain(|address, _| map.masters().any(|master| master == address));
        Ok(())
    }

    /// `INFO` and not `CONFIG GET`: the former needs no more than `+info`, which a narrow ACL user can be given.
    async fn check_master(&self, address: &RedisAddress) -> Result<(), RedisSetupError> {
        let mut connection = self.connection(address).await?;
        let fit = self.lock_masters().verified.contains(address);
        let mut question = cmd("INFO");
        if fit {
            question.arg("replication");
        }
        let info: String = question
            .query_async(&mut connection)
            .await
            .map_err(|error| RedisStartError::from_driver_error(address, &error))?;
        if !is_master(&info) {
            return Err(RedisSetupError::Unreachable(format!("{address} is a replica")));
        }
        if !fit {
            check_server_info(&info)?;
            self.lock_masters().verified.insert(address.clone());
        }
        Ok(())
    }

    fn pool(&self, address: &RedisAddress) -> Result<Pool, RedisSetupError> {
        let mut masters = self.lock_masters();
        if let Some(pool) = masters.pools.get(address) {
            return Ok(pool.clone());
        }
        let pool = self.new_pool(address).map_err(RedisSetupError::Unreachable)?;
        masters.pools.insert(address.clone(), pool.clone());
        Ok(pool)
    }

    fn new_pool(&self, address: &RedisAddress) -> Result<Pool, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let info = self.target.connection_info(address).map_err(|error| error.to_string())?;
        let manager = Manager::new_with_config(info, config).map_err(|error| error.to_string())?;
        let builder = Pool::builder(manager).max_size(POOL_SIZE).runtime(Runtime::Tokio1);
        builder.build().map_err(|error| error.to_string())
    }

    fn lock_masters(&self) -> MutexGuard<'_, MasterPools> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<RedisStartError> for RedisSetupError {
    fn from(error: RedisStartError) -> Self {
        match error {
            RedisStartError::NoAnswer(reason) => Self::Unreachable(reason),
            error => Self::Unsuitable(error.to_string()),
        }
    }
}

fn pool_error(address: &RedisAddress, error: PoolError) -> RedisSetupError {
    match error {
        PoolError::Backend(error) => RedisStartError::from_driver_error(address, &error).into(),
        other => RedisSetupError::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use signalbox_config::units::TimeSpan;

    use super::*;

    #[actix_web::test]
    async fn absent_redis_is_unreachable_within_the_deadline() {
        let settings =
            config::RedisSettings { deadline: TimeSpan::millis(200), ..config::RedisSettings::default() };
        let store = RedisCredentialStore::open("redis://127.0.0.1:1/", &settings).unwrap();
        assert!(matches!(store.check_ready().await, Err(RedisSetupError::Unreachable(_))));
    }

    #[test]
    fn bad_redis_url_is_refused_without_printing_it() {
        let Err(error) =
            RedisCredentialStore::open("redis://user:hunter2@:x", &config::RedisSettings::default())
        else {
            panic!("taken")
        };
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
