//! What this service counts. Labels are fixed words: never a user, a room or anything that was sent.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector, proto::MetricFamily};

pub(crate) struct Metrics {
    registry: Registry,
    /// By the kind of caller: `api_key`, `guest`, `invite`, `refresh`, `management`, `user`.
    pub(crate) issued: IntCounterVec,
    /// By the code of the refusal.
    pub(crate) refused: IntCounterVec,
    /// Callers that were not let in, by code.
    pub(crate) failures: IntCounterVec,
    /// Tickets asked for, by outcome: `issued`, or the code of the refusal.
    pub(crate) tickets: IntCounterVec,
    /// Families of refresh tokens that ended because one was used twice.
    pub(crate) reused: IntCounter,
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
            failures: counters("signalbox_auth_failures_total", "Callers not let in", "code")?,
            tickets: counters("signalbox_auth_tickets_total", "Tickets asked for", "outcome")?,
            reused: IntCounter::new("signalbox_auth_refresh_reused_total", "Refresh tokens used twice")?,
            validated: counters("signalbox_auth_validations_total", "Tokens validated", "outcome")?,
            feed_readers: IntGauge::new("signalbox_auth_feed_readers", "Sockets on the event feed")?,
            feed_skipped: IntCounter::new("signalbox_auth_feed_skipped_total", "Events slow readers missed")?,
        };
        let all: [Box<dyn Collector>; 8] = [
            Box::new(metrics.issued.clone()),
            Box::new(metrics.refused.clone()),
            Box::new(metrics.failures.clone()),
            Box::new(metrics.tickets.clone()),
            Box::new(metrics.reused.clone()),
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
