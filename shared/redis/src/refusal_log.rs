//! What the servers refuse, by Redis' own code.
//!
//! A refusal begins with the first refused request or check, and ends when a check succeeds and no
//! request was refused for a while. Each beginning and each end is one line of the log.
//!
//! Owns: the refusals in effect, and a counter for each code. Must not: send; `redis_shard` checks.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{ErrorKind, RedisError};
use tokio::time::Instant;

use crate::redis_address::RedisAddress;

/// A refusal lasts this long after the last refused request, so that refusals that come and go
/// with single requests do not fill the log.
const QUIET_TIME: Duration = Duration::from_secs(2);

macro_rules! refusal_codes {
    ($($code:ident: $name:literal, $advice:literal;)*) => {
        /// Why a server refuses requests.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum RefusalCode {
            $(#[doc = $name] $code,)*
            /// A code that concerns one request, or that this release does not know.
            Other,
        }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code,)* Self::Other];

            /// Redis' own code, or `other`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* Self::Other => "other" }
            }

            /// What it means, for the operator.
            const fn advice(self) -> &'static str {
                match self {
                    $(Self::$code => $advice,)*
                    Self::Other => "it refuses a request; its log may say why",
                }
            }
        }
    };
}

refusal_codes! {
    Misconf: "MISCONF", "it cannot save its data to disk, so it refuses writes; see its log and its disk";
    NoReplicas: "NOREPLICAS", "it has fewer replicas than min-replicas-to-write, so it refuses writes";
    OutOfMemory: "OOM", "its memory is used up; raise maxmemory";
    NoPerm: "NOPERM", "the ACL user lacks a permission";
    WrongPass: "WRONGPASS", "it refuses the user or the password";
    NoAuth: "NOAUTH", "it requires a user and a password";
    ReadOnly: "READONLY", "a replica answers at this address";
    Loading: "LOADING", "it is still loading its data";
    MasterDown: "MASTERDOWN", "it is a replica without its master";
    ClusterDown: "CLUSTERDOWN", "the cluster does not serve all slots";
    Busy: "BUSY", "a script or a module blocks it";
}

/// One reply that refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RefusalCode,
    /// The code as the server wrote it.
    pub(crate) text: String,
    /// What is missing, if the server says so, or what the operator must change.
    pub(crate) missing: Option<String>,
}

/// Where the login for Sentinels stands.
const SENTINEL_LOGIN: &str =
    "this is a Sentinel, and its login stands in sentinel_user and sentinel_pass of REDIS_URL";

impl Refusal {
    /// Reads an error of the driver. `None` if it is no refusal of a server, or one that is part of the
    /// normal work.
    pub(crate) fn from_driver_error(error: &RedisError) -> Option<Self> {
        match (error.kind(), error.code()) {
            // The driver keeps only the text.
            (ErrorKind::AuthenticationFailed, _) => {
                let needs_login = error.to_string().contains("NOAUTH");
                Self::from_parts(if needs_login { "NOAUTH" } else { "WRONGPASS" }, "")
            }
            (_, Some(code)) => Self::from_parts(code, error.detail().unwrap_or_default()),
            (_, None) => None,
        }
    }

    /// Reads an error of a Sentinel, which has a login of its own.
    pub(crate) fn by_sentinel(error: &RedisError) -> Option<Self> {
        let refusal = Self::from_driver_error(error)?;
        let is_login =
            matches!(refusal.code, RefusalCode::WrongPass | RefusalCode::NoAuth | RefusalCode::NoPerm);
        Some(Self { missing: is_login.then(|| SENTINEL_LOGIN.to_owned()), ..refusal })
    }

    /// A server that calls itself a replica: it would refuse each write.
    pub(crate) fn by_replica() -> Self {
        Self { code: RefusalCode::ReadOnly, text: "READONLY".to_owned(), missing: None }
    }

    /// A permission that the check of all commands has missed.
    pub(crate) fn missing_permission(missing: String) -> Self {
        Self { code: RefusalCode::NoPerm, text: "NOPERM".to_owned(), missing: Some(missing) }
    }

    fn from_parts(code: &str, details: &str) -> Option<Self> {
        if matches!(code, "MOVED" | "ASK" | "TRYAGAIN" | "NOSCRIPT") {
            return None;
        }
        // Redis 7.0 has no code for a command that a script may not run.
        let in_script = details.contains("The user executing the script") || details.contains("ACL failure");
        let code = if in_script { "NOPERM" } else { code };
        let known = RefusalCode::ALL.iter().copied().find(|known| known.name() == code);
        let is_code = !code.is_empty() && code.len() <= 16 && code.bytes().all(|b| b.is_ascii_uppercase());
        let text = if is_code { code } else { "ERR" };
        Some(Self { code: known.unwrap_or(RefusalCode::Other), text: text.to_owned(), missing: None })
    }

    /// What it means, for the operator.
    fn describe(&self) -> String {
        match &self.missing {
            Some(missing) => format!("{}: {missing}", self.code.advice()),
            None => self.code.advice().to_owned(),
        }
    }
}

/// A refusal that has begun and not ended.
struct CurrentRefusal {
    refusal: Refusal,
    last_seen: Instant,
}

/// See the module.
#[derive(Default)]
pub(crate) struct RefusalLog {
    // A std mutex: held to read or change one entry.
    current: Mutex<BTreeMap<(RedisAddress, String), CurrentRefusal>>,
    totals: [AtomicU64; RefusalCode::ALL.len()],
}

impl RefusalLog {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(RedisAddress, String), CurrentRefusal>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal, and logs it if it begins.
    pub(crate) fn record(&self, address: &RedisAddress, refusal: Refusal) {
        self.totals[refusal.code as usize].fetch_add(1, Ordering::Relaxed);
        let (name, last_seen) = ((address.clone(), refusal.text.clone()), Instant::now());
        let mut current = self.lock();
        if let Some(known) = current.get_mut(&name) {
            known.last_seen = last_seen;
            if refusal.missing.is_some() {
                known.refusal = refusal;
            }
            return;
        }
        let (code, reason) = (refusal.text.clone(), refusal.describe());
        current.insert(name, CurrentRefusal { refusal, last_seen });
        drop(current);
        tracing::warn!(event = "redis_refuses", redis = %address, code, reason, "Redis refuses requests");
    }

    /// Whether a refusal of this server has not ended.
    pub(crate) fn has_current(&self, address: &RedisAddress) -> bool {
        self.lock().keys().any(|(server, _)| server == address)
    }

    /// A check of this server has succeeded: ends its refusals, except those that were seen a moment
    /// ago.
    pub(crate) fn end_after_check(&self, address: &RedisAddress) {
        self.lock().retain(|(server, code), current| {
            let stays = server != address || current.last_seen.elapsed() < QUIET_TIME;
            if !stays {
                tracing::warn!(
                    event = "redis_accepts", redis = %server, code, "Redis accepts requests again"
                );
            }
            stays
        });
    }

    /// Forgets the servers that are not used any more.
    pub(crate) fn retain_servers(&self, is_used: impl Fn(&RedisAddress) -> bool) {
        self.lock().retain(|(server, _), _| is_used(server));
    }

    /// The refusals that concern more than single requests: server, code and meaning. A request that
    /// was in flight may record one for a server that is not used any more.
    pub(crate) fn general_refusals(&self) -> Vec<(RedisAddress, String, String)> {
        let current = self.lock();
        let general = current.iter().filter(|(_, entry)| entry.refusal.code != RefusalCode::Other);
        general.map(|(key, entry)| (key.0.clone(), key.1.clone(), entry.refusal.describe())).collect()
    }

    /// How many requests and checks were refused, by code.
    pub(crate) fn totals(&self) -> Vec<(&'static str, u64)> {
        let total = |code: &RefusalCode| self.totals[*code as usize].load(Ordering::Relaxed);
        RefusalCode::ALL.iter().map(|code| (code.name(), total(code))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, details: &str) -> Refusal {
        Refusal::from_parts(code, details).unwrap()
    }

    #[test]
    fn every_code_is_read_from_the_reply_and_described() {
        for code in RefusalCode::ALL {
            let read = refusal(code.name(), "details");
            assert_eq!(read.code, *code);
            assert!(!read.describe().is_empty());
        }
        let script = "The user executing the script can't run this command or subcommand script: x";
        assert_eq!(refusal("ERR", script).code, RefusalCode::NoPerm);
        assert_eq!(
            (refusal("ERR", "x").code, refusal("ERR", "x").text.as_str()),
            (RefusalCode::Other, "ERR")
        );
        assert_eq!(refusal("a key: with a name", "").text, "ERR", "nothing of a request");
        for code in ["MOVED", "ASK", "TRYAGAIN", "NOSCRIPT"] {
            assert_eq!(Refusal::from_parts(code, ""), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lasts_until_a_check_succeeds_after_a_quiet_time() {
        let (log, server) = (RefusalLog::default(), RedisAddress::tcp("h", 1));
        log.record(&server, refusal("MISCONF", ""));
        log.record(&server, refusal("MISCONF", ""));
        log.end_after_check(&server);
        assert!(log.has_current(&server), "it was seen a moment ago");
        let (_, code, reason) = log.general_refusals().remove(0);
        assert!(code == "MISCONF" && reason.contains("disk"), "{code} {reason}");
        tokio::time::advance(QUIET_TIME).await;
        log.end_after_check(&RedisAddress::tcp("other", 1));
        assert!(log.has_current(&server));
        log.end_after_check(&server);
        assert!(!log.has_current(&server) && log.general_refusals().is_empty());
        assert!(log.totals().contains(&("MISCONF", 2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_one_request_does_not_concern_the_server() {
        let (log, server) = (RefusalLog::default(), RedisAddress::tcp("h", 1));
        log.record(&server, refusal("WRONGTYPE", ""));
        assert!(log.has_current(&server) && log.general_refusals().is_empty());
        log.record(&server, Refusal::missing_permission("+hset".to_owned()));
        assert!(log.general_refusals()[0].2.ends_with("+hset"));
        log.retain_servers(|used| *used != server);
        assert!(!log.has_current(&server));
    }
}
