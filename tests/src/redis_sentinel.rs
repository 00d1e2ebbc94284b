//! A master, two replicas and three Sentinels.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    net::{eventually, eventually_within, free_address},
    redis_security::RedisSecurity,
    redis_server::RedisServer,
};

/// The name of the master in the configuration of the Sentinels.
const MASTER_NAME: &str = "signalbox";

/// How long an election may take on a busy machine.
const ELECTION_LIMIT: Duration = Duration::from_secs(30);

/// A deployment of six servers.
pub struct TestSentinel {
    /// The first master and its replicas.
    pub servers: Vec<RedisServer>,
    /// The Sentinels.
    pub sentinels: Vec<RedisServer>,
    security: RedisSecurity,
}

impl TestSentinel {
    /// Starts all six servers and waits until they know each other.
    pub async fn start(security: RedisSecurity) -> Self {
        let mut servers = vec![RedisServer::start(free_address(), &security, &[]).await];
        let port = servers[0].address.port().to_string();
        for _ in 0..2 {
            servers.push(
                RedisServer::start(free_address(), &security, &["--replicaof", "127.0.0.1", &port]).await,
            );
        }
        eventually("two replicas follow", async || {
            let state = servers[0].run_text::<String>("INFO replication").await;
            (state.matches("state=online").count() == 2).then_some(())
        })
        .await;
        let mut config = format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {port} 2\n");
        config += &format!(
            "sentinel down-after-milliseconds {MASTER_NAME} 500\nsentinel failover-timeout {MASTER_NAME} 3000\n"
        );
        config += &format!("sentinel parallel-syncs {MASTER_NAME} 2\n");
        if let Some(password) = security.admin_password() {
            config += &format!(
                "sentinel auth-user {MASTER_NAME} admin\nsentinel auth-pass {MASTER_NAME} {password}\n"
            );
        }
        let starting = (0..3).map(|_| RedisServer::start_sentinel(free_address(), &security, &config));
        let sentinels = join_all(starting).await;
        let deployment = Self { servers, sentinels, security };
        eventually_within(ELECTION_LIMIT, "the Sentinels agree", async || {
            let known = join_all(deployment.sentinels.iter().map(knows_deployment)).await;
            known.into_iter().all(|knows| knows).then_some(())
        })
        .await;
        deployment
    }

    /// The URL for a service, as this user of the ACL.
    pub fn url(&self, user: &str) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        let (scheme, login) = (self.security.scheme(), self.security.login(user));
        let query = self.security.sentinel_query();
        format!("{scheme}+sentinel://{login}{}/{MASTER_NAME}{query}", hosts.join(","))
    }

    /// The security of the servers.
    pub fn security(&self) -> &RedisSecurity {
        &self.security
    }

    /// The index in `servers` of the server that the Sentinels name and that reports itself as
    /// master.
    pub async fn current_master(&self) -> Option<usize> {
        let command = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER_NAME}");
        let (_, port): (String, u16) = self.sentinels[0].try_run_text(&command).await?;
        let index = self.servers.iter().position(|server| server.address.port() == port)?;
        if !self.servers[index].is_running() {
            return None;
        }
        (self.servers[index].replication_info("role").await? == "master").then_some(index)
    }

    /// Waits for a master.
    ///
    /// # Panics
    /// If there is no master in time.
    pub async fn wait_master(&self) -> usize {
        eventually_within(ELECTION_LIMIT, "a master", async || self.current_master().await).await
    }

    /// Kills the master and returns its index. The Sentinels elect another one.
    pub async fn kill_master(&mut self) -> usize {
        let index = self.wait_master().await;
        self.servers[index].kill();
        self.heal_replication().await;
        index
    }

    /// Stops replication: later writes of the master are lost with [`TestSentinel::kill_master`].
    pub async fn cut_replication(&self) {
        let master = self.wait_master().await;
        for (index, server) in self.servers.iter().enumerate() {
            if index != master && server.is_running() {
                server.stop_replication().await;
            }
        }
        self.servers[master].run_text::<()>("CLIENT KILL TYPE replica").await;
        eventually("the replicas are cut off", async || {
            (self.servers[master].replication_info("connected_slaves").await? == "0").then_some(())
        })
        .await;
    }

    /// Undoes [`TestSentinel::cut_replication`].
    pub async fn heal_replication(&self) {
        for server in self.servers.iter().filter(|server| server.is_running()) {
            server.allow_replication().await;
        }
    }
}

/// Whether a Sentinel knows both other Sentinels and both replicas.
async fn knows_deployment(sentinel: &RedisServer) -> bool {
    let quorum: Option<String> = sentinel.try_run_text(&format!("SENTINEL CKQUORUM {MASTER_NAME}")).await;
    let master: Option<Vec<String>> = sentinel.try_run_text(&format!("SENTINEL MASTER {MASTER_NAME}")).await;
    let field = |name: &str| {
        let fields = master.as_ref()?;
        let index = fields.iter().position(|field| field == name)?;
        fields.get(index + 1).map(String::as_str)
    };
    quorum.is_some_and(|text| text.starts_with("OK 3 usable"))
        && (field("num-slaves"), field("num-other-sentinels")) == (Some("2"), Some("2"))
}
