//! The kinds of token there are.

use serde::{Serialize, de::DeserializeOwned};

use super::{ManagementClaims, RoomClaims, UserClaims};
use signalbox_protocol::id::TokenId;

/// What a token is for. The kinds exclude one another: each has a header `typ` and an `aud` of its own, and both are checked
/// (RFC 8725, sections 3.9, 3.11 and 3.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// One user in one room with one role.
    Room,
    /// A user of the application, for the rooms API.
    User,
    /// A backend, for the server-side API.
    Management,
}

impl TokenKind {
    /// Every kind, for tests.
    pub const ALL: [Self; 3] = [Self::Room, Self::User, Self::Management];

    /// The header `typ`. Compared as it stands, letter by letter.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Room => "signalbox-room+jwt",
            Self::User => "signalbox-user+jwt",
            Self::Management => "signalbox-management+jwt",
        }
    }

    /// The `aud`: one text, no list.
    pub const fn aud(self) -> &'static str {
        match self {
            Self::Room => "signalbox-signal",
            Self::User => "signalbox-user",
            Self::Management => "signalbox-api",
        }
    }

    /// The longest life, seconds, whoever signed it: what was taken back is remembered longer than that.
    pub const fn max_life_s(self) -> u64 {
        const DAY_S: u64 = 24 * 60 * 60;
        match self {
            Self::Room | Self::User => DAY_S,
            Self::Management => 14 * DAY_S,
        }
    }
}

/// What every kind says, borrowed from its claims.
#[derive(Debug, Clone, Copy)]
pub struct RegisteredClaims<'a> {
    /// Who made it.
    pub iss: &'a str,
    /// Whom it is for.
    pub aud: &'a str,
    /// When it was made, seconds since 1970.
    pub iat: u64,
    /// Not good before.
    pub nbf: u64,
    /// Not good from then on.
    pub exp: u64,
    /// Its own name.
    pub jti: &'a TokenId,
}

/// The claims of one kind of token. Sealed: a kind is known to [`TokenKind`], or it is none.
pub trait TokenClaims: Serialize + DeserializeOwned + sealed::Sealed {
    /// The kind.
    const KIND: TokenKind;

    /// The claims that every kind has.
    fn registered(&self) -> RegisteredClaims<'_>;

    /// Whether the kind's own claims keep their bounds, beyond what their types say.
    fn is_within_bounds(&self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::RoomClaims {}
    impl Sealed for super::UserClaims {}
    impl Sealed for super::ManagementClaims {}
}

macro_rules! impl_registered {
    () => {
        fn registered(&self) -> RegisteredClaims<'_> {
            let Self { iss, aud, iat, nbf, exp, jti, .. } = self;
            RegisteredClaims { iss, aud, iat: *iat, nbf: *nbf, exp: *exp, jti }
        }
    };
}

impl TokenClaims for RoomClaims {
    const KIND: TokenKind = TokenKind::Room;
    impl_registered!();
    fn is_within_bounds(&self) -> bool {
        let metadata = self.metadata.as_deref();
        metadata.is_none_or(|m| {
            signalbox_protocol::is_bounded_object(m.get(), signalbox_protocol::MAX_TOKEN_BYTES)
        }) && self.name.as_deref().is_none_or(signalbox_protocol::display_text::is_display_name)
    }
}

impl TokenClaims for UserClaims {
    const KIND: TokenKind = TokenKind::User;
    impl_registered!();
    fn is_within_bounds(&self) -> bool {
        self.name.as_deref().is_none_or(signalbox_protocol::display_text::is_display_name)
    }
}

impl TokenClaims for ManagementClaims {
    const KIND: TokenKind = TokenKind::Management;
    impl_registered!();
    fn is_within_bounds(&self) -> bool {
        // Which scopes there are is the API's to know; what cannot be one is refused here.
        let scope =
            |text: &str| (1..=32).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_lowercase());
        self.scopes.len() <= 16 && self.scopes.iter().all(|text| scope(text))
    }
}
