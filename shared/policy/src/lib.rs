//! What a role may say in SDP and in ICE candidates.
//!
//! Owns: the direction policy for descriptions ([`MediaRules`]), the filter of candidates ([`CandidateRules`]), the parsers
//! under them. Pure: text in, verdict out. Must not: know of rooms, tokens or sockets, or repeat SDP in an error.
//! Next: `signal-service/src/connection` asks [`RolePolicy`] before a description or a candidate is forwarded.
//!
//! Browsers do not agree with RFC 8866, nor with each other, on what odd SDP means. So nothing odd passes: a line has to
//! be written the one way that every parser reads alike (`lines`), and what is still open to interpretation (`media`)
//! counts as sending. A role without rules costs nothing: [`RolePolicy::new`] is `NoSuchRule` for it.

mod address;
mod candidate;
mod candidate_init;
mod candidate_rules;
mod description_rewriter;
mod hidden_addresses;
mod media_direction;
mod media_rules;
mod refusal;
mod sdp_line;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use candidate::{Candidate, CandidateError, CandidateHost, CandidateType};
pub use candidate_rules::{CandidateOutcome, CandidateRules};
pub use media_rules::MediaRules;
pub use refusal::{PolicyRefusal, RefusalKind, SdpSection};

/// The rules of one role. Made once per member; [`NoSuchRule`](Rules::new) where the role has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePolicy {
    media: MediaRules,
    candidates: CandidateRules,
}

impl RolePolicy {
    /// `NoSuchRule` if nothing is ruled: then nothing has to be read.
    pub fn new(media: MediaRules, candidates: CandidateRules) -> Option<Self> {
        (media.is_restrictive() || candidates.is_restrictive()).then_some(Self { media, candidates })
    }

    /// Judges the `sdp` of an offer, an answer or a pranswer. What comes back is what may be forwarded: the text as it
    /// came, or, where candidates are ruled, one without the addresses that must not be told.
    ///
    /// # Errors
    /// [`PolicyRefusal`] says which m-line and why. At most 4 096 lines and 128 sections are read; the time is linear.
    pub fn filter_description<'a>(&self, sdp: &'a str) -> Result<Cow<'a, str>, PolicyRefusal> {
        let lines = sdp_line::read_lines(sdp)?;
        if self.media.is_restrictive() {
            self.media.check_description(sdp, &lines)?;
        }
        if self.candidates.is_restrictive() {
            description_rewriter::rewrite_description(&self.candidates, sdp, &lines)
        } else {
            Ok(sdp.into())
        }
    }

    /// [`description`](Self::description) for `sdp` as it stands in a message: a JSON string, with its quotes.
    ///
    /// # Errors
    /// As `description`; a text that is no JSON string is malformed.
    pub fn filter_description_json<'a>(&self, json: &'a str) -> Result<Cow<'a, str>, PolicyRefusal> {
        let sdp: String =
            serde_json::from_str(json).map_err(|_| PolicyRefusal::malformed("not a JSON string"))?;
        match self.filter_description(&sdp)? {
            Cow::Borrowed(_) => Ok(json.into()),
            Cow::Owned(text) => Ok(serde_json::Value::from(text).to_string().into()),
        }
    }

    /// Judges a trickled candidate: the JSON text of an `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1). Where candidates
    /// are ruled, members that are not of that dictionary go no further: they may hold the same addresses.
    ///
    /// # Errors
    /// [`PolicyRefusal`] if it cannot be read; nothing is passed unread.
    pub fn filter_candidate<'a>(&self, json: &'a str) -> Result<CandidateOutcome<'a>, PolicyRefusal> {
        if self.candidates.is_restrictive() {
            candidate_init::filter_init(&self.candidates, json)
        } else {
            Ok(CandidateOutcome::Forward(json.into()))
        }
    }
}
