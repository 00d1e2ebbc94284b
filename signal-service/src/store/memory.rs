//! The store of one process: the embedded default, and the reference the Redis store is held against.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_shared::{
    clock,
    feed::FeedSender,
    id::{NodeId, PeerId, RoomId},
};

use super::{
    Announcement, Append, AppendError, Appended, Bounds, Commit, Committed, Delivery, Entry, EntryKind, Item,
    Target,
};
use crate::room::RoomState;

/// Rooms are spread over this many locks, so that workers rarely meet.
const SHARDS: usize = 64;

/// Rooms and mailboxes in this process.
pub struct MemoryStore {
    // A std mutex: nothing under it awaits or blocks, and each holds for one room operation.
    shards: Vec<Mutex<HashMap<RoomId, Room>>>,
    hasher: RandomState,
    bounds: Bounds,
    feed: Option<FeedSender>,
}

struct Room {
    state: RoomState,
    mailboxes: HashMap<PeerId, Mailbox>,
    ends_at: u64,
}

#[derive(Default)]
struct Mailbox {
    head: u64,
    last_id: u64,
    bytes: usize,
    entries: VecDeque<(u64, Entry)>,
}

impl Mailbox {
    fn push(
        &mut self,
        now: u64,
        bounds: &Bounds,
        from: &PeerId,
        id: Option<u64>,
        kind: EntryKind,
        body: &std::sync::Arc<str>,
    ) -> Entry {
        self.head += 1;
        let entry = Entry { seq: self.head, from: from.clone(), id, kind, body: body.clone() };
        self.bytes += body.len();
        self.entries.push_back((now, entry.clone()));
        self.drop_old(now, bounds);
        let most = 2 * bounds.backlog as usize;
        self.drop_while(|_, _, kept| kept > most);
        entry
    }

    fn drop_old(&mut self, now: u64, bounds: &Bounds) {
        let oldest = now.saturating_sub(bounds.entry_life_ms);
        self.drop_while(|at, _, _| at < oldest);
    }

    fn acknowledge(&mut self, seq: u64) {
        self.drop_while(|_, entry, _| entry.seq <= seq);
    }

    fn drop_while(&mut self, drop: impl Fn(u64, &Entry, usize) -> bool) {
        while self.entries.front().is_some_and(|(at, entry)| drop(*at, entry, self.entries.len())) {
            if let Some((_, entry)) = self.entries.pop_front() {
                self.bytes -= entry.body.len();
            }
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    fn is_full(&self, bounds: &Bounds) -> bool {
        self.entries.len() as u64 >= bounds.backlog || self.bytes as u64 >= bounds.backlog_bytes
    }
}

impl MemoryStore {
    pub(super) fn new(bounds: Bounds, feed: Option<FeedSender>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), bounds, feed }
    }

    fn shard(&self, room: &RoomId) -> MutexGuard<'_, HashMap<RoomId, Room>> {
        let shard = self.hasher.hash_one(room) as usize % SHARDS;
        // A panic under the lock is a bug that was already reported; the map itself is whole.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn load(&self, name: &RoomId) -> Option<RoomState> {
        let mut rooms = self.shard(name);
        alive(&mut rooms, name, clock::now_ms()).map(|room| room.state.clone())
    }

    pub(super) fn commit(&self, name: &RoomId, commit: &Commit) -> Committed {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let found = alive(&mut rooms, name, now);
        let expected = (commit.version > 0).then_some((&commit.incarnation, commit.version));
        if found.as_ref().map(|room| (&room.state.incarnation, room.state.version)) != expected {
            return Committed::Conflict(found.map(|room| room.state.clone()));
        }
        for line in &commit.feed {
            // No receiver is no error: nobody is watching.
            let _ = self.feed.as_ref().map(|feed| feed.send(line.clone()));
        }
        if commit.ends {
            rooms.remove(name);
            return Committed::Applied(Vec::new());
        }
        let room = rooms.entry(name.clone()).or_insert_with(|| Room {
            state: RoomState::new(commit.incarnation.clone()),
            mailboxes: HashMap::new(),
            ends_at: now + self.bounds.room_life_ms,
        });
        Committed::Applied(room.apply(commit, now, &self.bounds))
    }

    pub(super) fn append(
        &self,
        name: &RoomId,
        node: &NodeId,
        batch: &Append,
    ) -> Result<Vec<Appended>, AppendError> {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let room = alive(&mut rooms, name, now).ok_or(AppendError::Gone)?;
        let member = room.state.members.get(&batch.sender).ok_or(AppendError::Gone)?;
        if member.epoch != batch.epoch || member.owner != *node {
            return Err(AppendError::Fenced);
        }
        if let Some(own) = room.mailboxes.get_mut(&batch.sender) {
            own.acknowledge(batch.acked);
        }
        let mut results = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let result = room.append(batch, item, now, &self.bounds);
            let stale = matches!(result, Appended::Stale);
            results.push(result);
            if stale {
                break;
            }
        }
        Ok(results)
    }

    pub(super) fn read(
        &self,
        name: &RoomId,
        peer: &PeerId,
        epoch: u64,
        seq: u64,
        count: usize,
    ) -> Vec<Entry> {
        let mut rooms = self.shard(name);
        let Some(room) = alive(&mut rooms, name, clock::now_ms()) else { return Vec::new() };
        if room.state.members.get(peer).is_none_or(|member| member.epoch != epoch) {
            return Vec::new();
        }
        let entries = room.mailboxes.get(peer).into_iter().flat_map(|mailbox| &mailbox.entries);
        entries.map(|(_, entry)| entry).filter(|entry| entry.seq > seq).take(count).cloned().collect()
    }
}

/// The room, unless its longest life is over; then it is forgotten.
fn alive<'a>(rooms: &'a mut HashMap<RoomId, Room>, name: &RoomId, now: u64) -> Option<&'a mut Room> {
    if rooms.get(name).is_some_and(|room| room.ends_at <= now) {
        rooms.remove(name);
    }
    rooms.get_mut(name)
}

impl Room {
    fn apply(&mut self, commit: &Commit, now: u64, bounds: &Bounds) -> Vec<Delivery> {
        for peer in &commit.removed {
            self.state.members.remove(peer);
            self.mailboxes.remove(peer);
        }
        for (peer, member) in &commit.put {
            self.state.members.insert(peer.clone(), member.clone());
            self.mailboxes.entry(peer.clone()).or_default();
        }
        for (peer, id) in &commit.accepted {
            if let Some(mailbox) = self.mailboxes.get_mut(peer) {
                mailbox.last_id = mailbox.last_id.max(*id);
            }
        }
        self.state.version = commit.version + 1;
        let announce = |event: &Announcement| self.announce(event, now, bounds);
        commit.events.iter().flat_map(announce).collect()
    }

    fn announce(&mut self, event: &Announcement, now: u64, bounds: &Bounds) -> Vec<Delivery> {
        let push = |peer: &PeerId| {
            let entry =
                self.mailboxes.get_mut(peer)?.push(now, bounds, &event.about, None, event.kind, &event.body);
            let epoch = self.state.members.get(peer)?.epoch;
            Some(Delivery { peer: peer.clone(), epoch, entry })
        };
        event.targets.iter().filter_map(push).collect()
    }

    fn append(&mut self, batch: &Append, item: &Item, now: u64, bounds: &Bounds) -> Appended {
        let last_id = self.mailboxes.get(&batch.sender).map_or(0, |own| own.last_id);
        if item.id.is_some_and(|id| id <= last_id) {
            return Appended::Duplicate;
        }
        let targets: Vec<PeerId> = match &item.to {
            Target::Peer(peer) => vec![peer.clone()],
            Target::Room if batch.members.version != self.state.version => return Appended::Stale,
            Target::Room => {
                batch.members.peers.iter().filter(|peer| **peer != batch.sender).cloned().collect()
            }
        };
        for peer in &targets {
            let Some(mailbox) = self.mailboxes.get_mut(peer) else { return Appended::NoSuchPeer };
            mailbox.drop_old(now, bounds);
            if mailbox.is_full(bounds) {
                return Appended::Backlogged;
            }
        }
        let mut deliveries = Vec::with_capacity(targets.len());
        for peer in targets {
            let (Some(mailbox), Some(member)) =
                (self.mailboxes.get_mut(&peer), self.state.members.get(&peer))
            else {
                continue;
            };
            let entry = mailbox.push(now, bounds, &batch.sender, item.id, EntryKind::Plain, &item.body);
            deliveries.push(Delivery { peer, epoch: member.epoch, entry });
        }
        if let (Some(id), Some(own)) = (item.id, self.mailboxes.get_mut(&batch.sender)) {
            own.last_id = id;
        }
        Appended::Written(deliveries)
    }
}
