//! The files of the repository. A path is relative to the root and has `/` between its parts.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Folders that hold no source, by name or by path: their files are generated or downloaded.
const SKIPPED_FOLDERS: [&str; 5] = [".git", ".venv", "target", "node_modules", "clients/js/types"];

fn absolute(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

pub(crate) fn exists(path: &str) -> bool {
    absolute(path).exists()
}

/// The text of a file, or `None` if there is no such file or if it is not text.
pub(crate) fn try_read(path: &str) -> Option<String> {
    fs::read_to_string(absolute(path)).ok()
}

pub(crate) fn read(path: &str) -> String {
    try_read(path).unwrap_or_else(|| panic!("{path} is missing"))
}

/// All files below `folder`, sorted. The root is the empty path.
pub(crate) fn files_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    collect_files(folder, &mut files);
    files.sort();
    files
}

fn collect_files(folder: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(absolute(folder)).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().unwrap();
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| *skipped == name || *skipped == path)
        {
            collect_files(&path, files);
        }
    }
}
