//! What this service counts. Labels are fixed words: never a user, a room or anything that was sent.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector, proto::MetricFamily};

pub(crate) struct Metrics {
    registry: Registry,
    /// By the kind of caller: `api_key`, `guest`.
    pub(crate) issued: IntCounterVec,
    /// By the code of the refusal.
    pub(crate) refused: IntCounterVec,
    /// By outcome: `valid`, or the code of the refusal.
    pub(crate) validated: IntCounterVec,
    /// Sockets on the operators' feed.
    pub(crate) feed_readers: IntGauge,
    /// Events that slow readers did not get.
    pub(crate) feed_skipped: IntCounter,
}

impl Metrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let counters = |name, help, label| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            registry: Registry::new(),
            issued: counters("signalbox_auth_tokens_issued_total", "Tokens issued", "caller")?,
            refused: counters("signalbox_auth_tokens_refused_total", "Tokens refused", "code")?,
            validated: counters("signalbox_auth_validations_total", "Tokens validated", "outcome")?,
            feed_readers: IntGauge::new("signalbox_auth_feed_readers", "Sockets on the event feed")?,
            feed_skipped: IntCounter::new("signalbox_auth_feed_skipped_total", "Events slow readers missed")?,
        };
        let all: [Box<dyn Collector>; 5] = [
            Box::new(metrics.issued.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.validated.clone()),
            Box::new(metrics.feed_readers.clone()),
            Box::new(metrics.feed_skipped.clone()),
        ];
        all.into_iter().try_for_each(|collector| metrics.registry.register(collector))?;
        Ok(metrics)
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}
