//! Writes the timelines of rooms to the store.
//!
//! Owns: the queue of what waits to be written. Must not: delay a connection, or retry. One call is in
//! flight at a time, so outcomes never crowd the store. What finds the queue full, or the store
//! unavailable, is lost and counted: a timeline is a help for operators, and no state of a room.

use std::sync::{Arc, Weak};

use signalbox_protocol::id::RoomId;
use signalbox_rooms::timeline::PairReport;
use tokio::sync::mpsc;

use crate::{node_metrics::NodeMetrics, registry::RoomRegistry};

/// The number of batches that may wait.
const MAX_WAITING: usize = 1_024;

/// The reports of one connection, about peers of its room.
type ReportBatch = (RoomId, Vec<PairReport>);

/// The queue of a node. A clone is another handle of the same queue.
#[derive(Clone)]
pub struct TimelineWriter {
    sender: mpsc::Sender<ReportBatch>,
    metrics: NodeMetrics,
}

impl TimelineWriter {
    /// Starts the task that writes; it ends with the registry.
    pub fn start(registry: &Arc<RoomRegistry>) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let context = registry.context();
        context.runtime.spawn(write_batches(receiver, Arc::downgrade(registry)));
        Self { sender, metrics: context.metrics.clone() }
    }

    /// Queues reports. Never waits.
    pub fn queue_reports(&self, room: &RoomId, reports: Vec<PairReport>) {
        if !reports.is_empty() && self.sender.try_send((room.clone(), reports)).is_err() {
            self.metrics.timelines_lost.inc();
        }
    }
}

async fn write_batches(mut receiver: mpsc::Receiver<ReportBatch>, registry: Weak<RoomRegistry>) {
    while let Some((room, reports)) = receiver.recv().await {
        let Some(registry) = registry.upgrade() else { return };
        let context = registry.context();
        if context.limits.store_limits().timeline.max_pairs == 0 {
            continue;
        }
        if context.store.append_timeline(&room, &reports).await.is_err() {
            context.metrics.timelines_lost.inc();
        }
    }
}
