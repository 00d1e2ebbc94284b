//! A Redis Cluster of three masters with a replica each.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use futures_util::future::join_all;
use signalbox_redis::redis_keys::{HASH_TAGS, KeyKind, PARTITIONS, TopicKind};

use crate::{
    net::{eventually_within, free_address},
    redis_security::RedisSecurity,
    redis_server::{RedisServer, parse_cmd},
};

/// How long the servers may take to agree, also on a busy machine.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(30);

/// The bus port is this far above the port, and both must be below the ports of outgoing
/// connections.
const BUS_OFFSET: u16 = 10_000;
const PORT_END: u16 = 32_768 - BUS_OFFSET;

/// A running cluster of six servers.
pub struct TestRedisCluster {
    /// All six servers. Which of them are masters can change.
    pub servers: Vec<RedisServer>,
    security: RedisSecurity,
}

/// One line of `CLUSTER NODES`.
struct ClusterServerView {
    port: u16,
    id: String,
    master: bool,
    failed: bool,
    master_id: String,
    slots: Vec<(usize, usize)>,
}

impl TestRedisCluster {
    /// Starts all six servers and waits until each of them sees a complete cluster.
    ///
    /// # Panics
    /// If the cluster is not complete in time.
    pub async fn start(security: RedisSecurity) -> Self {
        let mut args: Vec<&str> =
            "--cluster-enabled yes --cluster-node-timeout 1000 --cluster-replica-validity-factor 0 \
            --cluster-allow-replica-migration no --cluster-require-full-coverage no"
                .split_ascii_whitespace()
                .collect();
        if security.ca_file().is_some() {
            args.extend(["--tls-cluster", "yes"]);
        }
        let servers: Vec<_> =
            join_all((0..6).map(|_| RedisServer::start(address_with_bus(), &security, &args))).await;
        let mut create = security.cli();
        create.args(["--cluster", "create"]).args(servers.iter().map(|server| server.address.to_string()));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = tokio::task::spawn_blocking(move || create.output()).await.expect("a thread");
        let created = created.expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { servers, security };
        cluster.wait_complete(3).await;
        cluster
    }

    /// Waits until every running server sees a complete cluster with this number of replicas.
    ///
    /// # Panics
    /// If the cluster is not complete in time.
    pub async fn wait_complete(&self, replicas: usize) {
        eventually_within(AGREEMENT_LIMIT, "the cluster is complete", async || {
            for server in self.servers.iter().filter(|server| server.is_running()) {
                let info: String = server.try_run_text("CLUSTER INFO").await?;
                if !info.contains("cluster_state:ok") {
                    return None;
                }
                let view = query_view(server).await?;
                let count = |master: bool| {
                    view.iter().filter(|server| !server.failed && server.master == master).count()
                };
                if (count(true), count(false)) != (3, replicas) {
                    return None;
                }
                if server.replication_info("role").await? == "slave"
                    && server.replication_info("master_link_status").await? != "up"
                {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// The URL for a service, as this user of the ACL. Two of the servers are its seeds.
    pub fn url(&self, user: &str) -> String {
        let seeds: Vec<_> = self.servers.iter().filter(|server| server.is_running()).take(2).collect();
        let seeds: Vec<_> = seeds.iter().map(|server| server.address.to_string()).collect();
        format!("{}://{}{}", self.security.scheme(), self.security.login(user), seeds.join(","))
    }

    /// The security of the servers.
    pub fn security(&self) -> &RedisSecurity {
        &self.security
    }

    /// The view of the first running server that answers.
    async fn view(&self) -> Vec<ClusterServerView> {
        eventually_within(AGREEMENT_LIMIT, "a view of the cluster", async || {
            for server in self.servers.iter().filter(|server| server.is_running()) {
                if let Some(view) = query_view(server).await {
                    return Some(view);
                }
            }
            None
        })
        .await
    }

    /// The indexes of the masters in `servers`.
    pub async fn masters(&self) -> Vec<usize> {
        let view = self.view().await;
        let masters =
            view.iter().filter(|server| server.master && !server.failed && !server.slots.is_empty());
        masters.map(|server| self.server_index(server.port)).collect()
    }

    /// The index in `servers` of the master of a partition.
    ///
    /// # Panics
    /// If the partition has no master.
    pub async fn master_of(&self, partition: usize) -> usize {
        let slot = slot_of(partition);
        let view = self.view().await;
        let holds_slot = |server: &&ClusterServerView| {
            server.master && server.slots.iter().any(|(low, high)| (*low..=*high).contains(&slot))
        };
        self.server_index(view.iter().find(holds_slot).expect("a master of the slot").port)
    }

    /// The partitions of a server.
    pub async fn partitions_of(&self, index: usize) -> Vec<usize> {
        let port = self.servers[index].address.port();
        let view = self.view().await;
        let slots = view
            .into_iter()
            .find(|server| server.port == port)
            .map(|server| server.slots)
            .unwrap_or_default();
        let holds_slot = |slot: usize| slots.iter().any(|(low, high)| (*low..=*high).contains(&slot));
        (0..PARTITIONS).filter(|partition| holds_slot(slot_of(*partition))).collect()
    }

    fn server_index(&self, port: u16) -> usize {
        self.servers
            .iter()
            .position(|server| server.address.port() == port)
            .expect("a server of this cluster")
    }

    /// Kills the master of a partition and returns its index. Its replica becomes the master.
    pub async fn kill_master_of(&mut self, partition: usize) -> usize {
        let index = self.master_of(partition).await;
        self.servers[index].kill();
        for server in self.servers.iter().filter(|server| server.is_running()) {
            server.allow_replication().await;
        }
        index
    }

    /// Stops replication of the master of this partition. Its acknowledged writes are lost with
    /// [`TestRedisCluster::kill_master_of`].
    pub async fn cut_replication_of(&self, partition: usize) {
        let master = self.master_of(partition).await;
        let view = self.view().await;
        let port = self.servers[master].address.port();
        let id = &view.iter().find(|server| server.port == port).expect("the master").id;
        for replica in view.iter().filter(|server| server.master_id == *id) {
            self.servers[self.server_index(replica.port)].stop_replication().await;
        }
        self.servers[master].run_text::<()>("CLIENT KILL TYPE replica").await;
        eventually_within(AGREEMENT_LIMIT, "the replica is cut off", async || {
            (self.servers[master].replication_info("connected_slaves").await? == "0").then_some(())
        })
        .await;
    }

    /// Moves the slot of a partition, with all its keys, to the server with this index.
    pub async fn move_slot(&self, partition: usize, to: usize) {
        let from = self.start_slot_move(partition, to).await;
        while self.move_slot_keys(partition, from, to, 10).await > 0 {}
        self.finish_slot_move(partition, from, to).await;
    }

    /// Starts to move a slot: both servers know of the move, and no key has moved. Returns the
    /// index of the current master.
    pub async fn start_slot_move(&self, partition: usize, to: usize) -> usize {
        let (from, slot) = (self.master_of(partition).await, slot_of(partition));
        let (from_id, to_id) = (self.cluster_id(from).await, self.cluster_id(to).await);
        self.servers[to].run_text::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
        self.servers[from].run_text::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
        from
    }

    /// Moves some keys and returns their number.
    pub async fn move_slot_keys(&self, partition: usize, from: usize, to: usize, count: usize) -> usize {
        let keys: Vec<Vec<u8>> = self.servers[from]
            .run_text(&format!("CLUSTER GETKEYSINSLOT {} {count}", slot_of(partition)))
            .await;
        if keys.is_empty() {
            return 0;
        }
        let address = self.servers[to].address;
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg(address.ip().to_string()).arg(address.port()).arg("").arg(0).arg(5_000);
        if let Some(password) = self.security.admin_password() {
            migrate.arg("AUTH2").arg("admin").arg(password);
        }
        migrate.arg("KEYS").arg(&keys);
        self.servers[from].run::<()>(&migrate).await;
        keys.len()
    }

    /// Gives the slot to the new master and informs all masters.
    pub async fn finish_slot_move(&self, partition: usize, from: usize, to: usize) {
        let command = format!("CLUSTER SETSLOT {} NODE {}", slot_of(partition), self.cluster_id(to).await);
        self.servers[to].run_text::<()>(&command).await;
        self.servers[from].run_text::<()>(&command).await;
        for index in self.masters().await {
            if index != from && index != to {
                self.servers[index].run_text::<()>(&command).await;
            }
        }
    }

    async fn cluster_id(&self, index: usize) -> String {
        self.servers[index].run_text("CLUSTER MYID").await
    }

    /// Runs a command on every master.
    pub async fn run_on_masters(&self, text: &str) {
        for index in self.masters().await {
            self.servers[index].run::<redis::Value>(&parse_cmd(text)).await;
        }
    }
}

/// A topic in a partition.
pub fn topic_in(partition: usize, name: &str) -> String {
    format!("{}{{{}}}:{name}", TopicKind::Node.prefix(), HASH_TAGS[partition])
}

/// A key in a partition.
pub fn key_in(partition: usize, name: &str) -> String {
    format!("{}{{{}}}:{name}", KeyKind::Room.prefix(), HASH_TAGS[partition])
}

/// The slot of a partition, as `signalbox_redis::keys` places its tags.
fn slot_of(partition: usize) -> usize {
    partition * 128 + 64
}

/// An address whose bus port is free.
fn address_with_bus() -> SocketAddr {
    loop {
        let address = free_address();
        let bus = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port() + BUS_OFFSET));
        if address.port() < PORT_END && TcpListener::bind(bus).is_ok() {
            return address;
        }
    }
}

async fn query_view(server: &RedisServer) -> Option<Vec<ClusterServerView>> {
    let text: String = server.try_run_text("CLUSTER NODES").await?;
    text.lines().map(parse_line).collect()
}

/// `id ip:port@bus flags master ping pong epoch link slot…`
fn parse_line(line: &str) -> Option<ClusterServerView> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, flags, master_id, _, _, _, _, slots @ ..] = words.as_slice() else { return None };
    let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let range = |text: &&str| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Some((low.parse().ok()?, high.parse().ok()?))
    };
    let flags: Vec<&str> = flags.split(',').collect();
    Some(ClusterServerView {
        port,
        id: (*id).to_owned(),
        master: flags.contains(&"master"),
        failed: flags.iter().any(|flag| flag.starts_with("fail") || *flag == "handshake"),
        master_id: (*master_id).to_owned(),
        slots: slots.iter().filter(|text| !text.starts_with('[')).filter_map(range).collect(),
    })
}
