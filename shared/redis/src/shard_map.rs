//! Which server is the master of which slot.

use crate::{redis_address::RedisAddress, redis_keys::PARTITIONS};

/// Slots of a Redis Cluster.
const SLOT_COUNT: usize = 16_384;

/// A slot without a master.
const NO_MASTER: u16 = u16::MAX;

/// The slot of a partition's hash tag. The table `redis_keys::HASH_TAGS` is chosen for this
/// formula.
pub(crate) const fn partition_slot(partition: usize) -> u16 {
    (partition * (SLOT_COUNT / PARTITIONS) + SLOT_COUNT / PARTITIONS / 2) as u16
}

/// The slot of a key: CRC16 (XMODEM) of its hash tag, or of the whole key without one.
pub(crate) fn key_slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOT_COUNT as u16
}

/// One state of the deployment. A single server, and the master behind Sentinels, has all slots.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ShardMap {
    masters: Vec<RedisAddress>,
    /// For each slot an index into `masters`, or `NO_MASTER`.
    slots: Vec<u16>,
    /// All servers that can be asked for the map, also replicas.
    nodes: Vec<RedisAddress>,
    is_cluster: bool,
}

impl ShardMap {
    pub(crate) fn with_single_master(master: RedisAddress) -> Self {
        Self {
            masters: vec![master.clone()],
            slots: vec![0; SLOT_COUNT],
            nodes: vec![master],
            is_cluster: false,
        }
    }

    pub(crate) fn without_masters() -> Self {
        Self { masters: vec![], slots: vec![NO_MASTER; SLOT_COUNT], nodes: vec![], is_cluster: true }
    }

    pub(crate) fn add_node(&mut self, node: RedisAddress) {
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
    }

    pub(crate) fn assign_slots(&mut self, slots: std::ops::RangeInclusive<u16>, master: &RedisAddress) {
        let index = self.masters.iter().position(|known| known == master).unwrap_or_else(|| {
            self.masters.push(master.clone());
            self.masters.len() - 1
        });
        self.add_node(master.clone());
        for slot in slots {
            if let Some(place) = self.slots.get_mut(usize::from(slot)) {
                *place = index as u16;
            }
        }
    }

    /// The master of a slot, if the deployment has one.
    pub(crate) fn master_of_slot(&self, slot: u16) -> Option<&RedisAddress> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))
    }

    /// The masters that have a partition, each with its partitions.
    pub(crate) fn masters_with_partitions(&self) -> Vec<(RedisAddress, Vec<usize>)> {
        let with_partitions = |master: &RedisAddress| (master.clone(), self.partitions_of(master));
        self.masters.iter().map(with_partitions).filter(|(_, partitions)| !partitions.is_empty()).collect()
    }

    /// The partitions that a master has.
    pub(crate) fn partitions_of(&self, master: &RedisAddress) -> Vec<usize> {
        (0..PARTITIONS).filter(|p| self.master_of_slot(partition_slot(*p)) == Some(master)).collect()
    }

    /// All masters, in the order of the indexes in [`ShardMap::slots`], with whether they have a
    /// slot.
    pub(crate) fn indexed_masters(&self) -> impl Iterator<Item = (&RedisAddress, bool)> {
        self.masters.iter().enumerate().map(|(index, master)| (master, self.slots.contains(&(index as u16))))
    }

    /// The masters that have a slot.
    pub(crate) fn masters(&self) -> impl Iterator<Item = &RedisAddress> {
        self.indexed_masters().filter(|(_, has_slot)| *has_slot).map(|(master, _)| master)
    }

    /// For each slot the index of its master, or a number that no master has.
    pub(crate) fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// Whether this is a Redis Cluster: the keys of a script must then be in one slot.
    pub(crate) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// All servers that can be asked for the map.
    pub(crate) fn known_nodes(&self) -> &[RedisAddress] {
        &self.nodes
    }

    /// Whether every partition has a master.
    pub(crate) fn is_complete(&self) -> bool {
        (0..PARTITIONS).all(|p| self.master_of_slot(partition_slot(p)).is_some())
    }

    /// The partitions whose master differs between the two maps.
    pub(crate) fn changed_partitions(&self, other: &Self) -> Vec<usize> {
        (0..PARTITIONS)
            .filter(|p| self.master_of_slot(partition_slot(*p)) != other.master_of_slot(partition_slot(*p)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::redis_keys::HASH_TAGS;

    use super::*;

    #[test]
    fn a_partition_has_the_slot_of_its_hash_tag() {
        for (partition, tag) in HASH_TAGS.iter().enumerate() {
            assert_eq!(key_slot(&format!("sb:room:{{{tag}}}:x")), partition_slot(partition));
        }
        // Redis' own examples: an empty tag does not count, the first brace does.
        assert_eq!(key_slot("123456789"), 0x31c3);
        assert_ne!(key_slot("foo{}{bar}"), key_slot("bar"));
        assert_eq!(key_slot("foo{bar}{zap}"), key_slot("bar"));
    }

    #[test]
    fn a_map_lists_the_partitions_of_each_master_and_the_changes() {
        let (a, b) = (RedisAddress::tcp("a", 1), RedisAddress::tcp("b", 1));
        let mut before = ShardMap::without_masters();
        before.assign_slots(0..=8191, &a);
        assert!(!before.is_complete());
        before.assign_slots(8192..=16383, &b);
        assert!(before.is_complete());
        assert_eq!(before.partitions_of(&a), (0..64).collect::<Vec<_>>());
        let mut after = before.clone();
        after.assign_slots(partition_slot(3)..=partition_slot(3), &b);
        assert_eq!(after.changed_partitions(&before), [3]);
        after.assign_slots(0..=16383, &b);
        assert_eq!(after.masters().collect::<Vec<_>>(), [&b]);
        assert_eq!(after.masters_with_partitions().len(), 1);
    }
}
