//! Checks of the section `[ice]`: each server as browsers check it.
//!
//! A browser refuses a whole `RTCConfiguration` if it refuses one server of it, and then no peer
//! connects. So a setting that no browser accepts stops the start. The rules are those of webrtc-pc,
//! section 4.4.1.6, RFC 7064, RFC 7065, and the stricter ones of Chromium and Firefox.

use std::net::Ipv4Addr;

use super::DAY;
use crate::{
    ConfigError, IceSettings,
    error::{ensure_setting, ensure_within},
    units::TimeSpan,
    url::split_host_port,
};
use signalbox_protocol::IceServer;

const SERVERS: &str = "ice.servers";
const TURN: &str = "ice.turn";

const MAX_USERNAME_BYTES: usize = 509;

/// The ports that Firefox refuses in the URL of an ICE server: the bad ports of the Fetch standard,
/// without 53.
const FIREFOX_BAD_PORTS: [u16; 81] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526,
    530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659,
    4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Returns a warning for each URL that some browsers refuse or cannot use.
pub(super) fn check_ice(ice: &IceSettings) -> Result<Vec<String>, ConfigError> {
    ensure_within(ice.turn_ttl, TimeSpan::secs(4)..=DAY, "ice.turn_ttl", "must be from 4s to 24h")?;
    for server in &ice.servers {
        check_urls(SERVERS, &server.urls)?;
        check_credential(server)?;
    }
    for server in &ice.turn {
        check_urls(TURN, &server.urls)?;
        let all_turn = server.urls.iter().all(|url| is_turn(url));
        let problem = "must have turn: or turns: URLs only; move stun: URLs to [[ice.servers]]";
        ensure_setting(all_turn, TURN, problem)?;
    }
    let urls_of_servers = ice.servers.iter().flat_map(|server| &server.urls).map(|url| (SERVERS, url));
    let urls_of_turn = ice.turn.iter().flat_map(|server| &server.urls).map(|url| (TURN, url));
    let warning =
        |(setting, url): (&str, &String)| Some(format!("{setting} has {url}: {}", url_warning(url)?));
    Ok(urls_of_servers.chain(urls_of_turn).filter_map(warning).collect())
}

fn check_urls(setting: &str, urls: &[String]) -> Result<(), ConfigError> {
    ensure_setting(!urls.is_empty(), setting, "has a server without urls; add one, or remove the server")?;
    // The part before the @ may be a password, so this URL is not printed.
    let has_user = urls.iter().any(|url| url.contains('@'));
    let problem = "has a URL with @, which browsers refuse; the user belongs into username and credential";
    ensure_setting(!has_user, setting, problem)?;
    for url in urls {
        if let Some(problem) = url_problem(url) {
            let problem = format!("has {url:?}, which browsers refuse: {problem}");
            return Err(ConfigError::invalid_setting(setting, problem));
        }
    }
    Ok(())
}

/// TURN servers need a user name and a password (webrtc-pc, section 4.4.1.6).
fn check_credential(IceServer { urls, username, credential }: &IceServer) -> Result<(), ConfigError> {
    let Some(url) = urls.iter().find(|url| is_turn(url)) else { return Ok(()) };
    let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if !has(username) || !has(credential) {
        let problem = format!(
            "has {url:?} without username and credential, which browsers refuse; \
             add both, or move the URL to [[ice.turn]]"
        );
        return Err(ConfigError::invalid_setting(SERVERS, problem));
    }
    let is_short = username.as_ref().is_none_or(|name| name.len() <= MAX_USERNAME_BYTES);
    ensure_setting(is_short, SERVERS, "has a username of more than 509 bytes, which browsers refuse")
}

fn is_turn(url: &str) -> bool {
    url.starts_with("turn:") || url.starts_with("turns:")
}

/// Why browsers refuse the URL, and what it should be.
fn url_problem(url: &str) -> Option<&'static str> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let is_stun = ["stun", "stuns"].contains(&scheme);
    if !is_stun && !["turn", "turns"].contains(&scheme) {
        return Some("it must begin with stun:, stuns:, turn: or turns:, in lower case");
    }
    if rest.starts_with('/') {
        return Some("there is no // after the scheme, as in turn:turn.example:3478");
    }
    let (authority, query) = match rest.split_once('?') {
        Some((authority, query)) => (authority, Some(query)),
        None => (rest, None),
    };
    match query {
        Some(_) if is_stun => return Some("a stun: URL has no ?transport; remove it"),
        Some(query) if !["transport=udp", "transport=tcp"].contains(&query) => {
            return Some("after ? it may have transport=udp or transport=tcp only");
        }
        _ => {}
    }
    match split_host_port(authority) {
        Some((host, _)) if is_host(host) => None,
        _ => Some(
            "it needs a host name in ASCII, an IPv4 address or an IPv6 address in brackets, \
             and a port from 1 to 65535 if it has one",
        ),
    }
}

/// Whether each label has a character. A name that ends with a number must be an IPv4 address.
fn is_host(host: &str) -> bool {
    if host.contains(':') {
        return true; // `split_host_port` has parsed the IPv6 address
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut labels = name.split('.');
    let ends_with_number = labels.clone().next_back().is_some_and(|label| label.parse::<u64>().is_ok());
    labels.all(|label| !label.is_empty()) && (!ends_with_number || name.parse::<Ipv4Addr>().is_ok())
}

/// Why a valid URL does not work in each browser.
fn url_warning(url: &str) -> Option<&'static str> {
    if url.starts_with("stuns:") {
        return Some("Firefox refuses stuns:, so its clients skip this server; a stun: URL works everywhere");
    }
    if url.starts_with("turns:") && url.ends_with("?transport=udp") {
        return Some("browsers have no TURN over DTLS; use ?transport=tcp");
    }
    let (_, rest) = url.split_once(':')?;
    let (_, port) = split_host_port(rest.split('?').next()?)?;
    let is_bad = port.is_some_and(|port| FIREFOX_BAD_PORTS.contains(&port));
    is_bad.then_some("Firefox refuses this port, so its clients skip this server; use another port")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TurnServer;

    fn servers(urls: &[&str], username: Option<&str>, credential: Option<&str>) -> IceSettings {
        let [username, credential] = [username, credential].map(|text| text.map(str::to_owned));
        let urls = urls.iter().map(|&url| url.to_owned()).collect();
        IceSettings { servers: vec![IceServer { urls, username, credential }], ..IceSettings::default() }
    }

    fn turn(urls: &[&str]) -> IceSettings {
        let urls = urls.iter().map(|&url| url.to_owned()).collect();
        IceSettings { turn: vec![TurnServer { urls, region: None }], ..IceSettings::default() }
    }

    /// A host with an optional port and a query, and whether `turn:` and `stun:` URLs may have it.
    const FORMS: [(&str, bool, bool); 44] = [
        ("h", true, true),
        ("turn.example", true, true),
        ("turn.example.", true, true),
        ("under_score.example", true, true),
        ("xn--bcher-kva.example", true, true),
        ("1a.2b", true, true),
        ("192.0.2.1", true, true),
        ("192.0.2.1:3478", true, true),
        ("[2001:db8::1]", true, true),
        ("[2001:db8::1]:5349", true, true),
        ("h:1", true, true),
        ("h:65535", true, true),
        ("h?transport=udp", true, false),
        ("h?transport=tcp", true, false),
        ("h:3478?transport=udp", true, false),
        ("[::1]:3478?transport=tcp", true, false),
        ("h?", false, false),
        ("h?transport", false, false),
        ("h?transport=", false, false),
        ("h?transport=tls", false, false),
        ("h?transport=UDP", false, false),
        ("h?transport=udp&x=1", false, false),
        ("h?transport=udp?transport=tcp", false, false),
        ("h?x=1", false, false),
        ("", false, false),
        (":3478", false, false),
        ("//h", false, false),
        ("/h", false, false),
        ("h/", false, false),
        ("h#f", false, false),
        ("h:", false, false),
        ("h:0", false, false),
        ("h:+1", false, false),
        ("h:-1", false, false),
        ("h:65536", false, false),
        ("h:99999", false, false),
        ("h:x", false, false),
        ("h:1:2", false, false),
        ("2001:db8::1", false, false),
        ("[2001:db8::1", false, false),
        ("[h]", false, false),
        ("b\u{fc}cher.example", false, false),
        ("h h", false, false),
        ("a..b", false, false),
    ];

    #[test]
    fn urls_are_accepted_as_browsers_accept_them() {
        for (form, is_turn, is_stun) in FORMS {
            for scheme in ["turn", "turns"] {
                let url = format!("{scheme}:{form}");
                assert_eq!(check_ice(&turn(&[&url])).is_ok(), is_turn, "{url}");
                assert_eq!(check_ice(&servers(&[&url], Some("u"), Some("c"))).is_ok(), is_turn, "{url}");
            }
            for scheme in ["stun", "stuns"] {
                let url = format!("{scheme}:{form}");
                assert_eq!(check_ice(&servers(&[&url], None, None)).is_ok(), is_stun, "{url}");
                assert!(check_ice(&turn(&[&url])).is_err(), "{url} has no place in ice.turn");
            }
        }
        for url in ["", "h", "STUN:h", "http://h", "stun", "turnss:h", " stun:h", "stun:h ", "stun:999.1.1.1"]
        {
            assert!(check_ice(&servers(&[url], Some("u"), Some("c"))).is_err(), "{url}");
        }
    }

    #[test]
    fn one_bad_url_among_good_ones_is_named_in_one_line() {
        let error = check_ice(&servers(&["stun:good", "stun:h:3478?transport=udp"], None, None)).unwrap_err();
        let expected = "configuration: ice.servers has \"stun:h:3478?transport=udp\", which browsers refuse: \
                        a stun: URL has no ?transport; remove it";
        assert_eq!(error.to_string(), expected);
        for settings in [servers(&[], None, None), turn(&[]), turn(&["turn:h", "turn:h\n"])] {
            let error = check_ice(&settings).unwrap_err().to_string();
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_turn_server_needs_a_user_and_a_password() {
        for (username, credential) in
            [(None, None), (Some("u"), None), (None, Some("c")), (Some(""), Some("c")), (Some("u"), Some(""))]
        {
            let error = check_ice(&servers(&["stun:h", "turn:h"], username, credential)).unwrap_err();
            assert!(error.to_string().contains("username and credential"), "{error}");
        }
        assert!(check_ice(&servers(&["turn:h"], Some("u"), Some("c"))).is_ok());
        assert!(check_ice(&servers(&["turn:h"], Some(&"u".repeat(510)), Some("c"))).is_err());
    }

    #[test]
    fn a_password_in_a_url_is_not_printed() {
        for settings in [turn(&["turn:user:hunter@h"]), servers(&["stun:user:hunter@h"], None, None)] {
            let error = check_ice(&settings).unwrap_err().to_string();
            assert!(error.contains('@') && !error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn urls_that_only_some_browsers_use_give_a_warning() {
        let warnings = |settings: &IceSettings| check_ice(settings).unwrap();
        assert!(warnings(&servers(&["stuns:h"], None, None))[0].contains("Firefox"));
        assert!(warnings(&turn(&["turns:h?transport=udp"]))[0].contains("DTLS"));
        assert!(warnings(&turn(&["turn:h:25?transport=tcp"]))[0].contains("port"));
        assert!(warnings(&turn(&["turns:h?transport=tcp", "turn:h", "turns:h:443", "turn:h:53"])).is_empty());
    }
}
