//! Why something is not forwarded.

use std::fmt;

/// The longest `mid` that is repeated in a message.
const MAX_MID_BYTES: usize = 16;

/// What kind of refusal: a fault of the text, or of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// It cannot be read with certainty: `bad_message`.
    Malformed,
    /// It says what the role may not say: `not_permitted`.
    NotPermitted,
}

/// Which m-line: its place, from 0, and its `a=mid` where that is short and plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpSection {
    /// The index of the section, from 0 (`sdpMLineIndex`).
    pub index: usize,
    /// Its `mid`.
    pub mid: Option<String>,
}

impl SdpSection {
    pub(crate) fn new(index: usize, mid: Option<&str>) -> Self {
        let plain = |mid: &&str| {
            mid.len() <= MAX_MID_BYTES
                && mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        Self { index, mid: mid.filter(plain).map(str::to_owned) }
    }
}

/// A refusal, for the sender to read. It repeats nothing of what was sent but a short `mid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyRefusal {
    /// Whose fault.
    pub kind: RefusalKind,
    /// The m-line at fault, where it is one.
    pub section: Option<SdpSection>,
    /// The line at fault, from 1, where it is one.
    pub line: Option<usize>,
    /// For a person.
    pub reason: &'static str,
}

impl PolicyRefusal {
    pub(crate) fn malformed(reason: &'static str) -> Self {
        Self { kind: RefusalKind::Malformed, section: None, line: None, reason }
    }

    pub(crate) fn not_permitted(why: &'static str) -> Self {
        Self { kind: RefusalKind::NotPermitted, ..Self::malformed(why) }
    }

    pub(crate) fn in_section(self, section: SdpSection) -> Self {
        Self { section: Some(section), ..self }
    }

    pub(crate) fn on_line(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }
}

impl fmt::Display for PolicyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.section {
            Some(SdpSection { index, mid: Some(mid) }) => write!(f, "m-line {index} (mid {mid}): ")?,
            Some(SdpSection { index, mid: None }) => write!(f, "m-line {index}: ")?,
            None => {}
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(self.reason)
    }
}
