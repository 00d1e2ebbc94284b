//! Invites: a code that lets somebody without an account into one room, `sbi_SECRET.ROOM`.

use serde::{Deserialize, Serialize};
use signalbox_protocol::id::{CallerId, Role, RoomId};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

/// What an invite says, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InviteTerms {
    /// The role of who comes with it.
    pub(crate) role: Role,
    /// The life of the token it brings, seconds; none is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_s: Option<u64>,
    /// The API key that made it.
    #[serde(rename = "by")]
    pub(crate) created_by: CallerId,
    /// When, ms since 1970.
    pub(crate) created_at: u64,
}

/// A code: which room, and a secret.
#[derive(Debug, Clone)]
pub(crate) struct InviteCode {
    /// The room it is for. The code names it, so that all invites of a room can be kept, counted and dropped together.
    pub(crate) room: RoomId,
    secret: OpaqueToken,
}

impl InviteCode {
    /// A new one.
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

    /// The code for whoever is invited.
    pub(crate) fn to_text(&self) -> String {
        format!("{}.{}", self.secret.to_text(OpaqueTokenKind::Invite), self.room)
    }

    /// The name by which it is known: half of the secret's digest. It opens nothing.
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
