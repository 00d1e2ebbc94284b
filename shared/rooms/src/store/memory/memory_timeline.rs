//! The timelines of rooms in this process.
//!
//! Owns: their bounds. Must not: read the clock of the day; the caller gives the time. A timeline
//! outlives its room, so it is not a part of `memory_room`.

use std::collections::{BTreeMap, HashMap};

use signalbox_protocol::id::{RoomId, UserId};
use tokio::time::Instant;

use crate::{
    store::TimelineLimits,
    timeline::{PairReport, PairTimeline, PeerPair, RecordedStep},
};

/// The number of rooms with a timeline. Redis has no such number: it has its own bound of memory.
const MAX_ROOMS: usize = 10_000;

/// The timelines of all rooms.
#[derive(Default)]
pub(super) struct MemoryTimelines {
    rooms: HashMap<RoomId, RoomTimeline>,
    /// When expired rooms were last dropped, milliseconds since 1970.
    swept_at: u64,
}

struct RoomTimeline {
    pairs: BTreeMap<PeerPair, StoredPair>,
    root: Box<str>,
    written_at: u64,
}

struct StoredPair {
    users: [Option<UserId>; 2],
    root: Box<str>,
    written_at: u64,
    steps: Vec<RecordedStep>,
}

impl MemoryTimelines {
    pub(super) fn append(
        &mut self,
        room: &RoomId,
        reports: &[PairReport],
        now: u64,
        limits: &TimelineLimits,
    ) {
        if now.saturating_sub(self.swept_at) >= 1_000 {
            self.swept_at = now;
            self.rooms.retain(|_, timeline| timeline.written_at + limits.retention_ms > now);
        }
        let Some(first) = reports.first() else { return };
        if !self.rooms.contains_key(room) && self.rooms.len() >= MAX_ROOMS {
            let rooms =
                self.rooms.iter().map(|(room, timeline)| (room, &*timeline.root, timeline.written_at));
            if let Some(dropped) = oldest_of_largest_root(rooms) {
                self.rooms.remove(&dropped);
            }
        }
        let timeline = self.rooms.entry(room.clone()).or_insert_with(|| RoomTimeline {
            pairs: BTreeMap::new(),
            root: first.root.clone(),
            written_at: now,
        });
        timeline.written_at = now;
        timeline.pairs.retain(|_, pair| pair.written_at + limits.retention_ms > now);
        reports.iter().for_each(|report| timeline.append(report, now, limits));
    }

    pub(super) fn read(&self, room: &RoomId, now: u64, limits: &TimelineLimits) -> Vec<PairTimeline> {
        let Some(timeline) = self.rooms.get(room) else { return Vec::new() };
        let is_kept = |step: &&RecordedStep| step.at + limits.retention_ms > now;
        let mut pairs: Vec<_> = timeline
            .pairs
            .iter()
            .map(|(pair, stored)| PairTimeline {
                pair: pair.clone(),
                users: stored.users.clone(),
                steps: stored.steps.iter().filter(is_kept).cloned().collect(),
            })
            .filter(|pair| !pair.steps.is_empty())
            .collect();
        PairTimeline::sort_all(&mut pairs);
        pairs
    }
}

impl RoomTimeline {
    fn append(&mut self, report: &PairReport, now: u64, limits: &TimelineLimits) {
        let pair = report.pair();
        while !self.pairs.contains_key(&pair) && self.pairs.len() >= limits.max_pairs.max(1) as usize {
            let pairs = self.pairs.iter().map(|(pair, stored)| (pair, &*stored.root, stored.written_at));
            let Some(dropped) = oldest_of_largest_root(pairs) else { break };
            self.pairs.remove(&dropped);
        }
        let stored = self.pairs.entry(pair).or_insert_with(|| StoredPair {
            users: [None, None],
            root: report.root.clone(),
            written_at: now,
            steps: Vec::new(),
        });
        stored.written_at = now;
        for (known, user) in stored.users.iter_mut().zip(report.users()) {
            *known = user.or(known.take());
        }
        stored.steps.retain(|step| step.at + limits.retention_ms > now);
        let read_at = Instant::now();
        stored.steps.extend(report.steps.iter().map(|(at, step)| RecordedStep {
            at: now.saturating_sub(read_at.duration_since(*at).as_millis() as u64),
            peer: report.peer.clone(),
            step: step.clone(),
        }));
        stored.drop_surplus(limits.max_steps as usize);
    }
}

impl StoredPair {
    /// Drops the oldest step of the peer that has most, until few enough are left.
    fn drop_surplus(&mut self, max_steps: usize) {
        while self.steps.len() > max_steps {
            let Some(some) = self.steps.first().map(|step| step.peer.clone()) else { return };
            let of_some = self.steps.iter().filter(|step| step.peer == some).count();
            let drops_some = 2 * of_some > self.steps.len();
            let oldest = self.steps.iter().position(|step| (step.peer == some) == drops_some);
            self.steps.remove(oldest.unwrap_or_default());
        }
    }
}

/// The oldest item of the root that has most, so that a root with few items keeps them. Each item has
/// a key, its root, and the time of its last write.
fn oldest_of_largest_root<'a, K: Clone + 'a>(
    items: impl Iterator<Item = (&'a K, &'a str, u64)>,
) -> Option<K> {
    let mut roots: HashMap<&str, (usize, u64, &K)> = HashMap::new();
    for (key, root, written_at) in items {
        let (count, oldest_at, oldest) = roots.entry(root).or_insert((0, written_at, key));
        *count += 1;
        if written_at < *oldest_at {
            (*oldest_at, *oldest) = (written_at, key);
        }
    }
    let largest = roots.into_values().max_by_key(|(count, oldest_at, _)| (*count, u64::MAX - oldest_at));
    largest.map(|(_, _, key)| key.clone())
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::{PairStep, id::PeerId};

    use super::*;

    #[test]
    fn a_flood_of_rooms_of_one_root_takes_no_room_of_another() {
        let limits = TimelineLimits { max_pairs: 4, max_steps: 4, retention_ms: 1_000 };
        let report = |root: &str| PairReport {
            peer: PeerId::from_bits(1),
            user: UserId::parse("alice").unwrap(),
            other: PeerId::from_bits(2),
            other_user: None,
            root: root.into(),
            steps: vec![(Instant::now(), PairStep::Offer.into())],
        };
        let room = |n: usize| RoomId::parse(&format!("room-{n}")).unwrap();
        let mut timelines = MemoryTimelines::default();
        timelines.append(&room(0), &[report("key:acme")], 5_000, &limits);
        for n in 1..=MAX_ROOMS + 5 {
            timelines.append(&room(n), &[report("guest")], 5_000 + n as u64 / 100, &limits);
        }
        assert_eq!(timelines.rooms.len(), MAX_ROOMS);
        assert_eq!(timelines.read(&room(0), 5_100, &limits).len(), 1);
        assert_eq!(timelines.read(&room(MAX_ROOMS + 5), 5_100, &limits).len(), 1);
        // Without another write in their time, all are gone.
        timelines.append(&room(0), &[report("key:acme")], 9_000, &limits);
        assert_eq!(timelines.rooms.len(), 1);
    }
}
