//! Invite codes and the terms of invites. A code, `sbi_SECRET.ROOM`, lets a guest without an
//! account join one room.

use serde::{Deserialize, Serialize};
use signalbox_protocol::{
    CredentialRoot,
    id::{CallerId, CreationId, Role, RoomId},
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

/// The terms of an invite, as they are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InviteTerms {
    /// The role of a guest with this invite.
    pub(crate) role: Role,
    /// The life of the issued token, seconds; without a value the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_s: Option<u64>,
    /// The API key that created the invite.
    #[serde(rename = "by")]
    pub(crate) created_by: CallerId,
    /// The time of creation, ms since 1970.
    pub(crate) created_at: u64,
    /// The creation of the room that the invite is for; `None` if the API had not created the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) creation: Option<CreationId>,
}

impl InviteTerms {
    /// The root of the invite: the API key that created it.
    pub(crate) fn root(&self) -> CredentialRoot {
        CredentialRoot::ApiKey(self.created_by.clone())
    }
}

/// An invite code: a room and a secret.
#[derive(Debug, Clone)]
pub(crate) struct InviteCode {
    /// The room of the invite. The code names it, so that the invites of a room are kept, counted
    /// and deleted together.
    pub(crate) room: RoomId,
    secret: OpaqueToken,
}

impl InviteCode {
    /// A new code.
    pub(crate) fn random(room: RoomId) -> Self {
        Self { room, secret: OpaqueToken::random() }
    }

    /// Reads a code.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The secret's alphabet has no dot.
        let (secret, room) = text.split_once('.')?;
        Some(Self {
            room: RoomId::parse(room).ok()?,
            secret: OpaqueToken::parse(OpaqueTokenKind::Invite, secret)?,
        })
    }

    /// The code as text, for the guest.
    pub(crate) fn to_text(&self) -> String {
        format!("{}.{}", self.secret.to_text(OpaqueTokenKind::Invite), self.room)
    }

    /// The id of the invite: half of the digest of the secret. It authorizes nothing.
    pub(crate) fn id(&self) -> String {
        self.secret.digest()[..32].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invite_code_parses_back_to_the_same_room_and_id() {
        let code = InviteCode::random(RoomId::parse("a.b").unwrap());
        let read = InviteCode::parse(&code.to_text()).unwrap();
        assert_eq!((read.id(), read.room.as_str()), (code.id(), "a.b"));
        for bad in ["", "sbi_", "a.b", &code.to_text()[1..], &code.to_text().replace('.', "")] {
            assert!(InviteCode::parse(bad).is_none(), "{bad}");
        }
    }
}
