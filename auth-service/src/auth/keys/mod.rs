//! What tokens are signed with: the shared secret, or private keys in a folder.
//!
//! Owns: the folder ([`folder`]), when each key does what ([`key_statuses`]), the signature ([`SigningKeys::sign`]), what is published
//! ([`SigningKeys::published_jwks`]), what an operator does ([`operations`]). Must not: decide what a token says (`auth/token_issuer.rs`), or let a private key out.
//!
//! The state of a key follows from the clock and the time it begins to sign, which its file says. So a rotation is a new file, any number
//! of processes agree without talking to each other, and nothing has to be repaired after a crash.

pub mod folder;
mod key_status;
pub mod operations;
mod private_key;
mod signing_keys;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use signalbox_token::MAX_JWKS_KEYS;

pub use key_status::{KeyState, KeyStatus, KeyTiming, key_statuses};
pub use private_key::PrivateKey;
pub(crate) use signing_keys::JwksBody;
pub use signing_keys::{PublishedJwks, SigningKeys};

/// Why keys cannot be used: one line, naming the file, never its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Others can read it.
    #[error("{path} is open to others (mode {mode:03o}) and holds private keys: chmod {required_mode} it")]
    OpenPermissions {
        /// The folder or file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        required_mode: &'static str,
    },
    /// The system says no.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// Not what it should be.
    #[error("{path} {problem}")]
    Broken {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody rotates through so many.
    #[error("{0} holds too many keys; remove what `signalbox keys list` calls over")]
    TooMany(PathBuf),
    /// Nothing to sign with.
    #[error("{0} holds no key that signs already; make the first one with: signalbox keys new --dir {0}")]
    NoSigningKey(PathBuf),
    /// A set that nobody would take.
    #[error(
        "{0} keys would be published and at most {MAX_JWKS_KEYS} are taken; rotate more slowly, or lower auth.token_ttl_max"
    )]
    TooManyPublished(usize),
    /// The system has no randomness.
    #[error("no randomness: {0}")]
    NoRandomness(String),
}
