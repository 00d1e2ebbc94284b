//! The masters of a deployment.
//!
//! Owns: the table from a slot to its master, and which masters are connected at all. Must not: send
//! a request of a caller; see `redis_client/redis_request.rs`. Next: `redis_shard` for the
//! connections to one master.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::runtime::Handle;

use crate::{
    client_state::ClientState,
    memory_level::MemoryLevel,
    redis_address::RedisAddress,
    redis_shard::{RedisShard, run_shard},
    shard_map::ShardMap,
};

/// All masters of one client.
pub(crate) struct RedisShards {
    client: Arc<ClientState>,
    runtime: Handle,
    // A std mutex: held for one look-up or one replacement.
    table: Mutex<ShardTable>,
}

#[derive(Default)]
struct ShardTable {
    by_address: HashMap<RedisAddress, Arc<RedisShard>>,
    /// For each slot an index into `masters`, or a number beyond its end.
    slots: Vec<u16>,
    /// `None` for a master without a slot.
    masters: Vec<Option<Arc<RedisShard>>>,
    is_complete: bool,
}

impl ShardTable {
    fn shard_of_slot(&self, slot: u16) -> Option<&Arc<RedisShard>> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))?.as_ref()
    }
}

impl RedisShards {
    pub(crate) fn new(client: Arc<ClientState>, runtime: Handle) -> Self {
        Self { client, runtime, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, ShardTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master of a slot. `None` until Redis first answered.
    pub(crate) fn shard_of_slot(&self, slot: u16) -> Option<Arc<RedisShard>> {
        self.table().shard_of_slot(slot).cloned()
    }

    /// The master at an address, which may be new: a server redirects to it.
    pub(crate) fn shard_at(&self, address: &RedisAddress) -> Arc<RedisShard> {
        self.shard_in(&mut self.table(), address)
    }

    fn shard_in(&self, table: &mut ShardTable, address: &RedisAddress) -> Arc<RedisShard> {
        if let Some(shard) = table.by_address.get(address) {
            return shard.clone();
        }
        let shard = Arc::new(RedisShard::new(self.client.clone(), address.clone(), &self.runtime));
        table.by_address.insert(address.clone(), shard.clone());
        self.runtime.spawn(run_shard(shard.clone()));
        shard
    }

    /// Connects to new masters, and closes the connections to those that are none now.
    pub(crate) fn apply_map(&self, map: &ShardMap) {
        let mut table = self.table();
        let masters: Vec<_> = map
            .indexed_masters()
            .map(|(address, has_slot)| has_slot.then(|| self.shard_in(&mut table, address)))
            .collect();
        table.by_address.retain(|_, shard| {
            let stays = masters.iter().flatten().any(|master| Arc::ptr_eq(master, shard));
            if !stays {
                shard.retire();
            }
            stays
        });
        let target = self.client.target();
        let sentinels = if target.master_name().is_some() { target.seed_addresses() } else { vec![] };
        self.client
            .refusals
            .retain_servers(|address| table.by_address.contains_key(address) || sentinels.contains(address));
        table.slots = map.slots().to_vec();
        table.masters = masters;
        table.is_complete = map.is_complete();
    }

    /// Whether a server is used.
    pub(crate) fn has_shard(&self, address: &RedisAddress) -> bool {
        self.table().by_address.contains_key(address)
    }

    /// Whether every partition has a master and every master is connected.
    pub(crate) fn are_connected(&self) -> bool {
        let table = self.table();
        table.is_complete && table.masters.iter().flatten().all(|shard| shard.is_connected())
    }

    /// Whether every master is connected and has all announced scripts.
    pub(crate) fn are_prepared(&self) -> bool {
        self.are_connected() && self.table().masters.iter().flatten().all(|shard| shard.has_all_scripts())
    }

    /// Whether the master of a slot is connected.
    pub(crate) fn is_slot_connected(&self, slot: u16) -> bool {
        self.table().shard_of_slot(slot).is_some_and(|shard| shard.is_connected())
    }

    /// How full the memory of the master of a slot is.
    pub(crate) fn memory_level_of_slot(&self, slot: u16) -> MemoryLevel {
        self.table().shard_of_slot(slot).map_or(MemoryLevel::Normal, |shard| shard.memory_level())
    }

    /// How full the memory of the fullest master is.
    pub(crate) fn highest_memory_level(&self) -> MemoryLevel {
        let table = self.table();
        let levels = table.masters.iter().flatten().map(|shard| shard.memory_level());
        levels.max().unwrap_or(MemoryLevel::Normal)
    }

    /// Whether a server with this id of its history of writes is the one at this address. True as
    /// long as no server is connected there.
    pub(crate) fn has_history(&self, address: &RedisAddress, replication_id: &str) -> bool {
        let shard = self.table().by_address.get(address).cloned();
        shard.is_none_or(|shard| !shard.is_connected() || shard.has_history(replication_id))
    }

    /// Checks all connections now, and loads the scripts that are missing.
    pub(crate) fn request_checks(&self) {
        self.table().by_address.values().for_each(|shard| shard.request_check());
    }
}
