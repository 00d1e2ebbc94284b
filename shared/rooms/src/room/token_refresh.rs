//! A newer token of a member. Of all tokens of a peer the newest counts.

use std::sync::Arc;

use signalbox_protocol::id::PeerId;

use super::{
    decision::RoomEventKind,
    decision_batch::DecisionBatch,
    outcome::InputOutcome,
    room_input::PeerClaim,
    room_state::{Permission, TokenRecord},
};

impl DecisionBatch<'_> {
    pub(super) fn refresh_token(&mut self, peer: &PeerId, epoch: u64, record: &TokenRecord) -> InputOutcome {
        let Some(user) = self.owned_member(peer, epoch).map(|member| member.user.clone()) else {
            return InputOutcome::PeerGone;
        };
        if self.find_grant_holder(&user, &record.token, Some(peer)).is_some() {
            return InputOutcome::TokenInUse;
        }
        if !self.accepts_token_creation(record) {
            return InputOutcome::OtherCreation;
        }
        if !self.accepts_token_record(peer, record) {
            return InputOutcome::RoleRefused;
        }
        self.update_token(peer, record);
        InputOutcome::Done
    }

    /// Whether the room accepts the member with this token. Assigned permissions stay, whatever the
    /// token says.
    fn accepts_token_record(&self, peer: &PeerId, record: &TokenRecord) -> bool {
        let members = &self.decision.next_state.members;
        members.get(peer).is_some_and(|member| member.has_assigned_permissions)
            || self.accepts_role(&record.role, &record.permissions)
    }

    /// Whether the token is for this creation of the room.
    fn accepts_token_creation(&self, record: &TokenRecord) -> bool {
        self.decision.next_state.settings.accepts_creation(record.creation.as_ref())
    }

    /// Applies a token, unless the room knows a newer one.
    fn update_token(&mut self, peer: &PeerId, record: &TokenRecord) {
        let Some(member) = self.decision.next_state.members.get_mut(peer).map(Arc::make_mut) else { return };
        let (known, could_admit) = (member.token_record(), member.has_permission(Permission::Admit));
        if known == *record || record.is_older_than(&known) {
            return;
        }
        member.apply_token_record(record);
        let member = Box::new(member.clone());
        self.decision.written_peers.insert(peer.clone());
        if member.waiting {
            if member.skips_lobby(&self.policy.role_policy) {
                self.admit_peer(peer);
            }
            return;
        }
        let can_admit_now = member.has_permission(Permission::Admit) && !could_admit;
        if member.role != known.role {
            self.notify_others(peer, RoomEventKind::Updated(member));
        }
        if can_admit_now {
            self.notify_of_knocks(peer);
        }
    }

    /// Applies the token of a claim if it is newer than the token that the room knows.
    pub(super) fn update_token_from_claim(&mut self, claim: &PeerClaim) {
        let record = claim.member.token_record();
        let known = self.decision.next_state.members.get(&claim.peer).map(|member| member.token_record());
        let is_newer = known.is_some_and(|known| known.is_older_than(&record));
        // The room may not know of this refresh. It must not move the peer to the grant of another
        // peer, or to a role that the room does not accept.
        let grant_is_taken =
            self.find_grant_holder(&claim.member.user, &record.token, Some(&claim.peer)).is_some();
        let is_accepted =
            self.accepts_token_creation(&record) && self.accepts_token_record(&claim.peer, &record);
        if is_newer && !grant_is_taken && is_accepted {
            self.update_token(&claim.peer, &record);
        }
    }
}
