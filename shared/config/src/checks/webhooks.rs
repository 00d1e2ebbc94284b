//! Checks of the sections `[webhooks]` and `[usage]`.

use std::net::IpAddr;

use super::DAY;
use crate::{
    ConfigError, HttpClientSettings, UsageSettings, WebhookEndpoint, WebhookSettings,
    error::{ensure_setting, ensure_within},
    units::TimeSpan,
    url::{HttpUrl, split_host_port},
};
use signalbox_protocol::feed::FEED_EVENTS;
use signalbox_token::scope::RoomPattern;

const ENDPOINTS: &str = "webhooks.endpoints";

/// Returns a warning for each setting that is unsafe or has no effect.
pub(super) fn check_webhooks(
    webhooks: &WebhookSettings,
    client: &HttpClientSettings,
) -> Result<Vec<String>, ConfigError> {
    let second = TimeSpan::secs(1);
    ensure_within(
        webhooks.deadline,
        TimeSpan::millis(100)..=TimeSpan::secs(30),
        "webhooks.deadline",
        "must be from 100ms to 30s",
    )?;
    ensure_within(webhooks.give_up, second..=DAY, "webhooks.give_up", "must be from 1s to 24h")?;
    ensure_within(webhooks.attempts, 1..=1_000, "webhooks.attempts", "must be from 1 to 1000")?;
    ensure_within(webhooks.parallel, 1..=1_000, "webhooks.parallel", "must be from 1 to 1000")?;
    ensure_within(webhooks.backlog, 1..=100_000, "webhooks.backlog", "must be from 1 to 100000")?;
    ensure_within(webhooks.dead, 1..=10_000, "webhooks.dead", "must be from 1 to 10000")?;
    ensure_within(
        webhooks.dead_kept,
        second..=TimeSpan(7 * DAY.0),
        "webhooks.dead_kept",
        "must be from 1s to 7d",
    )?;
    ensure_setting(webhooks.endpoints.len() <= 16, ENDPOINTS, "must be at most 16")?;
    let mut urls: Vec<&str> = webhooks.endpoints.iter().map(|endpoint| &*endpoint.url).collect();
    urls.sort_unstable();
    ensure_setting(
        urls.windows(2).all(|two| two[0] != two[1]),
        ENDPOINTS,
        "must not contain the same url twice",
    )?;
    webhooks.endpoints.iter().try_for_each(|endpoint| check_endpoint(endpoint, client))?;
    let mut warnings = Vec::new();
    let is_readable = |endpoint: &WebhookEndpoint| endpoint.insecure && endpoint.url.starts_with("http://");
    if webhooks.endpoints.iter().any(is_readable) {
        let problem = "sends events over http:// (insecure = true): others on the network path can read them";
        warnings.push(format!("{ENDPOINTS} {problem}"));
    }
    if webhooks.record == Some(false) && !webhooks.endpoints.is_empty() {
        let problem = "is off: signaling nodes with this setting record no events for webhooks";
        warnings.push(format!("webhooks.record {problem}"));
    }
    Ok(warnings)
}

pub(super) fn check_usage(usage: &UsageSettings) -> Result<(), ConfigError> {
    let kept = TimeSpan::secs(60 * 60)..=TimeSpan(400 * DAY.0);
    ensure_setting(
        usage.kept.0.is_zero() || kept.contains(&usage.kept),
        "usage.kept",
        "must be from 1h to 400d, or 0s to count nothing",
    )?;
    ensure_within(usage.pairs, 1..=100_000, "usage.pairs", "must be from 1 to 100000")
}

fn check_endpoint(endpoint: &WebhookEndpoint, client: &HttpClientSettings) -> Result<(), ConfigError> {
    let url = &endpoint.url;
    let parts = HttpUrl::split(url);
    let host = parts.and_then(|parts| split_host_port(parts.authority)).map(|(host, _)| host);
    ensure_setting(
        host.is_some()
            && !url.contains(|c: char| c <= ' ' || c == '#')
            && url.len() <= 2_048
            && url.is_ascii(),
        ENDPOINTS,
        "must have urls like https://app.example/hooks, without user, password and fragment, at most 2048 characters long",
    )?;
    ensure_setting(
        endpoint.insecure
            || parts.is_some_and(|parts| parts.is_https)
            || host.is_some_and(|host| is_private_host(host) || client.allows_unencrypted(host)),
        ENDPOINTS,
        "has an http:// url to an address that is not private; use https://, add its host to http_client.unencrypted_hosts, or write insecure = true",
    )?;
    if let Some(unknown) = endpoint.events.iter().find(|event| !FEED_EVENTS.contains(&event.as_str())) {
        let problem = format!("names the unknown event `{unknown}`; events are {}", FEED_EVENTS.join(", "));
        return Err(ConfigError::invalid_setting(ENDPOINTS, problem));
    }
    if let Some(Err(problem)) = endpoint.rooms.clone().map(RoomPattern::try_from) {
        return Err(ConfigError::invalid_setting(ENDPOINTS, format!("has a wrong rooms: {problem}")));
    }
    let is_variable = |name: &str| {
        name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    };
    ensure_setting(
        endpoint.secrets_env.as_deref().is_none_or(is_variable),
        ENDPOINTS,
        "must have in secrets_env the name of an environment variable, like SHOP_WEBHOOK_SECRETS",
    )
}

/// Whether a host is private as far as its text shows: a loopback or private address, `localhost`,
/// or a name without a dot, as containers have.
fn is_private_host(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        // A name of digits would be another spelling of an IPv4 address.
        Err(_) => !host.contains('.') && !host.starts_with(|c: char| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> WebhookEndpoint {
        WebhookEndpoint {
            url: url.to_owned(),
            events: vec![],
            rooms: None,
            insecure: false,
            secrets_env: None,
        }
    }

    fn check_single_endpoint_with(
        endpoint: WebhookEndpoint,
        hosts: &[&str],
    ) -> Result<Vec<String>, ConfigError> {
        let unencrypted_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let client = HttpClientSettings { unencrypted_hosts, ..HttpClientSettings::default() };
        let webhooks = WebhookSettings { endpoints: vec![endpoint], ..WebhookSettings::default() };
        check_webhooks(&webhooks, &client)
    }

    fn check_single_endpoint(endpoint: WebhookEndpoint) -> Result<Vec<String>, ConfigError> {
        check_single_endpoint_with(endpoint, &[])
    }

    #[test]
    fn an_endpoint_url_is_https_or_in_a_private_network() {
        for url in [
            "https://app.example/hooks?x=1",
            "https://192.0.2.1:8443",
            "https://[2001:db8::1]/",
            "http://127.0.0.1:9000/x",
            "http://[::1]:9000/",
            "http://10.1.2.3/",
            "http://localhost/",
            "http://backend:3000/hooks",
        ] {
            assert!(check_single_endpoint(endpoint(url)).is_ok(), "{url}");
        }
        for url in [
            "",
            "app.example",
            "ftp://app.example/",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://u:p@app.example/",
            "https://app.example/#x",
            "https://app.example/a b",
            "https://app.example:0/",
            "https://app.example:99999/",
            "https://[::1",
            "https://[x]/",
            "http://app.example/",
            "http://8.8.8.8/",
            "http://2130706433/",
            "https://app.example/\r\nx",
        ] {
            let error = check_single_endpoint(endpoint(url)).unwrap_err().to_string();
            assert!(error.contains("webhooks.endpoints"), "{url}: {error}");
        }
        let typed_out = WebhookEndpoint { insecure: true, ..endpoint("http://app.example/") };
        assert_eq!(check_single_endpoint(typed_out).unwrap().len(), 1);
        let twice = WebhookSettings {
            endpoints: vec![endpoint("https://a.example/"); 2],
            ..WebhookSettings::default()
        };
        assert!(check_webhooks(&twice, &HttpClientSettings::default()).is_err());
        let inner = || endpoint("http://hooks.internal:3000/x");
        assert!(check_single_endpoint(inner()).is_err());
        assert_eq!(check_single_endpoint_with(inner(), &["hooks.internal"]).unwrap(), [""; 0]);
    }

    #[test]
    fn an_endpoint_matches_only_its_events_and_rooms() {
        let all = endpoint("https://a.example/");
        assert!(all.matches_event("peer-left", "x"));
        let some = WebhookEndpoint {
            events: vec!["peer-left".to_owned()],
            rooms: Some("team-*".to_owned()),
            ..all.clone()
        };
        assert!(check_single_endpoint(some.clone()).is_ok());
        assert!(some.matches_event("peer-left", "team-1") && some.matches_event("peer-left", "team-"));
        assert!(!some.matches_event("peer-joined", "team-1") && !some.matches_event("peer-left", "tea"));
        let one = WebhookEndpoint { rooms: Some("team".to_owned()), ..all.clone() };
        assert!(one.matches_event("peer-left", "team") && !one.matches_event("peer-left", "team-1"));
        for bad in [
            WebhookEndpoint { events: vec!["peer-gone".to_owned()], ..all.clone() },
            WebhookEndpoint { rooms: Some("a*b".to_owned()), ..all.clone() },
            WebhookEndpoint { rooms: Some(String::new()), ..all.clone() },
            WebhookEndpoint { secrets_env: Some("whsec_AAAA".to_owned()), ..all.clone() },
            WebhookEndpoint { secrets_env: Some(String::new()), ..all },
        ] {
            assert!(check_single_endpoint(bad).is_err());
        }
    }

    #[test]
    fn nodes_record_events_for_an_endpoint_or_by_setting() {
        let none = WebhookSettings::default();
        let some = WebhookSettings { endpoints: vec![endpoint("https://a.example/")], ..none.clone() };
        assert!(!none.records_events() && some.records_events());
        assert!(WebhookSettings { record: Some(true), ..none }.records_events());
        assert!(!WebhookSettings { record: Some(false), ..some }.records_events());
    }
}
