//! The store of one process: the embedded default, and the reference the Redis store is held against.
//!
//! Owns: the locks, and when a room is looked at again. Next: `room` for what a commit and a message change, `mailbox` for the entries.

mod mailbox;
mod room;

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::feed::FeedSender;
use crate::usage::UsageBook;
use signalbox_protocol::{
    clock,
    id::{NodeId, PeerId, RoomId, UserId, random_hex},
};
use signalbox_redis::keys;

use super::{
    Append, AppendError, Appended, Batched, Bounds, Commit, Committed, Due, Found, Look, Page, Reader,
    Renewed, bounds::LiveBounds,
};
use crate::room::{Lineage, Member, RoomState};
use room::Room;

/// Rooms are spread over this many locks, so that workers rarely meet.
const SHARDS: usize = 64;

/// How long until a room whose deadline has come is named again, milliseconds.
const DUE_AGAIN_MS: u64 = 2_000;

/// Rooms and mailboxes in this process.
pub struct MemoryStore {
    // A std mutex: nothing under it awaits or blocks, and each holds for one room operation.
    shards: Vec<Mutex<HashMap<RoomId, Room>>>,
    hasher: RandomState,
    // Taken under a shard's lock or alone, and never the other way round.
    deadlines: Mutex<BTreeSet<(u64, RoomId)>>,
    /// The rooms that users have made, and until when they are kept. A std mutex: held for one user's rooms.
    made: Mutex<HashMap<UserId, HashMap<RoomId, u64>>>,
    bounds: LiveBounds,
    feed: Option<FeedSender>,
    usage: Arc<UsageBook>,
    /// Another one in each process: nothing outlives it.
    lineage: Lineage,
}

impl MemoryStore {
    pub(super) fn new(bounds: Bounds, feed: Option<FeedSender>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let lineage = random_hex().into();
        let (deadlines, made) = (Mutex::default(), Mutex::default());
        let usage = Arc::new(UsageBook::new(bounds.usage.pairs as usize, bounds.usage.kept_ms));
        let bounds = LiveBounds::new(bounds);
        Self { shards, hasher: RandomState::new(), deadlines, made, bounds, feed, usage, lineage }
    }

    pub(super) fn usage(&self) -> &Arc<UsageBook> {
        &self.usage
    }

    pub(super) fn set_backlog(&self, backlog: u64) {
        self.bounds.set_backlog(backlog);
    }

    fn shard(&self, room: &RoomId) -> MutexGuard<'_, HashMap<RoomId, Room>> {
        let shard = self.hasher.hash_one(room) as usize % SHARDS;
        // A panic under the lock is a bug that was already reported; the map itself is whole.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadlines(&self) -> MutexGuard<'_, BTreeSet<(u64, RoomId)>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, now: u64, room: Option<&RoomState>) -> Found {
        let room = room.map(|state| RoomState { read_at: now, ..state.clone() });
        Found { lineage: self.lineage.clone(), now, room }
    }

    pub(super) fn load(&self, name: &RoomId) -> Found {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        self.found(now, alive(&mut rooms, name, now).map(|room| &room.state))
    }

    pub(super) fn commit(&self, name: &RoomId, commit: &Commit) -> Committed {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let found = alive(&mut rooms, name, now);
        let expected = (commit.version > 0).then_some((&commit.incarnation, commit.version));
        let voided = |room: &Room| {
            let voids = |(peer, put): &(PeerId, Member)| {
                room.state.members.get(peer).is_some_and(|known| known.generation > put.generation)
            };
            commit.put.iter().any(voids)
        };
        let matches = found.as_ref().map(|room| (&room.state.incarnation, room.state.version)) == expected
            && !found.as_ref().is_some_and(|room| voided(room));
        if !matches {
            return Committed::Conflict(self.found(now, found.map(|room| &room.state)));
        }
        for line in &commit.feed {
            // No receiver is no error: nobody is watching.
            let _ = self.feed.as_ref().map(|feed| feed.send(line.clone()));
        }
        let room = rooms.entry(name.clone()).or_insert_with(|| Room {
            state: RoomState::new(commit.incarnation.clone(), self.lineage.clone()),
            mailboxes: HashMap::new(),
            due: 0,
            gone_at: 0,
        });
        let deliveries = room.apply(commit, now, &self.bounds.get());
        let due = room.deadline(now, commit, &self.bounds.get());
        let before = std::mem::replace(&mut room.due, due);
        let mut deadlines = self.deadlines();
        deadlines.remove(&(before, name.clone()));
        deadlines.insert((due, name.clone()));
        Committed::Applied(self.lineage.clone(), deliveries)
    }

    pub(super) fn append(
        &self,
        name: &RoomId,
        node: &NodeId,
        batch: &Append,
    ) -> Result<Batched, AppendError> {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let room = alive(&mut rooms, name, now).ok_or(AppendError::NotOwner)?;
        let member = room.state.members.get_mut(&batch.sender).ok_or(AppendError::NotOwner)?;
        if member.epoch != batch.epoch || member.owner() != Some(node) {
            return Err(AppendError::NotOwner);
        }
        member.generation = batch.handle.unwrap_or(member.generation);
        let mailbox = member.mailbox;
        if let Some(own) = room.mailboxes.get_mut(&batch.sender) {
            own.last_id = own.last_id.max(batch.floor);
            if batch.mailbox == mailbox {
                own.acknowledge(batch.acked);
            }
        }
        let mut results = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let result = room.append(batch, item, now, &self.bounds.get());
            let stale = matches!(result, Appended::Stale);
            results.push(result);
            if stale {
                break;
            }
        }
        Ok(Batched { mailbox, results })
    }

    pub(super) fn read(&self, name: &RoomId, reader: &Reader, seq: u64) -> Look {
        let mut rooms = self.shard(name);
        let room = alive(&mut rooms, name, clock::now_ms());
        let member = room.as_ref().and_then(|room| room.state.members.get(&reader.peer));
        let found = member.map(|member| (member.owner(), member.epoch));
        let left = room.as_ref().and_then(|room| room.state.left.get(&reader.peer));
        Look::judge(reader, found, left.map(|tombstone| tombstone.reason), &self.lineage, || {
            let mailbox = room.as_ref().and_then(|room| room.mailboxes.get(&reader.peer));
            let Some((mailbox, number)) = mailbox.zip(member.map(|member| member.mailbox)) else {
                return Page::default();
            };
            let (head, acked, last_id) = (mailbox.head, mailbox.acked, mailbox.last_id);
            let (lineage, entries) = (self.lineage.clone(), mailbox.page(seq));
            Page { mailbox: number, head, acked, last_id, lineage, entries }
        })
    }

    pub(super) fn renew(&self, name: &RoomId, reader: &Reader, mailbox: u64, floor: u64) -> Option<Renewed> {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let room = alive(&mut rooms, name, now)?;
        let member = room.state.members.get_mut(&reader.peer)?;
        if member.epoch != reader.epoch || member.owner() != Some(&reader.node) {
            return None;
        }
        let own = room.mailboxes.get_mut(&reader.peer)?;
        if member.mailbox == mailbox {
            member.mailbox = now.max(mailbox + 1);
            own.acknowledge(own.head);
        }
        own.last_id = own.last_id.max(floor);
        let (mailbox, seq, last_id) = (member.mailbox, own.acked, own.last_id);
        Some(Renewed { mailbox, seq, last_id, state: RoomState { read_at: now, ..room.state.clone() } })
    }

    pub(super) fn due(&self, partitions: &[usize]) -> Vec<Due> {
        let now = clock::now_ms();
        let mut deadlines = self.deadlines();
        let due = deadlines.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> =
            due.filter(|(_, name)| partitions.contains(&keys::partition(name))).cloned().collect();
        for deadline in &due {
            deadlines.remove(deadline);
        }
        drop(deadlines);
        due.into_iter().filter_map(|(_, name)| self.look_again(now, name).map(Due::Room)).collect()
    }

    pub(super) fn rooms_in(&self, partition: usize) -> Vec<RoomId> {
        let deadlines = self.deadlines();
        let names = deadlines.iter().map(|(_, name)| name.clone());
        names.filter(|name| keys::partition(name) == partition).collect()
    }

    pub(super) fn take_place(&self, user: &UserId, room: &RoomId, kept_ms: u64, most: u32) -> bool {
        let now = clock::now_ms();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Users without a room that is kept are forgotten by whoever comes next.
        made.retain(|_, rooms| {
            rooms.retain(|_, until| *until > now);
            !rooms.is_empty()
        });
        let rooms = made.entry(user.clone()).or_default();
        let has_place = rooms.contains_key(room) || rooms.len() < most as usize;
        if has_place {
            rooms.insert(room.clone(), now + kept_ms);
        }
        has_place
    }

    pub(super) fn give_place_back(&self, user: &UserId, room: &RoomId) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rooms) = made.get_mut(user) {
            rooms.remove(room);
        }
    }

    /// A room whose deadline has come is named again a little later, unless it is over.
    fn look_again(&self, now: u64, name: RoomId) -> Option<RoomId> {
        let mut rooms = self.shard(&name);
        let room = alive(&mut rooms, &name, now)?;
        room.due = now + DUE_AGAIN_MS;
        self.deadlines().insert((room.due, name.clone()));
        Some(name)
    }
}

/// The room, unless it is over; then it is forgotten.
fn alive<'a>(rooms: &'a mut HashMap<RoomId, Room>, name: &RoomId, now: u64) -> Option<&'a mut Room> {
    if rooms.get(name).is_some_and(|room| room.gone_at <= now) {
        rooms.remove(name);
    }
    rooms.get_mut(name)
}
