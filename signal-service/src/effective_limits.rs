//! The limits that an operator may change while the node runs.
//!
//! Owns: the values in force, which open connections read, too: those of the configuration, which a
//! reload replaces, with the changes of the access rules. Must not: know why a limit has changed
//! (`access_enforcer` does).

use std::sync::atomic::{AtomicU32, Ordering};

use signalbox_access::LimitChanges;
use signalbox_config::{LimitSettings, LiveValue, ServiceSettings};
use signalbox_protocol::WireLimits;
use signalbox_rooms::{room::RoomPolicy, store::StoreLimits};

/// The limits in force.
#[derive(Debug)]
pub struct EffectiveLimits {
    configured: LiveValue<ConfiguredLimits>,
    room_peers: AtomicU32,
    user_peers: AtomicU32,
    connections: AtomicU32,
    burst: AtomicU32,
    rate: AtomicU32,
    backlog: AtomicU32,
    /// The connections for which the process can open files.
    max_connections: AtomicU32,
}

/// The limits of the configuration.
#[derive(Debug)]
struct ConfiguredLimits {
    /// The limits that an access rule may change.
    changeable: LimitChanges,
    /// The largest room whose `joined` frame still fits into an outbox, peers.
    max_room_size: u32,
    room_policy: RoomPolicy,
    wire_limits: WireLimits,
    store_limits: StoreLimits,
}

impl ConfiguredLimits {
    fn new(settings: &ServiceSettings) -> Self {
        let limits = &settings.limits;
        let connections = u32::try_from(limits.connections).unwrap_or(u32::MAX);
        Self {
            changeable: LimitChanges {
                room_peers: Some(limits.room_peers),
                user_peers: Some(limits.user_peers),
                connections: Some(connections),
                burst: Some(limits.burst),
                rate: Some(limits.rate),
                backlog: Some(limits.backlog),
            },
            max_room_size: limits.max_room_peers(),
            room_policy: RoomPolicy::new(settings),
            wire_limits: configured_wire_limits(limits),
            store_limits: StoreLimits::new(settings),
        }
    }
}

impl EffectiveLimits {
    /// The limits of the configuration.
    pub fn new(settings: &ServiceSettings) -> Self {
        let effective = Self {
            configured: LiveValue::new(ConfiguredLimits::new(settings)),
            room_peers: 0.into(),
            user_peers: 0.into(),
            connections: 0.into(),
            burst: 0.into(),
            rate: 0.into(),
            backlog: 0.into(),
            max_connections: u32::MAX.into(),
        };
        effective.apply_changes(&LimitChanges::default());
        effective
    }

    /// Replaces the limits of the configuration. `access_enforcer` puts them in force, with the
    /// changes of the access rules.
    pub fn reload(&self, settings: &ServiceSettings) {
        self.configured.replace(ConfiguredLimits::new(settings));
    }

    /// Puts changed limits in force; a limit without a change gets its configured value. Returns
    /// whether a value has changed.
    pub fn apply_changes(&self, changes: &LimitChanges) -> bool {
        let configured = self.configured.load();
        let (max_room_size, configured) = (configured.max_room_size, &configured.changeable);
        let set = |limit: &AtomicU32, changed: Option<u32>, configured: Option<u32>| {
            let value = changed.or(configured).unwrap_or(1).max(1);
            limit.swap(value, Ordering::Relaxed) != value
        };
        let room_peers = changes.room_peers.map(|peers| peers.min(max_room_size));
        let has_changed = [
            set(&self.room_peers, room_peers, configured.room_peers),
            set(&self.user_peers, changes.user_peers, configured.user_peers),
            set(&self.connections, changes.connections, configured.connections),
            set(&self.burst, changes.burst, configured.burst),
            set(&self.rate, changes.rate, configured.rate),
            set(&self.backlog, changes.backlog, configured.backlog),
        ];
        has_changed.contains(&true)
    }

    /// The limits that a client learns in its first frame.
    pub fn wire_limits(&self) -> WireLimits {
        let (burst, rate_per_second) = self.burst_and_rate();
        let (room_peers, backlog) = (self.room_peers(), self.backlog());
        let configured = self.configured.read(|configured| configured.wire_limits);
        WireLimits { room_peers, burst, rate_per_second, backlog, ..configured }
    }

    /// The limits and rules that a room decision needs.
    pub fn room_policy(&self) -> RoomPolicy {
        RoomPolicy {
            max_room_peers: self.room_peers() as usize,
            max_user_peers: self.user_peers() as usize,
            ..self.configured.read(|configured| configured.room_policy.clone())
        }
    }

    /// The limits of the store.
    pub fn store_limits(&self) -> StoreLimits {
        let configured = self.configured.read(|configured| configured.store_limits);
        StoreLimits { backlog: u64::from(self.backlog()), ..configured }
    }

    /// The maximum of peers in a room.
    pub fn room_peers(&self) -> u32 {
        self.room_peers.load(Ordering::Relaxed)
    }

    /// The maximum of peers of one user in a room.
    pub fn user_peers(&self) -> u32 {
        self.user_peers.load(Ordering::Relaxed)
    }

    /// The maximum of connections of this node.
    pub fn connections(&self) -> usize {
        let most = self.max_connections.load(Ordering::Relaxed);
        self.connections.load(Ordering::Relaxed).min(most) as usize
    }

    /// Bounds the connections, whatever the configuration or an access rule says.
    pub fn set_max_connections(&self, most: u32) {
        self.max_connections.store(most, Ordering::Relaxed);
    }

    /// The frames that a connection may send at once, and the frames per second after that.
    pub fn burst_and_rate(&self) -> (u32, u32) {
        (self.burst.load(Ordering::Relaxed), self.rate.load(Ordering::Relaxed))
    }

    /// The entries that may wait in one mailbox.
    pub fn backlog(&self) -> u32 {
        self.backlog.load(Ordering::Relaxed)
    }
}

fn configured_wire_limits(limits: &LimitSettings) -> WireLimits {
    WireLimits {
        frame_bytes: limits.frame.0 as u64,
        sdp_bytes: limits.sdp.0 as u64,
        candidate_bytes: limits.candidate.0 as u64,
        data_bytes: limits.data.0 as u64,
        metadata_bytes: limits.metadata.0 as u64,
        room_peers: limits.room_peers,
        burst: limits.burst,
        rate_per_second: limits.rate,
        backlog: limits.backlog,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_limit_holds_until_lifted_and_no_room_outgrows_an_outbox() {
        let limits = EffectiveLimits::new(&ServiceSettings::default());
        assert_eq!(
            (limits.room_peers(), limits.burst_and_rate(), limits.backlog()),
            (100, (1_000, 100), 512)
        );
        let changes = LimitChanges { room_peers: Some(1_000), rate: Some(5), ..LimitChanges::default() };
        assert!(limits.apply_changes(&changes));
        assert!(!limits.apply_changes(&changes), "no value has changed");
        assert_eq!((limits.room_peers(), limits.burst_and_rate(), limits.backlog()), (159, (1_000, 5), 512));
        let mut settings = ServiceSettings::default();
        (settings.limits.room_peers, settings.limits.rate, settings.limits.user_peers) = (50, 50, 50);
        limits.reload(&settings);
        assert!(limits.apply_changes(&changes));
        assert_eq!(
            (limits.room_peers(), limits.burst_and_rate(), limits.user_peers()),
            // A smaller lobby leaves the first frame more space for peers.
            (173, (1_000, 5), 50),
            "a changed limit also holds over a reload"
        );
        assert!(limits.apply_changes(&LimitChanges::default()));
        assert_eq!((limits.room_peers(), limits.burst_and_rate()), (50, (1_000, 50)));
    }
}
