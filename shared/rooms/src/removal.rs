//! The peers that a commit removes and that must not return with their token or handle.
//!
//! Owns: which peers a decision removes, and the search after a commit with an unknown outcome.
//! Must not: revoke anything; the [`RemovalHook`] of the process does.

use std::time::Duration;

use signalbox_protocol::{
    LeaveReason,
    id::{PeerId, RoomId, TokenId, UserId},
};
use tokio::time::sleep;

use crate::{
    room::{Decision, RoomState},
    store::RoomStore,
};

/// The attempts to load a room after an unknown commit, and the pause between them: together as
/// long as a tombstone is kept.
const MAX_LOAD_ATTEMPTS: usize = 120;
const LOAD_RETRY_WAIT: Duration = Duration::from_millis(250);

/// A peer that was removed: neither its token nor its handle may bring it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedPeer {
    /// The peer.
    pub peer: PeerId,
    /// Its user.
    pub user: UserId,
    /// Its token, which stands for all tokens of the same grant.
    pub token: TokenId,
    /// When that token expires, seconds since 1970.
    pub token_expires_s: u64,
}

/// The reaction of a process to a removed peer. Called once for each, after its commit; must not
/// block.
pub type RemovalHook = std::sync::Arc<dyn Fn(RemovedPeer) + Send + Sync>;

/// The peers that a moderator or the API removes by this decision. Also a peer that joins in the
/// same batch, since its token is valid.
pub fn removed_peers(decision: &Decision) -> impl Iterator<Item = RemovedPeer> {
    let removed =
        decision.removed_members.iter().filter(move |(peer, _)| was_removed(&decision.next_state, peer));
    removed.map(|(peer, member)| {
        let (user, token) = (member.user.clone(), member.token.clone());
        RemovedPeer { peer: peer.clone(), user, token, token_expires_s: member.expires }
    })
}

/// The candidates that a commit with an unknown outcome has removed: the room keeps a tombstone of
/// each for a while.
pub async fn find_removed_peers(
    store: &RoomStore,
    room: &RoomId,
    candidates: Vec<RemovedPeer>,
) -> Vec<RemovedPeer> {
    for _ in 0..MAX_LOAD_ATTEMPTS {
        match store.load_room(room).await {
            Ok(loaded) => {
                let state = loaded.room;
                let is_removed = |candidate: &RemovedPeer| {
                    state.as_ref().is_some_and(|state| was_removed(state, &candidate.peer))
                };
                return candidates.into_iter().filter(is_removed).collect();
            }
            Err(_) => sleep(LOAD_RETRY_WAIT).await,
        }
    }
    Vec::new()
}

fn was_removed(room: &RoomState, peer: &PeerId) -> bool {
    let reason = room.tombstones.get(peer).map(|tombstone| tombstone.reason);
    matches!(reason, Some(LeaveReason::Removed | LeaveReason::Denied))
}
