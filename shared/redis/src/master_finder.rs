//! Finds the masters: a single server is its own master, Sentinels name theirs, and each node of a
//! Cluster knows all.
//!
//! Owns: the questions and their connections. All servers are asked at the same time, because a
//! server that does not answer is often the reason for the question. Must not: keep a map;
//! `redis_topology` does.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use redis::{FromRedisValue, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    redis_address::RedisAddress,
    redis_error::RedisStartError,
    redis_target::RedisTarget,
    refusal_log::{Refusal, RefusalLog},
    server_info::{self, info_field},
    shard_map::ShardMap,
};

/// How long a server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the other servers may still take after the first answer.
const EXTRA_ANSWER_WAIT: Duration = Duration::from_millis(100);

/// The kind of deployment behind the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisMode {
    Standalone,
    Sentinel,
    Cluster,
}

/// A connection is kept for this long. After that a new one follows an address that leads to another
/// server now.
const CONNECTION_LIFE: Duration = Duration::from_secs(10);

/// See the module. Keeps the connections between two questions.
pub(crate) struct MasterFinder {
    target: RedisTarget,
    /// Gets what a Sentinel refuses. `redis_shard` records what the other servers refuse.
    refusals: Arc<RefusalLog>,
    // A std mutex: held for one map operation. With the time at which each was opened.
    connections: Mutex<HashMap<RedisAddress, (MultiplexedConnection, Instant)>>,
    /// The epoch of the master that the Sentinels named last.
    sentinel_epoch: AtomicU64,
}

/// The address of the master, and the records of all masters that a Sentinel knows.
type SentinelAnswer = (Option<(String, u16)>, Vec<HashMap<String, String>>);

impl MasterFinder {
    pub(crate) fn new(target: RedisTarget, refusals: Arc<RefusalLog>) -> Self {
        Self { target, refusals, connections: Mutex::default(), sentinel_epoch: AtomicU64::new(0) }
    }

    /// Finds the kind of deployment behind the URL.
    pub(crate) async fn detect_mode(&self) -> Result<RedisMode, RedisStartError> {
        let wanted = self.target.master_name().is_some();
        let seeds = self.target.seed_addresses();
        let answers = self.ask_nodes::<(String,)>(&seeds, redis::pipe().cmd("INFO")).await?;
        let (address, (info,)) = &answers[0];
        match (info_field(info, "redis_mode"), wanted) {
            ("sentinel", true) => Ok(RedisMode::Sentinel),
            ("sentinel", false) => Err(RedisStartError::WrongServer(format!(
                "{address} is a Sentinel; write redis+sentinel://{address}/MASTER_NAME"
            ))),
            (_, true) => Err(RedisStartError::WrongServer(format!(
                "{address} is no Sentinel; write redis:// for the server itself"
            ))),
            ("cluster", false) if self.target.database() != 0 => Err(RedisStartError::WrongServer(
                "a Redis Cluster has no database but 0; leave it out of the URL".to_owned(),
            )),
            ("cluster", false) => Ok(RedisMode::Cluster),
            _ if seeds.len() > 1 => {
                let problem =
                    format!("the Redis URL names several hosts, and {address} is not part of a Cluster");
                Err(RedisStartError::WrongServer(problem))
            }
            _ => Ok(RedisMode::Standalone),
        }
    }

    /// Loads the current map. `known` holds the nodes of the last map.
    pub(crate) async fn load_map(
        &self,
        mode: RedisMode,
        known: &[RedisAddress],
    ) -> Result<ShardMap, RedisStartError> {
        match mode {
            RedisMode::Standalone => Ok(self
                .target
                .seed_addresses()
                .into_iter()
                .next()
                .map_or_else(ShardMap::without_masters, ShardMap::with_single_master)),
            RedisMode::Sentinel => self.ask_sentinels().await.map(ShardMap::with_single_master),
            RedisMode::Cluster => {
                let mut nodes = self.target.seed_addresses();
                nodes.extend(known.iter().filter(|node| !nodes.contains(node)).cloned().collect::<Vec<_>>());
                self.ask_cluster(&nodes).await
            }
        }
    }

    /// The address that the Sentinel with the latest epoch names, if a master answers there.
    ///
    /// The majority does not decide: an old master that is started again calls itself a master, and
    /// Sentinels that have missed the failover still name it.
    async fn ask_sentinels(&self) -> Result<RedisAddress, RedisStartError> {
        let name = self.target.master_name().unwrap_or_default();
        let seeds = self.target.seed_addresses();
        let mut question = redis::pipe();
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).cmd("SENTINEL").arg("MASTERS");
        let answers = self.ask_nodes::<SentinelAnswer>(&seeds, &question).await?;
        let asked = answers.len();
        let named = answers.into_iter().filter_map(|(_, (address, masters))| {
            let (host, port) = address?;
            let master = masters.into_iter().find(|master| master.get("name").is_some_and(|n| n == name))?;
            Some((master.get("config-epoch")?.parse::<u64>().ok()?, RedisAddress::tcp(&host, port)))
        });
        let Some((epoch, address)) = named.max_by_key(|(epoch, _)| *epoch) else {
            return Err(RedisStartError::WrongServer(format!(
                "the Sentinels know no master by the name {name}; REDIS_URL needs the name in their line `sentinel monitor`: redis+sentinel://USER:PASSWORD@HOST:PORT/MASTER_NAME/0"
            )));
        };
        // A minority may have missed the failover. A majority may have been set up again.
        let before = self.sentinel_epoch.load(Ordering::Relaxed);
        if epoch < before && asked * 2 <= seeds.len() {
            return Err(RedisStartError::NoAnswer(
                "only Sentinels answer that have missed a failover".to_owned(),
            ));
        }
        if !self.check_master(&address).await? {
            return Err(RedisStartError::NoAnswer(format!("{address} is not a master yet")));
        }
        self.sentinel_epoch.store(epoch, Ordering::Relaxed);
        Ok(address)
    }

    async fn check_master(&self, address: &RedisAddress) -> Result<bool, RedisStartError> {
        let mut question = redis::pipe();
        question.add_command(server_info::replication_command());
        match timeout(ANSWER_TIMEOUT, self.ask_node::<(String,)>(address, false, &question)).await {
            Ok(Ok((info,))) => {
                let is_master = server_info::is_master(&info);
                if !is_master {
                    // The next question asks the server to which the address leads then.
                    self.kept_connections().remove(address);
                }
                Ok(is_master)
            }
            Ok(Err(error)) => Err(RedisStartError::from_driver_error(address, &error)),
            Err(_) => Err(RedisStartError::NoAnswer(format!("{address} did not answer in time"))),
        }
    }

    /// The map of the node with the latest epoch, among the nodes that see a working cluster.
    async fn ask_cluster(&self, nodes: &[RedisAddress]) -> Result<ShardMap, RedisStartError> {
        let mut question = redis::pipe();
        question.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
        let mut answers = self.ask_nodes::<(String, Value)>(nodes, &question).await?;
        let rank = |info: &str| {
            let epoch: u64 = info_field(info, "cluster_current_epoch").parse().unwrap_or(0);
            (info_field(info, "cluster_state") == "ok", epoch)
        };
        answers.sort_by_key(|(_, (info, _))| std::cmp::Reverse(rank(info)));
        answers
            .iter()
            .find_map(|(asked, (_, slots))| parse_slots(asked, slots))
            .ok_or_else(|| RedisStartError::NoAnswer("no node of the cluster knows its slots yet".to_owned()))
    }

    /// The first answer and the answers soon after it. Without an answer, the reason.
    async fn ask_nodes<T: FromRedisValue>(
        &self,
        nodes: &[RedisAddress],
        question: &Pipeline,
    ) -> Result<Vec<(RedisAddress, T)>, RedisStartError> {
        let sentinel = self.target.master_name().is_some();
        let ask = |node: RedisAddress| async move {
            (node.clone(), self.ask_node(&node, sentinel, question).await)
        };
        let mut asked: FuturesUnordered<_> = nodes.iter().cloned().map(ask).collect();
        let mut end = Instant::now() + ANSWER_TIMEOUT;
        let mut answers = Vec::new();
        let silence = if self.target.uses_tls() {
            "no answer in time; does it speak TLS there?"
        } else {
            "no answer in time"
        };
        let mut why = RedisStartError::NoAnswer(silence.to_owned());
        while let Ok(Some((node, outcome))) = timeout_at(end, asked.next()).await {
            if sentinel {
                self.record_sentinel_outcome(&node, outcome.as_ref().err());
            }
            match outcome {
                Ok(answer) => {
                    answers.push((node, answer));
                    end = end.min(Instant::now() + EXTRA_ANSWER_WAIT);
                }
                Err(error) if !why.needs_operator() => why = self.explain_failure(&node, &error),
                Err(_) => {}
            }
        }
        if answers.is_empty() { Err(why) } else { Ok(answers) }
    }

    /// While other Sentinels answer, or the master is connected, no other error shows a refusal.
    fn record_sentinel_outcome(&self, node: &RedisAddress, error: Option<&RedisError>) {
        match error.map(Refusal::by_sentinel) {
            None => self.refusals.end_after_check(node),
            Some(Some(refusal)) => self.refusals.record(node, refusal),
            // Another error: `explain_failure` names it.
            Some(None) => {}
        }
    }

    /// Explains an error to the operator. With TLS 1.3 a server that refuses a client certificate, or
    /// misses it, ends the connection after the handshake.
    fn explain_failure(&self, node: &RedisAddress, error: &RedisError) -> RedisStartError {
        let has_ended = error.is_io_error() && !error.is_connection_refusal() && !error.is_timeout();
        let problem = match self.target.master_name() {
            Some(_) => RedisStartError::from_sentinel_error(node, error),
            None => RedisStartError::from_driver_error(node, error),
        };
        match (problem, self.target.certificate_hint()) {
            (RedisStartError::NoAnswer(_), Some(hint)) if has_ended => {
                RedisStartError::NoAnswer(format!("{node} ended the connection; {hint}"))
            }
            (problem, _) => problem,
        }
    }

    async fn ask_node<T: FromRedisValue>(
        &self,
        address: &RedisAddress,
        sentinel: bool,
        question: &Pipeline,
    ) -> RedisResult<T> {
        // Removed while it is in use: a connection that hangs is dropped with the question.
        let kept = self.kept_connections().remove(address);
        let (mut connection, opened_at) = match kept.filter(|(_, at)| at.elapsed() < CONNECTION_LIFE) {
            Some(kept) => kept,
            None if sentinel => (self.target.open_sentinel(address).await?, Instant::now()),
            None => (self.target.open_for_commands(address).await?, Instant::now()),
        };
        let count = question.cmd_iter().count();
        let answers = connection.send_packed_commands(question, 0, count).await?;
        // A refusal is the whole outcome, and it names the missing permission.
        let answers = answers.into_iter().map(Value::extract_error).collect::<RedisResult<_>>()?;
        let answer = redis::from_redis_value(Value::Array(answers))?;
        self.kept_connections().insert(address.clone(), (connection, opened_at));
        Ok(answer)
    }

    /// Closes the connections that are kept for the next question.
    pub(crate) fn close_connections(&self) {
        self.kept_connections().clear();
    }

    fn kept_connections(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<RedisAddress, (MultiplexedConnection, Instant)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `CLUSTER SLOTS`: ranges, each with its master and then the replicas. `None` without a
/// slot.
fn parse_slots(asked: &RedisAddress, slots: &Value) -> Option<ShardMap> {
    let Value::Array(ranges) = slots else { return None };
    let mut map = ShardMap::without_masters();
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), master, replicas @ ..] = range.as_slice() else {
            return None;
        };
        let range = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
        map.assign_slots(range, &parse_node(asked, master)?);
        replicas.iter().filter_map(|node| parse_node(asked, node)).for_each(|node| map.add_node(node));
    }
    let any = map.masters().next().is_some();
    any.then_some(map)
}

/// Reads `host port id …`. The host is empty or nil for the host that was asked, and `?` if the
/// node does not know its host.
fn parse_node(asked: &RedisAddress, node: &Value) -> Option<RedisAddress> {
    let Value::Array(node) = node else { return None };
    let [host, Value::Int(port), ..] = node.as_slice() else { return None };
    let port = u16::try_from(*port).ok()?;
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    match (host, asked) {
        ("" | "?", RedisAddress::Tcp(asked)) => Some(RedisAddress::tcp(&asked.host, port)),
        ("" | "?", RedisAddress::UnixSocket(_)) => None,
        (host, _) => Some(RedisAddress::tcp(host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::partition_slot;

    fn slot_node(host: &str, port: i64) -> Value {
        Value::Array(vec![
            if host == "nil" { Value::Nil } else { Value::BulkString(host.into()) },
            Value::Int(port),
            Value::BulkString("id".into()),
        ])
    }

    #[test]
    fn cluster_slots_are_parsed_with_their_replicas() {
        let asked = RedisAddress::tcp("seed", 1);
        let ranges = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(8191),
                slot_node("10.0.0.1", 7),
                slot_node("10.0.0.2", 7),
            ]),
            Value::Array(vec![Value::Int(8192), Value::Int(16383), slot_node("nil", 8)]),
        ]);
        let map = parse_slots(&asked, &ranges).unwrap();
        assert!(map.is_complete());
        assert_eq!(map.master_of_slot(partition_slot(0)), Some(&RedisAddress::tcp("10.0.0.1", 7)));
        assert_eq!(
            map.master_of_slot(partition_slot(127)),
            Some(&RedisAddress::tcp("seed", 8)),
            "it did not say which host"
        );
        assert!(map.known_nodes().contains(&RedisAddress::tcp("10.0.0.2", 7)));
        assert!(parse_slots(&asked, &Value::Array(vec![])).is_none());
    }
}
