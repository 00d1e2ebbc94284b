//! Sources of a configuration, in their order, and what is refused.

use std::io::Write as _;

use super::*;

fn env(pairs: &[(&str, &str)]) -> EnvVars {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn a_flag_overrides_environment_file_and_default() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "[server]\nlisten = \"127.0.0.1:1001\"\n[limits]\nroom_peers = 7\nburst = 8").unwrap();
    let mut flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
    let load = |flags: &CommonFlags, pairs| LoadedConfig::load(flags, &env(pairs)).unwrap().settings;

    let from_file = load(&flags, &[]);
    assert_eq!(
        (from_file.server.listen.port(), from_file.limits.room_peers, from_file.limits.rate),
        (1001, 7, 100)
    );
    let pairs = [("SIGNALBOX_LISTEN", "127.0.0.1:1002"), ("SIGNALBOX__LIMITS__ROOM_PEERS", "9")];
    let from_env = load(&flags, &pairs);
    assert_eq!(
        (from_env.server.listen.port(), from_env.limits.room_peers, from_env.limits.burst),
        (1002, 9, 8)
    );
    flags.listen = Some("127.0.0.1:1003".parse().unwrap());
    assert_eq!(load(&flags, &pairs).server.listen.port(), 1003);
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let loaded =
        LoadedConfig::load(&CommonFlags::default(), &env(&[("SIGNALBOX__SERVER__ALLOWED_HOSTS", "")]))
            .unwrap();
    assert!(loaded.settings.server.allowed_hosts.is_empty());
}

#[test]
fn sources_that_could_name_the_same_user_are_refused() {
    let provider = |issuer: &str, prefix: &str| {
        format!(
            "[[auth.providers]]\nissuer = \"https://{issuer}\"\naudience = \"a\"\nuser_prefix = \"{prefix}\"\n"
        )
    };
    let application = |prefix: &str| {
        format!(
            "[[auth.providers]]\nissuer = \"app\"\naudience = \"a\"\nalgorithms = [\"HS256\"]\nuser_prefix = \"{prefix}\"\n"
        )
    };
    let two = |a: &str, b: &str| provider("one.example", a) + &provider("two.example", b);
    let key = format!("backend:{}", signalbox_protocol::id::random_hex());
    let user_secret = ["", ""].map(|_| signalbox_protocol::id::random_hex()).concat();
    let moderator = "[api_keys.backend]\nscopes = [\"moderate\"]\n";
    let (with_key, with_secret) =
        ([("SIGNALBOX_API_KEYS", &*key)], [("SIGNALBOX_USER_SECRET", &*user_secret)]);
    let load = |text: &str, pairs: &[(&str, &str)]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
        LoadedConfig::load(&flags, &env(pairs)).map(|_| ()).map_err(|error| error.to_string())
    };
    for (text, pairs, names) in [
        (two("", ""), &[][..], ["`https://one.example` (``)", "`https://two.example` (``)"]),
        (two("a:", "a:"), &[], ["`https://one.example` (`a:`)", "`https://two.example` (`a:`)"]),
        (two("", "b:"), &[], ["`https://one.example` (``)", "`https://two.example` (`b:`)"]),
        (two("b:", ""), &[], ["`https://one.example` (`b:`)", "`https://two.example` (``)"]),
        (two("corp", "corp-eu-"), &[], ["(`corp`)", "(`corp-eu-`)"]),
        (two("corp-eu-", "corp"), &[], ["(`corp-eu-`)", "(`corp`)"]),
        (provider("one.example", "guest:"), &[], ["guests (`guest:`)", "`https://one.example`"]),
        (provider("one.example", "g"), &[], ["guests (`guest:`)", "`https://one.example` (`g`)"]),
        (provider("one.example", "guest:x"), &[], ["guests (`guest:`)", "(`guest:x`)"]),
        (provider("one.example", "inv"), &[], ["invites (`invite:`)", "(`inv`)"]),
        (provider("one.example", ""), &with_key, ["`https://one.example`", "`backend`"]),
        (provider("one.example", ""), &with_secret, ["`https://one.example`", "`app`"]),
        (provider("one.example", "b:"), &with_secret, ["`https://one.example`", "`app`"]),
        (
            application("b:") + &provider("one.example", "b:x"),
            &with_secret,
            ["`app`", "`https://one.example`"],
        ),
    ] {
        let error = load(&text, pairs).expect_err(&text);
        assert!(names.iter().all(|name| error.contains(name)) && !error.contains('\n'), "{error}");
    }
    for (text, pairs) in [
        (provider("one.example", ""), &[][..]),
        (provider("one.example", "") + moderator, &with_key),
        (provider("one.example", "idp:"), &with_key),
        (two("a:", "b:"), &with_key),
        (two("corp-us-", "corp-eu-"), &[]),
        (application(""), &[with_key[0], with_secret[0]]),
        (String::new(), &[with_key[0], with_secret[0]]),
        (application("app:") + &provider("one.example", "b:"), &[with_key[0], with_secret[0]]),
    ] {
        assert_eq!(load(&text, pairs), Ok(()), "{text}");
    }
}

#[test]
fn a_misspelt_setting_is_rejected_by_name() {
    let error =
        LoadedConfig::load(&CommonFlags::default(), &env(&[("SIGNALBOX__LIMITS__BURTS", "1")])).unwrap_err();
    assert!(error.to_string().contains("burts"), "{error}");
}

#[test]
fn the_description_contains_no_secret() {
    let hex = signalbox_protocol::id::random_hex();
    let secret = format!("{hex}{}", signalbox_protocol::id::random_hex());
    let api = format!("backend:{}", signalbox_protocol::id::random_hex());
    let redis = format!("redis://user:{hex}@127.0.0.1:1/0");
    let pairs = [("AUTH_SECRET", &*secret), ("SIGNALBOX_API_KEYS", &*api), ("REDIS_URL", &*redis)];
    let text = LoadedConfig::load(&CommonFlags::default(), &env(&pairs)).unwrap().describe();
    assert!(!text.contains(&hex) && !text.contains(&api[8..]), "{text}");
    assert!(text.contains("backend"), "{text}");
}

#[test]
fn a_wrong_value_is_reported_by_setting_and_in_words_of_the_documents() {
    let load = |text: &str, pairs: &[(&str, &str)]| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
        LoadedConfig::load(&flags, &env(pairs)).expect_err(text).to_string()
    };
    for (text, expected) in [
        ("[limits]\nroom_peers = \"50\"", "limits.room_peers must be a whole number, like 100"),
        ("[limits]\nroom_peers = 1.5", "limits.room_peers must be a whole number, like 100"),
        ("[limits]\nroom_peers = -1", "limits.room_peers must be a whole number, like 100"),
        ("[timing]\nping = 25", "timing.ping must be a text in quotes, like \"25s\""),
        ("[timing]\nping = \"25\"", "timing.ping: `25` is not a duration; write it like 250ms"),
        ("[limits]\nframe = 64", "limits.frame must be a text in quotes, like \"64KiB\""),
        ("[auth]\nguests = \"yes\"", "auth.guests must be true or false"),
        ("[server]\nallowed_origins = \"https://app.example\"", "server.allowed_origins must be a list"),
        (
            "[server]\nlisten = \"8080\"",
            "server.listen must be an address and a port, like \"127.0.0.1:8080\"",
        ),
        ("[ice]\npolicy = \"rely\"", "ice.policy has the unknown value `rely`; known are `all` or `relay`"),
        ("[ice]\nservers = [\"stun:h\"]", "ice.servers must be a list of tables: [[ice.servers]]"),
        ("[ice]\nturn = [\"turn:h\"]", "ice.turn must be a list of tables: [[ice.turn]]"),
        (
            "[[ice.turn]]\nurl = \"turn:h\"",
            "ice.turn has the unknown name `url`; known are `urls` or `region`",
        ),
        ("[[ice.turn]]\nregion = \"eu\"", "ice.turn needs `urls`"),
        ("[api_keys]\nshop = \"x\"", "api_keys.shop must be a table: [api_keys.shop]"),
        (
            "[api_keys.shop]\nscopes = [\"token\"]",
            "api_keys.shop.scopes has the unknown value `token`; known are `tokens`",
        ),
        (
            "[api_keys.shop]\nscope = [\"tokens\"]",
            "api_keys.shop has the unknown name `scope`; known are `scopes`",
        ),
        (
            "[roles.guest]\nice = \"relays\"",
            "roles.guest.ice has the unknown value `relays`; known are `all` or `relay`",
        ),
        ("server = 1", "server must be a table: [server]"),
    ] {
        let error = load(text, &[]);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let scopes = ("SIGNALBOX__API_KEYS__SHOP__SCOPES", "tokens,room");
    for (pair, expected) in [
        (scopes, "SIGNALBOX__API_KEYS__SHOP__SCOPES has the unknown value `room`; known are `tokens`"),
        (
            ("SIGNALBOX__ICE__POLICY", "rely"),
            "SIGNALBOX__ICE__POLICY has the unknown value `rely`; known are `all`",
        ),
        (("SIGNALBOX__TIMING__PING", "25"), "SIGNALBOX__TIMING__PING: `25` is not a duration"),
        (("SIGNALBOX__SERVER__LISTEN", "8080"), "SIGNALBOX__SERVER__LISTEN must be an address and a port"),
    ] {
        let error = load("", &[("SIGNALBOX__ROOMS__CREATOR_ROLE", "42"), pair]);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn every_setting_reports_a_value_of_another_kind_by_its_name() {
    for name in crate::setting_names::setting_names().iter().filter(|name| name.contains('.')) {
        let (section, setting) = name.split_once('.').unwrap();
        // A list of a list is no value of any setting.
        let text = format!("[{section}]\n{setting} = [[1]]");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
        let error = LoadedConfig::load(&flags, &env(&[])).expect_err(&text).to_string();
        let words = ["invalid type", "struct ", "sequence", "u32", "u64", "usize", "enum ", "variant"];
        assert!(
            error.contains(&format!("{name} must be ")) && !words.iter().any(|word| error.contains(word)),
            "{error}"
        );
    }
}

#[test]
fn a_setting_without_its_section_is_suggested_with_it() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"allowed_origins = []").unwrap();
    let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
    let error = LoadedConfig::load(&flags, &env(&[])).unwrap_err().to_string();
    assert!(error.contains("did you mean server.allowed_origins?"), "{error}");
}

#[test]
fn a_value_of_the_file_that_another_source_overrides_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[limits]\nroom_peers = 50\nburst = 7\n[server]\nlisten = \"127.0.0.1:1\"").unwrap();
    let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
    let pairs = [
        ("SIGNALBOX__LIMITS__ROOM_PEERS", "9"),
        ("SIGNALBOX_LISTEN", "127.0.0.1:2"),
        ("SIGNALBOX__SERVER__WORKERS", "2"),
    ];
    let loaded = LoadedConfig::load(&flags, &env(&pairs)).unwrap();
    let overridden =
        ["limits.room_peers by SIGNALBOX__LIMITS__ROOM_PEERS", "server.listen by SIGNALBOX_LISTEN"];
    assert_eq!(loaded.overridden_settings(), overridden);
    let file = file.path().display();
    let line = format!("room_peers = 9  # SIGNALBOX__LIMITS__ROOM_PEERS, not {file}\n");
    assert!(loaded.describe().contains(&line), "{}", loaded.describe());
}

#[test]
fn the_variable_of_the_commands_does_not_stand_for_the_keys_of_a_service() {
    let key = format!("shop:{}", signalbox_protocol::id::random_hex());
    let warnings = |pairs: &[(&str, &str)]| {
        LoadedConfig::load(&CommonFlags::default(), &env(pairs)).unwrap().warnings.join("\n")
    };
    for name in ["SIGNALBOX_API_KEY", "SIGNALBOX_API_KEY_FILE"] {
        assert!(warnings(&[(name, &key)]).contains("a service reads SIGNALBOX_API_KEYS"), "{name}");
        assert_eq!(warnings(&[(name, &key), ("SIGNALBOX_API_KEYS", &key)]), "");
    }
}
