//! The metrics of webhooks. Labels are fixed words and the ids of endpoints.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry, core::Collector, proto::MetricFamily};

pub(super) struct WebhookMetrics {
    registry: Registry,
    /// By endpoint.
    pub(super) delivered: IntCounterVec,
    /// By endpoint and kind of failure.
    pub(super) failures: IntCounterVec,
    /// By cause.
    pub(super) dead_letters: IntCounterVec,
    /// By cause: `unread` (dropped before a delivery), `dead_letters` (too many dead letters),
    /// `feed` (the feed of one process was too slow).
    pub(super) lost: IntCounterVec,
    pub(super) waiting: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn new() -> prometheus::Result<Self> {
        let counters = |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            registry: Registry::new(),
            delivered: counters(
                "signalbox_webhooks_delivered_total",
                "Events that an endpoint accepted",
                &["endpoint"],
            )?,
            failures: counters(
                "signalbox_webhooks_failures_total",
                "Attempts that failed",
                &["endpoint", "reason"],
            )?,
            dead_letters: counters(
                "signalbox_webhooks_dead_total",
                "Events that became dead letters",
                &["cause"],
            )?,
            lost: counters("signalbox_webhooks_lost_total", "Events lost", &["cause"])?,
            waiting: IntGauge::new("signalbox_webhooks_waiting", "Events that this process has to deliver")?,
        };
        let all: [Box<dyn Collector>; 5] = [
            Box::new(metrics.delivered.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.dead_letters.clone()),
            Box::new(metrics.lost.clone()),
            Box::new(metrics.waiting.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    pub(super) fn count_lost(&self, cause: &'static str, count: u64) {
        if count > 0 {
            self.lost.with_label_values(&[cause]).inc_by(count);
            tracing::warn!(target: "signalbox_auth::audit", cause, count, "webhooks_lost");
        }
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
