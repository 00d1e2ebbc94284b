//! The token of one connection, and its refresh (docs/PROTOCOL.md, section 2.2).
//!
//! Owns: the token in force and one refresh at a time: verify the new token, then commit it to the
//! room. A token is in force as soon as it is verified, even if the store does not answer: a
//! connection must not end because of an outage. Must not: verify a signature (`token_keys`) or
//! keep access rules (`signalbox_access`). Next: `task` answers the client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt as _;
use signalbox_access::AccessRefusal;
use signalbox_protocol::problem::Problem;
use signalbox_rooms::{
    commit_loop::InputResult,
    room::{InputOutcome, Member, RoomInput, TokenRecord},
    store::StoreUnavailable,
};

use crate::{
    connection_subject::ConnectionSubject,
    node::SignalNode,
    peer_permissions::PeerPermissions,
    registry::{LocalPeer, LocalRoom},
    room_token::{HandleToken, RoomToken},
};

/// The progress of a refresh.
enum RefreshStage<'a> {
    /// No refresh.
    Idle,
    /// The token is being verified: its key must be fetched first.
    Verifying(Pin<Box<dyn Future<Output = Result<RoomToken, Problem>> + 'a>>),
    /// The record is being committed. If the room refuses it, this token is in force again.
    Committing(Pin<Box<dyn Future<Output = InputResult>>>, Box<PreviousToken>),
}

/// The token before a refresh.
struct PreviousToken {
    record: TokenRecord,
    handle_token: Arc<HandleToken>,
}

/// The token in force on a connection.
pub(super) struct ConnectionToken<'a> {
    node: &'a SignalNode,
    room: &'a Arc<LocalRoom>,
    peer: &'a Arc<LocalPeer>,
    record: TokenRecord,
    /// As in [`Member`]: a newer token does not change the permissions.
    has_assigned_permissions: bool,
    /// The permissions that the last refresh has set.
    granted_permissions: Option<Arc<PeerPermissions>>,
    stage: RefreshStage<'a>,
    request_id: Option<u64>,
    lifetime_changed: bool,
}

/// The outcome of a refresh.
pub(super) enum RefreshOutcome {
    /// The token is refused, or it cannot be verified now.
    Refused(Option<u64>, Problem),
    /// The room has the token; this is the record of the member.
    Committed(Option<u64>, Arc<Member>),
    /// The store does not answer, or does not know the peer now. The token is in force on this
    /// node.
    Uncommitted(Option<u64>),
}

impl<'a> ConnectionToken<'a> {
    /// The token with which the peer has joined or resumed.
    pub(super) fn new(
        node: &'a SignalNode,
        room: &'a Arc<LocalRoom>,
        peer: &'a Arc<LocalPeer>,
        member: &Member,
    ) -> Self {
        Self {
            node,
            room,
            peer,
            record: member.token_record(),
            has_assigned_permissions: member.has_assigned_permissions,
            granted_permissions: None,
            stage: RefreshStage::Idle,
            request_id: None,
            lifetime_changed: false,
        }
    }

    /// The record of the token in force.
    pub(super) fn token_record(&self) -> &TokenRecord {
        &self.record
    }

    /// The issue time and the expiry of the token in force, if it has changed since the last call.
    pub(super) fn take_changed_lifetime(&mut self) -> Option<(u64, u64)> {
        std::mem::take(&mut self.lifetime_changed).then_some((self.record.issued, self.record.expires))
    }

    /// The record of the member, with the newer token of this connection if there is one.
    pub(super) fn apply_to_member(&self, mut member: Arc<Member>) -> Arc<Member> {
        if member.token_record().is_older_than(&self.record) {
            Arc::make_mut(&mut member).apply_token_record(&self.record);
        }
        member
    }

    /// Whether a refresh is in progress.
    pub(super) fn is_refreshing(&self) -> bool {
        !matches!(self.stage, RefreshStage::Idle)
    }

    /// Starts a refresh with a token from the client. If its key is known the token is in force at
    /// once, so that it counts for the next message of the client.
    pub(super) fn start_refresh(&mut self, id: Option<u64>, token: String) -> Option<RefreshOutcome> {
        let admission = &self.node.admission;
        let mut check = Box::pin(async move { admission.verify_room_token(&token).await });
        self.request_id = id;
        match check.as_mut().now_or_never() {
            Some(verified) => self.handle_verified_token(verified),
            None => {
                self.stage = RefreshStage::Verifying(check);
                None
            }
        }
    }

    fn handle_verified_token(&mut self, verified: Result<RoomToken, Problem>) -> Option<RefreshOutcome> {
        match verified.and_then(|token| self.apply_token(&token)) {
            Ok(()) => None,
            Err(problem) => {
                self.stage = RefreshStage::Idle;
                Some(RefreshOutcome::Refused(self.request_id.take(), problem))
            }
        }
    }

    /// Puts a verified token in force and starts its commit.
    fn apply_token(&mut self, token: &RoomToken) -> Result<(), Problem> {
        let (before, claims) = (self.peer.access_subject(), &token.claims);
        let bad = |detail: &str| Err(Problem::new(401, "bad_token", detail));
        let mut record = token.to_member().token_record();
        if claims.sub != before.user {
            return bad("the token is for another user");
        }
        if claims.room != before.room {
            return bad("the token is for another room");
        }
        if record.is_older_than(&self.record) {
            return bad("the token is older than the one in force");
        }
        // The token is in force before it is checked. So a rule that changes meanwhile is found
        // either here or by `access_enforcer`.
        self.update_subject(&record);
        if let Err(refusal) =
            self.node.access_control.check_access(&self.peer.access_subject().access_subject())
        {
            self.peer.set_access_subject((*before).clone());
            return Err(AccessRefusal::to_problem(refusal));
        }
        let (peer, epoch) = (self.peer.id.clone(), self.peer.epoch());
        let input = RoomInput::RefreshToken { peer, epoch, token_record: Box::new(record.clone()) };
        self.apply_permissions(&mut record);
        let room = self.room.clone();
        let commit = Box::pin(async move { room.submit_input(input, None).await });
        let handle_token = self.peer.replace_handle_token(token.handle_token.clone());
        let previous = PreviousToken { record: self.replace_record(record), handle_token };
        self.stage = RefreshStage::Committing(commit, Box::new(previous));
        Ok(())
    }

    /// Applies the permissions of the token, unless a moderator or the API has set others.
    fn apply_permissions(&mut self, record: &mut TokenRecord) {
        let current = self.peer.permissions();
        let of_token =
            PeerPermissions { role: self.record.role.clone(), permissions: self.record.permissions.clone() };
        if self.has_assigned_permissions || current.as_deref() != Some(&of_token) {
            let kept = current.as_deref().unwrap_or(&of_token);
            (record.role, record.permissions) = (kept.role.clone(), kept.permissions.clone());
            self.granted_permissions = current;
        } else {
            let new = PeerPermissions { role: record.role.clone(), permissions: record.permissions.clone() };
            self.granted_permissions = self.peer.set_permissions_if_unchanged(current.as_ref(), new);
        }
    }

    fn update_subject(&self, record: &TokenRecord) {
        self.peer.set_access_subject(ConnectionSubject {
            token: record.token.clone(),
            issued_s: record.issued,
            root: record.credential_root(),
            ..(*self.peer.access_subject()).clone()
        });
    }

    /// Polls the refresh; never ready if there is none.
    pub(super) fn poll_refresh(&mut self, context: &mut Context<'_>) -> Poll<RefreshOutcome> {
        loop {
            match &mut self.stage {
                RefreshStage::Idle => return Poll::Pending,
                RefreshStage::Verifying(check) => {
                    let verified = ready!(check.as_mut().poll(context));
                    if let Some(outcome) = self.handle_verified_token(verified) {
                        return Poll::Ready(outcome);
                    }
                }
                RefreshStage::Committing(commit, _) => {
                    let result = ready!(commit.as_mut().poll(context));
                    return Poll::Ready(self.handle_commit_result(result));
                }
            }
        }
    }

    fn handle_commit_result(&mut self, result: InputResult) -> RefreshOutcome {
        let (id, stage) = (self.request_id.take(), std::mem::replace(&mut self.stage, RefreshStage::Idle));
        match result {
            Ok((InputOutcome::Done, state)) => match state.members.get(&self.peer.id) {
                Some(member) => {
                    self.confirm_record(member.token_record());
                    self.has_assigned_permissions = member.has_assigned_permissions;
                    RefreshOutcome::Committed(id, member.clone())
                }
                None => RefreshOutcome::Uncommitted(id),
            },
            Ok((
                refused
                @ (InputOutcome::TokenInUse | InputOutcome::OtherCreation | InputOutcome::RoleRefused),
                _,
            )) => {
                if let RefreshStage::Committing(_, previous) = stage {
                    self.peer.replace_handle_token(previous.handle_token);
                    self.confirm_record(previous.record);
                }
                let text = match refused {
                    InputOutcome::TokenInUse => "another peer uses the token",
                    InputOutcome::OtherCreation => "the token is for an earlier room with this name",
                    _ => "the room does not accept the role of the token",
                };
                RefreshOutcome::Refused(id, Problem::new(401, "bad_token", text))
            }
            Ok(_) => {
                // The peer is detached. When it is reclaimed the room gets the token, too.
                self.peer.mark_stale();
                RefreshOutcome::Uncommitted(id)
            }
            Err(StoreUnavailable) => RefreshOutcome::Uncommitted(id),
        }
    }

    /// The room has confirmed this record. Its permissions apply only if nothing has changed them
    /// since.
    fn confirm_record(&mut self, record: TokenRecord) {
        self.update_subject(&record);
        let permissions =
            PeerPermissions { role: record.role.clone(), permissions: record.permissions.clone() };
        self.granted_permissions =
            self.peer.set_permissions_if_unchanged(self.granted_permissions.as_ref(), permissions);
        self.replace_record(record);
    }

    /// Puts a record in force. Returns the record before it.
    fn replace_record(&mut self, record: TokenRecord) -> TokenRecord {
        self.lifetime_changed = true;
        std::mem::replace(&mut self.record, record)
    }
}
