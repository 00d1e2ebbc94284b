//! A newer token for a connection that stays (docs/PROTOCOL.md, section 2.2).
//!
//! Owns: the token in force on one connection, and the one commit that tells the room of another. It counts from the moment it was
//! found good, whether or not the store answers: a connection must not end because of an outage. Must not: judge tokens; `door` does.

use std::{pin::Pin, sync::Arc};

use signalbox_rooms::{
    room::{Input, Member, Outcome, RoomState, TokenRecord},
    store::Unavailable,
};
use signalbox_shared::{id::UserId, token::RoomClaims};

use crate::registry::{LocalPeer, LocalRoom};

type Call = Pin<Box<dyn Future<Output = Result<(Outcome, Arc<RoomState>), Unavailable>>>>;

/// The token in force on a connection.
pub(super) struct Badge {
    user: UserId,
    record: TokenRecord,
    role_set: bool,
    /// The one before, until the room has the new one.
    before: Option<TokenRecord>,
    id: Option<u64>,
    call: Option<Call>,
    changed: bool,
}

/// What became of a refresh.
pub(super) enum Refreshed {
    /// The room has it; this is the peer's record.
    Committed(Option<u64>, Box<Member>),
    /// The store does not answer, or does not know the peer for now; the token counts here.
    Kept(Option<u64>),
    /// Its grant is another peer's: the token before is in force again.
    InUse(Option<u64>),
}

/// What a token says of its peer.
pub(super) fn record(claims: &RoomClaims) -> TokenRecord {
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

impl Badge {
    /// What the peer has joined or come back with.
    pub(super) fn new(member: &Member) -> Self {
        Self {
            user: member.user.clone(),
            record: member.token_record(),
            role_set: member.role_set,
            before: None,
            id: None,
            call: None,
            changed: false,
        }
    }

    /// Whether the peer has a permission.
    pub(super) fn may(&self, permission: &str) -> bool {
        self.record.permissions.iter().any(|allowed| &**allowed == permission)
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

    /// Takes a token that was found good; the room learns of it. Says what is wrong with it otherwise.
    pub(super) fn show(
        &mut self,
        room: &Arc<LocalRoom>,
        peer: &LocalPeer,
        id: Option<u64>,
        claims: &RoomClaims,
    ) -> Result<(), &'static str> {
        let record = record(claims);
        if claims.sub != self.user {
            return Err("the token is another user's");
        }
        if claims.room != room.id {
            return Err("the token is for another room");
        }
        if record.is_older_than(&self.record) {
            return Err("the token is older than the one in force");
        }
        let input =
            Input::Refresh { peer: peer.id.clone(), epoch: peer.epoch(), record: Box::new(record.clone()) };
        let room = room.clone();
        self.call = Some(Box::pin(async move { room.submit(input, None).await }));
        self.id = id;
        self.before = Some(self.put(record));
        Ok(())
    }

    /// Whether the room has not been told of the last one yet.
    pub(super) fn is_busy(&self) -> bool {
        self.call.is_some()
    }

    /// Puts another token in force; the one before. A role that was set is not the token's to change.
    fn put(&mut self, mut record: TokenRecord) -> TokenRecord {
        if self.role_set {
            record.role = self.record.role.clone();
            record.permissions = self.record.permissions.clone();
        }
        self.changed = true;
        std::mem::replace(&mut self.record, record)
    }

    /// Waits until the room has been told, or the store has not answered; for ever if there is nothing to tell.
    pub(super) async fn finished(&mut self, peer: &LocalPeer) -> Refreshed {
        let answer = match &mut self.call {
            Some(call) => call.await,
            None => std::future::pending().await,
        };
        self.call = None;
        let (id, before) = (self.id.take(), self.before.take());
        match answer {
            Ok((Outcome::Done, state)) => match state.members.get(&peer.id) {
                Some(member) => {
                    self.role_set = member.role_set;
                    self.record = member.token_record();
                    self.changed = true;
                    Refreshed::Committed(id, Box::new(member.clone()))
                }
                None => Refreshed::Kept(id),
            },
            Ok((Outcome::TokenInUse, _)) => {
                self.record = before.unwrap_or_else(|| self.record.clone());
                self.changed = true;
                Refreshed::InUse(id)
            }
            Ok(_) => {
                // It was taken for lost; when it is taken back the room hears of the token too.
                peer.doubt();
                Refreshed::Kept(id)
            }
            Err(Unavailable) => Refreshed::Kept(id),
        }
    }
}
