//! What a server says about itself in its reply to `INFO`.
//!
//! Owns: the requirements that a server must meet. Must not: connect.

use redis::{Cmd, RedisResult, aio::ConnectionLike};

use crate::{redis_address::RedisAddress, redis_error::RedisStartError};

/// The reply to `INFO`.
pub(crate) async fn load_info(connection: &mut impl ConnectionLike) -> RedisResult<String> {
    redis::cmd("INFO").query_async(connection).await
}

/// Refuses a server that is too old or drops keys.
///
/// # Errors
/// [`RedisStartError::TooOld`] or [`RedisStartError::EvictsKeys`].
pub(crate) fn check_supported(info: &str) -> Result<(), RedisStartError> {
    let version = info_field(info, "redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    if major < 7 {
        return Err(RedisStartError::TooOld(if version.is_empty() { "unknown" } else { version }.to_owned()));
    }
    match info_field(info, "maxmemory_policy") {
        "noeviction" => Ok(()),
        policy => Err(RedisStartError::EvictsKeys(policy.to_owned())),
    }
}

/// Whether the server is a master. The section `replication` of the reply is enough.
pub(crate) fn is_master(info: &str) -> bool {
    info_field(info, "role") == "master"
}

/// The id of the server's history of writes. It changes with a restart or a promotion.
pub(crate) fn replication_id(info: &str) -> &str {
    info_field(info, "master_replid")
}

pub(crate) fn replication_command() -> Cmd {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("replication");
    cmd
}

/// Asks for what changes while a server runs: its memory and its replication id.
pub(crate) fn state_command() -> Cmd {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("memory").arg("replication");
    cmd
}

pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

/// Warns of a server without a limit on the messages for a slow subscriber. Needs `+config|get`.
/// The shipped ACL does not grant it, and then there is no warning.
pub(crate) async fn warn_unbounded_topics(address: &RedisAddress, connection: &mut impl ConnectionLike) {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("client-output-buffer-limit");
    let Ok((_, limits)) = cmd.query_async::<(String, String)>(connection).await else { return };
    let mut words = limits.split(' ').skip_while(|word| *word != "pubsub");
    if words.nth(1) == Some("0") {
        tracing::warn!(
            event = "redis_unbounded_topics", redis = %address,
            "a node that stops reading costs Redis memory without end; set client-output-buffer-limit pubsub 64mb 16mb 60"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_and_an_evicting_server_are_refused() {
        let info = |version: &str, policy: &str| {
            format!(
                "# Server\r\nredis_version:{version}\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\n"
            )
        };
        for version in ["7.0.15", "10.2.0"] {
            assert!(check_supported(&info(version, "noeviction")).is_ok(), "{version}");
        }
        for (version, policy, expected) in [
            ("6.2.14", "noeviction", "6.2.14"),
            ("", "noeviction", "unknown"),
            ("7.2.0", "allkeys-lru", "allkeys-lru"),
            ("7.2.0", "volatile-ttl", "noeviction"),
        ] {
            let error = check_supported(&info(version, policy)).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
