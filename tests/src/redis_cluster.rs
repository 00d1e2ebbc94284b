//! A Redis Cluster of three masters with a replica each.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use futures_util::future::join_all;
use signalbox_redis::redis_keys::{HASH_TAGS, PARTITIONS};

use crate::{
    net::{eventually_within, free_address},
    redis_guard::Guard,
    redis_node::{RedisNode, words_cmd},
};

/// How long the nodes may take to agree, on a busy machine too.
const AGREE: Duration = Duration::from_secs(30);

/// The bus listens this far above the port, and both must be below the ports of outgoing connections.
const BUS: u16 = 10_000;
const HIGHEST: u16 = 32_768 - BUS;

/// See the module.
pub struct RedisCluster {
    /// All six; which are masters changes.
    pub nodes: Vec<RedisNode>,
    guard: Guard,
}

/// One line of `CLUSTER NODES`.
struct Seen {
    port: u16,
    id: String,
    master: bool,
    failed: bool,
    master_id: String,
    slots: Vec<(usize, usize)>,
}

impl RedisCluster {
    /// Starts all six and waits until each of them finds the cluster complete.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub async fn start(guard: Guard) -> Self {
        let mut args: Vec<&str> =
            "--cluster-enabled yes --cluster-node-timeout 1000 --cluster-replica-validity-factor 0 \
            --cluster-allow-replica-migration no --cluster-require-full-coverage no"
                .split_ascii_whitespace()
                .collect();
        if guard.ca_file().is_some() {
            args.extend(["--tls-cluster", "yes"]);
        }
        let nodes: Vec<_> =
            join_all((0..6).map(|_| RedisNode::start(address_with_bus(), &guard, &args))).await;
        let mut create = guard.cli();
        create.args(["--cluster", "create"]).args(nodes.iter().map(|node| node.address.to_string()));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let created = tokio::task::spawn_blocking(move || create.output()).await.expect("a thread");
        let created = created.expect("redis-cli is installed");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes, guard };
        cluster.settled(3).await;
        cluster
    }

    /// Waits until every running node finds the cluster complete, with so many replicas that follow.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub async fn settled(&self, replicas: usize) {
        eventually_within(AGREE, "the cluster is complete", async || {
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                let info: String = node.try_ask("CLUSTER INFO").await?;
                if !info.contains("cluster_state:ok") {
                    return None;
                }
                let seen = seen_by(node).await?;
                let alive =
                    |master: bool| seen.iter().filter(|one| !one.failed && one.master == master).count();
                if (alive(true), alive(false)) != (3, replicas) {
                    return None;
                }
                if node.replication("role").await? == "slave"
                    && node.replication("master_link_status").await? != "up"
                {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// The URL for the product, as this user of the ACL; two of the nodes are its seeds.
    pub fn url(&self, user: &str) -> String {
        let seeds: Vec<_> = self.nodes.iter().filter(|node| node.is_running()).take(2).collect();
        let seeds: Vec<_> = seeds.iter().map(|node| node.address.to_string()).collect();
        format!("{}://{}{}", self.guard.scheme(), self.guard.login(user), seeds.join(","))
    }

    /// See [`Guard`].
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The view of a running node, of whichever answers.
    async fn view(&self) -> Vec<Seen> {
        eventually_within(AGREE, "a view of the cluster", async || {
            for node in self.nodes.iter().filter(|node| node.is_running()) {
                if let Some(seen) = seen_by(node).await {
                    return Some(seen);
                }
            }
            None
        })
        .await
    }

    /// The places in `nodes` of the masters.
    pub async fn masters(&self) -> Vec<usize> {
        let seen = self.view().await;
        let masters = seen.iter().filter(|one| one.master && !one.failed && !one.slots.is_empty());
        masters.map(|one| self.place(one.port)).collect()
    }

    /// The place in `nodes` of a partition's master.
    ///
    /// # Panics
    /// If it has none.
    pub async fn master_of(&self, partition: usize) -> usize {
        let slot = slot_of(partition);
        let seen = self.view().await;
        let has =
            |one: &&Seen| one.master && one.slots.iter().any(|(low, high)| (*low..=*high).contains(&slot));
        self.place(seen.iter().find(has).expect("a master of the slot").port)
    }

    /// The partitions of a node.
    pub async fn partitions_of(&self, place: usize) -> Vec<usize> {
        let port = self.nodes[place].address.port();
        let seen = self.view().await;
        let slots = seen.into_iter().find(|one| one.port == port).map(|one| one.slots).unwrap_or_default();
        let has = |slot: usize| slots.iter().any(|(low, high)| (*low..=*high).contains(&slot));
        (0..PARTITIONS).filter(|partition| has(slot_of(*partition))).collect()
    }

    fn place(&self, port: u16) -> usize {
        self.nodes.iter().position(|node| node.address.port() == port).expect("a node of ours")
    }

    /// Kills the master of a partition and returns its place; its replica takes over.
    pub async fn kill_master_of(&mut self, partition: usize) -> usize {
        let place = self.master_of(partition).await;
        self.nodes[place].kill();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.remember_master_password().await;
        }
        place
    }

    /// From now on nothing that this partition's master acknowledges is replicated: it is lost with
    /// [`RedisCluster::kill_master_of`].
    pub async fn cut_replication_of(&self, partition: usize) {
        let master = self.master_of(partition).await;
        let seen = self.view().await;
        let port = self.nodes[master].address.port();
        let id = &seen.iter().find(|one| one.port == port).expect("the master").id;
        for replica in seen.iter().filter(|one| one.master_id == *id) {
            self.nodes[self.place(replica.port)].forget_master_password().await;
        }
        self.nodes[master].ask::<()>("CLIENT KILL TYPE replica").await;
        eventually_within(AGREE, "the replica is cut off", async || {
            (self.nodes[master].replication("connected_slaves").await? == "0").then_some(())
        })
        .await;
    }

    /// Moves a partition's slot with all its keys to the node at this place.
    pub async fn move_slot(&self, partition: usize, to: usize) {
        let from = self.begin_move(partition, to).await;
        while self.move_keys(partition, from, to, 10).await > 0 {}
        self.finish_move(partition, from, to).await;
    }

    /// Both sides know that the slot moves; returns the place of the one that has it. No key has moved.
    pub async fn begin_move(&self, partition: usize, to: usize) -> usize {
        let (from, slot) = (self.master_of(partition).await, slot_of(partition));
        let (from_id, to_id) = (self.id_of(from).await, self.id_of(to).await);
        self.nodes[to].ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
        self.nodes[from].ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
        from
    }

    /// Moves some keys; returns how many.
    pub async fn move_keys(&self, partition: usize, from: usize, to: usize, count: usize) -> usize {
        let keys: Vec<Vec<u8>> =
            self.nodes[from].ask(&format!("CLUSTER GETKEYSINSLOT {} {count}", slot_of(partition))).await;
        if keys.is_empty() {
            return 0;
        }
        let address = self.nodes[to].address;
        let mut migrate = redis::cmd("MIGRATE");
        migrate.arg(address.ip().to_string()).arg(address.port()).arg("").arg(0).arg(5_000);
        if let Some(password) = self.guard.admin() {
            migrate.arg("AUTH2").arg("admin").arg(password);
        }
        migrate.arg("KEYS").arg(&keys);
        self.nodes[from].run::<()>(&migrate).await;
        keys.len()
    }

    /// The slot is the other's; all masters are told.
    pub async fn finish_move(&self, partition: usize, from: usize, to: usize) {
        let command = format!("CLUSTER SETSLOT {} NODE {}", slot_of(partition), self.id_of(to).await);
        self.nodes[to].ask::<()>(&command).await;
        self.nodes[from].ask::<()>(&command).await;
        for place in self.masters().await {
            if place != from && place != to {
                self.nodes[place].ask::<()>(&command).await;
            }
        }
    }

    async fn id_of(&self, place: usize) -> String {
        self.nodes[place].ask("CLUSTER MYID").await
    }

    /// A command on every master.
    pub async fn everywhere(&self, words: &str) {
        for place in self.masters().await {
            self.nodes[place].run::<redis::Value>(&words_cmd(words)).await;
        }
    }
}

/// A key of a partition.
pub fn key_in(partition: usize, name: &str) -> String {
    format!("sb:{{{}}}:{name}", HASH_TAGS[partition])
}

/// As `shared::keys` lays its tags out.
fn slot_of(partition: usize) -> usize {
    partition * 128 + 64
}

/// An address whose bus port is free too.
fn address_with_bus() -> SocketAddr {
    loop {
        let address = free_address();
        let bus = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port() + BUS));
        if address.port() < HIGHEST && TcpListener::bind(bus).is_ok() {
            return address;
        }
    }
}

async fn seen_by(node: &RedisNode) -> Option<Vec<Seen>> {
    let text: String = node.try_ask("CLUSTER NODES").await?;
    text.lines().map(read_line).collect()
}

/// `id ip:port@bus flags master ping pong epoch link slot…`
fn read_line(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, flags, master_id, _, _, _, _, slots @ ..] = words.as_slice() else { return None };
    let port = address.split('@').next()?.rsplit(':').next()?.parse().ok()?;
    let range = |text: &&str| {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Some((low.parse().ok()?, high.parse().ok()?))
    };
    let flags: Vec<&str> = flags.split(',').collect();
    Some(Seen {
        port,
        id: (*id).to_owned(),
        master: flags.contains(&"master"),
        failed: flags.iter().any(|flag| flag.starts_with("fail") || *flag == "handshake"),
        master_id: (*master_id).to_owned(),
        slots: slots.iter().filter(|text| !text.starts_with('[')).filter_map(range).collect(),
    })
}
