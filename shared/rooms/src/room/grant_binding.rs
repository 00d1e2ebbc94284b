//! Tokens and their peers: a grant is one peer's for as long as that is a member, and of a peer's tokens the newest counts.

use signalbox_protocol::{
    LeaveReason,
    id::{PeerId, TokenId, UserId},
};

use super::{
    claim::PeerClaim,
    decision::{InputOutcome, RoomEventKind},
    decision_batch::DecisionBatch,
    role_policy::RoomRolePolicy,
    room_state::{Member, Permission, TokenRecord},
};

impl PeerClaim {
    /// Whether the life of its token is not over: the newer one of what the room knows (`member`) and what the claim says.
    pub(super) fn has_valid_token(&self, known: Option<&Member>) -> bool {
        let expires = known.map_or(self.member.expires, |known| self.newest_record(known).expires);
        self.now_s.is_none_or(|now| expires > now)
    }

    /// The record that the room has, with what the claim knows of a newer token: it may have been refreshed while the store was away.
    pub(super) fn newest_record(&self, known: &Member) -> Member {
        let (mut member, record) = (known.clone(), self.member.token_record());
        if member.token_record().is_older_than(&record) {
            member.apply_token_record(&record);
        }
        member
    }
}

impl Member {
    /// A newcomer in the place of a peer of the same grant: what was decided about that one holds on.
    fn as_replacement_of(&self, before: &Self, roles: &RoomRolePolicy) -> Self {
        let mut member = self.clone();
        if before.overridden {
            (member.role, member.permissions) = (before.role.clone(), before.permissions.clone());
            (member.muted, member.overridden) = (before.muted, true);
        }
        member.waiting = before.waiting && !member.skips_lobby(roles);
        member
    }
}

impl DecisionBatch<'_> {
    /// Binds the grant of a newcomer to it. A peer that has it and whose socket is lost gives way: its client has come back without
    /// its handle, and what is returned joins in its place. One that is connected does not: the token may be stolen.
    pub(super) fn bind_grant(&mut self, member: &Member) -> Result<Option<Member>, InputOutcome> {
        let Some((twin, is_lost)) = self.find_grant_peer(&member.user, &member.token, None) else {
            return Ok(None);
        };
        if !is_lost {
            return Err(InputOutcome::TokenInUse);
        }
        let before = self.decision.next_state.members.get(&twin).cloned();
        self.remove_peer(&twin, LeaveReason::Replaced);
        Ok(before.map(|before| member.as_replacement_of(&before, &self.policy.role_policy)))
    }

    /// Binds the grant of a peer that the store has forgotten to it again: somebody may have joined with it meanwhile. One that was
    /// inside need not wait because that one does.
    pub(super) fn rebind_grant(&mut self, member: &Member) -> Result<Member, InputOutcome> {
        let successor = self.bind_grant(member)?.unwrap_or_else(|| member.clone());
        Ok(Member { waiting: member.waiting && successor.waiting, ..successor })
    }

    /// The other member of this user with this grant, and whether its socket is lost.
    fn find_grant_peer(
        &self,
        user: &UserId,
        token: &TokenId,
        but: Option<&PeerId>,
    ) -> Option<(PeerId, bool)> {
        let mut members = self.decision.next_state.members.iter();
        let twin = members.find(|(peer, member)| {
            Some(*peer) != but && member.token.grant() == token.grant() && member.user == *user
        });
        twin.map(|(peer, member)| (peer.clone(), member.owner().is_none()))
    }

    /// The peer has shown another token.
    pub(super) fn refresh_token(&mut self, peer: &PeerId, epoch: u64, record: &TokenRecord) -> InputOutcome {
        let Some(user) = self.owned_member(peer, epoch).map(|member| member.user.clone()) else {
            return InputOutcome::PeerGone;
        };
        if self.find_grant_peer(&user, &record.token, Some(peer)).is_some() {
            return InputOutcome::TokenInUse;
        }
        if !self.accepts_token_record(peer, record) {
            return InputOutcome::RoleRefused;
        }
        self.update_token(peer, record);
        InputOutcome::Done
    }

    /// Whether the room takes a member with what a token says; where somebody else has said what it is, that stays.
    fn accepts_token_record(&self, peer: &PeerId, record: &TokenRecord) -> bool {
        let is_set = self.decision.next_state.members.get(peer).is_some_and(|member| member.overridden);
        is_set || self.accepts_role(&record.role, &record.permissions)
    }

    /// Takes over what a token says, unless the room knows a newer one.
    fn update_token(&mut self, peer: &PeerId, record: &TokenRecord) {
        let Some(member) = self.decision.next_state.members.get_mut(peer) else { return };
        let (known, knew_of_knocks) = (member.token_record(), member.has_permission(Permission::Admit));
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
        let hears_of_knocks = member.has_permission(Permission::Admit) && !knew_of_knocks;
        if member.role != known.role {
            self.notify_others(peer, RoomEventKind::Updated(member));
        }
        if hears_of_knocks {
            self.notify_of_knocks(peer);
        }
    }

    /// A claim brings what the room may not know of its peer's token.
    pub(super) fn update_token_from_claim(&mut self, claim: &PeerClaim) {
        let record = claim.member.token_record();
        let known = self.decision.next_state.members.get(&claim.peer).map(Member::token_record);
        let is_newer = known.is_some_and(|known| known.is_older_than(&record));
        // A refresh that the room has never heard of may be into the grant of another peer, or a role that the room does not take.
        let is_bound = self.find_grant_peer(&claim.member.user, &record.token, Some(&claim.peer)).is_some();
        if is_newer && !is_bound && self.accepts_token_record(&claim.peer, &record) {
            self.update_token(&claim.peer, &record);
        }
    }
}
