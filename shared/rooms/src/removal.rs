//! Who must not come back after a commit: what others do about it is theirs.

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

/// How often it is asked what became of a commit, and how long between two times: until a tombstone may be gone.
const MAX_LOAD_ATTEMPTS: usize = 120;
const LOAD_RETRY_WAIT: Duration = Duration::from_millis(250);

/// A peer that was removed: neither its token nor its handle may bring it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedPeer {
    /// The peer.
    pub peer: PeerId,
    /// Its user.
    pub user: UserId,
    /// Its token; all of the same making are meant.
    pub token: TokenId,
    /// When that ends by itself, seconds since 1970.
    pub token_expires_s: u64,
}

/// What a process does with those who were removed. Called once for each after its commit; must not block.
pub type RemovalHook = std::sync::Arc<dyn Fn(RemovedPeer) + Send + Sync>;

/// Who was removed by a decision: by a moderator, or by the API. One too whose join was in the same batch, since its token is good.
pub fn removed_peers(decision: &Decision) -> impl Iterator<Item = RemovedPeer> {
    let removed =
        decision.removed_members.iter().filter(move |(peer, _)| was_removed(&decision.next_state, peer));
    removed.map(|(peer, member)| {
        let (user, token) = (member.user.clone(), member.token.clone());
        RemovedPeer { peer: peer.clone(), user, token, token_expires_s: member.expires }
    })
}

/// Those of a commit that nobody answered for, who were removed by it after all: the room remembers it for a while.
pub async fn find_removed_peers(
    store: &RoomStore,
    room: &RoomId,
    doubtful: Vec<RemovedPeer>,
) -> Vec<RemovedPeer> {
    for _ in 0..MAX_LOAD_ATTEMPTS {
        match store.load_room(room).await {
            Ok(found) => {
                let was =
                    |who: &RemovedPeer| found.room.as_ref().is_some_and(|room| was_removed(room, &who.peer));
                return doubtful.into_iter().filter(was).collect();
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
