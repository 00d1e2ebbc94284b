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
use signalbox_redis::{Address, StartError, Target, Topology, is_master, judge};
use tokio::{sync::OnceCell, time::timeout};

/// Connections to one master. Each call is one round trip, so that a few carry thousands a second; more wait, within their deadline.
const POOL_SIZE: usize = 16;

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer; it may come back.
    #[error("Redis does not answer: {0}")]
    Unreachable(String),
    /// The URL or the certificates cannot be used.
    #[error("REDIS_URL is not usable: {0}")]
    BadUrl(String),
    /// It answers, and will not do until somebody changes it.
    #[error("{0}")]
    Unfit(String),
}

/// Request and response with Redis: one server, a master behind Sentinels, or all masters of a Cluster.
pub struct RedisStore {
    target: Target,
    pub(super) deadline: Duration,
    /// Found out when Redis first answers; it may not have been there at boot.
    topology: OnceCell<Arc<Topology>>,
    // A std mutex: held for one map operation.
    masters: Mutex<Masters>,
}

#[derive(Default)]
struct Masters {
    pools: HashMap<Address, Pool>,
    /// Those that were seen to be fit.
    fit: HashSet<Address>,
}

impl RedisStore {
    /// Pools for `url`; connects when they are first used. No call takes longer than `redis.deadline`.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`].
    pub fn open(url: &str, settings: &config::Redis) -> Result<Self, StoreError> {
        let target = Target::new(url, settings).map_err(|error| StoreError::BadUrl(error.to_string()))?;
        let deadline = settings.deadline.0;
        Ok(Self { target, deadline, topology: OnceCell::new(), masters: Mutex::default() })
    }

    /// Asks every master: what it is where that is not known yet, whether it still is one afterwards.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ready(&self) -> Result<(), StoreError> {
        match timeout(self.deadline, self.ask_all()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Unreachable("no answer in time".to_owned())),
        }
    }

    /// Who has what; found out when Redis first answers.
    pub(super) async fn topology(&self) -> Result<&Arc<Topology>, StoreError> {
        Ok(self.topology.get_or_try_init(|| Topology::try_discover(&self.target)).await?)
    }

    /// A connection to a master, for one request.
    pub(super) async fn connection(&self, address: &Address) -> Result<Connection, StoreError> {
        self.pool(address)?.get().await.map_err(|error| pool_error(address, error))
    }

    async fn ask_all(&self) -> Result<(), StoreError> {
        let map = self.topology().await?.map();
        if !map.is_whole() {
            return Err(StoreError::Unreachable("no server has some of the cluster's slots".to_owned()));
        }
        for address in map.masters() {
            self.ask(address).await?;
        }
        self.masters().pools.retain(|address, _| map.masters().any(|master| master == address));
        Ok(())
    }

    /// `INFO` and not `CONFIG GET`: the former needs no more than `+info`, which a narrow ACL user can be given.
    async fn ask(&self, address: &Address) -> Result<(), StoreError> {
        let mut connection = self.connection(address).await?;
        let fit = self.masters().fit.contains(address);
        let mut question = cmd("INFO");
        if fit {
            question.arg("replication");
        }
        let info: String = question
            .query_async(&mut connection)
            .await
            .map_err(|error| StartError::explain(address, &error))?;
        if !is_master(&info) {
            return Err(StoreError::Unreachable(format!("{address} is a replica")));
        }
        if !fit {
            judge(&info)?;
            self.masters().fit.insert(address.clone());
        }
        Ok(())
    }

    fn pool(&self, address: &Address) -> Result<Pool, StoreError> {
        let mut masters = self.masters();
        if let Some(pool) = masters.pools.get(address) {
            return Ok(pool.clone());
        }
        let pool = self.new_pool(address).map_err(StoreError::Unreachable)?;
        masters.pools.insert(address.clone(), pool.clone());
        Ok(pool)
    }

    fn new_pool(&self, address: &Address) -> Result<Pool, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline))
            .set_response_timeout(Some(self.deadline));
        let info = self.target.connection_info(address).map_err(|error| error.to_string())?;
        let manager = Manager::new_with_config(info, config).map_err(|error| error.to_string())?;
        let builder = Pool::builder(manager).max_size(POOL_SIZE).runtime(Runtime::Tokio1);
        builder.build().map_err(|error| error.to_string())
    }

    fn masters(&self) -> MutexGuard<'_, Masters> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<StartError> for StoreError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NoAnswer(reason) => Self::Unreachable(reason),
            error => Self::Unfit(error.to_string()),
        }
    }
}

fn pool_error(address: &Address, error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => StartError::explain(address, &error).into(),
        other => StoreError::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use signalbox_config::units::Span;

    use super::*;

    #[actix_web::test]
    async fn a_server_that_is_not_there_is_unreachable_within_the_deadline() {
        let settings = config::Redis { deadline: Span::millis(200), ..config::Redis::default() };
        let store = RedisStore::open("redis://127.0.0.1:1/", &settings).unwrap();
        assert!(matches!(store.ready().await, Err(StoreError::Unreachable(_))));
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let Err(error) = RedisStore::open("redis://user:hunter2@:x", &config::Redis::default()) else {
            panic!("taken")
        };
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
