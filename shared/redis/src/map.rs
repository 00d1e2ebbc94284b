//! Which server is the master of which slot.

use crate::keys::PARTITIONS;

use crate::target::Address;

/// Slots of a Redis Cluster.
const SLOTS: usize = 16_384;

/// A slot without a master.
const NOBODY: u16 = u16::MAX;

/// The slot of a partition's hash tag; `keys::TAGS` is made so.
pub const fn slot_of(partition: usize) -> u16 {
    (partition * (SLOTS / PARTITIONS) + SLOTS / PARTITIONS / 2) as u16
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
    crc % SLOTS as u16
}

/// One state of the deployment. One server and a Sentinel's master have all slots.
#[derive(Clone, PartialEq, Eq)]
pub struct Map {
    masters: Vec<Address>,
    /// Per slot an index into `masters`.
    slots: Vec<u16>,
    /// Everybody who could be asked, replicas too.
    nodes: Vec<Address>,
    is_cluster: bool,
}

impl Map {
    pub(crate) fn single(master: Address) -> Self {
        Self { masters: vec![master.clone()], slots: vec![0; SLOTS], nodes: vec![master], is_cluster: false }
    }

    pub(crate) fn empty() -> Self {
        Self { masters: vec![], slots: vec![NOBODY; SLOTS], nodes: vec![], is_cluster: true }
    }

    pub(crate) fn add_node(&mut self, node: Address) {
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
    }

    pub(crate) fn assign(&mut self, slots: std::ops::RangeInclusive<u16>, master: &Address) {
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
    pub fn master_of(&self, slot: u16) -> Option<&Address> {
        self.masters.get(usize::from(*self.slots.get(usize::from(slot))?))
    }

    /// The masters, each with its partitions; those without a partition are left out.
    pub fn shards(&self) -> Vec<(Address, Vec<usize>)> {
        let with_partitions = |master: &Address| (master.clone(), self.partitions_of(master));
        self.masters.iter().map(with_partitions).filter(|(_, partitions)| !partitions.is_empty()).collect()
    }

    /// The partitions that a master has.
    pub fn partitions_of(&self, master: &Address) -> Vec<usize> {
        (0..PARTITIONS).filter(|p| self.master_of(slot_of(*p)) == Some(master)).collect()
    }

    /// The masters that have a slot.
    pub fn masters(&self) -> impl Iterator<Item = &Address> {
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
    pub(crate) fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// Whether every partition has a master.
    pub fn is_whole(&self) -> bool {
        (0..PARTITIONS).all(|p| self.master_of(slot_of(p)).is_some())
    }

    /// The partitions whose master is another one here than there.
    pub(crate) fn differs_in(&self, other: &Self) -> Vec<usize> {
        (0..PARTITIONS).filter(|p| self.master_of(slot_of(*p)) != other.master_of(slot_of(*p))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::keys::TAGS;

    use super::*;

    #[test]
    fn a_partition_is_the_slot_of_its_tag() {
        for (partition, tag) in TAGS.iter().enumerate() {
            assert_eq!(key_slot(&format!("sb:{{{tag}}}:room:x")), slot_of(partition));
        }
        // Redis' own examples: an empty tag does not count, the first brace does.
        assert_eq!(key_slot("123456789"), 0x31c3);
        assert_ne!(key_slot("foo{}{bar}"), key_slot("bar"));
        assert_eq!(key_slot("foo{bar}{zap}"), key_slot("bar"));
    }

    #[test]
    fn a_map_knows_who_has_what_and_what_has_changed() {
        let (a, b) = (Address::tcp("a", 1), Address::tcp("b", 1));
        let mut before = Map::empty();
        before.assign(0..=8191, &a);
        assert!(!before.is_whole());
        before.assign(8192..=16383, &b);
        assert!(before.is_whole());
        assert_eq!(before.partitions_of(&a), (0..64).collect::<Vec<_>>());
        let mut after = before.clone();
        after.assign(slot_of(3)..=slot_of(3), &b);
        assert_eq!(after.differs_in(&before), [3]);
        after.assign(0..=16383, &b);
        assert_eq!(after.masters().collect::<Vec<_>>(), [&b]);
        assert_eq!(after.shards().len(), 1);
    }
}
