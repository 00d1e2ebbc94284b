//! Signaling nodes that can be killed, paused, disconnected and restarted at the same address.
//! Clients connect to each node through a proxy. A node reaches a single Redis through another
//! proxy.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    cluster::{Settings, random_secret},
    fleet_store::FleetStore,
    process::{Process, send_signal},
    proxy::FaultProxy,
    test_redis::TestRedis,
};

/// One node.
pub struct FleetNode {
    /// The process of the node.
    pub process: Process,
    /// The proxy between clients and the node.
    pub client_proxy: Arc<FaultProxy>,
    /// The proxy between the node and Redis, if the store is a single server.
    pub redis_link: Option<FaultProxy>,
    env: Vec<(String, String)>,
}

impl FleetNode {
    async fn start(store: &FleetStore, env: &[(String, String)]) -> Self {
        let mut env = env.to_vec();
        let (mut redis_link, mut url) = (None, store.url());
        if let Some(address) = store.address() {
            let proxy = FaultProxy::start(address).await;
            url = format!("redis://{}/0", proxy.address);
            redis_link = Some(proxy);
        }
        env.push(("REDIS_URL".to_owned(), url));
        let process = Process::start("signal-service", &env).await;
        let client_proxy = Arc::new(FaultProxy::start(process.address).await);
        Self { process, client_proxy, redis_link, env }
    }

    /// Starts the node again behind the same address and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process = Process::start("signal-service", &self.env).await;
        self.client_proxy.set_upstream(self.process.address);
    }

    /// Pauses the process: it keeps its sockets and does nothing.
    pub fn pause(&self) {
        send_signal(self.process.pid(), "STOP");
    }

    /// Continues the process.
    pub fn unpause(&self) {
        send_signal(self.process.pid(), "CONT");
    }

    /// The proxy between the node and Redis.
    ///
    /// # Panics
    /// If the store is not a single server.
    pub fn redis_proxy(&self) -> &FaultProxy {
        self.redis_link.as_ref().expect("a single Redis behind a proxy")
    }
}

/// Nodes and their store.
pub struct Fleet {
    /// The nodes. They are dropped, and so end, before the store.
    pub nodes: Vec<FleetNode>,
    /// The store.
    pub store: FleetStore,
    /// The secret that signs tokens.
    pub secret: String,
}

impl Fleet {
    /// Starts `nodes` signaling nodes with these settings over a store.
    pub async fn start(store: FleetStore, nodes: usize, settings: Settings<'_>) -> Self {
        let secret = random_secret();
        let mut env = vec![
            ("AUTH_SECRET".to_owned(), secret.clone()),
            ("SIGNALBOX__SERVER__WORKERS".to_owned(), "1".to_owned()),
        ];
        env.extend(settings.iter().map(|(name, value)| (format!("SIGNALBOX__{name}"), (*value).to_owned())));
        let mut fleet = Self { nodes: Vec::new(), store, secret };
        for _ in 0..nodes {
            fleet.nodes.push(FleetNode::start(&fleet.store, &env).await);
        }
        fleet
    }

    /// Starts nodes over a single Redis.
    pub async fn over_single_redis(nodes: usize, settings: Settings<'_>) -> Self {
        Self::start(FleetStore::Single(TestRedis::start().await), nodes, settings).await
    }

    /// The addresses to which clients connect.
    pub fn client_addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.client_proxy.address).collect()
    }

    /// Checks that every node runs and that its log contains no secret and no panic.
    ///
    /// # Panics
    /// If a check fails.
    pub fn audit(&self) {
        for node in &self.nodes {
            node.process.assert_running();
            node.process.assert_clean_log(&[&self.secret, "resume="]);
        }
    }

    /// Stops a node with SIGTERM, waits for its end and starts it again.
    ///
    /// # Panics
    /// If the node does not end within `limit`.
    pub async fn drain(&mut self, node: usize, limit: Duration) {
        self.nodes[node].process.terminate();
        let status = self.nodes[node].process.wait_exit(limit).await;
        assert!(status.success(), "a drained node ended with {status}");
        self.nodes[node].restart().await;
    }
}
