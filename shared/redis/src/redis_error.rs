//! Errors. A text for the operator contains no password, no key and no argument.

use std::{error::Error as _, sync::Arc};

use redis::{ErrorKind, RedisError, ServerErrorKind};
use signalbox_protocol::problem::Problem;

use crate::redis_address::RedisAddress;

/// Redis did not answer in time, cannot be reached, or refused the request. The outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis did not answer in time")]
pub struct RedisUnavailable;

/// Why a request has no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestFailure {
    /// The outcome is unknown, or no server could be asked in time.
    #[error(transparent)]
    Unavailable(#[from] RedisUnavailable),
    /// The server refused the request, or no connection can be used. The reason is for the
    /// operator.
    #[error("{0}")]
    Refused(RedisStartError),
}

impl From<RequestFailure> for RedisUnavailable {
    fn from(failure: RequestFailure) -> Self {
        if let RequestFailure::Refused(reason) = failure {
            tracing::debug!(event = "redis_refused", %reason);
        }
        Self
    }
}

/// Why Redis cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisStartError {
    /// The URL cannot be used.
    #[error("the Redis URL {0}")]
    Url(String),
    /// A file with certificates or a key cannot be used.
    #[error("{setting}: {problem}")]
    TlsFile {
        /// The setting that names the file.
        setting: &'static str,
        /// The problem.
        problem: String,
    },
    /// No server answers, or a server is not ready. Waiting may help.
    #[error("Redis did not answer ({0}); is it running, and are the URL and password right?")]
    NoAnswer(String),
    /// TLS failed.
    #[error("TLS with Redis at {address} failed: {reason}")]
    Tls {
        /// The server.
        address: RedisAddress,
        /// The reason.
        reason: String,
    },
    /// The user or the password is wrong.
    #[error("Redis at {0} refused the user or the password")]
    LoginRefused(RedisAddress),
    /// The Sentinels have a login of their own.
    #[error(
        "the Sentinel at {0} refused the user or the password; REDIS_URL names the login of the Sentinels at its end: /MASTER_NAME/0?sentinel_user=U&sentinel_pass=P"
    )]
    SentinelLoginRefused(RedisAddress),
    /// The ACL user lacks a permission.
    #[error("the ACL user of Redis at {address} lacks a permission: {missing}")]
    MissingPermission {
        /// The server.
        address: RedisAddress,
        /// The permission as an ACL names it.
        missing: String,
    },
    /// Too old for sharded pub/sub and script flags.
    #[error("Redis is version {0}; 7.0 or newer is needed")]
    TooOld(String),
    /// The server drops keys when memory is short.
    #[error("Redis has maxmemory-policy {0}, which drops keys when memory is short; set it to noeviction")]
    EvictsKeys(String),
    /// The server is not of the kind that the URL names.
    #[error("{0}")]
    WrongServer(String),
    /// The server answers and refuses requests.
    #[error("Redis at {address} refuses requests with {code}: {reason}")]
    Refuses {
        /// The server.
        address: RedisAddress,
        /// Redis' own code.
        code: String,
        /// What it means.
        reason: String,
    },
    /// The thread could not be started.
    #[error("cannot start the store's thread: {0}")]
    Thread(String),
}

impl RedisStartError {
    /// Whether an operator must change something: waiting does not help.
    pub fn needs_operator(&self) -> bool {
        !matches!(self, Self::NoAnswer(_) | Self::Refuses { .. })
    }

    /// The answer of `/health/ready`: 503 `unavailable`.
    pub fn to_problem(&self) -> Problem {
        let detail = match self {
            Self::NoAnswer(reason) => format!("Redis does not answer: {reason}"),
            error => error.to_string(),
        };
        Problem::new(503, "unavailable", detail)
    }

    /// Explains an error of the driver to the operator.
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
            _ => Self::NoAnswer(format!("{address}: {}", describe_error(error))),
        }
    }

    /// The same for an answer of the Sentinel at this address.
    pub(crate) fn from_sentinel_error(address: &RedisAddress, error: &RedisError) -> Self {
        match Self::from_driver_error(address, error) {
            Self::LoginRefused(address) => Self::SentinelLoginRefused(address),
            Self::NoAnswer(reason) => Self::NoAnswer(format!("the Sentinel at {reason}")),
            other => other,
        }
    }
}

/// Describes an error without a part of the request.
pub(crate) fn describe_error(error: &RedisError) -> String {
    let fixed = match error.kind() {
        _ if error.is_timeout() => "it did not answer in time",
        _ if error.is_connection_refusal() => "the connection was refused",
        // The standard library has no kind for it.
        _ if error.is_io_error() && error.to_string().contains("lookup address") => {
            "the name of the host does not resolve"
        }
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

/// The permission that a NOPERM reply names. The reply quotes a command, but no key and no channel.
pub(crate) fn missing_permission(detail: &str) -> String {
    match detail.split('\'').nth(1) {
        Some(command) => format!("+{command}"),
        None if detail.contains("channel") => {
            "a channel; compare its rules with deploy/redis/users.acl.template".to_owned()
        }
        None => "a key; compare its rules with deploy/redis/users.acl.template".to_owned(),
    }
}

fn find_tls_error(error: &RedisError) -> Option<&rustls::Error> {
    // The driver wraps its source in a pointer.
    let source = error.source()?.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    let io = source.downcast_ref::<std::io::Error>()?;
    io.get_ref()?.downcast_ref::<rustls::Error>()
}

fn describe_tls_error(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};
    let fixed = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "no authority trusted here has signed its certificate; set redis.ca_file to your authority"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name",
        // The TLS library has no variant of its own for it.
        Error::InvalidCertificate(CertificateError::Other(_))
            if error.to_string().contains("CaUsedAsEndEntity") =>
        {
            "its certificate is one of an authority (CA:TRUE); give it a certificate with CA:FALSE"
        }
        Error::InvalidMessage(_) => "it does not speak TLS there",
        Error::AlertReceived(alert) => return describe_tls_alert(*alert),
        other => return other.to_string(),
    };
    fixed.to_owned()
}

/// What a server says about the certificate of this process.
fn describe_tls_alert(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateRequired, UnknownCA};
    match alert {
        CertificateRequired => {
            "it requires a client certificate; set redis.cert_file and redis.key_file".to_owned()
        }
        BadCertificate | CertificateExpired | UnknownCA => {
            format!("it refused the client certificate of redis.cert_file ({alert:?})")
        }
        other => format!("it ended the connection ({other:?})"),
    }
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
                "a channel; compare its rules with deploy/redis/users.acl.template",
            ),
            (
                "this user has no permissions to access one of the keys used as arguments",
                "a key; compare its rules with deploy/redis/users.acl.template",
            ),
        ] {
            assert_eq!(missing_permission(detail), expected);
        }
    }
}
