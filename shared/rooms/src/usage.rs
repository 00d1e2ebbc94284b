//! What was used: joins and peer-minutes by API key and room, for each UTC day.
//!
//! Owns: what a day and a row are, and the book of a process without Redis. Must not: know how time passes; callers say what was used on
//! which day. Next: `signal-service` counts, `rooms/src/store` keeps, the auth service's `/api/usage` reads.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::id::{CallerId, RoomId};

/// Where rooms are counted that come after `usage.pairs` others.
pub const OTHER_ROOMS: &str = "~other";

/// Milliseconds of a day.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A UTC day, written `2026-11-21`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtcDay(u64);

impl UtcDay {
    /// The day of a moment, milliseconds since 1970.
    pub fn from_ms(ms: u64) -> Self {
        Self(ms / DAY_MS)
    }

    /// Its first moment, milliseconds since 1970.
    pub fn start_ms(self) -> u64 {
        self.0 * DAY_MS
    }

    /// So many days later.
    pub fn plus_days(self, days: u64) -> Self {
        Self(self.0 + days)
    }

    /// So many days earlier.
    pub fn minus_days(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// How many days later `other` is; none if it is earlier.
    pub fn days_until(self, other: Self) -> Option<u64> {
        other.0.checked_sub(self.0)
    }

    /// Reads `2026-11-21` (RFC 3339, `full-date`), from 1970 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(place, c)| match place {
                4 | 7 => *c == b'-',
                _ => c.is_ascii_digit(),
            });
        let (year, month, day) =
            shaped.then(|| (text[..4].parse(), text[5..7].parse(), text[8..].parse()))?;
        let found = Self::from_civil_date(year.ok()?, month.ok()?, day.ok()?)?;
        // A day that does not exist is another one's number.
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
    /// `civil_from_days`, of the same source.
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

/// What was used on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageAmount {
    /// Peers that joined. One that comes back has joined once.
    pub joins: u64,
    /// How long peers were connected, together, milliseconds.
    pub connected_ms: u64,
}

/// Who is counted: the API key, or in its place `guest`, `user`, `invite`; and the room.
pub type UsageKey = (CallerId, RoomId);

/// The usage of one day by API key and room, as it is read. The room may be [`OTHER_ROOMS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayUsage(pub BTreeMap<(String, String), UsageAmount>);

impl DayUsage {
    /// Reads the hash in which a day is kept: `j:<caller> <room>` joins, `m:<caller> <room>` milliseconds; the rest is not of rooms.
    pub fn from_fields(fields: &[(String, String)]) -> Self {
        let mut day = Self::default();
        for (field, value) in fields {
            let of_pair = field.split_once(':').and_then(|(kind, pair)| Some((kind, pair.split_once(' ')?)));
            let (Some((kind, (caller, room))), Ok(value)) = (of_pair, value.parse()) else { continue };
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

/// The usage of a process without Redis. Lost with it.
#[derive(Debug)]
pub struct MemoryUsageStore {
    // A std mutex: held to add or read numbers.
    usage_by_day: Mutex<BTreeMap<UtcDay, DayUsage>>,
    max_keys: usize,
    retention_ms: u64,
}

impl MemoryUsageStore {
    /// A book that counts so many pairs a day apart, and keeps each day so long.
    pub fn new(max_keys: usize, retention_ms: u64) -> Self {
        Self { usage_by_day: Mutex::default(), max_keys, retention_ms }
    }

    fn lock_days(&self) -> MutexGuard<'_, BTreeMap<UtcDay, DayUsage>> {
        self.usage_by_day.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was used on a day. Days that are over for longer than they are kept go.
    pub fn add_usage(&self, day: UtcDay, amounts: &[(UsageKey, UsageAmount)]) {
        let mut days = self.lock_days();
        let oldest = UtcDay::from_ms(day.plus_days(1).start_ms().saturating_sub(self.retention_ms));
        days.retain(|known, _| *known >= oldest.min(day));
        let of_day = days.entry(day).or_default();
        for ((caller, room), amount) in amounts {
            let own = (caller.to_string(), room.to_string());
            let rooms = of_day.0.keys().filter(|(_, room)| room != OTHER_ROOMS).count();
            let is_full = !of_day.0.contains_key(&own) && rooms >= self.max_keys;
            let key = if is_full { (own.0, OTHER_ROOMS.to_owned()) } else { own };
            let sum = of_day.0.entry(key).or_default();
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
        let book = MemoryUsageStore::new(2, 2 * DAY_MS);
        let pair = |room: &str| (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap());
        let one = UsageAmount { joins: 1, connected_ms: 60_000 };
        let day = UtcDay::parse("2026-11-21").unwrap();
        for room in ["a", "b", "c", "a", "d"] {
            book.add_usage(day, &[(pair(room), one)]);
        }
        let joins: Vec<_> =
            book.read_day(day).0.into_iter().map(|((_, room), amount)| (room, amount.joins)).collect();
        assert_eq!(joins, [("a".to_owned(), 2), ("b".to_owned(), 1), ("~other".to_owned(), 2)]);
        book.add_usage(day.plus_days(2), &[(pair("a"), one)]);
        assert!(book.read_day(day).is_empty());
        book.add_usage(day.plus_days(3), &[]);
        assert!(!book.read_day(day.plus_days(2)).is_empty());
    }
}
