//! Tokens and their peers: a grant is one peer's for as long as that is a member, and of a peer's tokens the newest counts.

use signalbox_protocol::{
    LeftReason,
    id::{PeerId, TokenId, UserId},
};

use super::{
    claim::Claim,
    decide::Batch,
    outcome::{EventKind, Outcome},
    roles::RoleBook,
    state::{Member, Permission, TokenRecord},
};

impl Claim {
    /// Whether the life of its token is not over: the newer one of what the room knows (`member`) and what the claim says.
    pub(super) fn is_current(&self, known: Option<&Member>) -> bool {
        let expires = known.map_or(self.member.expires, |known| self.newest(known).expires);
        self.now_s.is_none_or(|now| expires > now)
    }

    /// The record that the room has, with what the claim knows of a newer token: it may have been refreshed while the store was away.
    pub(super) fn newest(&self, known: &Member) -> Member {
        let (mut member, record) = (known.clone(), self.member.token_record());
        if member.token_record().is_older_than(&record) {
            member.adopt(&record);
        }
        member
    }
}

impl Member {
    /// A newcomer in the place of a peer of the same grant: what was decided about that one holds on.
    fn in_place_of(&self, before: &Self, roles: &RoleBook) -> Self {
        let mut member = self.clone();
        if before.overridden {
            (member.role, member.permissions) = (before.role.clone(), before.permissions.clone());
            (member.muted, member.overridden) = (before.muted, true);
        }
        member.waiting = before.waiting && !member.passes_lobby(roles);
        member
    }
}

impl Batch<'_> {
    /// Binds the grant of a newcomer to it. A peer that has it and whose socket is lost gives way: its client has come back without
    /// its handle, and what is returned joins in its place. One that is connected does not: the token may be stolen.
    pub(super) fn bind(&mut self, member: &Member) -> Result<Option<Member>, Outcome> {
        let Some((twin, is_lost)) = self.twin(&member.user, &member.token, None) else { return Ok(None) };
        if !is_lost {
            return Err(Outcome::TokenInUse);
        }
        let before = self.decision.next.members.get(&twin).cloned();
        self.remove(&twin, LeftReason::Replaced);
        Ok(before.map(|before| member.in_place_of(&before, &self.rules.roles)))
    }

    /// Binds the grant of a peer that the store has forgotten to it again: somebody may have joined with it meanwhile. One that was
    /// inside need not wait because that one does.
    pub(super) fn bind_again(&mut self, member: &Member) -> Result<Member, Outcome> {
        let successor = self.bind(member)?.unwrap_or_else(|| member.clone());
        Ok(Member { waiting: member.waiting && successor.waiting, ..successor })
    }

    /// The other member of this user with this grant, and whether its socket is lost.
    fn twin(&self, user: &UserId, token: &TokenId, but: Option<&PeerId>) -> Option<(PeerId, bool)> {
        let mut members = self.decision.next.members.iter();
        let twin = members.find(|(peer, member)| {
            Some(*peer) != but && member.token.grant() == token.grant() && member.user == *user
        });
        twin.map(|(peer, member)| (peer.clone(), member.owner().is_none()))
    }

    /// The peer has shown another token.
    pub(super) fn refresh(&mut self, peer: &PeerId, epoch: u64, record: &TokenRecord) -> Outcome {
        let Some(user) = self.owned(peer, epoch).map(|member| member.user.clone()) else {
            return Outcome::Gone;
        };
        if self.twin(&user, &record.token, Some(peer)).is_some() {
            return Outcome::TokenInUse;
        }
        if !self.takes_with(peer, record) {
            return Outcome::RoleNotTaken;
        }
        self.renew_token(peer, record);
        Outcome::Done
    }

    /// Whether the room takes a member with what a token says; where somebody else has said what it is, that stays.
    fn takes_with(&self, peer: &PeerId, record: &TokenRecord) -> bool {
        let is_set = self.decision.next.members.get(peer).is_some_and(|member| member.overridden);
        is_set || self.takes(&record.role, &record.permissions)
    }

    /// Takes over what a token says, unless the room knows a newer one.
    fn renew_token(&mut self, peer: &PeerId, record: &TokenRecord) {
        let Some(member) = self.decision.next.members.get_mut(peer) else { return };
        let (known, knew_of_knocks) = (member.token_record(), member.may(Permission::Admit));
        if known == *record || record.is_older_than(&known) {
            return;
        }
        member.adopt(record);
        let member = Box::new(member.clone());
        self.decision.put.insert(peer.clone());
        if member.waiting {
            if member.passes_lobby(&self.rules.roles) {
                self.admit(peer);
            }
            return;
        }
        let hears_of_knocks = member.may(Permission::Admit) && !knew_of_knocks;
        if member.role != known.role {
            self.tell(peer, EventKind::Updated(member));
        }
        if hears_of_knocks {
            self.tell_of_knocks(peer);
        }
    }

    /// A claim brings what the room may not know of its peer's token.
    pub(super) fn renew_by(&mut self, claim: &Claim) {
        let record = claim.member.token_record();
        let known = self.decision.next.members.get(&claim.peer).map(Member::token_record);
        let is_newer = known.is_some_and(|known| known.is_older_than(&record));
        // A refresh that the room has never heard of may be into the grant of another peer, or a role that the room does not take.
        let is_bound = self.twin(&claim.member.user, &record.token, Some(&claim.peer)).is_some();
        if is_newer && !is_bound && self.takes_with(&claim.peer, &record) {
            self.renew_token(&claim.peer, &record);
        }
    }
}
