//! What goes wrong, for the operator: never a password, a key or an argument.

use std::{error::Error as _, sync::Arc};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::redis_address::RedisAddress;

/// The store did not answer in time, or cannot be reached: the outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis did not answer in time")]
pub struct RedisUnavailable;

/// Why Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisStartError {
    /// The URL is not one.
    #[error("the Redis URL {0}")]
    Url(String),
    /// The certificates of `redis.ca_file` cannot be used.
    #[error("redis.ca_file: {0}")]
    CaFile(String),
    /// Nobody answers, or not yet as needed.
    #[error("Redis did not answer within 10 s ({0}); is it running, and are the URL and password right?")]
    NoAnswer(String),
    /// TLS failed.
    #[error("TLS with Redis at {address} failed: {reason}")]
    Tls {
        /// Which server.
        address: RedisAddress,
        /// What is wrong.
        reason: String,
    },
    /// It does not know us.
    #[error("Redis at {0} refused the user or the password")]
    LoginRefused(RedisAddress),
    /// The ACL is too narrow.
    #[error("the ACL user of Redis at {address} lacks a permission: {missing}")]
    MissingPermission {
        /// Which server.
        address: RedisAddress,
        /// As it would stand in the ACL.
        missing: String,
    },
    /// Too old for sharded pub/sub and script flags.
    #[error("Redis is version {0}; 7.0 or newer is needed")]
    TooOld(String),
    /// It would drop keys under memory pressure.
    #[error("Redis has maxmemory-policy {0}, which drops keys when memory is short; set it to noeviction")]
    EvictsKeys(String),
    /// It is something else than the URL says.
    #[error("{0}")]
    WrongServer(String),
    /// The thread could not be started.
    #[error("cannot start the store's thread: {0}")]
    Thread(std::io::Error),
}

impl RedisStartError {
    /// Whether waiting is of no use: somebody has to change something.
    pub fn needs_operator(&self) -> bool {
        !matches!(self, Self::NoAnswer(_))
    }

    /// What the driver's error means for the operator.
    pub fn from_driver_error(address: &RedisAddress, error: &RedisError) -> Self {
        let address = address.clone();
        if let Some(tls) = find_tls_error(error) {
            return Self::Tls { address, reason: describe_tls_error(tls) };
        }
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                Self::LoginRefused(address)
            }
            (ErrorKind::Server(ServerErrorKind::NoPerm), _) => Self::MissingPermission {
                address,
                missing: missing_permission(error.detail().unwrap_or_default()),
            },
            (ErrorKind::RESP3NotSupported, _) => Self::TooOld("6 or older".to_owned()),
            _ => Self::NoAnswer(describe_error(error)),
        }
    }
}

/// What went wrong, without anything that was sent.
pub(crate) fn describe_error(error: &RedisError) -> String {
    let fixed = match error.kind() {
        _ if error.is_timeout() => "it did not answer in time",
        _ if error.is_connection_refusal() => "the connection was refused",
        _ if error.is_io_error() => "the connection failed",
        ErrorKind::AuthenticationFailed => "user or password is wrong",
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            return format!("the ACL user lacks {}", missing_permission(error.detail().unwrap_or_default()));
        }
        ErrorKind::Server(ServerErrorKind::BusyLoading) => "it is still loading",
        ErrorKind::Server(ServerErrorKind::ClusterDown) => "the cluster is down",
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => "it is a replica",
        _ => match error.code() {
            Some("OOM") => "it is out of memory",
            Some("NOAUTH" | "WRONGPASS") => "user or password is wrong",
            _ => "it refused a command",
        },
    };
    fixed.to_owned()
}

/// The permission that a NOPERM answer is about. It quotes a command's name; of keys and channels it quotes nothing.
fn missing_permission(detail: &str) -> String {
    match detail.split('\'').nth(1) {
        Some(command) => format!("+{command}"),
        None if detail.contains("channel") => "a channel, &sb:*".to_owned(),
        None => "a key, ~sb:*".to_owned(),
    }
}

fn find_tls_error(error: &RedisError) -> Option<&rustls::Error> {
    // The driver's source is the pointer that it holds.
    let held = error.source()?.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    let io = held.downcast_ref::<std::io::Error>()?;
    io.get_ref()?.downcast_ref::<rustls::Error>()
}

fn describe_tls_error(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    let fixed = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "no authority trusted here has signed its certificate; set redis.ca_file to that of yours"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name than this",
        Error::InvalidMessage(_) => "it does not speak TLS there",
        other => return other.to_string(),
    };
    fixed.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_as_in_the_acl() {
        for (detail, expected) in [
            ("this user has no permissions to run the 'script|load' command", "+script|load"),
            ("User signal has no permissions to run the 'info' command", "+info"),
            (
                "this user has no permissions to access one of the channels used as arguments",
                "a channel, &sb:*",
            ),
            ("this user has no permissions to access one of the keys used as arguments", "a key, ~sb:*"),
        ] {
            assert_eq!(missing_permission(detail), expected);
        }
    }
}
