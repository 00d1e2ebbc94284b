//! Which web sites and host names may be used: the check of `Origin` (RFC 6454), and the check of
//! `Host` against DNS rebinding.
//!
//! Owns: the meaning of `server.allowed_origins` and `server.allowed_hosts`. Must not: read a
//! request; `signalbox-http` reads the headers.

/// Whether a web site may use the server. A request without `Origin` comes from a native client and
/// is allowed: a browser always sends the header with a request that could do harm.
///
/// An origin is allowed if the list contains it, or if its authority equals the `Host` of the
/// request. The schemes are not compared, because TLS may end at a proxy.
pub fn is_origin_allowed(origin: Option<&str>, host: Option<&str>, allowed: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if allowed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

/// Whether the server answers to the `Host` of a request. An empty list allows every name; ports
/// are not compared.
pub fn is_host_allowed(host: Option<&str>, allowed: &[String]) -> bool {
    allowed.is_empty()
        || host.is_some_and(|host| allowed.iter().any(|entry| entry.eq_ignore_ascii_case(strip_port(host))))
}

/// Removes the port; an IPv6 address keeps its brackets.
fn strip_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_site_and_listed_origins_are_allowed() {
        let list = ["https://app.example".to_owned()];
        for (origin, host, expected) in [
            (None, Some("x"), true),
            (Some("https://app.example"), Some("rtc.example"), true),
            (Some("https://RTC.example"), Some("rtc.example"), true),
            (Some("http://localhost:8080"), Some("localhost:8080"), true),
            (Some("http://localhost:8081"), Some("localhost:8080"), false),
            (Some("https://evil.example"), Some("rtc.example"), false),
            (Some("https://app.example.evil"), Some("rtc.example"), false),
            (Some("null"), Some("null"), false),
            (Some(""), Some(""), false),
            (Some("https://evil.example"), None, false),
        ] {
            assert_eq!(is_origin_allowed(origin, host, &list), expected, "{origin:?} at {host:?}");
        }
    }

    #[test]
    fn a_dns_rebinding_host_is_rejected() {
        let ours = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        for (host, expected) in [
            (Some("localhost:8080"), true),
            (Some("127.0.0.1"), true),
            (Some("[::1]:8080"), true),
            (Some("[::1]"), true),
            (Some("evil.example:8080"), false),
            (Some("localhost.evil.example"), false),
            (None, false),
        ] {
            assert_eq!(is_host_allowed(host, &ours), expected, "{host:?}");
        }
        assert!(is_host_allowed(Some("anything"), &[]));
    }
}
