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
