//! What an operator does to the folder: `signalbox keys new`, `rotate`, `list`.

use std::path::Path;

use signalbox_token::{KeyAlgorithm, MAX_JWKS_KEYS};

use super::{KeyState, KeysError, Place, PrivateKey, Times, folder, places};

/// A key, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub kid: String,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// What it does.
    pub place: Place,
}

/// What a rotation has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The new key.
    pub kid: String,
    /// When it begins to sign, seconds since 1970.
    pub signs_from: u64,
    /// The keys that were over and are gone.
    pub removed: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// The folder cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A second first key would sign at once, unknown to every node.
    #[error("the folder has a key already; make the next one with: signalbox keys rotate")]
    NotEmpty,
    /// There is nothing to be replaced.
    #[error("the folder has no key yet; make the first one with: signalbox keys new")]
    Empty,
    /// Called twice.
    #[error("the key {0} is waiting to sign; wait until it does, or pass --now")]
    Waiting(String),
}

/// Every key and its state, oldest first.
///
/// # Errors
/// [`KeysError`]
pub fn list(path: &Path, times: Times, now_s: u64) -> Result<Vec<Listed>, KeysError> {
    Ok(listed(&folder::read(path)?, times, now_s))
}

fn listed(keys: &[PrivateKey], times: Times, now_s: u64) -> Vec<Listed> {
    let begins: Vec<_> = keys.iter().map(|key| key.signs_from).collect();
    let all = keys.iter().zip(places(&begins, now_s, times));
    all.map(|(key, place)| Listed {
        kid: key.public.kid().to_owned(),
        algorithm: key.public.algorithm(),
        place,
    })
    .collect()
}

/// The first key of a folder, which is made where it is not there. It signs at once: nobody holds an older set.
///
/// # Errors
/// [`OperateError::NotEmpty`], [`KeysError`]
pub fn first(path: &Path, algorithm: KeyAlgorithm, now_s: u64) -> Result<String, OperateError> {
    folder::make(path)?;
    if !folder::read(path)?.is_empty() {
        return Err(OperateError::NotEmpty);
    }
    let key = PrivateKey::generate(algorithm, now_s)?;
    folder::write(path, &key)?;
    Ok(key.public.kid().to_owned())
}

/// Makes the next key and removes those that are over. It begins to sign when every cached set has it; with `at_once`, for a key that has
/// leaked, now: nodes then look for it when they first meet it. Of the same algorithm as the newest, unless told otherwise.
///
/// # Errors
/// [`OperateError`]
pub fn rotate(
    path: &Path,
    algorithm: Option<KeyAlgorithm>,
    times: Times,
    now_s: u64,
    at_once: bool,
) -> Result<Rotated, OperateError> {
    let keys = folder::read(path)?;
    let newest = keys.last().ok_or(OperateError::Empty)?;
    let states = listed(&keys, times, now_s);
    if let Some(waiting) = states.iter().find(|key| key.place.state == KeyState::Publishing)
        && !at_once
    {
        return Err(OperateError::Waiting(waiting.kid.clone()));
    }
    let published = states.iter().filter(|key| key.place.published).count();
    if published >= MAX_JWKS_KEYS {
        return Err(KeysError::TooManyPublished(published + 1).into());
    }
    let mut signs_from = if at_once { now_s } else { now_s + times.lead_s };
    // Of two that begin in the same second the name would decide which is the newer.
    while keys.iter().any(|key| key.signs_from == signs_from) {
        signs_from += 1;
    }
    let next = PrivateKey::generate(algorithm.unwrap_or(newest.public.algorithm()), signs_from)?;
    folder::write(path, &next)?;
    let mut removed = Vec::new();
    for (key, _) in keys.iter().zip(&states).filter(|(_, listed)| listed.place.state == KeyState::Over) {
        folder::remove(path, key)?;
        removed.push(key.public.kid().to_owned());
    }
    Ok(Rotated { kid: next.public.kid().to_owned(), signs_from, removed })
}
