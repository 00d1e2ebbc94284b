//! Which server is the master of which slot.

use crate::redis_keys::PARTITIONS;

use crate::redis_address::RedisAddress;

/// Slots of a Redis Cluster.
const SLOT_COUNT: usize = 16_384;

/// A slot without a master.
const NO_MASTER: u16 = u16::MAX;

/// The slot of a partition's hash tag; `keys::HASH_TAGS` is made so.
pub const fn partition_slot(partition: usize) -> u16 {
    (partition * (SLOT_COUNT / PARTITIONS) + SLOT_COUNT / PARTITIONS / 2) as u16
}

/// The slot of a key: CRC16 (XMODEM) of its hash tag, if it has one.
pub fn key_slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOT_COUNT as u16
}

/// One state of the deployment. One server and a Sentinel's master have all slots.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardMap {
    masters: Vec<RedisAddress>,
    /// Per slot an index into `masters`.
    slots: Vec<u16>,
    /// Everybody who could be asked, replicas too.
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
    pub fn master_of_slot(&self, slot: u16) -> Option<&RedisAddress> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))
    }

    /// The masters, each with its partitions; those without a partition are left out.
    pub fn masters_with_partitions(&self) -> Vec<(RedisAddress, Vec<usize>)> {
        let with_partitions = |master: &RedisAddress| (master.clone(), self.partitions_of(master));
        self.masters.iter().map(with_partitions).filter(|(_, partitions)| !partitions.is_empty()).collect()
    }

    /// The partitions that a master has.
    pub fn partitions_of(&self, master: &RedisAddress) -> Vec<usize> {
        (0..PARTITIONS).filter(|p| self.master_of_slot(partition_slot(*p)) == Some(master)).collect()
    }

    /// The masters that have a slot.
    pub fn masters(&self) -> impl Iterator<Item = &RedisAddress> {
        self.masters
            .iter()
            .enumerate()
            .filter(|(n, _)| self.slots.contains(&(*n as u16)))
            .map(|(_, master)| master)
    }

    /// Whether it is a Cluster, where one script may touch keys of one slot only.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Everybody who could be asked.
    pub(crate) fn known_nodes(&self) -> &[RedisAddress] {
        &self.nodes
    }

    /// Whether every partition has a master.
    pub fn is_complete(&self) -> bool {
        (0..PARTITIONS).all(|p| self.master_of_slot(partition_slot(p)).is_some())
    }

    /// The partitions whose master is another one here than there.
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
            assert_eq!(key_slot(&format!("sb:{{{tag}}}:room:x")), partition_slot(partition));
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
