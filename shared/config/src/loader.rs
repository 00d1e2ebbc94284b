//! Loads a configuration from its sources and checks it.
//!
//! Owns: [`LoadedConfig`] and the order of the sources. Must not: know the bounds of a setting
//! (`checks`).

use config::{Environment, File, FileFormat};

use crate::{
    CommonFlags, ConfigError, EnvVars, ProviderSettings, SecretSettings, ServiceSettings,
    checks::{check_settings, check_turn_secrets, check_user_sources},
    environment::variable,
};
use signalbox_protocol::id::CallerId;
use signalbox_token::scope::{Scope, ScopeSet};

/// A configuration that passed its checks.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// Everything that may be printed.
    pub settings: ServiceSettings,
    /// Everything that must not be printed.
    pub secrets: SecretSettings,
    /// Unsafe or useless settings, each as one line for the log.
    pub warnings: Vec<String>,
}

impl LoadedConfig {
    /// The environment variables of this process.
    pub fn read_environment() -> EnvVars {
        std::env::vars().collect()
    }

    /// Reads defaults, file, environment and flags, each overriding the ones before, and checks the
    /// result.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the setting.
    pub fn load(flags: &CommonFlags, env: &EnvVars) -> Result<Self, ConfigError> {
        let mut settings = read_settings(flags, env)?;
        let mut secrets = SecretSettings::read_from_env(flags, env)?;
        let mut warnings = check_settings(&settings)?;
        secrets.read_endpoint_secrets(&settings.webhooks, env)?;
        secrets.check_distinct()?;
        check_turn_secrets(&settings, secrets.turn_secrets.len())?;
        warnings.extend(unused_setting_warnings(&settings, &secrets));
        let has_application = settings.auth.providers.iter().any(ProviderSettings::is_application);
        if secrets.user_secret.is_some() && !has_application {
            settings.auth.providers.push(ProviderSettings::application());
        }
        check_user_sources(&settings.auth, &naming_keys(&settings, &secrets))?;
        Ok(Self { settings, secrets, warnings })
    }

    /// The settings in force as TOML, after comment lines that say which secrets are set.
    pub fn describe(&self) -> String {
        let settings = toml::to_string(&self.settings).unwrap_or_default();
        format!("{}\n{settings}", self.secrets.describe())
    }
}

fn read_settings(flags: &CommonFlags, env: &EnvVars) -> Result<ServiceSettings, ConfigError> {
    let mut sources = config::Config::builder();
    if let Some(path) = &flags.config {
        sources = sources.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    let mut settings: ServiceSettings =
        sources.add_source(environment_source(env)).build()?.try_deserialize()?;
    if let Some(listen) = variable("SIGNALBOX_LISTEN", env) {
        settings.server.listen = listen.parse().map_err(|_| {
            ConfigError::invalid_setting(
                "SIGNALBOX_LISTEN",
                "must be an address and a port, like 0.0.0.0:8080",
            )
        })?;
    }
    if let Some(listen) = flags.listen {
        settings.server.listen = listen;
    }
    if flags.guests {
        settings.auth.guests = Some(true);
    }
    Ok(settings)
}

/// The variables `SIGNALBOX__SECTION__NAME`. Only the settings named here are lists, with commas
/// between their values.
fn environment_source(env: &EnvVars) -> Environment {
    let fixed = [
        "server.allowed_origins",
        "server.allowed_hosts",
        "auth.guest_rooms",
        "server.trusted_proxies",
        "http_client.unencrypted_hosts",
    ];
    let lists = fixed.map(str::to_owned).into_iter().chain(env.keys().filter_map(|name| table_list(name)));
    lists
        .fold(
            Environment::with_prefix("SIGNALBOX")
                .prefix_separator("__")
                .separator("__")
                .list_separator(",")
                .try_parsing(true),
            |source, list| source.with_list_parse_key(&list),
        )
        // Compose passes an unset variable as an empty one.
        .ignore_empty(true)
        .source(Some(env.clone()))
}

/// The setting of a variable for a list in the table of an API key or a role.
fn table_list(variable: &str) -> Option<String> {
    [("API_KEYS", "SCOPES"), ("ROLES", "PERMISSIONS")].into_iter().find_map(|(section, list)| {
        let in_section = variable.strip_prefix("SIGNALBOX__")?.strip_prefix(section)?;
        let id = in_section.strip_prefix("__")?.strip_suffix(list)?.strip_suffix("__")?;
        Some(format!("{section}.{id}.{list}").to_ascii_lowercase())
    })
}

/// The API keys that may name users.
fn naming_keys<'a>(settings: &ServiceSettings, secrets: &'a SecretSettings) -> Vec<&'a str> {
    let may_name = |id: &&str| {
        let table = CallerId::parse(id).ok().and_then(|id| settings.api_keys.get(&id));
        let scopes = table.and_then(|table| table.scopes.as_ref());
        scopes.map_or(ScopeSet::api_key_default().contains(Scope::Tokens), |scopes| {
            scopes.contains(&Scope::Tokens)
        })
    };
    secrets.api_keys.ids().filter(may_name).collect()
}

fn unused_setting_warnings(settings: &ServiceSettings, secrets: &SecretSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let redis = &settings.redis;
    for (setting, file) in [("ca_file", &redis.ca_file), ("cert_file", &redis.cert_file)] {
        if file.is_some() && secrets.redis_url.as_ref().is_some_and(|url| !url.tls) {
            warnings.push(format!("redis.{setting} is set, but REDIS_URL does not use TLS; write rediss://"));
        }
    }
    for id in settings.api_keys.keys() {
        if !secrets.api_keys.is_empty() && secrets.api_keys.get(id.as_str()).is_none() {
            warnings.push(format!("api_keys.{id} has settings, but SIGNALBOX_API_KEYS has no key `{id}`"));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
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
        let error = LoadedConfig::load(&CommonFlags::default(), &env(&[("SIGNALBOX__LIMITS__BURTS", "1")]))
            .unwrap_err();
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
}
