//! The rules of a role for the SDP and the ICE candidates that its peers send.
//!
//! Owns: the rules for the media of a description ([`MediaRules`]), the rules for candidates
//! ([`CandidateRules`]), and the parsers for both. It is pure: a text goes in, a decision comes
//! out. Must not: know a room, a token or a socket, or repeat SDP in an error. Next:
//! `signal-service/src/connection` calls [`RolePolicy`] before it forwards a description or a
//! candidate.
//!
//! Browsers read unusual SDP in other ways than RFC 8866 says, and in different ways. So unusual
//! SDP is rejected: a line must have the one form that all parsers read alike (`sdp_line`). A
//! section that could still be read in two ways counts as sending (`media_rules`). A role without
//! rules costs nothing, because [`RolePolicy::new`] returns `None` for it.

mod address;
mod candidate;
mod candidate_init;
mod candidate_rules;
mod description_rewriter;
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

/// The rules of one role, created once for each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePolicy {
    media: MediaRules,
    candidates: CandidateRules,
}

impl RolePolicy {
    /// `None` if no rule restricts the role, so that its messages need not be read.
    pub fn new(media: MediaRules, candidates: CandidateRules) -> Option<Self> {
        (media.is_restrictive() || candidates.is_restrictive()).then_some(Self { media, candidates })
    }

    /// Checks the `sdp` of an offer, an answer or a pranswer and returns the text to forward. If a
    /// candidate rule applies, this is a text without the candidates and addresses that the rule
    /// excludes. Otherwise it is the same text.
    ///
    /// It reads at most 4 096 lines and 128 sections, in linear time.
    ///
    /// # Errors
    /// [`PolicyRefusal`], with the m-line if one is the reason.
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

    /// Does the same as [`filter_description`](Self::filter_description), for a JSON string with
    /// its quotes.
    ///
    /// # Errors
    /// The errors of `filter_description`. A text that is not a JSON string is malformed.
    pub fn filter_description_json<'a>(&self, json: &'a str) -> Result<Cow<'a, str>, PolicyRefusal> {
        let sdp: String =
            serde_json::from_str(json).map_err(|_| PolicyRefusal::malformed("not a JSON string"))?;
        match self.filter_description(&sdp)? {
            Cow::Borrowed(_) => Ok(json.into()),
            Cow::Owned(text) => Ok(serde_json::Value::from(text).to_string().into()),
        }
    }

    /// Checks a trickled candidate: the JSON text of an `RTCIceCandidateInit` (webrtc-pc, section
    /// 4.8.1.1). If a candidate rule applies, members that are not in that dictionary are removed,
    /// because they may contain the same addresses.
    ///
    /// # Errors
    /// [`PolicyRefusal`] if a rule applies and the candidate cannot be read.
    pub fn filter_candidate<'a>(&self, json: &'a str) -> Result<CandidateOutcome<'a>, PolicyRefusal> {
        if self.candidates.is_restrictive() {
            candidate_init::filter_init(&self.candidates, json)
        } else {
            Ok(CandidateOutcome::Forward(json.into()))
        }
    }
}
