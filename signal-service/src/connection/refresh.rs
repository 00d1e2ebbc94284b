//! A newer token for a connection that stays (docs/PROTOCOL.md, section 2.2).
//!
//! Owns: the token in force on one connection, and the one refresh that is on its way: checked, then told to the room. A token counts from
//! the moment it was found good, whether or not the store answers: a connection must not end because of an outage. Must not: check
//! tokens (`keys`), or know what was taken back (`standing`).

use std::{pin::Pin, sync::Arc};

use futures_util::FutureExt as _;
use signalbox_access::Verdict;
use signalbox_protocol::{ServerMessage, clock, problem::Problem};
use signalbox_rooms::{
    room::{Input, Member, Outcome, RoomState, TokenRecord},
    store::Unavailable,
};
use signalbox_token::RoomClaims;
use tokio::time::Instant;

use super::{enter::seal, session::Session};

use crate::{
    node::Signal,
    registry::{LocalPeer, LocalRoom, Powers},
    standing::Standing,
};

type Told = Result<(Outcome, Arc<RoomState>), Unavailable>;

/// The refresh that is on its way.
enum Stage<'a> {
    /// None.
    Idle,
    /// The token is being checked: its key is not known yet.
    Checked(Pin<Box<dyn Future<Output = Result<RoomClaims, Problem>> + 'a>>),
    /// The room is being told; what was in force before.
    Told(Pin<Box<dyn Future<Output = Told>>>, Box<TokenRecord>),
}

/// The token in force on a connection.
pub(super) struct Badge<'a> {
    signal: &'a Signal,
    room: &'a Arc<LocalRoom>,
    peer: &'a Arc<LocalPeer>,
    record: TokenRecord,
    /// Whether role and permissions are somebody's else to say.
    overridden: bool,
    /// What the last refresh has put in force.
    granted: Option<Arc<Powers>>,
    stage: Stage<'a>,
    id: Option<u64>,
    changed: bool,
}

/// What became of a refresh.
pub(super) enum Refreshed {
    /// The token will not do, or nobody can tell.
    Refused(Option<u64>, Problem),
    /// The room has it; this is the peer's record.
    Committed(Option<u64>, Box<Member>),
    /// The store does not answer, or does not know the peer for now; the token counts here.
    Kept(Option<u64>),
}

impl<'a> Badge<'a> {
    /// What the peer has joined or come back with.
    pub(super) fn new(
        signal: &'a Signal,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        member: &Member,
    ) -> Self {
        Self {
            signal,
            room,
            peer,
            record: member.token_record(),
            overridden: member.overridden,
            granted: None,
            stage: Stage::Idle,
            id: None,
            changed: false,
        }
    }

    /// What the token in force says.
    pub(super) fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// The begin and the end of the token in force, if that has changed since the last call.
    pub(super) fn changed(&mut self) -> Option<(u64, u64)> {
        std::mem::take(&mut self.changed).then_some((self.record.issued, self.record.expires))
    }

    /// The peer's record, with what this connection knows of a newer token.
    pub(super) fn applied_to(&self, mut member: Member) -> Member {
        if member.token_record().is_older_than(&self.record) {
            member.adopt(&self.record);
        }
        member
    }

    /// Whether a refresh is on its way.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// Takes a token that the client shows. One that can be checked at once, as any but the first of a new key can, is in force for
    /// whatever the client sent after it.
    pub(super) fn show(&mut self, id: Option<u64>, token: String) -> Option<Refreshed> {
        let keys = self.signal.door.keys();
        let mut check = Box::pin(async move { keys.room(&token, clock::now_s()).await });
        self.id = id;
        match check.as_mut().now_or_never() {
            Some(verdict) => self.checked(verdict),
            None => {
                self.stage = Stage::Checked(check);
                None
            }
        }
    }

    fn checked(&mut self, verdict: Result<RoomClaims, Problem>) -> Option<Refreshed> {
        match verdict.and_then(|claims| self.take(&claims)) {
            Ok(()) => None,
            Err(problem) => {
                self.stage = Stage::Idle;
                Some(Refreshed::Refused(self.id.take(), problem))
            }
        }
    }

    /// Puts a checked token in force and begins to tell the room.
    fn take(&mut self, claims: &RoomClaims) -> Result<(), Problem> {
        let before = self.peer.standing();
        let bad = |detail: &str| Err(Problem::new(401, "bad_token", detail));
        let mut record = record(claims);
        if claims.sub != before.user {
            return bad("the token is another user's");
        }
        if claims.room != before.room {
            return bad("the token is for another room");
        }
        if record.is_older_than(&self.record) {
            return bad("the token is older than the one in force");
        }
        // In force first, judged then: what is taken back in between is found by one or the other.
        self.stand_on(&record);
        if let Err(verdict) = self.signal.control.judge(&self.peer.standing().subject()) {
            self.peer.set_standing((*before).clone());
            return Err(Verdict::problem(verdict));
        }
        let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
        let input = Input::Refresh { peer, epoch, record: Box::new(record.clone()) };
        self.empower(&mut record);
        let room = self.room.clone();
        let telling = Box::pin(async move { room.submit(input, None).await });
        self.stage = Stage::Told(telling, Box::new(self.put(record)));
        Ok(())
    }

    /// What the token allows is allowed, unless somebody has said otherwise of this peer.
    fn empower(&mut self, record: &mut TokenRecord) {
        let seen = self.peer.powers();
        let own = Powers { role: self.record.role.clone(), permissions: self.record.permissions.clone() };
        if self.overridden || seen.as_deref() != Some(&own) {
            let kept = seen.as_deref().unwrap_or(&own);
            (record.role, record.permissions) = (kept.role.clone(), kept.permissions.clone());
            self.granted = seen;
        } else {
            let new = Powers { role: record.role.clone(), permissions: record.permissions.clone() };
            self.granted = self.peer.grant_after(seen.as_ref(), new);
        }
    }

    fn stand_on(&self, record: &TokenRecord) {
        let (token, issued, caller) = (record.token.clone(), record.issued, record.caller.clone());
        self.peer.set_standing(Standing { token, issued, caller, ..(*self.peer.standing()).clone() });
    }

    /// Waits for what becomes of the refresh on its way; for ever if there is none.
    pub(super) async fn finished(&mut self) -> Refreshed {
        loop {
            match &mut self.stage {
                Stage::Idle => return std::future::pending().await,
                Stage::Checked(check) => {
                    let verdict = check.await;
                    if let Some(refreshed) = self.checked(verdict) {
                        return refreshed;
                    }
                }
                Stage::Told(telling, _) => {
                    let told = telling.await;
                    return self.told(told);
                }
            }
        }
    }

    fn told(&mut self, told: Told) -> Refreshed {
        let (id, stage) = (self.id.take(), std::mem::replace(&mut self.stage, Stage::Idle));
        match told {
            Ok((Outcome::Done, state)) => match state.members.get(&self.peer.id) {
                Some(member) => {
                    self.be(member.token_record());
                    self.overridden = member.overridden;
                    Refreshed::Committed(id, Box::new(member.clone()))
                }
                None => Refreshed::Kept(id),
            },
            Ok((refused @ (Outcome::TokenInUse | Outcome::RoleNotTaken), _)) => {
                if let Stage::Told(_, before) = stage {
                    self.be(*before);
                }
                let why = match refused {
                    Outcome::TokenInUse => "the token is that of another peer",
                    _ => "the room takes nobody with the role of the token",
                };
                Refreshed::Refused(id, Problem::new(401, "bad_token", why))
            }
            Ok(_) => {
                // It was taken for lost; when it is taken back the room hears of the token too.
                self.peer.doubt();
                Refreshed::Kept(id)
            }
            Err(Unavailable) => Refreshed::Kept(id),
        }
    }

    /// The room has said what is in force. What it says of role and permissions may have been overtaken by what somebody set since.
    fn be(&mut self, record: TokenRecord) {
        self.stand_on(&record);
        let powers = Powers { role: record.role.clone(), permissions: record.permissions.clone() };
        self.granted = self.peer.grant_after(self.granted.as_ref(), powers);
        self.put(record);
    }

    /// Puts a token in force; the one before.
    fn put(&mut self, record: TokenRecord) -> TokenRecord {
        self.changed = true;
        std::mem::replace(&mut self.record, record)
    }
}

impl Session<'_> {
    /// New TURN credentials, and when the next ones are due.
    pub(super) fn push_ice(&mut self) {
        let record = self.input.badge.record();
        let (region, grant) = (record.region.as_ref(), record.token.grant());
        let ice = self.signal.ice.offer(&record.role, region, grant, clock::now_s());
        let expires_in = ice.life.map(|life| life.as_millis() as u64);
        let (ice_servers, ice_policy) = (ice.servers, ice.policy);
        self.peer.send(&[ServerMessage::IceServers { ice_servers, ice_policy, expires_in }]);
        self.deadlines.set_ice(Instant::now(), ice.life);
    }

    /// What the client hears of its refresh.
    pub(super) fn answer_refresh(&mut self, refreshed: Refreshed) {
        let role_before = self.record.role.clone();
        let (id, durable) = match refreshed {
            Refreshed::Refused(id, problem) => return self.input.refuse_token(id, &problem),
            Refreshed::Committed(id, member) => {
                self.record = *member;
                (id, true)
            }
            Refreshed::Kept(id) => (id, false),
        };
        let record = self.input.badge.applied_to(self.record.clone());
        let ack = id.map(|id| ServerMessage::Ack { id, duplicate: false, durable });
        let told = self.token_refreshed(&record);
        let policy = |role| self.signal.ice.policy(role);
        let other_ice = policy(&record.role) != policy(&role_before);
        self.record = record;
        tracing::debug!(event = "refreshed", room = %self.room.id, peer = %self.peer.id, durable);
        self.peer.send(&ack.into_iter().chain([told]).collect::<Vec<_>>());
        if other_ice {
            self.push_ice();
        }
    }

    fn token_refreshed(&self, member: &Member) -> ServerMessage {
        let (peer, lineage) = (self.peer, self.peer.lineage());
        ServerMessage::TokenRefreshed {
            expires_in: (member.expires * 1_000).saturating_sub(clock::now_ms()),
            role: member.role.clone(),
            permissions: member.permissions.clone(),
            resume: seal(self.signal, self.room, peer, member, &lineage, peer.mailbox(), self.generation),
        }
    }
}

/// What a token says of its peer.
fn record(claims: &RoomClaims) -> TokenRecord {
    TokenRecord {
        token: claims.jti.clone(),
        issued: claims.iat,
        expires: claims.exp,
        role: claims.role.clone(),
        permissions: claims.permissions.clone(),
        caller: claims.caller.clone(),
        region: claims.region.clone(),
    }
}
