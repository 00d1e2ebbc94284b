//! The operations of an operator on the folder: `signalbox keys new`, `rotate`, `list`.

use std::path::Path;

use signalbox_token::{KeyAlgorithm, MAX_JWKS_KEYS};

use super::{KeyState, KeyStatus, KeyTiming, KeysError, PrivateKey, folder, key_statuses};

/// A key in the list for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyListing {
    /// The RFC 7638 thumbprint of the key.
    pub kid: String,
    /// The algorithm that it signs with.
    pub algorithm: KeyAlgorithm,
    /// The state and its period.
    pub status: KeyStatus,
}

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRotation {
    /// The `kid` of the new key.
    pub kid: String,
    /// When it begins to sign, seconds since 1970.
    pub signs_from: u64,
    /// The `kid` of each key that was removed.
    pub removed: Vec<String>,
}

/// Why an operation changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyOperationError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] KeysError),
    /// Another first key would sign at once, before any node knows it.
    #[error("the folder has a key already; make the next one with: signalbox keys rotate")]
    NotEmpty,
    /// There is no key to replace.
    #[error("the folder has no key yet; make the first one with: signalbox keys new")]
    Empty,
    /// The key of an earlier rotation does not sign yet.
    #[error("the key {0} is waiting to sign; wait until it does, or pass --now")]
    RotationPending(String),
}

/// Every key and its state, oldest first.
///
/// # Errors
/// [`KeysError`]
pub fn list_keys(path: &Path, times: KeyTiming, now_s: u64) -> Result<Vec<KeyListing>, KeysError> {
    Ok(key_listings(&folder::read_keys(path)?, times, now_s))
}

fn key_listings(keys: &[PrivateKey], times: KeyTiming, now_s: u64) -> Vec<KeyListing> {
    let begins: Vec<_> = keys.iter().map(|key| key.signs_from).collect();
    let all = keys.iter().zip(key_statuses(&begins, now_s, times));
    all.map(|(key, status)| KeyListing {
        kid: key.public.kid().to_owned(),
        algorithm: key.public.algorithm(),
        status,
    })
    .collect()
}

/// Creates the first key of a folder, and the folder if it does not exist. The key signs at once,
/// because no node has cached a set yet. Returns its `kid`.
///
/// # Errors
/// [`KeyOperationError::NotEmpty`], [`KeysError`]
pub fn create_first_key(
    path: &Path,
    algorithm: KeyAlgorithm,
    now_s: u64,
) -> Result<String, KeyOperationError> {
    folder::create_folder(path)?;
    if !folder::read_keys(path)?.is_empty() {
        return Err(KeyOperationError::NotEmpty);
    }
    let key = PrivateKey::generate(algorithm, now_s)?;
    folder::write_key(path, &key)?;
    Ok(key.public.kid().to_owned())
}

/// Creates the next key, and removes the keys with which nothing valid is signed or sealed.
///
/// The key begins to sign when every cached set holds it. With `at_once`, after a leak, it signs
/// now, and a node fetches the set when it first meets the key. Without `algorithm` it has the
/// algorithm of the newest key.
///
/// # Errors
/// [`KeyOperationError`]
pub fn rotate_keys(
    path: &Path,
    algorithm: Option<KeyAlgorithm>,
    times: KeyTiming,
    now_s: u64,
    at_once: bool,
) -> Result<KeyRotation, KeyOperationError> {
    let keys = folder::read_keys(path)?;
    let newest = keys.last().ok_or(KeyOperationError::Empty)?;
    let states = key_listings(&keys, times, now_s);
    if let Some(waiting) = states.iter().find(|key| key.status.state == KeyState::Publishing)
        && !at_once
    {
        return Err(KeyOperationError::RotationPending(waiting.kid.clone()));
    }
    let published = states.iter().filter(|key| key.status.published).count();
    if published >= MAX_JWKS_KEYS {
        return Err(KeysError::TooManyPublished(published + 1).into());
    }
    let mut signs_from = if at_once { now_s } else { now_s + times.lead_s };
    // Of two keys that begin in the same second, the `kid` would decide which is the newer.
    while keys.iter().any(|key| key.signs_from == signs_from) {
        signs_from += 1;
    }
    let next = PrivateKey::generate(algorithm.unwrap_or(newest.public.algorithm()), signs_from)?;
    folder::write_key(path, &next)?;
    let mut removed = Vec::new();
    let kept_s = times.file_kept_s - times.retained_s;
    let is_unneeded = |status: &KeyStatus| {
        status.state == KeyState::Expired && status.since_s.is_some_and(|since_s| now_s >= since_s + kept_s)
    };
    for (key, _) in keys.iter().zip(&states).filter(|(_, listed)| is_unneeded(&listed.status)) {
        folder::remove_key(path, key)?;
        removed.push(key.public.kid().to_owned());
    }
    Ok(KeyRotation { kid: next.public.kid().to_owned(), signs_from, removed })
}
