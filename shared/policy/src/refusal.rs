//! Why a description or a candidate is not forwarded.

use std::fmt;

/// The longest `mid` that an error repeats.
const MAX_MID_BYTES: usize = 16;

/// Whether the text or the role is the reason of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The text cannot be read with certainty: `bad_message`.
    Malformed,
    /// The role lacks a permission: `not_permitted`.
    NotPermitted,
}

/// The m-line that is the reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpSection {
    /// The index of the section, from 0 (`sdpMLineIndex`).
    pub index: usize,
    /// Its `a=mid`, if that is short and plain enough to repeat.
    pub mid: Option<String>,
}

impl SdpSection {
    pub(crate) fn new(index: usize, mid: Option<&str>) -> Self {
        let is_plain = |mid: &&str| {
            mid.len() <= MAX_MID_BYTES
                && mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        Self { index, mid: mid.filter(is_plain).map(str::to_owned) }
    }
}

/// A refusal for the sender. It repeats nothing of the sent text except a short `mid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyRefusal {
    /// Whether the text or the role is the reason.
    pub kind: RefusalKind,
    /// The m-line that is the reason, if one is.
    pub section: Option<SdpSection>,
    /// The number of the line that is the reason, from 1, if one is.
    pub line: Option<usize>,
    /// The reason in plain English.
    pub reason: &'static str,
}

impl PolicyRefusal {
    pub(crate) fn malformed(reason: &'static str) -> Self {
        Self { kind: RefusalKind::Malformed, section: None, line: None, reason }
    }

    pub(crate) fn not_permitted(reason: &'static str) -> Self {
        Self { kind: RefusalKind::NotPermitted, ..Self::malformed(reason) }
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
