//! Host names in their one canonical form (WHATWG URL Standard, section 3.5), the form in which a
//! browser sends them: lower case, punycode, the shortest IPv6 text, no dot at the end.
//!
//! Owns: [`HostName`] and [`HostAuthority`]. Must not: know which hosts a server answers to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use url::Host;

/// A host in canonical form: two spellings of one host are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostName(Host<String>);

impl HostName {
    /// Parses a name, an IPv4 address, or an IPv6 address in brackets. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |c: char| c.is_alphanumeric() || ".-_[]:".contains(c) || !c.is_ascii();
        if text.is_empty() || !text.chars().all(is_plain) {
            return None;
        }
        let host = Host::parse(text.strip_suffix('.').unwrap_or(text)).ok()?;
        if matches!(&host, Host::Domain(name) if name.split('.').any(str::is_empty)) {
            return None;
        }
        Some(Self(host))
    }

    /// Parses an entry of a list of hosts. An IPv6 address may have brackets or not.
    ///
    /// # Errors
    /// Why no `Host` equals the entry, and what to write instead. The text continues a sentence
    /// that begins with the entry.
    pub fn parse_entry(entry: &str) -> Result<Self, &'static str> {
        if let Ok(address) = entry.parse::<Ipv6Addr>() {
            return Ok(Self::from(IpAddr::V6(address)));
        }
        if entry == "*" {
            return Err("can never match: for any name, leave the list empty");
        }
        if entry.contains('*') {
            return Err("can never match, because names are compared whole: list each host");
        }
        Self::parse(entry).ok_or(
            "can never match: write a host name without scheme, port and path, like rtc.example or [2001:db8::1]",
        )
    }

    /// Whether the host is this machine itself: `localhost`, `127.0.0.1` or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        match &self.0 {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => *address == Ipv4Addr::LOCALHOST,
            Host::Ipv6(address) => *address == Ipv6Addr::LOCALHOST,
        }
    }
}

impl From<IpAddr> for HostName {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(address) => Host::Ipv4(address),
            IpAddr::V6(address) => Host::Ipv6(address),
        })
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The value of a `Host` header: a host, perhaps with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAuthority {
    /// The host.
    pub host: HostName,
    /// The port, if the text names one.
    pub port: Option<u16>,
}

impl HostAuthority {
    /// Parses a `Host` header (RFC 9110, section 7.2). `None` if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rfind(':').filter(|colon| !text[*colon..].contains(']')) {
            Some(colon) => (&text[..colon], &text[colon + 1..]),
            None => (text, ""),
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { host: HostName::parse(host)?, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_host_is_equal() {
        for (text, canonical) in [
            ("RTC.Example", "rtc.example"),
            ("rtc.example.", "rtc.example"),
            ("b\u{fc}ro.example", "xn--bro-hoa.example"),
            ("B\u{dc}RO.example", "xn--bro-hoa.example"),
            ("xn--BRO-hoa.example", "xn--bro-hoa.example"),
            ("[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]"),
            ("[0000::0001]", "[::1]"),
            ("127.1", "127.0.0.1"),
            ("my_host", "my_host"),
        ] {
            let host = HostName::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(host.to_string(), canonical, "{text}");
            assert_eq!(HostName::parse(canonical), Some(host), "{text}");
        }
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "*.a",
            "a/b",
            "u@a",
            "a b",
            "a%41",
            "[x]",
            "[::1",
            "2001:db8::1",
            "a:1",
            "a?b",
        ] {
            assert_eq!(HostName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_authority_has_a_host_and_perhaps_a_port() {
        let parse = |text| HostAuthority::parse(text).map(|found| (found.host.to_string(), found.port));
        let found = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(parse("RTC.example:443"), found("rtc.example", Some(443)));
        assert_eq!(parse("rtc.example"), found("rtc.example", None));
        assert_eq!(parse("rtc.example:"), found("rtc.example", None));
        assert_eq!(parse("[0:0::1]:8080"), found("[::1]", Some(8080)));
        assert_eq!(parse("[::1]"), found("[::1]", None));
        for text in ["", ":1", "a:b", "a:+1", "a:65536", "a:1:2", "::1", "[::1]1", "https://a"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
