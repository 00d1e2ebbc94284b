//! On what a connection stands, and whether it still may: asked at the door, before its first frame, and whenever the rules change.
//!
//! How nobody slips through: a change of the rules is published first, then the connections are swept. A connection is registered first, then
//! judged, before it is told that it is in. So either the sweep finds it, or it is judged by the changed rules. On another node the same holds
//! for the moment when that node hears of the change, at most a poll later.

use std::{net::IpAddr, sync::Arc};

use signalbox_access::{AccessRefusal, AccessSubject};
use signalbox_protocol::{
    CloseCode,
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_rooms::room::Member;

use crate::{admission::ConnectIntent, node::SignalNode, registry::LocalPeer};

/// What is judged of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionSubject {
    /// Its room.
    pub room: RoomId,
    /// Its user.
    pub user: UserId,
    /// Its token, which says from which grant it comes.
    pub token: TokenId,
    /// When that was made, seconds since 1970.
    pub issued_s: u64,
    /// On whose word.
    pub issuer: CallerId,
    /// Where the client is. Kept with the connection and nowhere else.
    pub address: Option<IpAddr>,
}

impl ConnectionSubject {
    /// That of a connection that wishes to be in.
    pub fn from_intent(wish: &ConnectIntent, address: Option<IpAddr>) -> Self {
        match wish {
            ConnectIntent::Join { claims, .. } => Self {
                room: claims.room.clone(),
                user: claims.sub.clone(),
                token: claims.jti.clone(),
                issued_s: claims.iat,
                issuer: claims.caller.clone(),
                address,
            },
            ConnectIntent::Resume { handle, .. } | ConnectIntent::Replace { handle, .. } => {
                Self::from_member(&handle.room, &handle.member, address)
            }
        }
    }

    /// That of a member.
    pub fn from_member(room: &RoomId, member: &Member, address: Option<IpAddr>) -> Self {
        Self {
            room: room.clone(),
            user: member.user.clone(),
            token: member.token.clone(),
            issued_s: member.issued,
            issuer: member.caller.clone(),
            address,
        }
    }

    /// As the rules ask for it.
    pub fn access_subject(&self) -> AccessSubject<'_> {
        AccessSubject {
            user: &self.user,
            room: Some(&self.room),
            grant: self.token.grant(),
            issued_s: Some(self.issued_s),
            issuer: Some(self.issuer.as_str()),
            address: self.address,
        }
    }
}

/// A member whose socket is nowhere.
pub(crate) fn member_access_subject<'a>(room: &'a RoomId, member: &'a Member) -> AccessSubject<'a> {
    AccessSubject {
        user: &member.user,
        room: Some(room),
        grant: member.token.grant(),
        issued_s: Some(member.issued),
        issuer: Some(member.caller.as_str()),
        address: None,
    }
}

impl SignalNode {
    /// Whether a connection may be, by the rules that are held. Nobody new is let in on rules that may be old.
    ///
    /// # Errors
    /// 401 `token_revoked`, 403 `banned` or `address_denied`, 503 `shut_down` or `unavailable`.
    pub fn check_access(&self, standing: &ConnectionSubject) -> Result<(), Problem> {
        self.access_control.check_access(&standing.access_subject()).map_err(AccessRefusal::to_problem)?;
        if self.access_control.is_current() {
            return Ok(());
        }
        let detail =
            "this node does not know yet what was taken back; keep the token or handle and try again";
        Err(Problem::new(503, "unavailable", detail))
    }

    /// Whether a peer that has been committed may stay, by what the store says of it.
    pub(crate) fn check_member_access(
        &self,
        room: &RoomId,
        peer: &Arc<LocalPeer>,
        member: &Member,
    ) -> Result<(), CloseCode> {
        let standing = ConnectionSubject::from_member(room, member, peer.access_subject().address);
        let verdict = self.access_control.check_access(&standing.access_subject());
        peer.set_access_subject(standing);
        verdict.map_err(AccessRefusal::close_code)
    }
}
