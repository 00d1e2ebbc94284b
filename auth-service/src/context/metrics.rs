//! The metrics of this service. Labels are fixed words: never a user, a room or a text of a
//! request.

use prometheus::{
    Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
    proto::MetricFamily,
};
use signalbox_access::{AccessControl, RULE_KINDS};
use signalbox_redis::MemoryLevel;

pub(crate) struct AuthMetrics {
    registry: Registry,
    /// By the kind of caller: `api_key`, `guest`, `invite`, `refresh`, `management`, `user`.
    pub(crate) issued: IntCounterVec,
    /// By the code of the refusal.
    pub(crate) refused: IntCounterVec,
    /// Requests without an authorized caller, by code.
    pub(crate) unauthorized: IntCounterVec,
    /// Requested tickets, by outcome: `issued`, or the code of the refusal.
    pub(crate) tickets: IntCounterVec,
    /// Refresh families that were revoked because a token was used twice.
    pub(crate) refresh_reused: IntCounter,
    /// By outcome: `valid`, or the code of the refusal.
    pub(crate) validated: IntCounterVec,
    rules: IntGaugeVec,
    rules_lag: Gauge,
    rules_rejected: IntGauge,
    rules_lost: IntCounter,
    refused_rules: IntCounterVec,
    memory_level: IntGauge,
    /// Requests that were refused because Redis has little memory left.
    pub(crate) memory_refusals: IntCounter,
    /// Sockets on the operators' feed.
    pub(crate) feed_readers: IntGauge,
    /// Events that slow readers missed.
    pub(crate) feed_skipped: IntCounter,
}

impl AuthMetrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let counters = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            registry: Registry::new(),
            issued: counters("signalbox_auth_tokens_issued_total", "Tokens issued", "caller")?,
            refused: counters("signalbox_auth_tokens_refused_total", "Tokens refused", "code")?,
            unauthorized: counters(
                "signalbox_auth_failures_total",
                "Requests refused because their caller could not be authorized",
                "code",
            )?,
            tickets: counters("signalbox_auth_tickets_total", "Tickets requested", "outcome")?,
            refresh_reused: IntCounter::new(
                "signalbox_auth_refresh_reused_total",
                "Refresh tokens used twice",
            )?,
            validated: counters("signalbox_auth_validations_total", "Tokens validated", "outcome")?,
            rules: IntGaugeVec::new(
                Opts::new("signalbox_auth_rules", "Access rules in force, as this process has loaded them"),
                &["kind"],
            )?,
            rules_lag: Gauge::new(
                "signalbox_auth_rules_lag_seconds",
                "Time since the store was last asked for new rules",
            )?,
            rules_rejected: IntGauge::new(
                "signalbox_auth_rules_rejected",
                "Stored access rules without a valid signature, which are ignored",
            )?,
            rules_lost: IntCounter::new(
                "signalbox_auth_rules_lost_total",
                "Access rules that the store had lost or set back, and that this process kept in force",
            )?,
            refused_rules: counters(
                "signalbox_auth_rules_refused_total",
                "Access rules that a limit has refused",
                "code",
            )?,
            memory_level: IntGauge::new(
                "signalbox_auth_store_memory_level",
                "How full the memory of Redis is: 0, 1 (above redis.memory_percent) or 2",
            )?,
            memory_refusals: IntCounter::new(
                "signalbox_auth_memory_refusals_total",
                "Requests refused because Redis has little memory left",
            )?,
            feed_readers: IntGauge::new("signalbox_auth_feed_readers", "Sockets on the event feed")?,
            feed_skipped: IntCounter::new(
                "signalbox_auth_feed_skipped_total",
                "Events that slow readers missed",
            )?,
        };
        let all: [Box<dyn Collector>; 15] = [
            Box::new(metrics.memory_level.clone()),
            Box::new(metrics.memory_refusals.clone()),
            Box::new(metrics.refused_rules.clone()),
            Box::new(metrics.rules.clone()),
            Box::new(metrics.rules_lag.clone()),
            Box::new(metrics.rules_rejected.clone()),
            Box::new(metrics.rules_lost.clone()),
            Box::new(metrics.issued.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.unauthorized.clone()),
            Box::new(metrics.tickets.clone()),
            Box::new(metrics.refresh_reused.clone()),
            Box::new(metrics.validated.clone()),
            Box::new(metrics.feed_readers.clone()),
            Box::new(metrics.feed_skipped.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    pub(crate) fn set_memory_level(&self, level: MemoryLevel) {
        self.memory_level.set(level.number().into());
    }

    /// Updates the gauges of the access rules.
    pub(crate) fn update_rules(&self, control: &AccessControl) {
        RULE_KINDS.iter().for_each(|kind| self.rules.with_label_values(&[*kind]).set(0));
        for rule in control.rules().rules_in_force(control.now_ms()) {
            self.rules.with_label_values(&[rule.key.kind()]).inc();
        }
        self.rules_lag.set(control.lag().map_or(0.0, |lag| lag.as_secs_f64()));
        self.rules_rejected.set(control.rejected_rules() as i64);
        self.rules_lost.inc_by(control.lost_rules().saturating_sub(self.rules_lost.get()));
        for (limit, count) in control.refused_rules() {
            let counter = self.refused_rules.with_label_values(&[limit.code()]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
