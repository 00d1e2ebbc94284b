//! Splits URLs and authorities (RFC 3986, section 3.2) for the checks of settings.
//!
//! Owns: where this crate finds authority, host and port in a text. Must not: decide which of them
//! a setting accepts.

use std::net::Ipv6Addr;

/// An absolute `http:` or `https:` URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HttpUrl<'a> {
    pub(crate) is_https: bool,
    /// The text between `//` and the path. It may be empty, or contain a user and a password.
    pub(crate) authority: &'a str,
    /// Path, query and fragment.
    pub(crate) path: &'a str,
}

impl<'a> HttpUrl<'a> {
    /// `None` if the text begins neither with `https://` nor with `http://`, in lower case.
    pub(crate) fn split(text: &'a str) -> Option<Self> {
        let (is_https, text) = match text.strip_prefix("https://") {
            Some(text) => (true, text),
            None => (false, text.strip_prefix("http://")?),
        };
        let (authority, path) = text.split_at(text.find(['/', '?', '#']).unwrap_or(text.len()));
        Some(Self { is_https, authority, path })
    }
}

/// Splits an authority without user and password into host and port. An IPv6 address has brackets
/// in the authority and none in the result. `None` if it has another form, or port 0.
pub(crate) fn split_host_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_host_char) {
        return None;
    }
    let Some(port) = port else { return Some((host, None)) };
    // `parse` accepts a plus sign.
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    (port > 0).then_some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_at_its_authority() {
        for (text, is_https, authority, path) in [
            ("https://a", true, "a", ""),
            ("https://u@a:1/b?c#d", true, "u@a:1", "/b?c#d"),
            ("http://a?b/c", false, "a", "?b/c"),
            ("http:///b", false, "", "/b"),
        ] {
            assert_eq!(HttpUrl::split(text), Some(HttpUrl { is_https, authority, path }), "{text}");
        }
        for text in ["", "a", "//a", "ftp://a", "HTTP://a", "http:/a"] {
            assert_eq!(HttpUrl::split(text), None, "{text}");
        }
    }

    #[test]
    fn an_authority_is_split_at_its_port() {
        for (authority, expected) in [
            ("a-b.c_d", Some(("a-b.c_d", None))),
            ("a:65535", Some(("a", Some(65_535)))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("[::1]:1", Some(("::1", Some(1)))),
            ("", None),
            (":1", None),
            ("a:", None),
            ("a:0", None),
            ("a:+1", None),
            ("a:65536", None),
            ("a:1:2", None),
            ("::1", None),
            ("[a]", None),
            ("[::1", None),
            ("[::1]1", None),
            ("u@a", None),
            ("a b", None),
        ] {
            assert_eq!(split_host_port(authority), expected, "{authority}");
        }
    }
}
