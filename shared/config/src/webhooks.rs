//! What operators are told over HTTP, and what they are told was used: `[webhooks]` and `[usage]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, units::TimeSpan};
use signalbox_protocol::{feed::FEED_EVENTS, id::RoomId};

/// Webhooks: what is told, to whom, and how long it is tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Whether signaling nodes record what is to be told. Unset: where there are endpoints.
    pub record: Option<bool>,
    /// Who is told.
    pub endpoints: Vec<WebhookEndpoint>,
    /// The longest one request may take.
    pub deadline: TimeSpan,
    /// How long an event is tried before it is given up; at most 24 h.
    pub give_up: TimeSpan,
    /// How often an event is tried before it is given up.
    pub attempts: u32,
    /// Requests under way at once to one endpoint.
    pub parallel: u32,
    /// Events that may wait in one partition of the rooms.
    pub backlog: u32,
    /// Events given up that are kept, in one partition of the rooms.
    pub dead: u32,
    /// How long they are kept.
    pub dead_kept: TimeSpan,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            record: None,
            endpoints: vec![],
            deadline: TimeSpan::secs(10),
            give_up: TimeSpan::secs(24 * 60 * 60),
            attempts: 300,
            parallel: 32,
            backlog: 2_000,
            dead: 100,
            dead_kept: TimeSpan::secs(24 * 60 * 60),
        }
    }
}

impl WebhookSettings {
    /// Whether nodes record what is to be told.
    pub fn records_events(&self) -> bool {
        self.record.unwrap_or(!self.endpoints.is_empty())
    }
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpoint {
    /// Where: `https://…`, or `http://…` within the own network.
    pub url: String,
    /// Of what: some of [`FEED_EVENTS`]. Empty: of everything.
    #[serde(default)]
    pub events: Vec<String>,
    /// Of which rooms: a name, or the begin of names and `*`. Unset: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<String>,
    /// Whether `http://` may lead out of the own network.
    #[serde(default)]
    pub insecure: bool,
    /// The environment variable with the secrets of its own that it is signed with, or with `_FILE` behind it the one that names their file.
    /// Unset: those of `SIGNALBOX_WEBHOOK_SECRETS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_env: Option<String>,
}

impl WebhookEndpoint {
    /// Whether it is told of this.
    pub fn matches_event(&self, event: &str, room: &str) -> bool {
        let room_fits = self.rooms.as_deref().is_none_or(|pattern| match pattern.strip_suffix('*') {
            Some(begin) => room.starts_with(begin),
            None => room == pattern,
        });
        room_fits && (self.events.is_empty() || self.events.iter().any(|wanted| wanted == event))
    }
}

/// Usage: joins and peer-minutes by API key and room.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageSettings {
    /// How long a day's numbers are kept; zero: nothing is counted.
    pub kept: TimeSpan,
    /// Pairs of API key and room that are counted apart on one day.
    pub pairs: u32,
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self { kept: TimeSpan::secs(35 * 24 * 60 * 60), pairs: 10_000 }
    }
}

fn ensure_setting(holds: bool, setting: &str, problem: &str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::invalid_setting(setting, problem)) }
}

pub(super) fn check_webhooks(
    webhooks: &WebhookSettings,
    usage: &UsageSettings,
) -> Result<Vec<String>, ConfigError> {
    let day = TimeSpan::secs(24 * 60 * 60);
    let within = |span: TimeSpan, low: TimeSpan, high: TimeSpan| (low..=high).contains(&span);
    ensure_setting(
        within(webhooks.deadline, TimeSpan::millis(100), TimeSpan::secs(30)),
        "webhooks.deadline",
        "must be from 100ms to 30s",
    )?;
    ensure_setting(
        within(webhooks.give_up, TimeSpan::secs(1), day),
        "webhooks.give_up",
        "must be from 1s to 24h",
    )?;
    ensure_setting((1..=1_000).contains(&webhooks.attempts), "webhooks.attempts", "must be from 1 to 1000")?;
    ensure_setting((1..=1_000).contains(&webhooks.parallel), "webhooks.parallel", "must be from 1 to 1000")?;
    ensure_setting(
        (1..=100_000).contains(&webhooks.backlog),
        "webhooks.backlog",
        "must be from 1 to 100000",
    )?;
    ensure_setting((1..=10_000).contains(&webhooks.dead), "webhooks.dead", "must be from 1 to 10000")?;
    let week = TimeSpan(7 * day.0);
    ensure_setting(
        within(webhooks.dead_kept, TimeSpan::secs(1), week),
        "webhooks.dead_kept",
        "must be from 1s to 7d",
    )?;
    ensure_setting(webhooks.endpoints.len() <= 16, "webhooks.endpoints", "must be at most 16")?;
    ensure_setting(
        usage.kept.0.is_zero() || within(usage.kept, TimeSpan::secs(60 * 60), TimeSpan(400 * day.0)),
        "usage.kept",
        "must be from 1h to 400d, or 0s to count nothing",
    )?;
    ensure_setting((1..=100_000).contains(&usage.pairs), "usage.pairs", "must be from 1 to 100000")?;
    let mut urls: Vec<&str> = webhooks.endpoints.iter().map(|endpoint| &*endpoint.url).collect();
    urls.sort_unstable();
    ensure_setting(
        urls.windows(2).all(|two| two[0] != two[1]),
        "webhooks.endpoints",
        "must not hold a url twice",
    )?;
    webhooks.endpoints.iter().try_for_each(check_webhook_endpoint)?;
    let mut warnings: Vec<String> = Vec::new();
    if webhooks.endpoints.iter().any(|endpoint| is_plain_http(&endpoint.url) && endpoint.insecure) {
        let problem = "tells over http:// what anybody on the way can read (insecure = true)";
        warnings.push(format!("webhooks.endpoints {problem}"));
    }
    if webhooks.record == Some(false) && !webhooks.endpoints.is_empty() {
        warnings.push("webhooks.record is off: the nodes with this setting tell webhooks nothing".to_owned());
    }
    Ok(warnings)
}

fn check_webhook_endpoint(endpoint: &WebhookEndpoint) -> Result<(), ConfigError> {
    let setting = "webhooks.endpoints";
    let usable =
        parse_url_host(&endpoint.url).is_some() && !endpoint.url.contains(|c: char| c <= ' ' || c == '#');
    ensure_setting(
        usable && endpoint.url.len() <= 2_048 && endpoint.url.is_ascii(),
        setting,
        "must hold urls like https://app.example/hooks, without user, password and fragment, at most 2048 characters long",
    )?;
    ensure_setting(
        !is_plain_http(&endpoint.url)
            || endpoint.insecure
            || parse_url_host(&endpoint.url).is_some_and(is_private_host),
        setting,
        "holds an http:// url that leads out of the own network; use https://, or type out insecure = true",
    )?;
    if let Some(unknown) = endpoint.events.iter().find(|event| !FEED_EVENTS.contains(&event.as_str())) {
        let problem = format!("names the unknown event `{unknown}`; there are {}", FEED_EVENTS.join(", "));
        return Err(ConfigError::invalid_setting(setting, problem));
    }
    let pattern_ok = endpoint.rooms.as_deref().is_none_or(|pattern| {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        RoomId::parse(name).is_ok() || pattern == "*"
    });
    ensure_setting(
        pattern_ok,
        setting,
        "must hold in rooms the name of a room, or the begin of names and *",
    )?;
    let is_variable = |name: &str| {
        name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    };
    let named_well = endpoint.secrets_env.as_deref().is_none_or(is_variable);
    ensure_setting(
        named_well,
        setting,
        "must hold in secrets_env the name of a variable, like SHOP_WEBHOOK_SECRETS",
    )
}

fn is_plain_http(url: &str) -> bool {
    url.starts_with("http://")
}

/// The host of an absolute `http:` or `https:` URL without user and password.
fn parse_url_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let port_ok = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (!host.is_empty() && host.chars().all(is_host) && port_ok).then_some(host)
}

/// Whether a host is in the own network, as far as its name says: a loopback or private address, `localhost`, or a name without a
/// dot, as containers have.
fn is_private_host(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(std::net::IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        // All digits would be an address in another spelling.
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

    fn check_single_endpoint(endpoint: WebhookEndpoint) -> Result<Vec<String>, ConfigError> {
        check_webhooks(
            &WebhookSettings { endpoints: vec![endpoint], ..WebhookSettings::default() },
            &UsageSettings::default(),
        )
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
        assert!(check_webhooks(&twice, &UsageSettings::default()).is_err());
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
