//! What operators see of a signaling node. Labels are stable codes, never names, addresses or tokens.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use signalbox_access::{Control, KINDS};
use signalbox_protocol::{CloseCode, ErrorCode};

/// The metrics of one node.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Open connections.
    pub connections: IntGauge,
    /// Joins that were stored.
    pub joins: IntCounter,
    /// Rooms that came into being through this node.
    pub rooms_opened: IntCounter,
    resumes: IntCounterVec,
    /// Live connections whose mailbox broke, so that their clients began anew.
    pub broken: IntCounter,
    /// Peers of dead nodes' rooms that were looked after.
    pub buried: IntCounter,
    /// Messages that went straight to peers of this node because the store was away.
    pub straight: IntCounter,
    /// Messages forwarded, each once however many targets it has.
    pub forwarded: IntCounter,
    outbox_high_water: IntGauge,
    /// Seconds an append took.
    pub append_seconds: Histogram,
    closes: IntCounterVec,
    errors: IntCounterVec,
    refusals: IntCounterVec,
    swept: IntCounterVec,
    rules: IntGaugeVec,
    rules_lag: Gauge,
    /// Seconds since the published keys were last got; 0 where a shared secret checks.
    pub jwks_age: Gauge,
    jwks_looks: IntCounterVec,
}

impl Metrics {
    /// Fresh metrics.
    ///
    /// # Errors
    /// Only if two metrics had one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let vec = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        // From a quarter of a millisecond to the deadline.
        let buckets = prometheus::exponential_buckets(0.000_25, 2.0, 14)?;
        let metrics = Self {
            registry: Registry::new(),
            connections: IntGauge::new("signalbox_connections", "Open connections")?,
            joins: IntCounter::new("signalbox_joins_total", "Peers that joined")?,
            rooms_opened: IntCounter::new("signalbox_rooms_opened_total", "Rooms that came into being")?,
            resumes: vec("signalbox_resumes_total", "Peers that came back", "recovered")?,
            broken: IntCounter::new(
                "signalbox_mailboxes_renewed_total",
                "Live connections that had to begin anew",
            )?,
            buried: IntCounter::new(
                "signalbox_rooms_reaped_total",
                "Rooms of dead nodes that were looked after",
            )?,
            straight: IntCounter::new(
                "signalbox_straight_total",
                "Messages that went outside the mailboxes",
            )?,
            forwarded: IntCounter::new("signalbox_forwarded_total", "Messages forwarded")?,
            outbox_high_water: IntGauge::new(
                "signalbox_outbox_high_water_bytes",
                "Most bytes that waited for one socket",
            )?,
            append_seconds: Histogram::with_opts(
                HistogramOpts::new("signalbox_append_seconds", "Time the store took to append")
                    .buckets(buckets),
            )?,
            closes: vec("signalbox_closes_total", "Connections closed by the server", "reason")?,
            errors: vec("signalbox_errors_total", "Messages refused", "code")?,
            refusals: vec("signalbox_refused_upgrades_total", "Upgrades refused", "code")?,
            swept: vec("signalbox_swept_total", "Connections that a rule ended", "code")?,
            rules: IntGaugeVec::new(Opts::new("signalbox_rules", "Rules in force, as held here"), &["kind"])?,
            rules_lag: Gauge::new(
                "signalbox_rules_lag_seconds",
                "Time since the store was last asked for new rules",
            )?,
            jwks_age: Gauge::new("signalbox_jwks_age_seconds", "Since the keys for tokens were last got")?,
            jwks_looks: vec("signalbox_jwks_fetches_total", "Looks at the published keys", "outcome")?,
        };
        let collectors: [Box<dyn Collector>; 18] = [
            Box::new(metrics.swept.clone()),
            Box::new(metrics.rules.clone()),
            Box::new(metrics.rules_lag.clone()),
            Box::new(metrics.rooms_opened.clone()),
            Box::new(metrics.jwks_age.clone()),
            Box::new(metrics.jwks_looks.clone()),
            Box::new(metrics.straight.clone()),
            Box::new(metrics.resumes.clone()),
            Box::new(metrics.broken.clone()),
            Box::new(metrics.buried.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.joins.clone()),
            Box::new(metrics.forwarded.clone()),
            Box::new(metrics.outbox_high_water.clone()),
            Box::new(metrics.append_seconds.clone()),
            Box::new(metrics.closes.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.refusals.clone()),
        ];
        collectors.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    /// So many bytes wait for one socket.
    pub fn outbox_waits(&self, bytes: usize) {
        if bytes as i64 > self.outbox_high_water.get() {
            self.outbox_high_water.set(bytes as i64);
        }
    }

    /// A peer came back, with or without all it had missed.
    pub fn resumed(&self, recovered: bool) {
        self.resumes.with_label_values(&[if recovered { "true" } else { "false" }]).inc();
    }

    /// The server closed a connection.
    pub fn closed(&self, code: CloseCode) {
        self.closes.with_label_values(&[code.reason()]).inc();
    }

    /// Somebody has looked at the published keys.
    pub fn looked_for_keys(&self, good: bool) {
        self.jwks_looks.with_label_values(&[if good { "ok" } else { "failed" }]).inc();
    }

    /// A message was refused.
    pub fn refused_message(&self, code: ErrorCode) {
        self.errors.with_label_values(&[code.as_str()]).inc();
    }

    /// An upgrade was refused.
    pub fn refused_upgrade(&self, code: &str) {
        self.refusals.with_label_values(&[code]).inc();
    }

    /// A rule has ended a connection.
    pub fn swept(&self, code: &str) {
        self.swept.with_label_values(&[code]).inc();
    }

    /// What is held of the rules now.
    pub fn rules_are(&self, control: &Control) {
        KINDS.iter().for_each(|kind| self.rules.with_label_values(&[*kind]).set(0));
        for rule in control.rules().in_force(control.now_ms()) {
            self.rules.with_label_values(&[rule.key.kind()]).inc();
        }
        self.rules_lag.set(control.lag().map_or(0.0, |lag| lag.as_secs_f64()));
    }

    /// Everything, for `/metrics`.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}
