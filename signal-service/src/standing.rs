//! On what a connection stands, and whether it still may: asked at the door, before its first frame, and whenever the rules change.
//!
//! How nobody slips through: a change of the rules is published first, then the connections are swept. A connection is registered first, then
//! judged, before it is told that it is in. So either the sweep finds it, or it is judged by the changed rules. On another node the same holds
//! for the moment when that node hears of the change, at most a poll later.

use std::{net::IpAddr, sync::Arc};

use signalbox_access::{Subject, Verdict};
use signalbox_protocol::{
    CloseCode,
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};
use signalbox_rooms::room::Member;

use crate::{door::Wish, node::Signal, registry::LocalPeer};

/// What is judged of a connection.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its room.
    pub room: RoomId,
    /// Its user.
    pub user: UserId,
    /// Its token, which says from which grant it comes.
    pub token: TokenId,
    /// When that was made, seconds since 1970.
    pub issued: u64,
    /// On whose word.
    pub caller: CallerId,
    /// Where the client is. Kept with the connection and nowhere else.
    pub address: Option<IpAddr>,
}

impl Standing {
    /// That of a connection that wishes to be in.
    pub fn of(wish: &Wish, address: Option<IpAddr>) -> Self {
        match wish {
            Wish::Join { claims, .. } => Self {
                room: claims.room.clone(),
                user: claims.sub.clone(),
                token: claims.jti.clone(),
                issued: claims.iat,
                caller: claims.caller.clone(),
                address,
            },
            Wish::Resume { handle, .. } | Wish::Replace { handle, .. } => {
                Self::of_member(&handle.room, &handle.member, address)
            }
        }
    }

    /// That of a member.
    pub fn of_member(room: &RoomId, member: &Member, address: Option<IpAddr>) -> Self {
        Self {
            room: room.clone(),
            user: member.user.clone(),
            token: member.token.clone(),
            issued: member.issued,
            caller: member.caller.clone(),
            address,
        }
    }

    /// As the rules ask for it.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            user: &self.user,
            room: Some(&self.room),
            grant: self.token.grant(),
            issued_s: Some(self.issued),
            issuer: Some(self.caller.as_str()),
            address: self.address,
        }
    }
}

/// A member whose socket is nowhere.
pub(crate) fn detached_subject<'a>(room: &'a RoomId, member: &'a Member) -> Subject<'a> {
    Subject {
        user: &member.user,
        room: Some(room),
        grant: member.token.grant(),
        issued_s: Some(member.issued),
        issuer: Some(member.caller.as_str()),
        address: None,
    }
}

impl Signal {
    /// Whether a connection may be, by the rules that are held. Nobody new is let in on rules that may be old.
    ///
    /// # Errors
    /// 401 `token_revoked`, 403 `banned` or `address_denied`, 503 `shut_down` or `unavailable`.
    pub fn judge(&self, standing: &Standing) -> Result<(), Problem> {
        self.control.judge(&standing.subject()).map_err(Verdict::problem)?;
        if self.control.is_current() {
            return Ok(());
        }
        let detail =
            "this node does not know yet what was taken back; keep the token or handle and try again";
        Err(Problem::new(503, "unavailable", detail))
    }

    /// Whether a peer that has been committed may stay, by what the store says of it.
    pub(crate) fn admit(
        &self,
        room: &RoomId,
        peer: &Arc<LocalPeer>,
        member: &Member,
    ) -> Result<(), CloseCode> {
        let standing = Standing::of_member(room, member, peer.standing().address);
        let verdict = self.control.judge(&standing.subject());
        peer.set_standing(standing);
        verdict.map_err(Verdict::close_code)
    }
}
