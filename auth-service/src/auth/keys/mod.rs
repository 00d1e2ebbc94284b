//! The signing keys: a shared secret, or private keys in a folder.
//!
//! Owns: the folder ([`folder`]), the state of each key ([`key_statuses`]), the signature
//! ([`SigningKeys::sign`]), the published keys ([`SigningKeys::published_jwks`]) and the commands
//! of an operator ([`operations`]), and the seal of records with a derived key ([`RecordSeal`]). Must not: decide the claims of a token
//! (`auth/token_issuer.rs`), or show a private key. Next: `signing_keys.rs`.
//!
//! The state of a key follows from the clock and from the time in its file at which it begins to
//! sign. So a rotation is a new file, all processes agree without messages, and a crash leaves
//! nothing to repair.

pub mod folder;
mod key_status;
pub mod operations;
mod private_key;
mod record_seal;
mod signing_keys;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use signalbox_token::MAX_JWKS_KEYS;

pub use key_status::{KeyState, KeyStatus, KeyTiming, key_statuses};
pub use private_key::PrivateKey;
pub use record_seal::{RecordSeal, SealError, SealKey};
pub(crate) use signing_keys::JwksBody;
pub use signing_keys::{PublishedJwks, SigningKeys};

/// Why keys cannot be used: one line that names the file, never its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Other users of the machine can read the folder or the file.
    #[error(
        "{path} holds private keys and is open to others (mode {mode:03o}); run: chmod {required_mode} {path}"
    )]
    OpenPermissions {
        /// The folder or file.
        path: PathBuf,
        /// The permission bits that it has.
        mode: u32,
        /// The mode that it must have, octal.
        required_mode: &'static str,
    },
    /// A mounted Secret is open to others.
    #[error(
        "{path} holds private keys and is open to others (mode {mode:03o}); give the volume of the Secret defaultMode: 0400, or 0440 with an fsGroup, and mount it with readOnly: true"
    )]
    OpenVolume {
        /// The folder or file.
        path: PathBuf,
        /// The permission bits that it has.
        mode: u32,
    },
    /// The system refused to read or write.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// The error text of the system.
        problem: String,
    },
    /// The content or the kind of the file is wrong.
    #[error("{path} {problem}")]
    Broken {
        /// The folder or file.
        path: PathBuf,
        /// The fault, as the end of a sentence about the file.
        problem: &'static str,
    },
    /// More files than any rotation creates.
    #[error("{0} holds too many keys; remove those that `signalbox keys list` calls over")]
    TooMany(PathBuf),
    /// No key has begun to sign.
    #[error("{0} holds no key that signs already; make the first one with: signalbox keys new --dir {0}")]
    NoSigningKey(PathBuf),
    /// Nodes refuse a set of so many keys.
    #[error(
        "{0} keys would be published, and nodes accept at most {MAX_JWKS_KEYS}; rotate more slowly, or lower auth.token_ttl_max"
    )]
    TooManyPublished(usize),
    /// The system has no randomness.
    #[error("the system has no randomness: {0}")]
    NoRandomness(String),
}
