//! The stop of a node: its clients go elsewhere one after the other, and nothing of theirs is lost.
//!
//! Owns: who goes when. Must not: end the process; `main` does, when this returns.

use std::{sync::Arc, time::Duration};

use signalbox_protocol::CloseCode;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{node::SignalNode, registry::LocalPeer};

/// How much later than announced a connection is closed: a client that keeps its moment goes by itself.
const CLOSE_DELAY: Duration = Duration::from_millis(100);

impl SignalNode {
    /// Lets nobody in any more, sends everybody away over `timing.drain_spread`, and returns when all have gone or `timing.drain`
    /// is over.
    pub async fn drain(&self) {
        let deadline = Instant::now() + self.settings.timing.drain.0;
        self.admission.start_draining();
        let rooms = self.registry.local_rooms();
        let peers: Vec<_> = rooms.iter().flat_map(|room| room.local_connections()).collect();
        tracing::info!(event = "draining", peers = peers.len());
        let connections = &self.registry.context().metrics.connections;
        let gone = async {
            close_peers_gradually(&peers, self.settings.timing.drain_spread.0).await;
            while connections.get() > 0 || !self.registry.is_idle() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = timeout_at(deadline, gone).await.is_ok();
        if let Some(meter) = &self.usage_meter
            && meter.flush_usage(&self.registry, true).await.is_err()
        {
            tracing::warn!(event = "usage_lost", "the store is away; what this node counted last is lost");
        }
        if !in_time {
            tracing::warn!(event = "drain_cut_short", connections = connections.get());
            // Others look after what is left when its lease has ended; of a node that they do not know they would not.
            return;
        }
        let hub = self.registry.context();
        // Its lease ends by itself, should the store be away.
        let _ = hub.store.forget_node(&hub.node_id).await;
    }
}

/// Tells everybody at once when to go, each a moment of its own, and closes those who are still there then.
async fn close_peers_gradually(peers: &[Arc<LocalPeer>], spread: Duration) {
    let start = Instant::now();
    // The last one goes before the spread is over.
    let moment = |place: usize| spread.mul_f64(place as f64 / peers.len().max(1) as f64);
    let joined: Vec<bool> = peers
        .iter()
        .enumerate()
        .map(|(place, peer)| peer.announce_drain(moment(place).as_millis() as u64))
        .collect();
    for (place, peer) in peers.iter().enumerate() {
        if joined[place] {
            sleep_until(start + moment(place) + CLOSE_DELAY).await;
        }
        peer.request_close(CloseCode::GoingAway);
    }
}
