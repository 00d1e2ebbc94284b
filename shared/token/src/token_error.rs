//! The reasons to refuse a token.

/// Why a token is refused. Each reason has its own stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// The request has no token.
    #[error(
        "no token was given; get one from POST /auth/token and pass it as ?token= or as the subprotocol token.T"
    )]
    Missing,
    /// The text is not a JWT, or its claims do not fit its kind.
    #[error("the token is not a JWT of this kind")]
    Malformed,
    /// The time `exp` has come.
    #[error("the token has expired; get a new one from POST /auth/token")]
    Expired,
    /// The time `nbf` has not come, or `iat` is in the future.
    #[error("the token is not valid yet; the clocks of the issuer and this server may differ")]
    NotYetValid,
    /// No key of this server made the signature.
    #[error("the token was not signed with a key that this server knows")]
    BadSignature,
    /// No known key made the signature, and the current keys cannot be read now.
    #[error("the keys that verify tokens cannot be read now; keep the token and try again")]
    KeysUnavailable,
    /// The algorithm is not that of the key.
    #[error(
        "this server does not accept the algorithm of the token; exchange the token of an identity provider at POST /auth/exchange"
    )]
    WrongAlgorithm,
    /// The token is for another service.
    #[error("the token is for another audience")]
    WrongAudience,
    /// Another issuer issued the token.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// The token is of another kind.
    #[error("the token is of another kind; a user token becomes a room token at POST /api/rooms/ROOM/join")]
    WrongType,
    /// The token is valid, but an access rule revokes it.
    #[error("the token was revoked; get a new one if you are still allowed")]
    Revoked,
}

impl TokenError {
    /// Every reason, for tests.
    pub const ALL: [Self; 11] = [
        Self::Missing,
        Self::Malformed,
        Self::Expired,
        Self::NotYetValid,
        Self::BadSignature,
        Self::KeysUnavailable,
        Self::WrongAlgorithm,
        Self::WrongAudience,
        Self::WrongIssuer,
        Self::WrongType,
        Self::Revoked,
    ];

    /// The stable code (docs/PROTOCOL.md, section 1).
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed => "token_malformed",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::BadSignature => "token_bad_signature",
            Self::KeysUnavailable => "unavailable",
            Self::WrongAlgorithm => "token_wrong_algorithm",
            Self::WrongAudience => "token_wrong_audience",
            Self::WrongIssuer => "token_wrong_issuer",
            Self::WrongType => "token_wrong_type",
            Self::Revoked => "token_revoked",
        }
    }

    /// The problem over HTTP: 401, or 503 if the token may be valid.
    pub fn to_problem(self) -> signalbox_protocol::problem::Problem {
        let status = if self == Self::KeysUnavailable { 503 } else { 401 };
        signalbox_protocol::problem::Problem::new(status, self.code(), self.to_string())
    }
}
