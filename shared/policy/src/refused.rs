//! Why something is not forwarded.

use std::fmt;

/// The longest `mid` that is repeated in a message.
const MAX_MID: usize = 16;

/// What kind of refusal: a fault of the text, or of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It cannot be read with certainty: `bad_message`.
    Malformed,
    /// It says what the role may not say: `not_permitted`.
    NotPermitted,
}

/// Which m-line: its place, from 0, and its `a=mid` where that is short and plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The index of the section, from 0 (`sdpMLineIndex`).
    pub index: usize,
    /// Its `mid`.
    pub mid: Option<String>,
}

impl Section {
    pub(crate) fn new(index: usize, mid: Option<&str>) -> Self {
        let plain = |mid: &&str| {
            mid.len() <= MAX_MID
                && mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        Self { index, mid: mid.filter(plain).map(str::to_owned) }
    }
}

/// A refusal, for the sender to read. It repeats nothing of what was sent but a short `mid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// Whose fault.
    pub kind: Kind,
    /// The m-line at fault, where it is one.
    pub section: Option<Section>,
    /// The line at fault, from 1, where it is one.
    pub line: Option<usize>,
    /// For a person.
    pub why: &'static str,
}

impl Refused {
    pub(crate) fn malformed(why: &'static str) -> Self {
        Self { kind: Kind::Malformed, section: None, line: None, why }
    }

    pub(crate) fn not_permitted(why: &'static str) -> Self {
        Self { kind: Kind::NotPermitted, ..Self::malformed(why) }
    }

    pub(crate) fn at(self, section: Section) -> Self {
        Self { section: Some(section), ..self }
    }

    pub(crate) fn on_line(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.section {
            Some(Section { index, mid: Some(mid) }) => write!(f, "m-line {index} (mid {mid}): ")?,
            Some(Section { index, mid: None }) => write!(f, "m-line {index}: ")?,
            None => {}
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(self.why)
    }
}
