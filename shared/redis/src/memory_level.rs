//! How full the memory of a server is.
//!
//! Owns: the levels, and when one follows the other. Must not: decide what a level forbids; the
//! stores do.

use crate::server_info::info_field;

/// A level ends this many percent points below its beginning, so that it does not change with each
/// message.
const HYSTERESIS_PERCENT: u64 = 5;

/// How full the memory of a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    /// Below `redis.memory_percent` of `maxmemory`, or there is no `maxmemory`.
    Normal,
    /// Above it.
    High,
    /// Above the middle between `redis.memory_percent` and 100 %.
    Critical,
}

impl MemoryLevel {
    const ALL: [Self; 3] = [Self::Normal, Self::High, Self::Critical];

    /// The level as a number, for metrics: 0, 1 or 2.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Reads [`MemoryLevel::number`].
    pub(crate) fn from_number(number: u8) -> Self {
        Self::ALL[usize::from(number).min(2)]
    }

    /// The level after this one, when `used_percent` of `maxmemory` are in use.
    pub(crate) fn next_level(self, used_percent: u64, high_percent: u8) -> Self {
        let high = u64::from(high_percent);
        let critical = high.midpoint(100);
        let reaches = |begin: u64, level| {
            let is_in_level = self >= level;
            used_percent >= if is_in_level { begin.saturating_sub(HYSTERESIS_PERCENT) } else { begin }
        };
        if reaches(critical, Self::Critical) {
            Self::Critical
        } else if reaches(high, Self::High) {
            Self::High
        } else {
            Self::Normal
        }
    }
}

/// The percentage of `maxmemory` that is in use, by the section `memory` of the reply to `INFO`. 0
/// without `maxmemory`.
pub(crate) fn used_percent(info: &str) -> u64 {
    let bytes = |name| info_field(info, name).parse::<u64>().unwrap_or(0);
    // The buffers of replicas do not count: Redis refuses no command because of them.
    let used = bytes("used_memory").saturating_sub(bytes("mem_not_counted_for_evict"));
    (used * 100).checked_div(bytes("maxmemory")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_begins_at_its_share_and_ends_below_it() {
        use MemoryLevel::{Critical, High, Normal};
        let rows = [
            (Normal, 69, Normal),
            (Normal, 70, High),
            (Normal, 85, Critical),
            (High, 84, High),
            (High, 65, High),
            (High, 64, Normal),
            (Critical, 80, Critical),
            (Critical, 79, High),
            (Critical, 10, Normal),
        ];
        for (level, percent, expected) in rows {
            assert_eq!(level.next_level(percent, 70), expected, "{level:?} at {percent} %");
            assert_eq!(MemoryLevel::from_number(level.number()), level);
        }
    }

    #[test]
    fn replica_buffers_and_a_missing_bound_do_not_count() {
        let info = |used: u64, buffers: u64, max: u64| {
            format!("used_memory:{used}\r\nmaxmemory:{max}\r\nmem_not_counted_for_evict:{buffers}\r\n")
        };
        assert_eq!(used_percent(&info(80, 10, 100)), 70);
        assert_eq!(used_percent(&info(80, 0, 0)), 0);
        assert_eq!(used_percent(""), 0);
    }
}
