//! Origins of web sites and apps (RFC 6454) in their one canonical form.
//!
//! Owns: [`WebOrigin`], and why a text can never be the `Origin` of a request. Must not: know which
//! origins a server allows.

use std::fmt;

use crate::host_name::{HostAuthority, HostName};

/// The origin of a page: its scheme, host and port. Two spellings of one origin are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WebOrigin {
    scheme: String,
    host: HostName,
    /// `None` is the default port of the scheme.
    port: Option<u16>,
}

/// Schemes whose pages send another `Origin`, or none, and what to do instead.
const SCHEMES_WITHOUT_ORIGIN: [(&str, &str); 8] = [
    ("ws", "a browser sends the origin of the page: write http://"),
    ("wss", "a browser sends the origin of the page: write https://"),
    ("file", "a page from a file sends `null`, which any page can send: serve it over http://"),
    ("data", "such a page sends `null`, which any page can send"),
    ("blob", "a browser sends the origin of the page that made it: write that one"),
    ("about", "such a page sends `null`, which any page can send"),
    ("javascript", "a browser sends the origin of the page: write that one"),
    ("filesystem", "a browser sends the origin of the page that made it: write that one"),
];

impl WebOrigin {
    /// Parses the origin of a web site (`https://app.example`) or of an app
    /// (`capacitor://localhost`).
    ///
    /// # Errors
    /// Why no request has this origin, and what to write instead. The text continues a sentence
    /// that begins with the entry.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(match text {
                "null" => "stands for every page without an origin, so it cannot be allowed".to_owned(),
                _ => "has no scheme: write it like https://app.example".to_owned(),
            });
        };
        let scheme = scheme.to_ascii_lowercase();
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !is_scheme {
            return Err("has no valid scheme: write it like https://app.example".to_owned());
        }
        if let Some((_, instead)) = SCHEMES_WITHOUT_ORIGIN.iter().find(|(name, _)| *name == scheme) {
            return Err(format!("can never match, because {instead}"));
        }
        if rest.contains('*') {
            return Err("can never match, because names are compared whole: list each host".to_owned());
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(
                "can never match, because an origin ends with its host and port: remove the path and \
                        the slash"
                    .to_owned(),
            );
        }
        if rest.contains('@') {
            return Err("can never match, because an origin has no user: remove it".to_owned());
        }
        let authority = HostAuthority::parse(rest).filter(|found| found.port != Some(0));
        let HostAuthority { host, port } =
            authority.ok_or("has no valid host and port: write it like https://app.example:8443")?;
        let port = port.filter(|port| default_port(&scheme) != Some(*port));
        Ok(Self { scheme, host, port })
    }

    /// Whether the origin is a web site on this machine; an app has its pages inside, so its origin
    /// says nothing about the machine.
    pub fn is_local_site(&self) -> bool {
        default_port(&self.scheme).is_some() && self.host.is_loopback()
    }

    /// Whether a page of this origin and a request with this `Host` belong to one site. The scheme
    /// of the request is not compared, because TLS ends at the edge; a default port may be written
    /// or not.
    pub fn is_same_site(&self, request: &HostAuthority) -> bool {
        let Some(default) = default_port(&self.scheme) else { return false };
        self.host == request.host && self.port.unwrap_or(default) == request.port.unwrap_or(default)
    }
}

/// As a browser writes it (RFC 6454, section 6.2).
impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_origin_is_equal() {
        for (one, other) in [
            ("https://app.example", "HTTPS://APP.example:443"),
            ("https://app.example", "https://app.example."),
            ("http://app.example", "http://app.example:80"),
            ("https://b\u{fc}ro.example", "https://xn--bro-hoa.example"),
            ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
            ("http://127.0.0.1", "http://127.1:80"),
            ("capacitor://localhost", "Capacitor://LOCALHOST"),
        ] {
            assert_eq!(WebOrigin::parse(one).unwrap(), WebOrigin::parse(other).unwrap(), "{one} {other}");
        }
        for (one, other) in [
            ("https://app.example", "http://app.example"),
            ("https://app.example", "https://app.example:80"),
            ("https://app.example", "https://www.app.example"),
            ("http://app.example:443", "https://app.example"),
            ("capacitor://localhost", "tauri://localhost"),
            ("capacitor://localhost", "http://localhost"),
        ] {
            assert_ne!(WebOrigin::parse(one).unwrap(), WebOrigin::parse(other).unwrap(), "{one} {other}");
        }
    }

    #[test]
    fn a_default_port_in_host_belongs_to_the_same_site() {
        let is_same = |origin, host| {
            WebOrigin::parse(origin).unwrap().is_same_site(&HostAuthority::parse(host).unwrap())
        };
        for (origin, host) in [
            ("https://rtc.example", "rtc.example"),
            ("https://rtc.example", "rtc.example:443"),
            ("https://rtc.example", "RTC.example.:443"),
            ("http://rtc.example", "rtc.example:80"),
            ("http://[::1]:8080", "[0::1]:8080"),
        ] {
            assert!(is_same(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://rtc.example", "rtc.example:80"),
            ("http://rtc.example", "rtc.example:443"),
            ("https://rtc.example:8443", "rtc.example"),
            ("https://rtc.example", "www.rtc.example"),
            ("capacitor://localhost", "localhost"),
        ] {
            assert!(!is_same(origin, host), "{origin} {host}");
        }
    }
}
