//! The folder of private keys: one file `KID.json` for each key, readable by its owner only.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{KeysError, PrivateKey};

/// The longest file that is read, bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024;

/// The most files that are read.
const MAX_FILES: usize = 256;

/// The keys of a folder, oldest first.
///
/// # Errors
/// [`KeysError`]: other users can open the folder or a file, or its content is wrong. No `*.json`
/// file is skipped silently.
pub fn read_keys(folder: &Path) -> Result<Vec<PrivateKey>, KeysError> {
    check_folder(folder)?;
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable_error(folder, &error))? {
        let path = entry.map_err(|error| unreadable_error(folder, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        keys.push(read_key(&path)?);
        if keys.len() > MAX_FILES {
            return Err(KeysError::TooMany(folder.to_owned()));
        }
    }
    // By `kid` if two begin to sign at the same time, so that every process has the same order.
    keys.sort_by(|one, two| (one.signs_from, one.public.kid()).cmp(&(two.signs_from, two.public.kid())));
    Ok(keys)
}

fn read_key(path: &Path) -> Result<PrivateKey, KeysError> {
    let meta = fs::metadata(path).map_err(|error| unreadable_error(path, &error))?;
    check_permissions(path, &meta, "600")?;
    let broken = |problem| KeysError::Broken { path: path.to_owned(), problem };
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES {
        return Err(broken("is not a short file"));
    }
    let key = PrivateKey::parse(&fs::read(path).map_err(|error| unreadable_error(path, &error))?)
        .map_err(broken)?;
    if path.file_stem().is_some_and(|stem| *stem == *key.public.kid()) {
        Ok(key)
    } else {
        Err(broken("is not called KID.json"))
    }
}

/// Creates the folder if it does not exist, with mode 700.
///
/// # Errors
/// [`KeysError`]
pub fn create_folder(folder: &Path) -> Result<(), KeysError> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Ok(()) => check_folder(folder),
        Err(error) => Err(unreadable_error(folder, &error)),
    }
}

/// Writes a key in one step, so that a reader never meets half a file.
///
/// # Errors
/// [`KeysError`]
pub fn write_key(folder: &Path, key: &PrivateKey) -> Result<PathBuf, KeysError> {
    let path = folder.join(format!("{}.json", key.public.kid()));
    let part = folder.join(format!(".{}.part", key.public.kid()));
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(&key.to_file_content()?)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error| unreadable_error(&path, &error))?;
    Ok(path)
}

/// Removes a key.
///
/// # Errors
/// [`KeysError`]
pub fn remove_key(folder: &Path, key: &PrivateKey) -> Result<(), KeysError> {
    let path = folder.join(format!("{}.json", key.public.kid()));
    fs::remove_file(&path).map_err(|error| unreadable_error(&path, &error))
}

fn check_folder(folder: &Path) -> Result<(), KeysError> {
    let meta = fs::metadata(folder).map_err(|error| unreadable_error(folder, &error))?;
    if !meta.is_dir() {
        return Err(KeysError::Broken { path: folder.to_owned(), problem: "is not a folder" });
    }
    check_permissions(folder, &meta, "700")
}

fn check_permissions(path: &Path, meta: &fs::Metadata, required_mode: &'static str) -> Result<(), KeysError> {
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(KeysError::OpenPermissions { path: path.to_owned(), mode, required_mode })
    }
}

fn unreadable_error(path: &Path, error: &io::Error) -> KeysError {
    KeysError::Unreadable { path: path.to_owned(), problem: error.to_string() }
}
