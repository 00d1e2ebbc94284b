//! The Prometheus metrics of a signaling node.
//!
//! Owns: the names, help texts and labels. Must not: put a name, an address or a token into a
//! label; labels are stable codes.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use signalbox_access::{AccessControl, RULE_KINDS};
use signalbox_protocol::{CloseCode, ErrorCode, PairOutcome, PairResult};
use signalbox_redis::MemoryLevel;
use signalbox_rooms::store::BacklogBound;

/// The bounds of the times until two peers are connected, seconds.
const CONNECT_BUCKETS: [f64; 11] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0];

/// The metrics of one node.
#[derive(Clone)]
pub struct NodeMetrics {
    registry: Registry,
    /// The number of open connections.
    pub connections: IntGauge,
    worker_connections: IntGaugeVec,
    connection_limit: IntGauge,
    /// The peers that joined a room.
    pub joins: IntCounter,
    /// The rooms that got their first peer by a commit of this node.
    pub rooms_opened: IntCounter,
    resumes: IntCounterVec,
    /// The open connections whose mailbox was replaced, so that their clients got a new snapshot.
    pub mailboxes_renewed: IntCounter,
    /// The rooms in which this node detached the peers of a dead node.
    pub rooms_reaped: IntCounter,
    /// The messages that were delivered directly while the store was unavailable.
    pub direct_messages: IntCounter,
    /// The forwarded messages. A message counts once, even with many targets.
    pub forwarded_messages: IntCounter,
    /// The attempts of peers of this node to connect to another peer.
    pub pair_attempts: IntCounter,
    /// The batches of steps that the timeline of a room lacks.
    pub timelines_lost: IntCounter,
    pair_outcomes: IntCounterVec,
    pair_connect_seconds: Histogram,
    pairs_relayed: IntCounter,
    outbox_high_water: IntGauge,
    /// The duration of append calls, seconds.
    pub append_seconds: Histogram,
    closes: IntCounterVec,
    refused_messages: IntCounterVec,
    backlogged: IntCounterVec,
    store_memory_level: IntGauge,
    /// The connections that were closed because too many bytes waited for all sockets.
    pub budget_closes: IntCounter,
    socket_bytes: IntGauge,
    refused_upgrades: IntCounterVec,
    rule_closes: IntCounterVec,
    access_rules: IntGaugeVec,
    access_rules_lag: Gauge,
    access_rules_rejected: IntGauge,
    access_rules_lost: IntCounter,
    refused_rules: IntCounterVec,
    /// The age of the published keys, seconds; 0 if a shared secret verifies tokens.
    pub jwks_age_seconds: Gauge,
    jwks_fetches: IntCounterVec,
}

/// One open connection in the gauges that count it, until the drop.
pub struct ConnectionCount([IntGauge; 2]);

impl ConnectionCount {
    fn new(gauges: [IntGauge; 2]) -> Self {
        gauges.iter().for_each(IntGauge::inc);
        Self(gauges)
    }
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        self.0.iter().for_each(IntGauge::dec);
    }
}

/// What Redis has refused to this process, by its code.
pub(crate) fn redis_refusals(counts: &[(&'static str, u64)]) -> Vec<prometheus::proto::MetricFamily> {
    let help = "Requests and checks that Redis has refused, by its code";
    signalbox_http::counter_family("signalbox_redis_refusals_total", help, "code", counts.iter().copied())
}

impl NodeMetrics {
    /// All metrics, registered and at zero.
    ///
    /// # Errors
    /// If two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let vec = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        // From 0.25 ms to 2 s.
        let buckets = prometheus::exponential_buckets(0.000_25, 2.0, 14)?;
        let metrics = Self {
            registry: Registry::new(),
            connections: IntGauge::new("signalbox_connections", "Open connections")?,
            worker_connections: IntGaugeVec::new(
                Opts::new("signalbox_worker_connections", "Open connections of each worker thread"),
                &["worker"],
            )?,
            connection_limit: IntGauge::new(
                "signalbox_connections_limit",
                "Connections that the node admits at a time",
            )?,
            joins: IntCounter::new("signalbox_joins_total", "Peers that joined a room")?,
            rooms_opened: IntCounter::new(
                "signalbox_rooms_opened_total",
                "Rooms that got their first peer on this node",
            )?,
            resumes: vec("signalbox_resumes_total", "Peers that resumed", "recovered")?,
            mailboxes_renewed: IntCounter::new(
                "signalbox_mailboxes_renewed_total",
                "Open connections whose mailbox was replaced after lost entries",
            )?,
            rooms_reaped: IntCounter::new(
                "signalbox_rooms_reaped_total",
                "Rooms in which the peers of a dead node were detached",
            )?,
            direct_messages: IntCounter::new(
                "signalbox_direct_total",
                "Messages delivered directly while the store was unavailable",
            )?,
            forwarded_messages: IntCounter::new("signalbox_forwarded_total", "Messages forwarded")?,
            pair_attempts: IntCounter::new(
                "signalbox_pair_attempts_total",
                "Attempts to connect two peers, by their first offer",
            )?,
            timelines_lost: IntCounter::new(
                "signalbox_timelines_lost_total",
                "Reports that were not written to the timeline of a room",
            )?,
            pair_outcomes: IntCounterVec::new(
                Opts::new(
                    "signalbox_pair_outcomes_total",
                    "Attempts to connect two peers that have ended, as each of them reports",
                ),
                &["result", "code"],
            )?,
            pair_connect_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "signalbox_pair_connect_seconds",
                    "Time until two peers were connected, as each of them reports",
                )
                .buckets(CONNECT_BUCKETS.to_vec()),
            )?,
            pairs_relayed: IntCounter::new(
                "signalbox_pairs_relayed_total",
                "Connected outcomes whose path goes through a relay",
            )?,
            outbox_high_water: IntGauge::new(
                "signalbox_outbox_high_water_bytes",
                "Largest number of bytes that waited for one socket",
            )?,
            append_seconds: Histogram::with_opts(
                HistogramOpts::new("signalbox_append_seconds", "Duration of append calls to the store")
                    .buckets(buckets),
            )?,
            closes: vec("signalbox_closes_total", "Connections closed by the server", "reason")?,
            refused_messages: vec("signalbox_errors_total", "Messages refused", "code")?,
            backlogged: vec(
                "signalbox_backlogged_total",
                "Messages refused because too much waits",
                "bound",
            )?,
            store_memory_level: IntGauge::new(
                "signalbox_store_memory_level",
                "Memory of the fullest Redis server: 0 normal, 1 high, 2 critical",
            )?,
            budget_closes: IntCounter::new(
                "signalbox_budget_closes_total",
                "Connections closed because too many bytes waited for all sockets",
            )?,
            socket_bytes: IntGauge::new(
                "signalbox_socket_bytes",
                "Bytes that wait for all sockets, with the incomplete messages of clients",
            )?,
            refused_upgrades: vec("signalbox_refused_upgrades_total", "Upgrades refused", "code")?,
            rule_closes: vec(
                "signalbox_closed_by_rule_total",
                "Connections closed by an access rule",
                "code",
            )?,
            access_rules: IntGaugeVec::new(
                Opts::new("signalbox_rules", "Access rules in force on this node"),
                &["kind"],
            )?,
            access_rules_rejected: IntGauge::new(
                "signalbox_rules_rejected",
                "Stored access rules without a valid signature, which are ignored",
            )?,
            access_rules_lost: IntCounter::new(
                "signalbox_rules_lost_total",
                "Access rules that the store had lost or set back, and that this node kept in force",
            )?,
            access_rules_lag: Gauge::new(
                "signalbox_rules_lag_seconds",
                "Time since this node last read new access rules from the store",
            )?,
            refused_rules: vec(
                "signalbox_rules_refused_total",
                "Access rules that a limit has refused",
                "code",
            )?,
            jwks_age_seconds: Gauge::new(
                "signalbox_jwks_age_seconds",
                "Time since the last successful fetch of the published keys",
            )?,
            jwks_fetches: vec("signalbox_jwks_fetches_total", "Fetches of the published keys", "outcome")?,
        };
        let collectors: [Box<dyn Collector>; 32] = [
            Box::new(metrics.pair_attempts.clone()),
            Box::new(metrics.timelines_lost.clone()),
            Box::new(metrics.pair_outcomes.clone()),
            Box::new(metrics.pair_connect_seconds.clone()),
            Box::new(metrics.pairs_relayed.clone()),
            Box::new(metrics.worker_connections.clone()),
            Box::new(metrics.connection_limit.clone()),
            Box::new(metrics.budget_closes.clone()),
            Box::new(metrics.socket_bytes.clone()),
            Box::new(metrics.backlogged.clone()),
            Box::new(metrics.store_memory_level.clone()),
            Box::new(metrics.refused_rules.clone()),
            Box::new(metrics.rule_closes.clone()),
            Box::new(metrics.access_rules.clone()),
            Box::new(metrics.access_rules_lag.clone()),
            Box::new(metrics.access_rules_rejected.clone()),
            Box::new(metrics.access_rules_lost.clone()),
            Box::new(metrics.rooms_opened.clone()),
            Box::new(metrics.jwks_age_seconds.clone()),
            Box::new(metrics.jwks_fetches.clone()),
            Box::new(metrics.direct_messages.clone()),
            Box::new(metrics.resumes.clone()),
            Box::new(metrics.mailboxes_renewed.clone()),
            Box::new(metrics.rooms_reaped.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.joins.clone()),
            Box::new(metrics.forwarded_messages.clone()),
            Box::new(metrics.outbox_high_water.clone()),
            Box::new(metrics.append_seconds.clone()),
            Box::new(metrics.closes.clone()),
            Box::new(metrics.refused_messages.clone()),
            Box::new(metrics.refused_upgrades.clone()),
        ];
        collectors.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// The gauge of one worker.
    pub fn worker_connections(&self, worker: usize) -> IntGauge {
        self.worker_connections.with_label_values(&[&worker.to_string()])
    }

    /// Counts an open connection, in the gauge of its worker too.
    pub fn count_connection(&self, worker: &IntGauge) -> ConnectionCount {
        ConnectionCount::new([self.connections.clone(), worker.clone()])
    }

    /// Records the number of bytes that wait for one socket; the maximum counts.
    pub fn record_outbox_bytes(&self, bytes: usize) {
        if bytes as i64 > self.outbox_high_water.get() {
            self.outbox_high_water.set(bytes as i64);
        }
    }

    /// Counts a resume; `recovered` if the peer got all missed entries.
    pub fn count_resume(&self, recovered: bool) {
        self.resumes.with_label_values(&[if recovered { "true" } else { "false" }]).inc();
    }

    /// Counts a connection that the server closed.
    pub fn count_close(&self, code: CloseCode) {
        self.closes.with_label_values(&[code.reason()]).inc();
    }

    /// Counts the outcome that a client reports of an attempt to connect two peers.
    pub fn count_pair_outcome(&self, outcome: &PairOutcome) {
        let code = outcome.code.map_or("none", |code| code.as_str());
        self.pair_outcomes.with_label_values(&[outcome.result.as_str(), code]).inc();
        if outcome.result != PairResult::Connected {
            return;
        }
        if let Some(ms) = outcome.ms {
            self.pair_connect_seconds.observe(f64::from(ms) / 1_000.0);
        }
        if outcome.relayed == Some(true) {
            self.pairs_relayed.inc();
        }
    }

    /// Counts a fetch of the published keys.
    pub fn count_key_fetch(&self, succeeded: bool) {
        self.jwks_fetches.with_label_values(&[if succeeded { "ok" } else { "failed" }]).inc();
    }

    /// Counts a refused message.
    pub fn count_refused_message(&self, code: ErrorCode) {
        self.refused_messages.with_label_values(&[code.as_str()]).inc();
    }

    /// Counts a message that was refused because too much waits.
    pub fn count_backlogged(&self, bound: BacklogBound) {
        self.backlogged.with_label_values(&[bound.as_str()]).inc();
    }

    /// Updates the gauge of the admitted connections.
    pub fn set_connection_limit(&self, connections: usize) {
        self.connection_limit.set(connections as i64);
    }

    /// Updates the gauge of the memory of the store.
    pub fn set_store_memory_level(&self, level: MemoryLevel) {
        self.store_memory_level.set(level.number().into());
    }

    /// Updates the gauge of the bytes that wait for all sockets.
    pub fn set_socket_bytes(&self, bytes: usize) {
        self.socket_bytes.set(bytes as i64);
    }

    /// Counts a refused upgrade.
    pub fn count_refused_upgrade(&self, code: &str) {
        self.refused_upgrades.with_label_values(&[code]).inc();
    }

    /// Counts a connection that an access rule closed.
    pub fn count_rule_close(&self, code: &str) {
        self.rule_closes.with_label_values(&[code]).inc();
    }

    /// Updates the gauges of the access rules.
    pub fn set_access_rules(&self, control: &AccessControl) {
        RULE_KINDS.iter().for_each(|kind| self.access_rules.with_label_values(&[*kind]).set(0));
        for rule in control.rules().rules_in_force(control.now_ms()) {
            self.access_rules.with_label_values(&[rule.key.kind()]).inc();
        }
        self.access_rules_lag.set(control.lag().map_or(0.0, |lag| lag.as_secs_f64()));
        self.access_rules_rejected.set(control.rejected_rules() as i64);
        self.access_rules_lost.inc_by(control.lost_rules().saturating_sub(self.access_rules_lost.get()));
        for (limit, count) in control.refused_rules() {
            let counter = self.refused_rules.with_label_values(&[limit.code()]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// All metrics, for `/metrics`.
    pub fn gather_families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}
