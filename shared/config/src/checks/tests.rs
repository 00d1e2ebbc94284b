//! Settings that pass the checks, and settings that are rejected by name.

use signalbox_protocol::IceServer;

use super::*;
use crate::{
    ProviderSettings, TurnServer, WebhookEndpoint,
    setting_names::{field_names, setting_names},
    units::ByteSize,
};

#[test]
fn the_default_settings_pass() {
    assert!(check_settings(&ServiceSettings::default()).unwrap().is_empty());
}

#[test]
fn a_value_out_of_range_names_its_setting() {
    let mut settings = ServiceSettings::default();
    settings.limits.sdp = ByteSize::kib(64);
    assert!(check_settings(&settings).unwrap_err().to_string().contains("limits.frame"));
    let mut settings = ServiceSettings::default();
    settings.auth.token_ttl_max = TimeSpan::secs(25 * 60 * 60);
    assert!(check_settings(&settings).unwrap_err().to_string().contains("24h"));
    let mut settings = ServiceSettings::default();
    settings.roles.0.clear();
    assert!(check_settings(&settings).unwrap_err().to_string().contains("auth.guest_role"));
}

#[test]
fn turn_servers_need_a_secret() {
    let mut settings = ServiceSettings::default();
    settings.ice.turn = vec![crate::TurnServer { urls: vec!["turn:t".to_owned()], region: None }];
    assert!(check_settings(&settings).is_ok());
    assert!(check_turn_secrets(&settings, 0).unwrap_err().to_string().contains("ice.turn"));
    assert!(check_turn_secrets(&settings, 2).is_ok());
    let unused = check_turn_secrets(&ServiceSettings::default(), 1).unwrap_err().to_string();
    assert!(unused.contains("SIGNALBOX_TURN_SECRETS"), "{unused}");
    assert!(check_turn_secrets(&ServiceSettings::default(), 0).is_ok());
    for ttl in [TimeSpan::secs(3), TimeSpan::secs(24 * 60 * 60 + 1)] {
        settings.ice.turn_ttl = ttl;
        assert!(check_settings(&settings).unwrap_err().to_string().contains("ice.turn_ttl"));
    }
}

#[test]
fn the_signal_url_is_a_url_that_a_web_socket_accepts() {
    let check = |url: &str| {
        let mut settings = ServiceSettings::default();
        settings.rooms.signal_url = Some(url.to_owned());
        check_settings(&settings)
    };
    for good in
        ["wss://rtc.example/ws/signal", "ws://127.0.0.1:8080/ws/signal", "wss://[::1]:8443/a?b=c", "wss://h"]
    {
        assert!(check(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "https://h/ws/signal",
        "wss://",
        "wss:///ws",
        "wss://u:p@h/",
        "wss://h:0/",
        "wss://h:99999/",
        "wss://h/#x",
        "wss://h/a b",
    ] {
        assert!(check(bad).unwrap_err().to_string().contains("rooms.signal_url"), "{bad}");
    }
}

#[test]
fn an_unsafe_setting_gives_a_warning() {
    let mut settings = ServiceSettings::default();
    settings.auth.guests = Some(true);
    assert!(check_settings(&settings).unwrap().is_empty(), "guests on loopback are fine");
    settings.server.listen = "0.0.0.0:8080".parse().unwrap();
    assert_eq!(check_settings(&settings).unwrap().len(), 1);
}

#[test]
fn a_server_is_local_until_a_setting_names_a_proxy_or_another_site() {
    let is_local = |change: &dyn Fn(&mut crate::ServerSettings)| {
        let mut settings = ServiceSettings::default();
        change(&mut settings.server);
        settings.server.is_local()
    };
    let text = str::to_owned;
    assert!(is_local(&|_| {}));
    assert!(is_local(&|server| server.listen = "[::1]:1".parse().unwrap()));
    assert!(is_local(&|server| server.allowed_hosts = vec![text("LOCALHOST."), text("[0:0:0:0:0:0:0:1]")]));
    assert!(is_local(
        &|server| server.allowed_origins = vec![text("http://localhost:3000"), text("http://[::1]:1")]
    ));
    assert!(!is_local(&|server| server.listen = "0.0.0.0:1".parse().unwrap()));
    assert!(!is_local(&|server| server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]));
    assert!(!is_local(&|server| server.allowed_hosts = vec![text("localhost"), text("rtc.example")]));
    assert!(!is_local(&|server| server.allowed_origins = vec![text("https://rtc.example")]));
    assert!(!is_local(&|server| server.allowed_origins = vec![text("*")]));
    assert!(!is_local(&|server| server.allowed_origins = vec![text("http://localhost.example")]));
    assert!(!is_local(&|server| server.allowed_origins = vec![text("capacitor://localhost")]));
}

#[test]
fn metrics_do_not_share_the_address_of_clients() {
    let mut settings = ServiceSettings::default();
    settings.server.metrics_listen = Some(settings.server.listen);
    assert!(check_settings(&settings).unwrap_err().to_string().contains("server.metrics_listen"));
    settings.server.metrics_listen = Some("127.0.0.1:8081".parse().unwrap());
    assert!(check_settings(&settings).is_ok());
}

/// The settings that name a PEM file, and whether it holds a private key.
const PEM_SETTINGS: [(&str, bool); 4] = [
    ("redis.ca_file", false),
    ("redis.cert_file", false),
    ("redis.key_file", true),
    ("http_client.ca_file", false),
];

#[test]
fn a_pem_file_without_its_content_is_rejected_by_setting_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let (certificate, key) = ("CERTIFICATE", "PRIVATE KEY");
    let with = |setting: &str, path: &str| {
        let mut settings = ServiceSettings::default();
        let member = match setting {
            "redis.ca_file" => &mut settings.redis.ca_file,
            "redis.cert_file" => &mut settings.redis.cert_file,
            "redis.key_file" => &mut settings.redis.key_file,
            "http_client.ca_file" => &mut settings.http_client.ca_file,
            other => panic!("{other}"),
        };
        *member = Some(path.into());
        check_settings(&settings).map(drop).map_err(|error| error.to_string())
    };
    for (text, as_certificate, as_key) in [
        (block(certificate, "MAA="), true, false),
        (block(certificate, "MAA=") + &block(certificate, "MA\nA="), true, false),
        (block(key, "MAA="), false, true),
        (block("EC PRIVATE KEY", "MAA="), false, true),
        (block("ENCRYPTED PRIVATE KEY", "MAA="), false, false),
        (block(key, "MAA=") + &block(certificate, "MAA="), true, true),
        (String::new(), false, false),
        (block(certificate, "not base64"), false, false),
        (block(certificate, ""), false, false),
        ("-----BEGIN CERTIFICATE-----\nMAA=".to_owned(), false, false),
        ("-----BEGIN PRIVATE KEY".to_owned(), false, false),
    ] {
        std::fs::write(file.path(), &text).unwrap();
        for (setting, is_key) in PEM_SETTINGS {
            let expected = if is_key { as_key } else { as_certificate };
            match with(setting, file.path().to_str().unwrap()) {
                // The other file of the pair is missing.
                Err(error) if error.contains("is set without") => assert!(expected, "{setting} {text}"),
                Err(error) => assert!(!expected && error.contains(setting), "{setting} {text}: {error}"),
                Ok(()) => assert!(expected, "{setting} {text}"),
            }
        }
    }
    for (setting, _) in PEM_SETTINGS {
        let error = with(setting, "/nowhere/x.pem").unwrap_err();
        assert!(error.contains(setting) && error.contains("cannot be read"), "{error}");
    }
}

#[test]
fn keys_are_fetched_without_tls_only_from_this_machine_and_listed_hosts() {
    let hosts = ["keycloak", "IdP.internal", "10.0.0.7", "[2001:db8::7]"];
    let listed = HttpClientSettings {
        unencrypted_hosts: hosts.map(str::to_owned).to_vec(),
        ..HttpClientSettings::default()
    };
    let none = HttpClientSettings::default();
    for (url, without, with) in [
        ("https://login.example/keys", true, true),
        ("https://login.example:8443", true, true),
        ("https://[2001:db8::1]/keys", true, true),
        ("http://localhost:8080/keys", true, true),
        ("http://127.0.0.1/keys", true, true),
        ("http://[::1]/keys", true, true),
        ("http://[::1]:8080/keys", true, true),
        ("http://keycloak/keys", false, true),
        ("http://keycloak:8080/realms/x", false, true),
        ("http://KEYCLOAK:8080", false, true),
        ("http://idp.internal", false, true),
        ("http://10.0.0.7:80/", false, true),
        ("http://[2001:db8::7]:8080/", false, true),
        ("http://keycloak.example/keys", false, false),
        ("http://keycloak@evil.example/", false, false),
        ("http://evil.example/keycloak", false, false),
        ("http://evil.example#keycloak", false, false),
        ("http://10.0.0.70/", false, false),
        ("https://", false, false),
        ("https://user@login.example/", false, false),
        ("ftp://keycloak/", false, false),
        ("keycloak", false, false),
    ] {
        assert_eq!(is_trusted_key_url(url, &none), without, "without a list: {url}");
        assert_eq!(is_trusted_key_url(url, &listed), with, "with a list: {url}");
    }
}

/// Sets a URL that the server itself fetches; `None` for a URL that only clients use.
fn url_setter(name: &str) -> Option<fn(&mut ServiceSettings, &str)> {
    fn provider(issuer: &str, jwks_url: Option<&str>) -> ProviderSettings {
        let jwks_url = jwks_url.map_or(String::new(), |url| format!("jwks_url = \"{url}\"\n"));
        let table = format!("issuer = \"{issuer}\"\n{jwks_url}audience = \"a\"\nalgorithms = [\"ES256\"]");
        toml::from_str(&table).unwrap()
    }
    match name {
        "auth.jwks_url" => Some(|settings, url| settings.auth.jwks_url = Some(url.to_owned())),
        "auth.providers.issuer" => Some(|settings, url| settings.auth.providers = vec![provider(url, None)]),
        "auth.providers.jwks_url" => {
            Some(|settings, url| settings.auth.providers = vec![provider("app", Some(url))])
        }
        "webhooks.endpoints.url" => Some(|settings, url| {
            settings.webhooks.endpoints = vec![toml::from_str(&format!("url = \"{url}\"")).unwrap()];
        }),
        "rooms.signal_url" | "rooms.page_url" | "ice.servers.urls" | "ice.turn.urls" => None,
        other => panic!("{other}: does the server itself fetch this URL?"),
    }
}

/// The rows are all settings that hold a URL. A webhook may go to more private hosts than these.
#[test]
fn a_url_that_the_server_fetches_is_unencrypted_only_to_this_machine_or_a_listed_host() {
    let in_table = |table: &'static str, names: &'static [&'static str]| {
        names.iter().map(move |name| format!("{table}.{name}"))
    };
    let names = setting_names()
        .into_iter()
        .chain(in_table("auth.providers", field_names::<ProviderSettings>()))
        .chain(in_table("webhooks.endpoints", field_names::<WebhookEndpoint>()))
        .chain(in_table("ice.servers", field_names::<IceServer>()))
        .chain(in_table("ice.turn", field_names::<TurnServer>()))
        .filter(|name| name.contains("url") || name.contains("uri") || name.contains("issuer"));
    let setters: Vec<_> = names.filter_map(|name| url_setter(&name).map(|set| (name, set))).collect();
    assert!(setters.len() >= 4, "{}", setters.len());
    for (name, set) in setters {
        for (url, unlisted, listed) in [
            ("https://auth.example/x", true, true),
            ("https://203.0.113.7:8443/x", true, true),
            ("http://127.0.0.1:8080/x", true, true),
            ("http://[::1]:8080/x", true, true),
            ("http://localhost/x", true, true),
            ("http://auth.example/x", false, true),
            ("http://AUTH.example:8080/x", false, true),
            ("http://203.0.113.7/x", false, true),
            ("http://other.example/x", false, false),
            ("http://auth.example.evil/x", false, false),
            ("http://203.0.113.70/x", false, false),
            ("http://auth.example@evil.example/x", false, false),
            ("ftp://auth.example/x", false, false),
            ("auth.example/x", false, false),
        ] {
            for (hosts, expected) in [(&[][..], unlisted), (&["auth.example", "203.0.113.7"][..], listed)] {
                let mut settings = ServiceSettings::default();
                settings.http_client.unencrypted_hosts =
                    hosts.iter().map(|host| (*host).to_owned()).collect();
                set(&mut settings, url);
                let error = check_settings(&settings).err().map(|error| error.to_string());
                assert_eq!(error.is_none(), expected, "{name} = {url}, {hosts:?}: {error:?}");
            }
        }
    }
}

#[test]
fn reserved_rooms_overlap_with_no_other_key() {
    let with = |tables: &[(&str, Option<&str>, bool)]| {
        let table = |(id, rooms, reserved): &(&str, Option<&str>, bool)| {
            let rooms = rooms.map(|rooms| rooms.to_owned().try_into().unwrap());
            (CallerId::parse(id).unwrap(), ApiKeySettings { scopes: None, rooms, reserved: *reserved })
        };
        let api_keys = tables.iter().map(table).collect();
        let settings = ServiceSettings { api_keys, ..ServiceSettings::default() };
        check_settings(&settings).map(drop).map_err(|error| error.to_string())
    };
    for good in [
        &[("a", Some("acme-*"), true), ("b", Some("globex-*"), true), ("c", None, false)][..],
        &[("a", Some("acme-*"), false), ("b", Some("acme-1"), false)],
    ] {
        assert_eq!(with(good), Ok(()), "{good:?}");
    }
    for (bad, why) in [
        (&[("a", None, true)][..], "api_keys.a.reserved needs `rooms`"),
        (&[("a", Some("acme-*"), true), ("b", Some("acme-1"), false)], "api_keys.b.rooms"),
        (&[("a", Some("acme-1"), true), ("b", Some("a*"), false)], "api_keys.b.rooms"),
    ] {
        assert!(with(bad).unwrap_err().contains(why), "{bad:?}: {:?}", with(bad));
    }
}

#[test]
fn a_prefix_for_redis_keeps_the_names_of_deployments_apart() {
    for (prefix, is_valid) in [
        ("", true),
        ("blue", true),
        ("Blue-2.eu_west", true),
        ("sb", false),
        ("sbx", true),
        ("2blue", false),
        ("a:b", false),
        ("a{b}", false),
        ("a*", false),
        ("a b", false),
        ("ä", false),
        (&"a".repeat(33), false),
    ] {
        let mut settings = ServiceSettings::default();
        settings.redis.prefix = prefix.to_owned();
        let error = check_settings(&settings).err().map(|error| error.to_string());
        assert_eq!(error.is_none(), is_valid, "{prefix}: {error:?}");
        assert!(error.is_none_or(|error| error.contains("redis.prefix")), "{prefix}");
    }
}

#[test]
fn the_bound_of_waiting_log_lines_is_checked() {
    for (kib, is_valid) in [(63, false), (64, true), (256 * 1024, true), (256 * 1024 + 1, false)] {
        let mut settings = ServiceSettings::default();
        settings.log.buffer = crate::units::ByteSize::kib(kib);
        assert_eq!(check_settings(&settings).is_ok(), is_valid, "{kib} KiB");
    }
}
