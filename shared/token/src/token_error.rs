//! Why a token is refused.

/// Why a token is refused. Each has its own stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error(
        "no token was given; get one from POST /auth/token and pass it as ?token= or as the subprotocol token.T"
    )]
    Missing,
    /// Not a JWT, or its claims are not those of its kind.
    #[error("the token is not a JWT of this kind")]
    Malformed,
    /// Its life is over.
    #[error("the token has expired; get a new one from POST /auth/token")]
    Expired,
    /// Its life has not begun.
    #[error("the token is not valid yet; the clocks of the issuer and this server may differ")]
    NotYetValid,
    /// No key of ours made it.
    #[error("the token was not signed by a key this server knows")]
    BadSignature,
    /// Not the algorithm of the key.
    #[error("the token's algorithm is not accepted")]
    WrongAlgorithm,
    /// Made for another service.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// Made by somebody else.
    #[error("the token is from another issuer")]
    WrongIssuer,
    /// Another kind of token.
    #[error("the token is of another kind")]
    WrongType,
    /// Good, and taken back.
    #[error("the token was taken back; get a new one if you still may")]
    Revoked,
}

impl TokenError {
    /// Every refusal, for tests.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Malformed,
        Self::Expired,
        Self::NotYetValid,
        Self::BadSignature,
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
            Self::WrongAlgorithm => "token_wrong_algorithm",
            Self::WrongAudience => "token_wrong_audience",
            Self::WrongIssuer => "token_wrong_issuer",
            Self::WrongType => "token_wrong_type",
            Self::Revoked => "token_revoked",
        }
    }

    /// The refusal over HTTP: always 401.
    pub fn to_problem(self) -> signalbox_protocol::problem::Problem {
        signalbox_protocol::problem::Problem::new(401, self.code(), self.to_string())
    }
}
