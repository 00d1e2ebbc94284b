//! The kinds of token: the header `typ`, the `aud` and the longest life of each.

/// The purpose of a token. The kinds exclude one another: each has a header `typ` and an `aud` of
/// its own, and both are checked (RFC 8725, sections 3.9, 3.11 and 3.12).
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

    /// The header `typ`. It is compared byte by byte.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Room => "signalbox-room+jwt",
            Self::User => "signalbox-user+jwt",
            Self::Management => "signalbox-management+jwt",
        }
    }

    /// The `aud`: one text, never a list.
    pub const fn aud(self) -> &'static str {
        match self {
            Self::Room => "signalbox-signal",
            Self::User => "signalbox-user",
            Self::Management => "signalbox-api",
        }
    }

    /// The longest life, seconds. A revocation is kept longer, so it outlives every token.
    pub const fn max_life_s(self) -> u64 {
        const DAY_S: u64 = 24 * 60 * 60;
        match self {
            Self::Room | Self::User => DAY_S,
            Self::Management => 14 * DAY_S,
        }
    }
}
