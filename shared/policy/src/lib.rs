//! What a role may say in SDP and in ICE candidates.
//!
//! Owns: the direction policy for descriptions ([`MediaRules`]), the filter of candidates ([`CandidateRules`]), the parsers
//! under them. Pure: text in, verdict out. Must not: know of rooms, tokens or sockets, or repeat SDP in an error.
//! Next: `signal-service/src/connection` asks [`Rules`] before a description or a candidate is forwarded.
//!
//! Browsers do not agree with RFC 8866, nor with each other, on what odd SDP means. So nothing odd passes: a line has to
//! be written the one way that every parser reads alike (`lines`), and what is still open to interpretation (`media`)
//! counts as sending. A role without rules costs nothing: [`Rules::new`] is `None` for it.

mod address;
mod candidate;
mod direction;
mod filter;
mod init;
mod leak;
mod lines;
mod media;
mod refused;
mod rewrite;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use candidate::{Candidate, CandidateError, CandidateType, Host};
pub use filter::{CandidateRules, Verdict};
pub use media::MediaRules;
pub use refused::{Kind, Refused, Section};

/// The rules of one role. Made once per member; [`None`](Rules::new) where the role has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    media: MediaRules,
    candidates: CandidateRules,
}

impl Rules {
    /// `None` if nothing is ruled: then nothing has to be read.
    pub fn new(media: MediaRules, candidates: CandidateRules) -> Option<Self> {
        (media.restrict() || candidates.restrict()).then_some(Self { media, candidates })
    }

    /// Judges the `sdp` of an offer, an answer or a pranswer. What comes back is what may be forwarded: the text as it
    /// came, or, where candidates are ruled, one without the addresses that must not be told.
    ///
    /// # Errors
    /// [`Refused`] says which m-line and why. At most 4 096 lines and 128 sections are read; the time is linear.
    pub fn description<'a>(&self, sdp: &'a str) -> Result<Cow<'a, str>, Refused> {
        let lines = lines::read(sdp)?;
        if self.media.restrict() {
            self.media.judge(sdp, &lines)?;
        }
        if self.candidates.restrict() {
            rewrite::description(&self.candidates, sdp, &lines)
        } else {
            Ok(sdp.into())
        }
    }

    /// [`description`](Self::description) for `sdp` as it stands in a message: a JSON string, with its quotes.
    ///
    /// # Errors
    /// As `description`; a text that is no JSON string is malformed.
    pub fn description_json<'a>(&self, json: &'a str) -> Result<Cow<'a, str>, Refused> {
        let sdp: String = serde_json::from_str(json).map_err(|_| Refused::malformed("not a JSON string"))?;
        match self.description(&sdp)? {
            Cow::Borrowed(_) => Ok(json.into()),
            Cow::Owned(text) => Ok(serde_json::Value::from(text).to_string().into()),
        }
    }

    /// Judges a trickled candidate: the JSON text of an `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1). Where candidates
    /// are ruled, members that are not of that dictionary go no further: they may hold the same addresses.
    ///
    /// # Errors
    /// [`Refused`] if it cannot be read; nothing is passed unread.
    pub fn candidate<'a>(&self, json: &'a str) -> Result<Verdict<'a>, Refused> {
        if self.candidates.restrict() {
            init::judge(&self.candidates, json)
        } else {
            Ok(Verdict::Pass(json.into()))
        }
    }
}
