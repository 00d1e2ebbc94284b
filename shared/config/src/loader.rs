//! Loads a configuration from its sources and checks it.
//!
//! Owns: [`LoadedConfig`] and the order of the sources. Must not: know the bounds of a setting
//! (`checks`).

use config::{Environment, File, FileFormat};

use crate::{
    CommonFlags, ConfigError, EnvVars, ProviderSettings, SecretSettings, ServiceSettings,
    checks::{check_settings, check_turn_secrets},
    environment::variable,
};

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
        check_turn_secrets(&settings, secrets.turn_secrets.len())?;
        warnings.extend(unused_setting_warnings(&settings, &secrets));
        let has_application = settings.auth.providers.iter().any(ProviderSettings::is_application);
        if secrets.user_secret.is_some() && !has_application {
            settings.auth.providers.push(ProviderSettings::application());
        }
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
    let fixed =
        ["server.allowed_origins", "server.allowed_hosts", "auth.guest_rooms", "server.trusted_proxies"];
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

fn unused_setting_warnings(settings: &ServiceSettings, secrets: &SecretSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.redis.ca_file.is_some() && secrets.redis_url.as_ref().is_some_and(|url| !url.tls) {
        warnings.push("redis.ca_file is set, but REDIS_URL does not use TLS; write rediss://".to_owned());
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
