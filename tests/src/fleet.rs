//! Signaling nodes that can be killed, stopped, cut off and started again under the same address: each behind a proxy of its own, and
//! with another one between it and a single Redis.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    backend::Backend,
    cluster::{Settings, random_secret},
    process::{Process, signal},
    proxy::FaultProxy,
    redis::TestRedis,
};

/// One node.
pub struct FleetNode {
    /// Its process.
    pub process: Process,
    /// What clients connect to.
    pub front: Arc<FaultProxy>,
    /// What it reaches Redis through, where that is one server.
    pub back: Option<FaultProxy>,
    env: Vec<(String, String)>,
}

impl FleetNode {
    async fn start(store: &Backend, env: &[(String, String)]) -> Self {
        let mut env = env.to_vec();
        let (mut back, mut url) = (None, store.url());
        if let Some(address) = store.address() {
            let proxy = FaultProxy::start(address).await;
            url = format!("redis://{}/0", proxy.address);
            back = Some(proxy);
        }
        env.push(("REDIS_URL".to_owned(), url));
        let process = Process::start("signal-service", &env).await;
        let front = Arc::new(FaultProxy::start(process.address).await);
        Self { process, front, back, env }
    }

    /// Starts it again after its end, behind the same address, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.process = Process::start("signal-service", &self.env).await;
        self.front.set_upstream(self.process.address);
    }

    /// Suspends the process: it keeps its sockets and does nothing.
    pub fn suspend(&self) {
        signal(self.process.pid(), "STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        signal(self.process.pid(), "CONT");
    }

    /// The proxy to its Redis.
    ///
    /// # Panics
    /// If the store is not a single server.
    pub fn store(&self) -> &FaultProxy {
        self.back.as_ref().expect("a single Redis behind a proxy")
    }
}

/// Nodes and their store.
pub struct Fleet {
    /// The nodes. Ended before the store.
    pub nodes: Vec<FleetNode>,
    /// The store.
    pub store: Backend,
    /// What tokens are signed with.
    pub secret: String,
}

impl Fleet {
    /// Starts `nodes` signaling nodes with these settings over a store.
    pub async fn start(store: Backend, nodes: usize, settings: Settings<'_>) -> Self {
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

    /// Nodes over one Redis.
    pub async fn single(nodes: usize, settings: Settings<'_>) -> Self {
        Self::start(Backend::Single(TestRedis::start().await), nodes, settings).await
    }

    /// Where clients connect.
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.front.address).collect()
    }

    /// What must hold of every process at the end: it runs, and its log holds no secret and no panic.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn audit(&self) {
        for node in &self.nodes {
            node.process.assert_running();
            node.process.assert_clean_log(&[&self.secret, "resume="]);
        }
    }

    /// Stops a node as an operator does, waits for its end and starts it again.
    ///
    /// # Panics
    /// If it does not end in `limit`.
    pub async fn drain(&mut self, node: usize, limit: Duration) {
        self.nodes[node].process.terminate();
        let status = self.nodes[node].process.wait(limit).await;
        assert!(status.success(), "a drained node ended with {status}");
        self.nodes[node].restart().await;
    }
}
