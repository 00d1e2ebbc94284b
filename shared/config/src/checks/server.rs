//! Checks of the section `[server]`: every listed name can match a request.

use crate::{ConfigError, HostName, ServerSettings, WebOrigin, error::ensure_setting};

pub(super) fn check_server(server: &ServerSettings) -> Result<(), ConfigError> {
    ensure_setting(server.workers <= 512, "server.workers", "must be at most 512; 0 is one per core")?;
    for entry in server.allowed_origins.iter().filter(|entry| *entry != "*") {
        WebOrigin::parse(entry).map_err(|why| invalid_entry("server.allowed_origins", entry, &why))?;
    }
    check_hosts("server.allowed_hosts", &server.allowed_hosts)?;
    ensure_setting(
        server.metrics_listen.is_none_or(|address| address.port() == 0 || address != server.listen),
        "server.metrics_listen",
        "is the same as server.listen; choose another port, so that metrics are not public",
    )
}

/// Checks that every entry of a list can be the host of a request.
pub(super) fn check_hosts(setting: &str, entries: &[String]) -> Result<(), ConfigError> {
    let check = |entry: &String| {
        HostName::parse_entry(entry).map(drop).map_err(|why| invalid_entry(setting, entry, why))
    };
    entries.iter().try_for_each(check)
}

/// An error in one line that does not repeat a password, which a misplaced URL may have.
fn invalid_entry(setting: &str, entry: &str, why: &str) -> ConfigError {
    let shown = if entry.contains('@') { "...@..." } else { entry };
    ConfigError::invalid_setting(setting, format!("has the entry `{}`, which {why}", shown.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(server: ServerSettings) -> Result<(), String> {
        check_server(&server).map_err(|error| error.to_string())
    }

    fn with_origin(entry: &str) -> Result<(), String> {
        check(ServerSettings { allowed_origins: vec![entry.to_owned()], ..ServerSettings::default() })
    }

    fn with_host(entry: &str) -> Result<(), String> {
        check(ServerSettings { allowed_hosts: vec![entry.to_owned()], ..ServerSettings::default() })
    }

    #[test]
    fn an_origin_that_can_never_match_is_refused_with_the_reason() {
        for entry in [
            "*",
            "https://app.example",
            "https://APP.example:443",
            "http://localhost:8080",
            "http://[::1]:3000",
            "https://b\u{fc}ro.example",
            "capacitor://localhost",
            "tauri://localhost",
            "ionic://localhost",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        ] {
            assert_eq!(with_origin(entry), Ok(()), "{entry}");
        }
        for (entry, why) in [
            ("", "no scheme"),
            ("app.example", "no scheme"),
            ("//app.example", "no scheme"),
            ("null", "every page without an origin"),
            ("https://*.app.example", "list each host"),
            ("https://app.*", "list each host"),
            ("*://app.example", "no valid scheme"),
            ("https://", "host and port"),
            ("https://a/", "remove the path and the slash"),
            ("https://a/app", "remove the path and the slash"),
            ("https://a?b", "remove the path"),
            ("https://a#b", "remove the path"),
            ("https://u@a", "no user"),
            ("https://a b", "host and port"),
            (" https://a", "scheme"),
            ("https://a:0", "host and port"),
            ("https://a:65536", "host and port"),
            ("https://a:x", "host and port"),
            ("https://[::1", "host and port"),
            ("https://2001:db8::1", "host and port"),
            ("https://a..b", "host and port"),
            ("wss://app.example", "write https://"),
            ("ws://app.example", "write http://"),
            ("file:///app", "sends `null`"),
            ("https://a\nb", "host and port"),
        ] {
            let error = with_origin(entry).unwrap_err();
            assert!(error.contains("server.allowed_origins") && error.contains(why), "{entry}: {error}");
            assert!(!error.contains('\n'), "{entry}: {error}");
        }
    }

    #[test]
    fn a_host_that_can_never_match_is_refused_with_the_reason() {
        for entry in [
            "rtc.example",
            "RTC.example.",
            "b\u{fc}ro.example",
            "[2001:db8::1]",
            "2001:db8::1",
            "[0:0:0:0:0:0:0:1]",
            "127.0.0.1",
            "auth-service",
        ] {
            assert_eq!(with_host(entry), Ok(()), "{entry}");
        }
        for (entry, why) in [
            ("", "without scheme, port and path"),
            ("*", "leave the list empty"),
            ("*.example", "list each host"),
            ("rtc.example:443", "without scheme, port and path"),
            ("[::1]:443", "without scheme, port and path"),
            ("https://rtc.example", "without scheme, port and path"),
            ("rtc.example/", "without scheme, port and path"),
            ("rtc example", "without scheme, port and path"),
            ("[::1", "without scheme, port and path"),
            ("a..b", "without scheme, port and path"),
        ] {
            let error = with_host(entry).unwrap_err();
            assert!(error.contains("server.allowed_hosts") && error.contains(why), "{entry}: {error}");
        }
    }
}
