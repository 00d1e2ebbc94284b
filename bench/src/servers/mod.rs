//! The servers that are measured, one file each: how the server is started, and its messages.

mod floors;
mod matchbox;
mod peerjs;
mod redis_script;
pub mod signalbox_server;
mod socket_io;
pub mod tokens;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::{
    dialect::Dialect,
    processes::{Processes, free_address},
};

/// The names of all servers, with what each is.
pub const SERVERS: [(&str, &str); 12] = [
    ("signalbox", "Signalbox, memory store, tokens with HS256"),
    ("signalbox-eddsa", "the same, tokens with EdDSA"),
    ("signalbox-redis", "Signalbox, two nodes and Redis, tokens with HS256"),
    ("signalbox-redis-eddsa", "the same, tokens with EdDSA"),
    ("matchbox", "matchbox_server"),
    ("peerjs", "PeerJS server"),
    ("socket-io", "Socket.IO, one process"),
    ("socket-io-redis", "Socket.IO, two processes with @socket.io/redis-adapter"),
    ("actix-ws", "floor: actix-ws without logic"),
    ("actix-handover", "floor: actix-http, the socket handed over, without logic"),
    ("tokio", "floor: tokio, one task for each connection, without logic"),
    ("redis-script", "floor: Redis alone, a script with XADD and PUBLISH to a subscriber"),
];

/// Where the programs are, and where they run.
pub struct Environment {
    /// The binary of Signalbox.
    pub signalbox: PathBuf,
    /// The binary of the floors.
    pub floor: PathBuf,
    /// The binary of matchbox_server.
    pub matchbox: PathBuf,
    /// The folder with `node_modules`, and the programs that use them.
    pub npm: PathBuf,
    /// The CPUs of the servers, a list of `taskset`.
    pub server_cpus: String,
}

/// One server to measure.
#[derive(Clone)]
pub struct ServerSpec {
    /// As on the command line: `signalbox`, or `signalbox=/path/to/another/build`.
    pub label: String,
    /// One of [`SERVERS`].
    pub name: &'static str,
    binary: Option<PathBuf>,
}

impl ServerSpec {
    /// Reads `NAME` or `NAME=BINARY`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, binary) = match text.split_once('=') {
            Some((name, binary)) => (name, Some(std::path::absolute(binary)?)),
            None => (text, None),
        };
        let Some((name, _)) = SERVERS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = SERVERS.iter().map(|(name, _)| *name).collect();
            bail!("there is no server {name}; the servers are: {}", known.join(", "))
        };
        Ok(Self { label: text.to_owned(), name, binary })
    }

    /// The end of the label, for plots.
    pub fn short_label(&self) -> &str {
        let begin = self.label.len().saturating_sub(26);
        self.label.get(begin..).unwrap_or(&self.label)
    }

    /// Whether this is a server without logic.
    pub fn is_floor(&self) -> bool {
        matches!(self.name, "actix-ws" | "actix-handover" | "tokio" | "redis-script")
    }

    /// Whether peers of one room may be at different processes.
    pub fn has_several_nodes(&self) -> bool {
        self.name.contains("-redis")
    }

    /// The server to which this one is compared: the fastest floor, or with several nodes the server
    /// that also has several.
    pub fn reference(&self) -> &'static str {
        if self.has_several_nodes() { "socket-io-redis" } else { "tokio" }
    }

    /// Whether this is Signalbox.
    pub fn is_signalbox(&self) -> bool {
        self.name.starts_with("signalbox")
    }

    /// Starts the server. `nodes` is the number of processes, for servers that can have several.
    pub fn start(&self, environment: &Environment, nodes: usize) -> Result<RunningServer> {
        self.start_on(environment, &environment.server_cpus, nodes, None)
    }

    /// Starts one node with this number of workers on all CPUs of the machine.
    pub fn start_workers(&self, environment: &Environment, workers: usize) -> Result<RunningServer> {
        let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
        self.start_on(environment, cpus.trim(), 1, Some(workers))
    }

    fn start_on(
        &self,
        environment: &Environment,
        cpus: &str,
        nodes: usize,
        workers: Option<usize>,
    ) -> Result<RunningServer> {
        let own = |default: &Path| self.binary.clone().unwrap_or_else(|| default.to_owned());
        let mut processes = Processes::new(cpus)?;
        let (addresses, dialect) = match self.name {
            name if name.starts_with("signalbox") => {
                let with_redis = name.contains("-redis");
                let nodes = if with_redis { nodes } else { 1 };
                let with_keys = name.ends_with("-eddsa");
                let options = signalbox_server::Options { nodes, workers, with_redis, with_keys };
                signalbox_server::start(&mut processes, &own(&environment.signalbox), &options)?
            }
            "matchbox" => matchbox::start(&mut processes, &own(&environment.matchbox))?,
            "peerjs" => peerjs::start(&mut processes, &environment.npm)?,
            "socket-io" => socket_io::start(&mut processes, &environment.npm, 1, false)?,
            "socket-io-redis" => socket_io::start(&mut processes, &environment.npm, nodes, true)?,
            "redis-script" => redis_script::start(&mut processes)?,
            floor => floors::start(&mut processes, &own(&environment.floor), floor)?,
        };
        Ok(RunningServer { processes, addresses, dialect })
    }
}

/// A server that accepts connections. It ends when this is dropped.
pub struct RunningServer {
    pub processes: Processes,
    /// Where peers connect, one address for each node.
    pub addresses: Vec<SocketAddr>,
    pub dialect: Box<dyn Dialect>,
}

impl RunningServer {
    /// The address of a peer: neighbours are at different nodes.
    pub fn address_of(&self, peer: usize) -> SocketAddr {
        self.addresses[peer % self.addresses.len()]
    }
}

/// A variable of a process.
pub fn variable(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// Starts a Redis that keeps nothing on disk. Returns its URL. Its protected mode would refuse the
/// source addresses of the load; it listens on loopback only.
fn start_redis(processes: &mut Processes) -> Result<String> {
    let address = free_address()?;
    let port = address.port().to_string();
    let arguments = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxmemory",
        "4gb",
        "--maxmemory-policy",
        "noeviction",
        "--loglevel",
        "warning",
        "--protected-mode",
        "no",
    ];
    processes.spawn("redis", Path::new("redis-server"), &arguments, &[])?;
    processes.wait_until_ready(address, None)?;
    Ok(format!("redis://{address}/0"))
}
