//! What a server says about itself, and whether it will do.

use redis::{Cmd, RedisResult, aio::ConnectionLike};

use crate::{redis_address::RedisAddress, redis_error::RedisStartError};

/// `INFO`, and of it what we look at.
pub(crate) struct ServerInfo {
    pub(crate) text: String,
}

impl ServerInfo {
    pub(crate) async fn load_info(connection: &mut impl ConnectionLike) -> RedisResult<Self> {
        Ok(Self { text: redis::cmd("INFO").query_async(connection).await? })
    }

    pub(crate) fn is_master(&self) -> bool {
        is_master(&self.text)
    }

    /// Refuses a server that is too old or evicts.
    pub(crate) fn check_supported(&self) -> Result<(), RedisStartError> {
        check_server_info(&self.text)
    }
}

/// Refuses a server that is too old or evicts, by its `INFO`.
///
/// # Errors
/// [`RedisStartError::TooOld`] or [`RedisStartError::EvictsKeys`].
pub fn check_server_info(info: &str) -> Result<(), RedisStartError> {
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

/// Whether a server takes writes, by its `INFO`, whole or only its section `replication`.
pub fn is_master(info: &str) -> bool {
    info_field(info, "role") == "master"
}

/// Which history of writes a server has: another after a restart or a promotion.
pub(crate) fn replication_id(info: &str) -> &str {
    info_field(info, "master_replid")
}

pub(crate) fn replication_command() -> Cmd {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("replication");
    cmd
}

pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
}

/// Warns of a server that keeps everything for a reader of topics that does not read. Needs `+config|get`, which the shipped ACL
/// does not give: then nothing is said.
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
            assert!(check_server_info(&info(version, "noeviction")).is_ok(), "{version}");
        }
        for (version, policy, expected) in [
            ("6.2.14", "noeviction", "6.2.14"),
            ("", "noeviction", "unknown"),
            ("7.2.0", "allkeys-lru", "allkeys-lru"),
            ("7.2.0", "volatile-ttl", "noeviction"),
        ] {
            let error = check_server_info(&info(version, policy)).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
