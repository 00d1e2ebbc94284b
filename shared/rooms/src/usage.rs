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
pub struct Day(u64);

impl Day {
    /// The day of a moment, milliseconds since 1970.
    pub fn of(ms: u64) -> Self {
        Self(ms / DAY_MS)
    }

    /// Its first moment, milliseconds since 1970.
    pub fn begins_ms(self) -> u64 {
        self.0 * DAY_MS
    }

    /// So many days later.
    pub fn plus(self, days: u64) -> Self {
        Self(self.0 + days)
    }

    /// So many days earlier.
    pub fn minus(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// How many days later `other` is; none if it is earlier.
    pub fn until(self, other: Self) -> Option<u64> {
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
        let found = Self::civil(year.ok()?, month.ok()?, day.ok()?)?;
        // A day that does not exist is another one's number.
        (found.to_string() == text).then_some(found)
    }

    /// Howard Hinnant, "chrono-compatible low-level date algorithms": `days_from_civil`.
    fn civil(year: i64, month: i64, day: i64) -> Option<Self> {
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

impl std::fmt::Display for Day {
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
pub struct Amount {
    /// Peers that joined. One that comes back has joined once.
    pub joins: u64,
    /// How long peers were connected, together, milliseconds.
    pub ms: u64,
}

/// Who is counted: the API key, or in its place `guest`, `user`, `invite`; and the room.
pub type Pair = (CallerId, RoomId);

/// The usage of one day by API key and room, as it is read. The room may be [`OTHER_ROOMS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DayUsage(pub BTreeMap<(String, String), Amount>);

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
                "m" => amount.ms = value,
                _ => {}
            }
        }
        day
    }
}

impl std::ops::Deref for DayUsage {
    type Target = BTreeMap<(String, String), Amount>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The usage of a process without Redis. Lost with it.
#[derive(Debug)]
pub struct UsageBook {
    // A std mutex: held to add or read numbers.
    days: Mutex<BTreeMap<Day, DayUsage>>,
    pairs: usize,
    kept_ms: u64,
}

impl UsageBook {
    /// A book that counts so many pairs a day apart, and keeps each day so long.
    pub fn new(pairs: usize, kept_ms: u64) -> Self {
        Self { days: Mutex::default(), pairs, kept_ms }
    }

    fn days(&self) -> MutexGuard<'_, BTreeMap<Day, DayUsage>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was used on a day. Days that are over for longer than they are kept go.
    pub fn add(&self, day: Day, amounts: &[(Pair, Amount)]) {
        let mut days = self.days();
        let oldest = Day::of(day.plus(1).begins_ms().saturating_sub(self.kept_ms));
        days.retain(|known, _| *known >= oldest.min(day));
        let of_day = days.entry(day).or_default();
        for ((caller, room), amount) in amounts {
            let own = (caller.to_string(), room.to_string());
            let rooms = of_day.0.keys().filter(|(_, room)| room != OTHER_ROOMS).count();
            let is_full = !of_day.0.contains_key(&own) && rooms >= self.pairs;
            let key = if is_full { (own.0, OTHER_ROOMS.to_owned()) } else { own };
            let sum = of_day.0.entry(key).or_default();
            sum.joins += amount.joins;
            sum.ms += amount.ms;
        }
    }

    /// The usage of a day.
    pub fn day(&self, day: Day) -> DayUsage {
        self.days().get(&day).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_as_it_is_written_and_one_that_is_not_is_refused() {
        for (text, days) in
            [("1970-01-01", 0), ("2000-02-29", 11_016), ("2026-11-21", 20_778), ("9999-12-31", 2_932_896)]
        {
            let day = Day::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((day.0, day.to_string()), (days, text.to_owned()));
        }
        for day in (0..80_000).map(Day) {
            assert_eq!(Day::parse(&day.to_string()), Some(day));
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
            assert_eq!(Day::parse(text), None, "{text}");
        }
        assert_eq!(Day::of(DAY_MS - 1).until(Day::of(DAY_MS)), Some(1));
    }

    #[test]
    fn the_book_counts_so_many_pairs_apart_and_keeps_so_many_days() {
        let book = UsageBook::new(2, 2 * DAY_MS);
        let pair = |room: &str| (CallerId::parse("shop").unwrap(), RoomId::parse(room).unwrap());
        let one = Amount { joins: 1, ms: 60_000 };
        let day = Day::parse("2026-11-21").unwrap();
        for room in ["a", "b", "c", "a", "d"] {
            book.add(day, &[(pair(room), one)]);
        }
        let joins: Vec<_> =
            book.day(day).0.into_iter().map(|((_, room), amount)| (room, amount.joins)).collect();
        assert_eq!(joins, [("a".to_owned(), 2), ("b".to_owned(), 1), ("~other".to_owned(), 2)]);
        book.add(day.plus(2), &[(pair("a"), one)]);
        assert!(book.day(day).is_empty());
        book.add(day.plus(3), &[]);
        assert!(!book.day(day.plus(2)).is_empty());
    }
}
