//! A newer token for a connection that stays (docs/PROTOCOL.md, section 2.2).
//!
//! Owns: the token in force on one connection, and the one refresh that is on its way: checked, then told to the room. A token counts from
//! the moment it was found good, whether or not the store answers: a connection must not end because of an outage. Must not: check
//! tokens (`keys`), or know what was taken back (`standing`).

use std::{pin::Pin, sync::Arc};

use futures_util::FutureExt as _;
use signalbox_access::AccessRefusal;
use signalbox_protocol::{ServerMessage, clock, problem::Problem};
use signalbox_rooms::{
    commit_loop::InputResult,
    room::{InputOutcome, Member, RoomInput, TokenRecord},
    store::StoreUnavailable,
};
use signalbox_token::RoomClaims;
use tokio::time::Instant;

use super::{join::build_resume_handle, task::ConnectionTask};

use crate::{
    connection_subject::ConnectionSubject,
    node::SignalNode,
    registry::{LocalPeer, LocalRoom, PeerPermissions},
};

/// The refresh that is on its way.
enum RefreshStage<'a> {
    /// None.
    Idle,
    /// The token is being checked: its key is not known yet.
    Verifying(Pin<Box<dyn Future<Output = Result<RoomClaims, Problem>> + 'a>>),
    /// The room is being told; what was in force before.
    Committing(Pin<Box<dyn Future<Output = InputResult>>>, Box<TokenRecord>),
}

/// The token in force on a connection.
pub(super) struct ConnectionToken<'a> {
    signal: &'a SignalNode,
    room: &'a Arc<LocalRoom>,
    peer: &'a Arc<LocalPeer>,
    record: TokenRecord,
    /// Whether role and permissions are somebody's else to say.
    is_overridden: bool,
    /// What the last refresh has put in force.
    granted_permissions: Option<Arc<PeerPermissions>>,
    stage: RefreshStage<'a>,
    request_id: Option<u64>,
    lifetime_changed: bool,
}

/// What became of a refresh.
pub(super) enum RefreshOutcome {
    /// The token will not do, or nobody can tell.
    Refused(Option<u64>, Problem),
    /// The room has it; this is the peer's record.
    Committed(Option<u64>, Box<Member>),
    /// The store does not answer, or does not know the peer for now; the token counts here.
    Uncommitted(Option<u64>),
}

impl<'a> ConnectionToken<'a> {
    /// What the peer has joined or come back with.
    pub(super) fn new(
        signal: &'a SignalNode,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        member: &Member,
    ) -> Self {
        Self {
            signal,
            room,
            peer,
            record: member.token_record(),
            is_overridden: member.overridden,
            granted_permissions: None,
            stage: RefreshStage::Idle,
            request_id: None,
            lifetime_changed: false,
        }
    }

    /// What the token in force says.
    pub(super) fn token_record(&self) -> &TokenRecord {
        &self.record
    }

    /// The begin and the end of the token in force, if that has changed since the last call.
    pub(super) fn take_changed_lifetime(&mut self) -> Option<(u64, u64)> {
        std::mem::take(&mut self.lifetime_changed).then_some((self.record.issued, self.record.expires))
    }

    /// The peer's record, with what this connection knows of a newer token.
    pub(super) fn apply_to_member(&self, mut member: Member) -> Member {
        if member.token_record().is_older_than(&self.record) {
            member.apply_token_record(&self.record);
        }
        member
    }

    /// Whether a refresh is on its way.
    pub(super) fn is_refreshing(&self) -> bool {
        !matches!(self.stage, RefreshStage::Idle)
    }

    /// Takes a token that the client shows. One that can be checked at once, as any but the first of a new key can, is in force for
    /// whatever the client sent after it.
    pub(super) fn start_refresh(&mut self, id: Option<u64>, token: String) -> Option<RefreshOutcome> {
        let keys = self.signal.admission.token_keys();
        let mut check = Box::pin(async move { keys.verify_room_token(&token, clock::now_s()).await });
        self.request_id = id;
        match check.as_mut().now_or_never() {
            Some(verdict) => self.handle_verified_token(verdict),
            None => {
                self.stage = RefreshStage::Verifying(check);
                None
            }
        }
    }

    fn handle_verified_token(&mut self, verdict: Result<RoomClaims, Problem>) -> Option<RefreshOutcome> {
        match verdict.and_then(|claims| self.apply_claims(&claims)) {
            Ok(()) => None,
            Err(problem) => {
                self.stage = RefreshStage::Idle;
                Some(RefreshOutcome::Refused(self.request_id.take(), problem))
            }
        }
    }

    /// Puts a checked token in force and begins to tell the room.
    fn apply_claims(&mut self, claims: &RoomClaims) -> Result<(), Problem> {
        let before = self.peer.access_subject();
        let bad = |detail: &str| Err(Problem::new(401, "bad_token", detail));
        let mut record = build_token_record(claims);
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
        self.update_subject(&record);
        if let Err(verdict) =
            self.signal.access_control.check_access(&self.peer.access_subject().access_subject())
        {
            self.peer.set_access_subject((*before).clone());
            return Err(AccessRefusal::to_problem(verdict));
        }
        let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
        let input = RoomInput::RefreshToken { peer, epoch, token_record: Box::new(record.clone()) };
        self.apply_permissions(&mut record);
        let room = self.room.clone();
        let telling = Box::pin(async move { room.submit_input(input, None).await });
        self.stage = RefreshStage::Committing(telling, Box::new(self.replace_record(record)));
        Ok(())
    }

    /// What the token allows is allowed, unless somebody has said otherwise of this peer.
    fn apply_permissions(&mut self, record: &mut TokenRecord) {
        let seen = self.peer.permissions();
        let own =
            PeerPermissions { role: self.record.role.clone(), permissions: self.record.permissions.clone() };
        if self.is_overridden || seen.as_deref() != Some(&own) {
            let kept = seen.as_deref().unwrap_or(&own);
            (record.role, record.permissions) = (kept.role.clone(), kept.permissions.clone());
            self.granted_permissions = seen;
        } else {
            let new = PeerPermissions { role: record.role.clone(), permissions: record.permissions.clone() };
            self.granted_permissions = self.peer.set_permissions_if_unchanged(seen.as_ref(), new);
        }
    }

    fn update_subject(&self, record: &TokenRecord) {
        let (token, issued, caller) = (record.token.clone(), record.issued, record.caller.clone());
        self.peer.set_access_subject(ConnectionSubject {
            token,
            issued_s: issued,
            issuer: caller,
            ..(*self.peer.access_subject()).clone()
        });
    }

    /// Waits for what becomes of the refresh on its way; for ever if there is none.
    pub(super) async fn wait_for_refresh(&mut self) -> RefreshOutcome {
        loop {
            match &mut self.stage {
                RefreshStage::Idle => return std::future::pending().await,
                RefreshStage::Verifying(check) => {
                    let verdict = check.await;
                    if let Some(refreshed) = self.handle_verified_token(verdict) {
                        return refreshed;
                    }
                }
                RefreshStage::Committing(telling, _) => {
                    let told = telling.await;
                    return self.handle_commit_result(told);
                }
            }
        }
    }

    fn handle_commit_result(&mut self, told: InputResult) -> RefreshOutcome {
        let (id, stage) = (self.request_id.take(), std::mem::replace(&mut self.stage, RefreshStage::Idle));
        match told {
            Ok((InputOutcome::Done, state)) => match state.members.get(&self.peer.id) {
                Some(member) => {
                    self.confirm_record(member.token_record());
                    self.is_overridden = member.overridden;
                    RefreshOutcome::Committed(id, Box::new(member.clone()))
                }
                None => RefreshOutcome::Uncommitted(id),
            },
            Ok((refused @ (InputOutcome::TokenInUse | InputOutcome::RoleRefused), _)) => {
                if let RefreshStage::Committing(_, before) = stage {
                    self.confirm_record(*before);
                }
                let why = match refused {
                    InputOutcome::TokenInUse => "the token is that of another peer",
                    _ => "the room takes nobody with the role of the token",
                };
                RefreshOutcome::Refused(id, Problem::new(401, "bad_token", why))
            }
            Ok(_) => {
                // It was taken for lost; when it is taken back the room hears of the token too.
                self.peer.mark_stale();
                RefreshOutcome::Uncommitted(id)
            }
            Err(StoreUnavailable) => RefreshOutcome::Uncommitted(id),
        }
    }

    /// The room has said what is in force. What it says of role and permissions may have been overtaken by what somebody set since.
    fn confirm_record(&mut self, record: TokenRecord) {
        self.update_subject(&record);
        let powers = PeerPermissions { role: record.role.clone(), permissions: record.permissions.clone() };
        self.granted_permissions =
            self.peer.set_permissions_if_unchanged(self.granted_permissions.as_ref(), powers);
        self.replace_record(record);
    }

    /// Puts a token in force; the one before.
    fn replace_record(&mut self, record: TokenRecord) -> TokenRecord {
        self.lifetime_changed = true;
        std::mem::replace(&mut self.record, record)
    }
}

impl ConnectionTask<'_> {
    /// New TURN credentials, and when the next ones are due.
    pub(super) fn send_ice_servers(&mut self) {
        let record = self.dispatcher.token.token_record();
        let (region, grant) = (record.region.as_ref(), record.token.grant());
        let ice = self.signal.ice_directory.client_config(&record.role, region, grant, clock::now_s());
        let expires_in = ice.lifetime.map(|life| life.as_millis() as u64);
        let (ice_servers, ice_policy) = (ice.servers, ice.policy);
        self.peer.send_messages(&[ServerMessage::IceServers { ice_servers, ice_policy, expires_in }]);
        self.deadlines.set_ice_lifetime(Instant::now(), ice.lifetime);
    }

    /// What the client hears of its refresh.
    pub(super) fn answer_refresh(&mut self, refreshed: RefreshOutcome) {
        let role_before = self.member.role.clone();
        let (id, durable) = match refreshed {
            RefreshOutcome::Refused(id, problem) => {
                return self.dispatcher.answer_refused_token(id, &problem);
            }
            RefreshOutcome::Committed(id, member) => {
                self.member = *member;
                (id, true)
            }
            RefreshOutcome::Uncommitted(id) => (id, false),
        };
        let record = self.dispatcher.token.apply_to_member(self.member.clone());
        let ack = id.map(|id| ServerMessage::Ack { id, duplicate: false, durable });
        let told = self.build_token_refreshed(&record);
        let policy = |role| self.signal.ice_directory.policy_for_role(role);
        let other_ice = policy(&record.role) != policy(&role_before);
        self.member = record;
        tracing::debug!(event = "refreshed", room = %self.room.id, peer = %self.peer.id, durable);
        self.peer.send_messages(&ack.into_iter().chain([told]).collect::<Vec<_>>());
        if other_ice {
            self.send_ice_servers();
        }
    }

    fn build_token_refreshed(&self, member: &Member) -> ServerMessage {
        let (peer, lineage) = (self.peer, self.peer.replication_id());
        ServerMessage::TokenRefreshed {
            expires_in: (member.expires * 1_000).saturating_sub(clock::now_ms()),
            role: member.role.clone(),
            permissions: member.permissions.clone(),
            resume: build_resume_handle(
                self.signal,
                self.room,
                peer,
                member,
                &lineage,
                peer.mailbox_version(),
                self.handle_generation,
            ),
        }
    }
}

/// What a token says of its peer.
fn build_token_record(claims: &RoomClaims) -> TokenRecord {
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
