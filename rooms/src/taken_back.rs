//! Who must not come back after a commit: what others do about it is theirs.

use signalbox_shared::{
    id::{PeerId, TokenId, UserId},
    protocol::LeftReason,
};

use crate::room::Decision;

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

/// Who was removed by a decision: by a moderator, or by the API. One too whose join was in the same batch, since its token is good.
pub fn taken_back(decision: &Decision) -> impl Iterator<Item = TakenBack> {
    let reason = |peer: &PeerId| decision.next.left.get(peer).map(|tombstone| tombstone.reason);
    let removed = decision
        .left
        .iter()
        .filter(move |(peer, _)| matches!(reason(peer), Some(LeftReason::Removed | LeftReason::Denied)));
    removed.map(|(peer, member)| {
        let (user, token) = (member.user.clone(), member.token.clone());
        TakenBack { peer: peer.clone(), user, token, until: member.expires }
    })
}
