//! What operators see of a signaling node. Labels are stable codes, never names, addresses or tokens.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};
use signalbox_access::{AccessControl, RULE_KINDS};
use signalbox_protocol::{CloseCode, ErrorCode};

/// The metrics of one node.
#[derive(Clone)]
pub struct NodeMetrics {
    registry: Registry,
    /// Open connections.
    pub connections: IntGauge,
    /// Joins that were stored.
    pub joins: IntCounter,
    /// Rooms that came into being through this node.
    pub rooms_opened: IntCounter,
    resumes: IntCounterVec,
    /// Live connections whose mailbox broke, so that their clients began anew.
    pub mailboxes_renewed: IntCounter,
    /// Peers of dead nodes' rooms that were looked after.
    pub rooms_reaped: IntCounter,
    /// Messages that went straight to peers of this node because the store was away.
    pub direct_messages: IntCounter,
    /// Messages forwarded, each once however many targets it has.
    pub forwarded_messages: IntCounter,
    outbox_high_water: IntGauge,
    /// Seconds an append took.
    pub append_seconds: Histogram,
    closes: IntCounterVec,
    refused_messages: IntCounterVec,
    refused_upgrades: IntCounterVec,
    rule_closes: IntCounterVec,
    access_rules: IntGaugeVec,
    access_rules_lag: Gauge,
    /// Seconds since the published keys were last got; 0 where a shared secret checks.
    pub jwks_age_seconds: Gauge,
    jwks_fetches: IntCounterVec,
}

impl NodeMetrics {
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
            mailboxes_renewed: IntCounter::new(
                "signalbox_mailboxes_renewed_total",
                "Live connections that had to begin anew",
            )?,
            rooms_reaped: IntCounter::new(
                "signalbox_rooms_reaped_total",
                "Rooms of dead nodes that were looked after",
            )?,
            direct_messages: IntCounter::new(
                "signalbox_straight_total",
                "Messages that went outside the mailboxes",
            )?,
            forwarded_messages: IntCounter::new("signalbox_forwarded_total", "Messages forwarded")?,
            outbox_high_water: IntGauge::new(
                "signalbox_outbox_high_water_bytes",
                "Most bytes that waited for one socket",
            )?,
            append_seconds: Histogram::with_opts(
                HistogramOpts::new("signalbox_append_seconds", "Time the store took to append")
                    .buckets(buckets),
            )?,
            closes: vec("signalbox_closes_total", "Connections closed by the server", "reason")?,
            refused_messages: vec("signalbox_errors_total", "Messages refused", "code")?,
            refused_upgrades: vec("signalbox_refused_upgrades_total", "Upgrades refused", "code")?,
            rule_closes: vec("signalbox_swept_total", "Connections that a rule ended", "code")?,
            access_rules: IntGaugeVec::new(
                Opts::new("signalbox_rules", "Rules in force, as held here"),
                &["kind"],
            )?,
            access_rules_lag: Gauge::new(
                "signalbox_rules_lag_seconds",
                "Time since the store was last asked for new rules",
            )?,
            jwks_age_seconds: Gauge::new(
                "signalbox_jwks_age_seconds",
                "Since the keys for tokens were last got",
            )?,
            jwks_fetches: vec("signalbox_jwks_fetches_total", "Looks at the published keys", "outcome")?,
        };
        let collectors: [Box<dyn Collector>; 18] = [
            Box::new(metrics.rule_closes.clone()),
            Box::new(metrics.access_rules.clone()),
            Box::new(metrics.access_rules_lag.clone()),
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

    /// So many bytes wait for one socket.
    pub fn record_outbox_bytes(&self, bytes: usize) {
        if bytes as i64 > self.outbox_high_water.get() {
            self.outbox_high_water.set(bytes as i64);
        }
    }

    /// A peer came back, with or without all it had missed.
    pub fn count_resume(&self, recovered: bool) {
        self.resumes.with_label_values(&[if recovered { "true" } else { "false" }]).inc();
    }

    /// The server closed a connection.
    pub fn count_close(&self, code: CloseCode) {
        self.closes.with_label_values(&[code.reason()]).inc();
    }

    /// Somebody has looked at the published keys.
    pub fn count_key_fetch(&self, good: bool) {
        self.jwks_fetches.with_label_values(&[if good { "ok" } else { "failed" }]).inc();
    }

    /// A message was refused.
    pub fn count_refused_message(&self, code: ErrorCode) {
        self.refused_messages.with_label_values(&[code.as_str()]).inc();
    }

    /// An upgrade was refused.
    pub fn count_refused_upgrade(&self, code: &str) {
        self.refused_upgrades.with_label_values(&[code]).inc();
    }

    /// A rule has ended a connection.
    pub fn count_rule_close(&self, code: &str) {
        self.rule_closes.with_label_values(&[code]).inc();
    }

    /// What is held of the rules now.
    pub fn set_access_rules(&self, control: &AccessControl) {
        RULE_KINDS.iter().for_each(|kind| self.access_rules.with_label_values(&[*kind]).set(0));
        for rule in control.rules().rules_in_force(control.now_ms()) {
            self.access_rules.with_label_values(&[rule.key.kind()]).inc();
        }
        self.access_rules_lag.set(control.lag().map_or(0.0, |lag| lag.as_secs_f64()));
    }

    /// Everything, for `/metrics`.
    pub fn gather_families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}
