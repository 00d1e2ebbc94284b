//! The files that the process may have open. Each connection needs one.
//!
//! Owns: the limit that the system sets. Must not: count connections; a node does.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The files of everything else: listeners, Redis, other servers, and requests without an upgrade.
const OTHER_FILES: u64 = 256;

/// Raises the limit as far as the system allows. Shells and systemd often give a process 1024 files,
/// and more only to a process that asks.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without more files the node admits fewer connections, and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The most files that the process may have open; `None` without a limit.
pub fn file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The most connections for which a process with this limit can open files.
pub fn connections_within(file_limit: Option<u64>) -> u32 {
    let connections = file_limit.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES).max(1));
    u32::try_from(connections).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (files, connections) in [
            (Some(20_000), 19_744),
            (Some(1_024), 768),
            (Some(64), 1),
            (Some(u64::MAX), u32::MAX),
            (None, u32::MAX),
        ] {
            assert_eq!(connections_within(files), connections, "{files:?}");
        }
    }

    #[test]
    fn a_process_may_open_as_many_files_as_the_system_allows() {
        raise_file_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
