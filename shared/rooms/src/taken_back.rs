//! Who must not come back after a commit: what others do about it is theirs.

use std::time::Duration;

use signalbox_protocol::{
    LeftReason,
    id::{PeerId, RoomId, TokenId, UserId},
};
use tokio::time::sleep;

use crate::{
    room::{Decision, RoomState},
    store::Store,
};

/// How often it is asked what became of a commit, and how long between two times: until a tombstone may be gone.
const TURNS: usize = 120;
const AGAIN: Duration = Duration::from_millis(250);

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
    let removed = decision.left.iter().filter(move |(peer, _)| was_removed(&decision.next, peer));
    removed.map(|(peer, member)| {
        let (user, token) = (member.user.clone(), member.token.clone());
        TakenBack { peer: peer.clone(), user, token, until: member.expires }
    })
}

/// Those of a commit that nobody answered for, who were removed by it after all: the room remembers it for a while.
pub async fn found_out(store: &Store, room: &RoomId, doubtful: Vec<TakenBack>) -> Vec<TakenBack> {
    for _ in 0..TURNS {
        match store.load(room).await {
            Ok(found) => {
                let was =
                    |who: &TakenBack| found.room.as_ref().is_some_and(|room| was_removed(room, &who.peer));
                return doubtful.into_iter().filter(was).collect();
            }
            Err(_) => sleep(AGAIN).await,
        }
    }
    Vec::new()
}

fn was_removed(room: &RoomState, peer: &PeerId) -> bool {
    let reason = room.left.get(peer).map(|tombstone| tombstone.reason);
    matches!(reason, Some(LeftReason::Removed | LeftReason::Denied))
}
