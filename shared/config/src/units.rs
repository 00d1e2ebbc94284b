//! Durations and sizes with units: `15m`, `250ms`, `64KiB`. A bare number is rejected, because its
//! unit would be a guess.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A duration, written `250ms`, `30s`, `15m`, `12h`, `35d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    /// A duration in milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// A duration in seconds.
    pub const fn secs(s: u64) -> Self {
        Self(Duration::from_secs(s))
    }

    /// Whole milliseconds.
    pub fn as_ms(self) -> u64 {
        self.0.as_millis() as u64
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|_| format!("`{text}` is not a duration; write it like 250ms, 30s, 15m or 12h"))
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> Self {
        span.to_string()
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Humantime would print months, with a fraction of a day in each.
        let (days, rest) = (self.0.as_secs() / 86_400, self.0.as_secs() % 86_400);
        if days > 0 && rest == 0 && self.0.subsec_nanos() == 0 {
            return write!(f, "{days}d");
        }
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Debug for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A size in bytes, written `512B`, `64KiB`, `1MiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub usize);

impl ByteSize {
    /// A size in KiB (1024 bytes).
    pub const fn kib(n: usize) -> Self {
        Self(n * 1024)
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &text[digits.len()..] {
            "B" => Some(1),
            "KiB" => Some(1024),
            "MiB" => Some(1024 * 1024),
            _ => None,
        };
        let size = factor.and_then(|factor| digits.parse::<usize>().ok()?.checked_mul(factor));
        size.map(Self).ok_or_else(|| format!("`{text}` is not a size; write it like 512B, 64KiB or 1MiB"))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1024 * 1024) == 0 => write!(f, "{}MiB", n / 1024 / 1024),
            n if n > 0 && n % 1024 == 0 => write!(f, "{}KiB", n / 1024),
            n => write!(f, "{n}B"),
        }
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_parses_to_the_text_it_prints() {
        for text in ["1B", "1023B", "64KiB", "1MiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for text in ["250ms", "30s", "15m", "12h", "1d", "35d"] {
            assert_eq!(TimeSpan::try_from(text.to_owned()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_rejected() {
        assert!("64".parse::<ByteSize>().is_err());
        assert!("64KB".parse::<ByteSize>().is_err());
        assert!("99999999999999999999MiB".parse::<ByteSize>().is_err());
        assert!(TimeSpan::try_from("30".to_owned()).is_err());
    }
}
