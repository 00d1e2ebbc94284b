//! Putting a configuration together.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{
    SecretSettings, ServiceSettings,
    checks::{check_settings, check_turn_secrets},
};

/// The flags every binary takes.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Address and port to listen on, like 127.0.0.1:8080
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// The shared store, like redis://user:password@host:6379/0; without it state stays in this process
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print the effective settings, without secrets, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Give tokens to callers without an API key (unsafe on a public address)
    #[arg(long)]
    pub guests: bool,
}

/// The environment as it was at the start.
pub type EnvVars = HashMap<String, String>;

/// A configuration that passed its checks.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// What may be printed.
    pub settings: ServiceSettings,
    /// What may not.
    pub secrets: SecretSettings,
    /// Unsafe choices that were typed out; each is logged at start.
    pub warnings: Vec<String>,
}

/// Why a configuration is refused: one line, naming the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file or the environment does not parse.
    #[error("configuration: {0}")]
    InvalidSource(#[from] config::ConfigError),
    /// A value that parses and makes no sense.
    #[error("configuration: {setting} {problem}")]
    InvalidSetting {
        /// Which one.
        setting: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

impl ConfigError {
    /// A value that is wrong, or missing: `problem` says what would be right.
    pub fn invalid_setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidSetting { setting: setting.into(), problem: problem.into() }
    }
}

impl LoadedConfig {
    /// The environment of this process, read once.
    pub fn read_environment() -> EnvVars {
        std::env::vars().collect()
    }

    /// Reads defaults, file, environment and flags, in this order, and checks the outcome.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the setting.
    pub fn load(flags: &CommonFlags, env: &EnvVars) -> Result<Self, ConfigError> {
        let mut sources = config::Config::builder();
        if let Some(path) = &flags.config {
            sources = sources.add_source(config::File::from(path.as_path()).format(config::FileFormat::Toml));
        }
        let lists = env.keys().filter_map(|name| {
            let lists = [("API_KEYS", "SCOPES"), ("ROLES", "PERMISSIONS")];
            lists.into_iter().find_map(|(section, list)| {
                let of_section = name.strip_prefix("SIGNALBOX__")?.strip_prefix(section)?;
                let id = of_section.strip_prefix("__")?.strip_suffix(list)?.strip_suffix("__")?;
                Some(format!("{section}.{id}.{list}").to_ascii_lowercase())
            })
        });
        let sections = config::Environment::with_prefix("SIGNALBOX")
            .prefix_separator("__")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("server.allowed_origins")
            .with_list_parse_key("server.allowed_hosts")
            .with_list_parse_key("auth.guest_rooms")
            .with_list_parse_key("server.trusted_proxies")
            .try_parsing(true);
        let sections = lists
            .fold(sections, |sections, list| sections.with_list_parse_key(&list))
            // Compose passes an unset variable as an empty one.
            .ignore_empty(true)
            .source(Some(env.clone()));
        let mut settings: ServiceSettings = sources.add_source(sections).build()?.try_deserialize()?;
        if let Some(listen) = env.get("SIGNALBOX_LISTEN").filter(|listen| !listen.is_empty()) {
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
        let mut secrets = SecretSettings::read_from_env(flags, env)?;
        let mut warnings = check_settings(&settings)?;
        secrets.read_endpoint_secrets(&settings.webhooks, env)?;
        check_turn_secrets(&settings, secrets.turn_secrets.len())?;
        if settings.redis.ca_file.is_some() && secrets.redis_url.as_ref().is_some_and(|url| !url.tls) {
            warnings.push("redis.ca_file is set and REDIS_URL asks for no TLS: write rediss://".to_owned());
        }
        let app = settings.auth.providers.iter().any(|provider| provider.is_application());
        if secrets.user_secret.is_some() && !app {
            settings.auth.providers.push(super::ProviderSettings::application());
        }
        for id in settings.api_keys.keys() {
            if !secrets.api_keys.is_empty() && secrets.api_keys.get(id.as_str()).is_none() {
                warnings.push(format!("api_keys.{id} has settings and SIGNALBOX_API_KEYS has no such key"));
            }
        }
        Ok(Self { settings, secrets, warnings })
    }

    /// The effective settings as TOML, with secrets told only as present or absent.
    pub fn describe(&self) -> String {
        let settings = toml::to_string(&self.settings).unwrap_or_default();
        format!("{}\n{settings}", self.secrets.describe())
    }
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
