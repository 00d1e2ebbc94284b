//! The folder of private keys: one file `KID.json` for each key, readable by its owner only.
//!
//! The folder may be a Secret that Kubernetes has mounted. Kubernetes owns it as root, gives its files
//! to a group of the process, and replaces all files in one step: each is a link through `..data` to
//! the folder of the current version.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::StatVfsMountFlags, process};

use super::{KeysError, PrivateKey};

/// The link to the current version of a mounted Secret.
const VERSION_LINK: &str = "..data";

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
    let is_volume = is_mounted_volume(folder);
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable_error(folder, &error))? {
        let path = entry.map_err(|error| unreadable_error(folder, &error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        keys.push(read_key(&path, is_volume)?);
        if keys.len() > MAX_FILES {
            return Err(KeysError::TooMany(folder.to_owned()));
        }
    }
    // By `kid` if two begin to sign at the same time, so that every process has the same order.
    keys.sort_by(|one, two| (one.signs_from, one.public.kid()).cmp(&(two.signs_from, two.public.kid())));
    Ok(keys)
}

fn read_key(path: &Path, is_volume: bool) -> Result<PrivateKey, KeysError> {
    let meta = fs::metadata(path).map_err(|error| unreadable_error(path, &error))?;
    if !is_volume {
        check_permissions(path, &meta, "600")?;
    } else if !is_private_in_volume(FileAccess::of(&meta), &process_groups()) {
        return Err(open_volume_error(path, &meta));
    }
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
    check_writable(folder)?;
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
    check_writable(folder)?;
    let path = folder.join(format!("{}.json", key.public.kid()));
    fs::remove_file(&path).map_err(|error| unreadable_error(&path, &error))
}

fn check_folder(folder: &Path) -> Result<(), KeysError> {
    let meta = fs::metadata(folder).map_err(|error| unreadable_error(folder, &error))?;
    if !meta.is_dir() {
        return Err(KeysError::Broken { path: folder.to_owned(), problem: "is not a folder" });
    }
    if !is_mounted_volume(folder) {
        return check_permissions(folder, &meta, "700");
    }
    for path in [folder.to_owned(), folder.join(VERSION_LINK)] {
        let meta = fs::metadata(&path).map_err(|error| unreadable_error(&path, &error))?;
        let is_closed = meta.uid() == 0 && meta.mode() & 0o022 == 0;
        if !is_closed && !is_read_only(&path) {
            return Err(open_volume_error(&path, &meta));
        }
    }
    Ok(())
}

/// Whether Kubernetes has mounted the folder.
fn is_mounted_volume(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(VERSION_LINK)).is_ok_and(|meta| meta.is_symlink())
}

/// Whether nothing on this mount can be changed through it.
fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A mounted Secret is changed in Kubernetes.
fn check_writable(folder: &Path) -> Result<(), KeysError> {
    if !is_mounted_volume(folder) {
        return Ok(());
    }
    let problem = "is a mounted Secret; make keys in a folder of your own, and put its files into the Secret";
    Err(KeysError::Broken { path: folder.to_owned(), problem })
}

/// The owner of a file, and who may open it.
#[derive(Debug, Clone, Copy)]
struct FileAccess {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl FileAccess {
    fn of(meta: &fs::Metadata) -> Self {
        Self { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o777 }
    }
}

/// Whether only the owner can open the file, or only root and a group of this process can read it.
fn is_private_in_volume(FileAccess { uid, gid, mode }: FileAccess, groups: &[u32]) -> bool {
    mode & 0o077 == 0 || (uid == 0 && groups.contains(&gid) && mode & 0o037 == 0)
}

fn process_groups() -> Vec<u32> {
    let others = process::getgroups().unwrap_or_default();
    others.into_iter().chain([process::getegid()]).map(|group| group.as_raw()).collect()
}

fn open_volume_error(path: &Path, meta: &fs::Metadata) -> KeysError {
    KeysError::OpenVolume { path: path.to_owned(), mode: meta.mode() & 0o777 }
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
    let problem = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{error}; the process must own it, or be in the group that may read it (fsGroup)")
        }
        _ => error.to_string(),
    };
    KeysError::Unreadable { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_a_mounted_secret_is_private_to_its_owner_or_to_root_and_a_group_of_the_process() {
        let groups = [1000, 2000];
        for (uid, gid, mode, expected) in [
            (0, 2000, 0o440, true),
            (0, 1000, 0o640, true),
            (0, 2000, 0o400, true),
            (0, 3000, 0o400, true),
            (7, 3000, 0o600, true),
            (0, 3000, 0o440, false),
            (7, 2000, 0o440, false),
            (0, 2000, 0o444, false),
            (0, 2000, 0o441, false),
            (0, 2000, 0o460, false),
            (0, 2000, 0o450, false),
            (0, 0, 0o440, false),
            (0, 2000, 0o644, false),
        ] {
            let found = is_private_in_volume(FileAccess { uid, gid, mode }, &groups);
            assert_eq!(found, expected, "{uid} {gid} {mode:03o}");
        }
    }
}
