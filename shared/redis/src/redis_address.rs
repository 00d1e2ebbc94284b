//! The address of one Redis server.

use std::{fmt, path::PathBuf};

use signalbox_config::HostPort;

/// The address of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RedisAddress {
    /// A host and a port.
    Tcp(HostPort),
    /// A Unix socket.
    UnixSocket(PathBuf),
}

impl RedisAddress {
    pub(crate) fn tcp(host: &str, port: u16) -> Self {
        Self::Tcp(HostPort { host: host.to_owned(), port })
    }

    /// Reads the address of a redirection: `host:port`, IPv6 without brackets. The host is empty
    /// for the host that was asked.
    pub(crate) fn parse_redirected(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        match (host, asked) {
            ("" | "?", Self::Tcp(asked)) => Some(Self::tcp(&asked.host, port)),
            ("" | "?", Self::UnixSocket(_)) => None,
            (host, _) => Some(Self::tcp(host.trim_matches(['[', ']']), port)),
        }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            Self::UnixSocket(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_without_a_host_keeps_the_asked_host() {
        let asked = RedisAddress::tcp("redis.example", 7000);
        for (text, expected) in [
            ("10.0.0.1:7001", Some(RedisAddress::tcp("10.0.0.1", 7001))),
            (":7001", Some(RedisAddress::tcp("redis.example", 7001))),
            ("2001:db8::1:7001", Some(RedisAddress::tcp("2001:db8::1", 7001))),
            ("nothing", None),
            ("host:port", None),
        ] {
            assert_eq!(RedisAddress::parse_redirected(text, &asked), expected, "{text}");
        }
    }
}
