//! The timeline of a room: the steps of each two peers toward each other, so that an operator sees
//! why a call did not connect.
//!
//! Owns: [`PeerPair`], the steps, and their text in the store. Must not: hold SDP, a candidate, an
//! address or a text that a client has chosen. Next: `store` keeps the steps within bounds, nodes
//! append them, and the auth service reads them.

use serde::{Deserialize, Serialize};
use signalbox_protocol::{
    FailureCode, PairOutcome, PairStep, PathProtocol,
    id::{PeerId, UserId},
};
use tokio::time::Instant;

/// Two peers of a room, in no order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerPair {
    // The smaller id comes first.
    peers: [PeerId; 2],
}

impl PeerPair {
    /// The pair of two different peers.
    pub fn new(one: PeerId, other: PeerId) -> Self {
        let mut peers = [one, other];
        peers.sort();
        Self { peers }
    }

    /// Both peers.
    pub fn peers(&self) -> &[PeerId; 2] {
        &self.peers
    }

    /// Whether the peer is one of the two.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains(peer)
    }

    /// The place of a peer of the pair.
    pub(crate) fn index_of(&self, peer: &PeerId) -> usize {
        usize::from(*peer == self.peers[1])
    }

    /// The pair as text.
    pub(crate) fn to_text(&self) -> String {
        self.peers.each_ref().map(PeerId::as_str).join(":")
    }

    /// Reads [`PeerPair::to_text`].
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (one, other) = text.split_once(':')?;
        Some(Self::new(PeerId::parse(one).ok()?, PeerId::parse(other).ok()?))
    }
}

/// One step of a peer toward another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineStep {
    /// The kind of the step.
    pub step: PairStep,
    /// Why the peers do not connect, if a client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<FailureCode>,
    /// The duration of the attempt, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u32>,
    /// Whether the path goes through a relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed: Option<bool>,
    /// The protocol of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PathProtocol>,
}

impl From<PairStep> for TimelineStep {
    fn from(step: PairStep) -> Self {
        Self { step, code: None, ms: None, relayed: None, protocol: None }
    }
}

impl From<&PairOutcome> for TimelineStep {
    fn from(outcome: &PairOutcome) -> Self {
        let PairOutcome { result, code, ms, relayed, protocol, .. } = *outcome;
        Self { step: result.into(), code, ms, relayed, protocol }
    }
}

/// The steps of one peer toward another that a node has seen.
#[derive(Debug, Clone)]
pub struct PairReport {
    /// The peer that made the steps.
    pub peer: PeerId,
    /// The user of the peer.
    pub user: UserId,
    /// The other peer.
    pub other: PeerId,
    /// The user of the other peer, if the node knows it.
    pub other_user: Option<UserId>,
    /// The root of the peer: it takes the place of the pair.
    pub root: Box<str>,
    /// The steps, in order.
    pub steps: Vec<(Instant, TimelineStep)>,
}

impl PairReport {
    /// The pair.
    pub(crate) fn pair(&self) -> PeerPair {
        PeerPair::new(self.peer.clone(), self.other.clone())
    }

    /// The users, in the order of the pair.
    pub(crate) fn users(&self) -> [Option<UserId>; 2] {
        let mut users = [Some(self.user.clone()), self.other_user.clone()];
        if self.pair().index_of(&self.peer) == 1 {
            users.reverse();
        }
        users
    }
}

/// A step with its peer and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedStep {
    /// Milliseconds since 1970 by the clock of the store.
    pub at: u64,
    /// The peer that made the step.
    pub peer: PeerId,
    /// The step.
    pub step: TimelineStep,
}

/// The timeline of one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairTimeline {
    /// The pair.
    pub pair: PeerPair,
    /// The users of the peers, as far as a node knew them.
    pub users: [Option<UserId>; 2],
    /// The steps, in the order of their times.
    pub steps: Vec<RecordedStep>,
}

impl PairTimeline {
    /// Orders the steps by time, and the pairs by their last step, the newest first.
    pub(crate) fn sort_all(pairs: &mut [Self]) {
        pairs.iter_mut().for_each(|pair| pair.steps.sort_by_key(|step| step.at));
        let last_step = |pair: &Self| pair.steps.last().map_or(0, |step| step.at);
        pairs.sort_by(|a, b| last_step(b).cmp(&last_step(a)).then_with(|| a.pair.cmp(&b.pair)));
    }
}
