//! The outcome of an attempt to connect two peers, as one of them reports it.
//!
//! Owns: [`PairOutcome`] and its stable words. Must not: hold a text that a client has chosen, an
//! address or SDP. Next: `client` parses it from the message `outcome`.

use serde::{Deserialize, Serialize};

use crate::id::PeerId;

/// The largest `ms` of an outcome: an hour.
pub const MAX_OUTCOME_MS: u64 = 60 * 60 * 1_000;

/// Declares an enum of stable words, with `ALL`, `as_str` and `parse`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident: $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$value_doc])* #[serde(rename = $text)] $value),* }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$value),*];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),* }
            }

            /// Reads the stable text.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }
    };
}

words! {
    /// How an attempt ended.
    PairResult {
        /// Media or data can flow.
        Connected: "connected",
        /// The peers did not connect, or lost each other for good.
        Failed: "failed",
        /// The application or a peer ended the attempt before it connected or failed.
        Closed: "closed",
    }
}

words! {
    /// Why two peers do not connect, as far as a client can tell.
    FailureCode {
        /// The TURN server refuses the credential, or has no free place.
        TurnRefused: "turn_refused",
        /// The TURN server does not answer.
        TurnUnreachable: "turn_unreachable",
        /// The browser has found no candidate.
        NoCandidates: "no_candidates",
        /// A relay is needed, and none is configured.
        NoRelay: "no_relay",
        /// The network lets no UDP out.
        UdpBlocked: "udp_blocked",
        /// Both peers have candidates, and no pair of them works.
        NoPath: "no_path",
        /// The other peer has not answered the offer.
        AnswerMissing: "answer_missing",
    }
}

words! {
    /// The protocol between a peer and the network: of its candidate, or to its relay.
    PathProtocol {
        /// UDP.
        Udp: "udp",
        /// TCP.
        Tcp: "tcp",
        /// TLS over TCP.
        Tls: "tls",
    }
}

words! {
    /// A step of two peers toward each other, as their timeline names it.
    PairStep {
        /// The connection of the peer began, with a new peer.
        Joined: "joined",
        /// The connection of the peer began, with a peer that resumed.
        Resumed: "resumed",
        /// The peer sent an offer.
        Offer: "offer",
        /// The peer sent an answer.
        Answer: "answer",
        /// The connection of the peer ended, and the peer may resume.
        Detached: "detached",
        /// The peer left the room.
        Left: "left",
        /// See [`PairResult::Connected`].
        Connected: "connected",
        /// See [`PairResult::Failed`].
        Failed: "failed",
        /// See [`PairResult::Closed`].
        Closed: "closed",
    }
}

impl From<PairResult> for PairStep {
    fn from(result: PairResult) -> Self {
        match result {
            PairResult::Connected => Self::Connected,
            PairResult::Failed => Self::Failed,
            PairResult::Closed => Self::Closed,
        }
    }
}

/// The outcome of an attempt to connect two peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairOutcome {
    /// The other peer.
    pub peer: PeerId,
    /// How the attempt ended.
    pub result: PairResult,
    /// Why it did not connect, if the client knows it. None for [`PairResult::Connected`].
    pub code: Option<FailureCode>,
    /// The time from the start of the attempt to its end, milliseconds; at most [`MAX_OUTCOME_MS`].
    pub ms: Option<u32>,
    /// Whether the path goes through a relay.
    pub relayed: Option<bool>,
    /// The protocol of the path.
    pub protocol: Option<PathProtocol>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operators and clients find every word where it is explained.
    #[test]
    fn every_word_of_an_outcome_is_in_the_documents() {
        let protocol = include_str!("../../../docs/PROTOCOL.md");
        let troubleshooting = include_str!("../../../docs/TROUBLESHOOTING.md");
        let words = PairResult::ALL.iter().map(|value| value.as_str());
        let words = words.chain(PathProtocol::ALL.iter().map(|value| value.as_str()));
        let words = words.chain(PairStep::ALL.iter().map(|value| value.as_str()));
        for word in words.chain(FailureCode::ALL.iter().map(|value| value.as_str())) {
            assert!(protocol.contains(&format!("`{word}`")), "docs/PROTOCOL.md lacks {word}");
        }
        for code in FailureCode::ALL {
            let row = format!("| `{}` |", code.as_str());
            assert!(troubleshooting.contains(&row), "docs/TROUBLESHOOTING.md lacks a row for {code:?}");
            assert_eq!(FailureCode::parse(code.as_str()), Some(*code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
