//! A master, two replicas and three Sentinels.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    net::{eventually, eventually_within, free_address},
    redis_guard::Guard,
    redis_node::RedisNode,
};

/// What the Sentinels call the master.
const NAME: &str = "signalbox";

/// How long an election may take on a busy machine.
const FAILOVER: Duration = Duration::from_secs(30);

/// See the module.
pub struct TestSentinel {
    /// The master of the start and its replicas.
    pub nodes: Vec<RedisNode>,
    /// Who watches them.
    pub sentinels: Vec<RedisNode>,
    guard: Guard,
}

impl TestSentinel {
    /// Starts all six and waits until they know each other.
    pub async fn start(guard: Guard) -> Self {
        let mut nodes = vec![RedisNode::start(free_address(), &guard, &[]).await];
        let port = nodes[0].address.port().to_string();
        for _ in 0..2 {
            nodes.push(RedisNode::start(free_address(), &guard, &["--replicaof", "127.0.0.1", &port]).await);
        }
        eventually("two replicas follow", async || {
            let state = nodes[0].ask::<String>("INFO replication").await;
            (state.matches("state=online").count() == 2).then_some(())
        })
        .await;
        let mut config = format!("sentinel monitor {NAME} 127.0.0.1 {port} 2\n");
        config +=
            &format!("sentinel down-after-milliseconds {NAME} 500\nsentinel failover-timeout {NAME} 3000\n");
        config += &format!("sentinel parallel-syncs {NAME} 2\n");
        if let Some(password) = guard.admin() {
            config += &format!("sentinel auth-user {NAME} admin\nsentinel auth-pass {NAME} {password}\n");
        }
        let starting = (0..3).map(|_| RedisNode::sentinel(free_address(), &guard, &config));
        let sentinels = join_all(starting).await;
        let deployment = Self { nodes, sentinels, guard };
        eventually_within(FAILOVER, "the Sentinels agree", async || {
            let known = join_all(deployment.sentinels.iter().map(knows_all)).await;
            known.into_iter().all(|knows| knows).then_some(())
        })
        .await;
        deployment
    }

    /// The URL for the product, as this user of the ACL.
    pub fn url(&self, user: &str) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        let (scheme, login) = (self.guard.scheme(), self.guard.login(user));
        format!("{scheme}+sentinel://{login}{}/{NAME}", hosts.join(","))
    }

    /// See [`Guard`].
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The place in `nodes` of the one that the Sentinels name and that says so itself.
    pub async fn master_now(&self) -> Option<usize> {
        let ask = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}");
        let (_, port): (String, u16) = self.sentinels[0].try_ask(&ask).await?;
        let place = self.nodes.iter().position(|node| node.address.port() == port)?;
        if !self.nodes[place].is_running() {
            return None;
        }
        (self.nodes[place].replication("role").await? == "master").then_some(place)
    }

    /// Waits for a master.
    ///
    /// # Panics
    /// If there is none in time.
    pub async fn master(&self) -> usize {
        eventually_within(FAILOVER, "a master", async || self.master_now().await).await
    }

    /// Kills the master and returns its place; the Sentinels make another.
    pub async fn kill_master(&mut self) -> usize {
        let place = self.master().await;
        self.nodes[place].kill();
        self.heal_replication().await;
        place
    }

    /// From now on nothing that the master acknowledges is replicated: it is lost with [`TestSentinel::kill_master`].
    pub async fn cut_replication(&self) {
        let master = self.master().await;
        for (place, node) in self.nodes.iter().enumerate() {
            if place != master && node.is_running() {
                node.forget_master_password().await;
            }
        }
        self.nodes[master].ask::<()>("CLIENT KILL TYPE replica").await;
        eventually("the replicas are cut off", async || {
            (self.nodes[master].replication("connected_slaves").await? == "0").then_some(())
        })
        .await;
    }

    /// Undoes [`TestSentinel::cut_replication`].
    pub async fn heal_replication(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.remember_master_password().await;
        }
    }
}

/// Whether a Sentinel knows both others and both replicas.
async fn knows_all(sentinel: &RedisNode) -> bool {
    let quorum: Option<String> = sentinel.try_ask(&format!("SENTINEL CKQUORUM {NAME}")).await;
    let master: Option<Vec<String>> = sentinel.try_ask(&format!("SENTINEL MASTER {NAME}")).await;
    let field = |name: &str| {
        let fields = master.as_ref()?;
        let place = fields.iter().position(|field| field == name)?;
        fields.get(place + 1).map(String::as_str)
    };
    quorum.is_some_and(|text| text.starts_with("OK 3 usable"))
        && (field("num-slaves"), field("num-other-sentinels")) == (Some("2"), Some("2"))
}
