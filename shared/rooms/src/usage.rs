//! Usage: joins and connected time by API key and room, for each UTC day.
//!
//! Owns: [`UtcDay`], the amounts, and the usage of a process without Redis. Must not: read a clock;
//! the callers give the day. Next: `signal-service` counts, `store` keeps the amounts in Redis, and
//! `/api/usage` of the auth service reads them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::id::{CallerId, RoomId};

/// The name under which all rooms beyond `usage.pairs` are counted.
pub const OTHER_ROOMS: &str = "~other";

/// The length of a day, milliseconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A UTC day, written `2026-11-21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcDay(u64);

impl UtcDay {
    /// The day of a time, milliseconds since 1970.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms / DAY_MS)
    }

    /// The start of the day, milliseconds since 1970.
    pub fn start_ms(self) -> u64 {
        self.0 * DAY_MS
    }

    /// The day `days` days later.
    pub fn plus_days(self, days: u64) -> Self {
        Self(self.0 + days)
    }

    /// The day `days` days earlier; 1970-01-01 at the earliest.
    pub fn minus_days(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// The number of days from this day to `other`. `None` if `other` is earlier.
    pub fn days_until(self, other: Self) -> Option<u64> {
        other.0.checked_sub(self.0)
    }

    /// Reads `2026-11-21` (RFC 3339, `full-date`), from 1970 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let has_date_shape = bytes.len() == 10
            && bytes.iter().enumerate().all(|(index, c)| match index {
                4 | 7 => *c == b'-',
                _ => c.is_ascii_digit(),
            });
        let (year, month, day) =
            has_date_shape.then(|| (text[..4].parse(), text[5..7].parse(), text[8..].parse()))?;
        let found = Self::from_civil_date(year.ok()?, month.ok()?, day.ok()?)?;
        // A day that does not exist, such as February 30, has the number of another day.
        (found.to_string() == text).then_some(found)
    }

    /// Howard Hinnant, "chrono-compatible low-level date algorithms": `days_from_civil`.
    fn from_civil_date(year: i64, month: i64, day: i64) -> Option<Self> {
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let year = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        u64::try_from(days).ok().map(Self)
    }
}

impl std::fmt::Display for UtcDay {
    /// `civil_from_days` of the same source.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = self.0 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let (day, month) =
            (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// The usage of one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageAmount {
    /// The number of peers that joined. A peer that resumes is counted once.
    pub joins: u64,
    /// The connected time of all peers together, milliseconds.
    pub connected_ms: u64,
}

/// The key of an amount: the room, and the API key or `guest`, `user` or `invite`.
pub type UsageKey = (CallerId, RoomId);

/// The usage of one day by API key and room. The room may be [`OTHER_ROOMS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayUsage(pub BTreeMap<(String, String), UsageAmount>);

impl DayUsage {
    /// Reads the Redis hash of a day: `j:<caller> <room>` is joins, `m:<caller> <room>` is
    /// milliseconds. Other fields are ignored.
    pub fn from_fields(fields: &[(String, String)]) -> Self {
        let mut day = Self::default();
        for (field, value) in fields {
            let kind_and_pair =
                field.split_once(':').and_then(|(kind, pair)| Some((kind, pair.split_once(' ')?)));
            let (Some((kind, (caller, room))), Ok(value)) = (kind_and_pair, value.parse()) else { continue };
            let amount = day.0.entry((caller.to_owned(), room.to_owned())).or_default();
            match kind {
                "j" => amount.joins = value,
                "m" => amount.connected_ms = value,
                _ => {}
            }
        }
        day
    }
}

impl std::ops::Deref for DayUsage {
    type Target = BTreeMap<(String, String), UsageAmount>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The usage of a process without Redis. It is lost when the process ends.
#[derive(Debug)]
pub struct MemoryUsageStore {
    // A std mutex: held to add or read numbers.
    usage_by_day: Mutex<BTreeMap<UtcDay, DayUsage>>,
    max_keys: usize,
    retention_ms: u64,
}

impl MemoryUsageStore {
    /// A store that counts `max_keys` pairs of API key and room separately on each day, and keeps
    /// each day for `retention_ms` milliseconds.
    pub fn new(max_keys: usize, retention_ms: u64) -> Self {
        Self { usage_by_day: Mutex::default(), max_keys, retention_ms }
    }

    fn lock_days(&self) -> MutexGuard<'_, BTreeMap<UtcDay, DayUsage>> {
        self.usage_by_day.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds usage of a day, and drops the days whose retention has ended.
    pub fn add_usage(&self, day: UtcDay, amounts: &[(UsageKey, UsageAmount)]) {
        let mut days = self.lock_days();
        let oldest = UtcDay::from_ms(day.plus_days(1).start_ms().saturating_sub(self.retention_ms));
        days.retain(|kept, _| *kept >= oldest.min(day));
        let usage = days.entry(day).or_default();
        let mut separate_keys = usage.0.keys().filter(|(_, room)| room != OTHER_ROOMS).count();
        for ((caller, room), amount) in amounts {
            let own = (caller.to_string(), room.to_string());
            let is_new = !usage.0.contains_key(&own);
            let is_full = is_new && separate_keys >= self.max_keys;
            separate_keys += usize::from(is_new && !is_full);
            let key = if is_full { (own.0, OTHER_ROOMS.to_owned()) } else { own };
            let sum = usage.0.entry(key).or_default();
            sum.joins += amount.joins;
            sum.connected_ms += amount.connected_ms;
        }
    }

    /// The usage of a day.
    pub fn read_day(&self, day: UtcDay) -> DayUsage {
        self.lock_days().get(&day).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_parses_to_the_text_it_prints_and_rejects_other_text() {
        for (text, days) in
            [("1970-01-01", 0), ("2000-02-29", 11_016), ("2026-11-21", 20_778), ("9999-12-31", 2_932_896)]
        {
            let day = UtcDay::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((day.0, day.to_string()), (days, text.to_owned()));
        }
        for day in (0..80_000).map(UtcDay) {
            assert_eq!(UtcDay::parse(&day.to_string()), Some(day));
        }
        for text in [
            "",
            "2026-11",
            "2026-02-30",
            "2026-13-01",
            "2026-00-01",
            "1969-12-31",
            "2026-1-1",
            "+026-01-01",
            "2026-11-21x",
            "２０２６-1",
        ] {
            assert_eq!(UtcDay::parse(text), None, "{text}");
        }
        assert_eq!(UtcDay::from_ms(DAY_MS - 1).days_until(UtcDay::from_ms(DAY_MS)), Some(1));
    }

    #[test]
    fn the_memory_store_limits_keys_per_day_and_drops_old_days() {
        let store = MemoryUsageStore::new(2, 2 * DAY_MS);
        let pair = |room: &str| (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap());
        let one = UsageAmount { joins: 1, connected_ms: 60_000 };
        let day = UtcDay::parse("2026-11-21").unwrap();
        for room in ["a", "b", "c", "a", "d"] {
            store.add_usage(day, &[(pair(room), one)]);
        }
        let joins: Vec<_> =
            store.read_day(day).0.into_iter().map(|((_, room), amount)| (room, amount.joins)).collect();
        assert_eq!(joins, [("a".to_owned(), 2), ("b".to_owned(), 1), ("~other".to_owned(), 2)]);
        store.add_usage(day.plus_days(2), &[(pair("a"), one)]);
        assert!(store.read_day(day).is_empty());
        store.add_usage(day.plus_days(3), &[]);
        assert!(!store.read_day(day.plus_days(2)).is_empty());
    }
}
