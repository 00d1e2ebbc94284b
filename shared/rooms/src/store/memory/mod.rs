//! The store in the memory of one process: the default without Redis, and the reference for the
//! Redis store.
//!
//! Owns: the locks and the deadlines of rooms. Must not: share state with other processes. Next:
//! `memory_room` for commits and messages, `memory_mailbox` for entries, `memory_timeline` for what
//! outlives a room.

mod memory_mailbox;
mod memory_room;
mod memory_timeline;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::feed::FeedSender;
use crate::usage::MemoryUsageStore;
use signalbox_config::LiveValue;
use signalbox_protocol::{
    clock,
    id::{IdMap, NodeId, PeerId, RoomId, random_hex},
};
use signalbox_redis::redis_keys;

use super::{
    AppendBatch, AppendError, AppendResult, AppendResults, Commit, CommitResult, DueItem, LoadedRoom,
    MailboxPage, MailboxReader, PeerStatus, RefusedIds, RenewedMailbox, StoreLimits,
};
use crate::{
    room::{Member, ReplicationId, RoomCreator, RoomState},
    timeline::{PairReport, PairTimeline},
};
use memory_room::MemoryRoom;
use memory_timeline::MemoryTimelines;

/// The number of locks over which rooms are spread, so that workers rarely wait for each other.
const LOCK_SHARDS: usize = 64;

/// After this time a room that is still due is returned again, in milliseconds.
const DUE_RETRY_MS: u64 = 2_000;

/// Rooms and mailboxes in this process.
pub struct MemoryRoomStore {
    // Std mutexes: held for one operation on a room, never across an await.
    shards: Vec<Mutex<IdMap<RoomId, MemoryRoom>>>,
    // Locked after a shard or alone. A shard is never locked while this lock is held.
    deadlines: Mutex<BTreeSet<(u64, RoomId)>>,
    /// The rooms that users and API keys have created, and the time until which each is kept. A std mutex: held
    /// for one map operation.
    created_rooms: Mutex<HashMap<RoomCreator, HashMap<RoomId, u64>>>,
    limits: LiveValue<StoreLimits>,
    feed: Option<FeedSender>,
    usage: Arc<MemoryUsageStore>,
    // A std mutex: held to add or read the steps of one room.
    timelines: Mutex<MemoryTimelines>,
    /// Random in each process, because no write outlives the process.
    replication_id: ReplicationId,
}

impl MemoryRoomStore {
    pub(super) fn new(limits: StoreLimits, feed: Option<FeedSender>) -> Self {
        let shards = (0..LOCK_SHARDS).map(|_| Mutex::default()).collect();
        let replication_id = random_hex().into();
        let (deadlines, created_rooms) = (Mutex::default(), Mutex::default());
        let usage =
            Arc::new(MemoryUsageStore::new(limits.usage.max_pairs as usize, limits.usage.retention_ms));
        let limits = LiveValue::new(limits);
        let timelines = Mutex::default();
        Self { shards, deadlines, created_rooms, limits, feed, usage, timelines, replication_id }
    }

    pub(super) fn has_feed_reader(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.receiver_count() > 0)
    }

    pub(super) fn usage_book(&self) -> &Arc<MemoryUsageStore> {
        &self.usage
    }

    pub(super) fn append_timeline(&self, room: &RoomId, reports: &[PairReport]) {
        let mut timelines = self.timelines.lock().unwrap_or_else(PoisonError::into_inner);
        timelines.append(room, reports, clock::now_ms(), &self.limits().timeline);
    }

    pub(super) fn read_timeline(&self, room: &RoomId) -> Vec<PairTimeline> {
        let timelines = self.timelines.lock().unwrap_or_else(PoisonError::into_inner);
        timelines.read(room, clock::now_ms(), &self.limits().timeline)
    }

    pub(super) fn set_limits(&self, limits: StoreLimits) {
        self.limits.replace(limits);
    }

    fn limits(&self) -> StoreLimits {
        self.limits.read(|limits| *limits)
    }

    fn shard(&self, room: &RoomId) -> MutexGuard<'_, IdMap<RoomId, MemoryRoom>> {
        let shard = redis_keys::partition_of_room(room) % LOCK_SHARDS;
        // A panic under the lock was already reported, and the map is still consistent.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadlines(&self) -> MutexGuard<'_, BTreeSet<(u64, RoomId)>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to_loaded_room(&self, now: u64, room: Option<&RoomState>) -> LoadedRoom {
        let room = room.map(|state| RoomState { read_at: now, ..state.clone() });
        LoadedRoom { replication_id: self.replication_id.clone(), now, room }
    }

    pub(super) fn load_room(&self, name: &RoomId) -> LoadedRoom {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        self.to_loaded_room(now, find_live_room(&mut rooms, name, now).map(|room| &room.state))
    }

    pub(super) fn commit(&self, name: &RoomId, commit: &Commit) -> CommitResult {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let found = find_live_room(&mut rooms, name, now);
        let expected = (commit.version > 0).then_some((&commit.instance_id, commit.version));
        let has_newer_handle = |room: &MemoryRoom| {
            let is_newer = |(peer, written): &(PeerId, Arc<Member>)| {
                room.state.members.get(peer).is_some_and(|current| current.generation > written.generation)
            };
            commit.written_members.iter().any(is_newer)
        };
        let matches = found.as_ref().map(|room| (&room.state.instance_id, room.state.version)) == expected
            && !found.as_ref().is_some_and(|room| has_newer_handle(room));
        if !matches {
            return CommitResult::Conflict(self.to_loaded_room(now, found.map(|room| &room.state)));
        }
        for line in &commit.feed_lines {
            // Without a receiver the line is not needed.
            let _ = self.feed.as_ref().map(|feed| feed.send(line.clone()));
        }
        let room = rooms.entry(name.clone()).or_insert_with(|| MemoryRoom {
            state: RoomState::new(commit.instance_id.clone(), self.replication_id.clone()),
            mailboxes: IdMap::default(),
            due_at: 0,
            forget_at: 0,
        });
        let deliveries = room.apply_commit(commit, now, &self.limits());
        let due = room.update_deadline(now, commit, &self.limits());
        let before = std::mem::replace(&mut room.due_at, due);
        let mut deadlines = self.deadlines();
        deadlines.remove(&(before, name.clone()));
        deadlines.insert((due, name.clone()));
        CommitResult::Applied(self.replication_id.clone(), deliveries)
    }

    /// As [`RoomStore::append`](super::RoomStore::append).
    ///
    /// # Errors
    /// [`AppendError::NotOwner`].
    pub fn append(
        &self,
        name: &RoomId,
        node: &NodeId,
        batch: &AppendBatch,
    ) -> Result<AppendResults, AppendError> {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let room = find_live_room(&mut rooms, name, now).ok_or(AppendError::NotOwner)?;
        let member = room.state.members.get_mut(&batch.sender).ok_or(AppendError::NotOwner)?;
        if member.epoch != batch.epoch || member.owner() != Some(node) {
            return Err(AppendError::NotOwner);
        }
        if let Some(generation) = batch.handle_generation {
            Arc::make_mut(member).generation = generation;
        }
        let mailbox_version = member.mailbox_version;
        if let Some(own) = room.mailboxes.get_mut(&batch.sender) {
            own.accept_id(batch.known_last_id, &batch.refused);
            if batch.mailbox_version == mailbox_version {
                own.acknowledge(batch.acked_seq);
            }
        }
        let (mut results, limits) = (Vec::with_capacity(batch.entries.len()), self.limits());
        let mut refused = batch.refused.clone();
        for entry in &batch.entries {
            let result = room.append_message(batch, entry, &refused, now, &limits);
            if let (Some(id), Some(code)) = (entry.id, result.refusal_code()) {
                refused.insert(id, code);
            }
            let is_stale = matches!(result, AppendResult::Stale);
            results.push(result);
            if is_stale {
                break;
            }
        }
        Ok(AppendResults { mailbox_version, results })
    }

    pub(super) fn read_mailbox(&self, name: &RoomId, reader: &MailboxReader, seq: u64) -> PeerStatus {
        let mut rooms = self.shard(name);
        let room = find_live_room(&mut rooms, name, clock::now_ms());
        let member = room.as_ref().and_then(|room| room.state.members.get(&reader.peer));
        let found = member.map(|member| (member.owner(), member.epoch));
        let left = room.as_ref().and_then(|room| room.state.tombstones.get(&reader.peer));
        PeerStatus::from_record(
            reader,
            found,
            left.map(|tombstone| tombstone.reason),
            &self.replication_id,
            || {
                let mailbox = room.as_ref().and_then(|room| room.mailboxes.get(&reader.peer));
                let version = member.map(|member| member.mailbox_version);
                let Some((mailbox, mailbox_version)) = mailbox.zip(version) else {
                    return MailboxPage::default();
                };
                MailboxPage {
                    mailbox_version,
                    last_seq: mailbox.last_seq,
                    acked_seq: mailbox.acked_seq,
                    dropped_seq: mailbox.dropped_seq,
                    last_id: mailbox.last_id,
                    refused: mailbox.refused_ids(),
                    replication_id: self.replication_id.clone(),
                    entries: mailbox.read_page(seq),
                }
            },
        )
    }

    pub(super) fn renew_mailbox(
        &self,
        name: &RoomId,
        reader: &MailboxReader,
        mailbox_version: u64,
        known_last_id: u64,
        refused: &RefusedIds,
    ) -> Option<RenewedMailbox> {
        let now = clock::now_ms();
        let mut rooms = self.shard(name);
        let room = find_live_room(&mut rooms, name, now)?;
        let member = room.state.members.get_mut(&reader.peer)?;
        if member.epoch != reader.epoch || member.owner() != Some(&reader.node) {
            return None;
        }
        let own = room.mailboxes.get_mut(&reader.peer)?;
        if member.mailbox_version == mailbox_version {
            Arc::make_mut(member).mailbox_version = now.max(mailbox_version + 1);
            own.acknowledge(own.last_seq);
        }
        own.last_id = own.last_id.max(known_last_id);
        own.keep_refused(&refused.below(own.last_id));
        Some(RenewedMailbox {
            mailbox_version: member.mailbox_version,
            base_seq: own.acked_seq,
            last_id: own.last_id,
            refused: own.refused_ids(),
            state: RoomState { read_at: now, ..room.state.clone() },
        })
    }

    pub(super) fn poll_due_items(&self, partitions: &[usize]) -> Vec<DueItem> {
        let now = clock::now_ms();
        let mut deadlines = self.deadlines();
        let due = deadlines.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due
            .filter(|(_, name)| partitions.contains(&redis_keys::partition_of_room(name)))
            .cloned()
            .collect();
        for deadline in &due {
            deadlines.remove(deadline);
        }
        drop(deadlines);
        due.into_iter().filter_map(|(_, name)| self.reschedule_room(now, name).map(DueItem::Room)).collect()
    }

    pub(super) fn list_rooms_in_partition(&self, partition: usize) -> Vec<RoomId> {
        let deadlines = self.deadlines();
        let names = deadlines.iter().map(|(_, name)| name.clone());
        names.filter(|name| redis_keys::partition_of_room(name) == partition).collect()
    }

    pub(super) fn reserve_room(
        &self,
        creator: &RoomCreator,
        room: &RoomId,
        retention_ms: u64,
        max_rooms: u32,
    ) -> bool {
        let now = clock::now_ms();
        let mut created_rooms = self.created_rooms.lock().unwrap_or_else(PoisonError::into_inner);
        // Each call forgets the creators without a kept room.
        created_rooms.retain(|_, rooms| {
            rooms.retain(|_, until| *until > now);
            !rooms.is_empty()
        });
        let rooms = created_rooms.entry(creator.clone()).or_default();
        let has_place = rooms.contains_key(room) || rooms.len() < max_rooms as usize;
        if has_place {
            rooms.insert(room.clone(), now + retention_ms);
        }
        has_place
    }

    pub(super) fn release_room(&self, creator: &RoomCreator, room: &RoomId) {
        let mut created_rooms = self.created_rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rooms) = created_rooms.get_mut(creator) {
            rooms.remove(room);
        }
    }

    /// Returns a due room, unless it has ended, and sets its next deadline.
    fn reschedule_room(&self, now: u64, name: RoomId) -> Option<RoomId> {
        let mut rooms = self.shard(&name);
        let room = find_live_room(&mut rooms, &name, now)?;
        room.due_at = now + DUE_RETRY_MS;
        self.deadlines().insert((room.due_at, name.clone()));
        Some(name)
    }
}

/// The room. A room that has ended is deleted.
fn find_live_room<'a>(
    rooms: &'a mut IdMap<RoomId, MemoryRoom>,
    name: &RoomId,
    now: u64,
) -> Option<&'a mut MemoryRoom> {
    if rooms.get(name).is_some_and(|room| room.forget_at <= now) {
        rooms.remove(name);
    }
    rooms.get_mut(name)
}
