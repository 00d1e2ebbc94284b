//! Who must not come back after a commit: what others do about it is theirs.

use signalbox_shared::{
    id::{PeerId, TokenId, UserId},
    protocol::LeftReason,
};

use crate::room::{Decision, RoomState};

/// A peer that was removed: neither its token nor its handle may bring it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBack {
    /// The peer.
    pub peer: PeerId,
    /// Its user.
    pub user: UserId,
    /// Its token; all of the same making are meant.
    pub token: TokenId,
    /// When that ends by itself, seconds since 1970.
    pub until: u64,
}

/// What a process does with those who were removed. Called once for each after its commit; must not block.
pub type OnTakenBack = std::sync::Arc<dyn Fn(TakenBack) + Send + Sync>;

/// Who was removed by a decision that was made on `state`: by a moderator, or by the API.
pub fn taken_back(state: &RoomState, decision: &Decision) -> Vec<TakenBack> {
    let reason = |peer: &PeerId| decision.next.left.get(peer).map(|tombstone| tombstone.reason);
    let removed = decision
        .removed
        .iter()
        .filter(|peer| matches!(reason(peer), Some(LeftReason::Removed | LeftReason::Denied)));
    let record = |peer: &PeerId| {
        let member = state.members.get(peer)?;
        let (user, token) = (member.user.clone(), member.token.clone());
        Some(TakenBack { peer: peer.clone(), user, token, until: member.expires })
    };
    removed.filter_map(record).collect()
}
