//! The drain of a node: its clients reconnect to other nodes one after the other, without a loss.
//!
//! Owns: the time at which each client must reconnect. Must not: end the process; `main` does,
//! when [`drain_node`] returns.

use std::{sync::Arc, time::Duration};

use signalbox_protocol::CloseCode;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{node::SignalNode, registry::LocalPeer};

/// The time from the announced reconnect to the close. A client that reconnects in time closes its
/// old connection itself.
const CLOSE_DELAY: Duration = Duration::from_millis(100);

/// Admits no new connection, asks every client to reconnect within `timing.drain_spread`, and
/// returns when all connections have ended and all inputs are committed, or after `timing.drain`.
pub async fn drain_node(node: &SignalNode) {
    let timing = node.settings.read(|settings| settings.timing.clone());
    let deadline = Instant::now() + timing.drain.0;
    node.admission.start_draining();
    let rooms = node.registry.local_rooms();
    let peers: Vec<_> = rooms.iter().flat_map(|room| room.local_connections()).collect();
    tracing::info!(event = "draining", peers = peers.len());
    let context = node.registry.context();
    let connections = &context.metrics.connections;
    let finished = async {
        close_peers_gradually(&peers, timing.drain_spread.0).await;
        while connections.get() > 0 || !node.registry.is_idle() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let is_in_time = timeout_at(deadline, finished).await.is_ok();
    if let Some(meter) = &node.usage_meter
        && meter.flush_usage(&node.registry, true).await.is_err()
    {
        tracing::warn!(
            event = "usage_lost",
            "the store is unavailable, so the last usage of this node is lost"
        );
    }
    if !is_in_time {
        tracing::warn!(event = "drain_cut_short", connections = connections.get());
        // The lease must expire, so that other nodes detach the remaining peers. They would not do
        // so for a node that the store has forgotten.
        return;
    }
    context.release_lease().await;
}

/// Tells each client its own time to reconnect, and closes the connection a little later.
async fn close_peers_gradually(peers: &[Arc<LocalPeer>], spread: Duration) {
    let start = Instant::now();
    // The last time is before the end of the spread.
    let reconnect_in = |index: usize| spread.mul_f64(index as f64 / peers.len().max(1) as f64);
    let has_joined: Vec<bool> = peers
        .iter()
        .enumerate()
        .map(|(index, peer)| peer.announce_drain(reconnect_in(index).as_millis() as u64))
        .collect();
    for (index, peer) in peers.iter().enumerate() {
        if has_joined[index] {
            sleep_until(start + reconnect_in(index) + CLOSE_DELAY).await;
        }
        peer.request_close(CloseCode::GoingAway);
    }
}
