//! The peers that a commit removes and that must not return with their token or handle.
//!
//! Owns: which peers a decision removes, and the search after a commit with an unknown outcome.
//! Must not: revoke anything; the [`RemovalHook`] of the process does.

use std::time::Duration;

use signalbox_protocol::{
    CredentialRoot, LeaveReason,
    id::{CallerId, PeerId, RoomId, TokenId, UserId},
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
    /// When the last credential of the grant expires, seconds since 1970, if the token says it.
    pub grant_expires_s: Option<u64>,
    /// The caller that requested the token.
    pub caller: CallerId,
    /// The root of the token.
    pub root: CredentialRoot,
}

/// How much longer than its token a revocation is in force, milliseconds: the clocks of two
/// machines differ.
const CLOCK_SLACK_MS: u64 = 60_000;

impl RemovedPeer {
    /// For how long a credential of the grant may be valid, milliseconds. A guest, and an
    /// application that signs its tokens, get no refresh token. Any other token says when its grant
    /// ends. A token of an earlier release does not: then `longest_ms` is the bound.
    pub fn grant_life_ms(&self, now_ms: u64, longest_ms: u64) -> u64 {
        let has_no_refresh = self.caller == CallerId::guest() || self.caller == CallerId::app();
        let ends_s = match self.grant_expires_s {
            _ if has_no_refresh => self.token_expires_s,
            Some(grant_expires_s) => grant_expires_s.max(self.token_expires_s),
            None => return longest_ms,
        };
        let left_ms = ends_s.saturating_mul(1_000).saturating_sub(now_ms);
        left_ms.saturating_add(CLOCK_SLACK_MS).min(longest_ms)
    }
}

/// The reaction of a process to a removed peer. Called once for each, after its commit; must not
/// block.
pub type RemovalHook = std::sync::Arc<dyn Fn(&RoomId, RemovedPeer) + Send + Sync>;

/// The peers that a moderator or the API removes by this decision. Also a peer that joins in the
/// same batch, since its token is valid.
pub fn removed_peers(decision: &Decision) -> impl Iterator<Item = RemovedPeer> {
    let removed =
        decision.removed_members.iter().filter(move |(peer, _)| was_removed(&decision.next_state, peer));
    removed.map(|(peer, member)| {
        let (user, token, caller) = (member.user.clone(), member.token.clone(), member.caller.clone());
        let (token_expires_s, grant_expires_s) = (member.expires, member.grant_expires);
        let (peer, root) = (peer.clone(), member.credential_root());
        RemovedPeer { peer, user, token, token_expires_s, grant_expires_s, caller, root }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revocation_of_a_removed_peer_ends_with_its_grant() {
        let removed = |caller: CallerId, grant_expires_s| RemovedPeer {
            peer: PeerId::from_bits(1),
            user: UserId::parse("u").unwrap(),
            token: TokenId::random(),
            token_expires_s: 900,
            grant_expires_s,
            root: CredentialRoot::of_caller(&caller),
            caller,
        };
        let backend = CallerId::parse("backend").unwrap();
        for (caller, grant_expires_s, now_ms, expected) in [
            (CallerId::guest(), None, 0, 960_000),
            (CallerId::guest(), None, 899_000, 61_000),
            (CallerId::guest(), None, 2_000_000, 60_000),
            (CallerId::app(), Some(4_000), 0, 960_000),
            // A token of an earlier release does not say when its grant ends.
            (CallerId::user(), None, 0, 5_000_000),
            (CallerId::invite(), None, 0, 5_000_000),
            (backend.clone(), None, 0, 5_000_000),
            (CallerId::user(), Some(900), 0, 960_000),
            (CallerId::invite(), Some(900), 899_000, 61_000),
            (backend.clone(), Some(900), 2_000_000, 60_000),
            (backend.clone(), Some(4_000), 0, 4_060_000),
            (backend.clone(), Some(9_000), 0, 5_000_000),
            (backend, Some(1), 0, 960_000),
        ] {
            let life_ms = removed(caller, grant_expires_s).grant_life_ms(now_ms, 5_000_000);
            assert_eq!(life_ms, expected, "{grant_expires_s:?} at {now_ms}");
        }
    }
}
