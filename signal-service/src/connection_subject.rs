//! The access subject of a connection, in owned form. A plain value: it refers to no connection and
//! no rule.

use std::net::IpAddr;

use signalbox_access::AccessSubject;
use signalbox_protocol::{
    CredentialRoot,
    id::{RoomId, TokenId, UserId},
};
use signalbox_rooms::room::Member;

/// The user, room, grant, root and address that access rules are checked against.
#[derive(Debug, Clone)]
pub struct ConnectionSubject {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
    /// The id of the token, which names the grant.
    pub token: TokenId,
    /// The time at which the token was issued, seconds since 1970.
    pub issued_s: u64,
    /// The root of the token.
    pub root: CredentialRoot,
    /// The address of the client. It is kept with the connection only.
    pub address: Option<IpAddr>,
}

impl ConnectionSubject {
    /// The subject of a member.
    pub fn from_member(room: &RoomId, member: &Member, address: Option<IpAddr>) -> Self {
        Self {
            room: room.clone(),
            user: member.user.clone(),
            token: member.token.clone(),
            issued_s: member.issued,
            root: member.credential_root(),
            address,
        }
    }

    /// The borrowed form, which `signalbox_access` checks.
    pub fn access_subject(&self) -> AccessSubject<'_> {
        AccessSubject {
            user: &self.user,
            room: Some(&self.room),
            grant: self.token.grant(),
            issued_s: Some(self.issued_s),
            root: Some(&self.root),
            address: self.address,
        }
    }
}
