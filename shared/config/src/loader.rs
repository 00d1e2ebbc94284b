//! Loads a configuration from its sources and checks it.
//!
//! Owns: [`LoadedConfig`] and the order of the sources. Must not: know the bounds of a setting
//! (`checks`).

use std::path::Path;

use config::{Environment, File, FileFormat};

use crate::{
    CommonFlags, ConfigError, EnvVars, ProviderSettings, SecretSettings, ServiceSettings,
    checks::{PemDigests, check_settings, check_turn_secrets, check_user_sources, read_pem_digests},
    environment::{process_environment, variable},
    setting_names::nearest_name,
    setting_sources::{SettingSources, find_unknown_setting, find_wrong_kind},
    value_fault::{find_value_fault, variable_fault},
    variable_names::{check_other_variables, check_setting_variables},
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
    pub(crate) sources: SettingSources,
    /// What the files with certificates and keys held.
    pub(crate) pem_files: PemDigests,
}

impl LoadedConfig {
    /// The environment variables of this process.
    pub fn read_environment() -> EnvVars {
        process_environment()
    }

    /// Reads defaults, file, environment and flags, each overriding the ones before, and checks the
    /// result.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the setting.
    pub fn load(flags: &CommonFlags, env: &EnvVars) -> Result<Self, ConfigError> {
        check_setting_variables(env)?;
        let (settings, sources) = read_settings(flags, env)?;
        check_other_variables(&settings, env)?;
        let mut secrets = SecretSettings::read_from_env(flags, env)?;
        check_settings(&settings)?;
        secrets.read_endpoint_secrets(&settings.webhooks, env)?;
        let mut loaded = Self::check(settings, secrets, sources)?;
        loaded.warnings.extend(command_key_warning(&loaded.secrets, env));
        Ok(loaded)
    }

    /// Checks settings and secrets together.
    pub(crate) fn check(
        mut settings: ServiceSettings,
        secrets: SecretSettings,
        sources: SettingSources,
    ) -> Result<Self, ConfigError> {
        let mut warnings = check_settings(&settings)?;
        secrets.check_distinct()?;
        check_turn_secrets(&settings, secrets.turn_secrets.len())?;
        warnings.extend(unused_setting_warnings(&settings, &secrets));
        let has_application = settings.auth.providers.iter().any(ProviderSettings::is_application);
        if secrets.user_secret.is_some() && !has_application {
            settings.auth.providers.push(ProviderSettings::application());
        }
        check_user_sources(&settings.auth, &naming_keys(&settings, &secrets))?;
        let pem_files = read_pem_digests(&settings);
        Ok(Self { settings, secrets, warnings, sources, pem_files })
    }

    /// The settings of the file that have another value from a variable or a flag, each with it.
    pub fn overridden_settings(&self) -> Vec<String> {
        self.sources.overridden().map(|(name, source)| format!("{name} by {source}")).collect()
    }

    /// The settings in force as TOML, each with its source, after comment lines that say which
    /// secrets are set.
    pub fn describe(&self) -> String {
        let settings = toml::to_string(&self.settings).unwrap_or_default();
        format!("{}\n{}", self.secrets.describe(&self.sources), self.sources.annotate(&settings))
    }
}

fn read_settings(
    flags: &CommonFlags,
    env: &EnvVars,
) -> Result<(ServiceSettings, SettingSources), ConfigError> {
    let mut sources = config::Config::builder();
    let mut file = None;
    if let Some(path) = &flags.config {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::invalid_setting(path.display().to_string(), format!("cannot be read: {error}"))
        })?;
        let text = text.trim_start_matches('\u{feff}');
        file = Some(parse_file(path, text)?);
        sources = sources.add_source(File::from_str(text, FileFormat::Toml));
    }
    let defaults = toml::Table::try_from(ServiceSettings::default()).unwrap_or_default();
    if let Some((variable, problem)) = find_wrong_kind(env, &defaults) {
        return Err(ConfigError::invalid_setting(variable, problem));
    }
    let sources = sources.add_source(environment_source(env)).build()?;
    let mut settings: ServiceSettings =
        sources.try_deserialize().map_err(|error| describe_variables(env).unwrap_or(error.into()))?;
    if let Some(listen) = variable("SIGNALBOX_LISTEN", env) {
        let address = listen.parse().map_err(|_| {
            ConfigError::invalid_setting(
                "SIGNALBOX_LISTEN",
                "must be an address and a port, like 0.0.0.0:8080",
            )
        })?;
        let other = variable("SIGNALBOX__SERVER__LISTEN", env);
        if other.is_some_and(|other| other.parse() != Ok(address)) {
            let problem = "and SIGNALBOX__SERVER__LISTEN are both set, and they differ; keep one";
            return Err(ConfigError::invalid_setting("SIGNALBOX_LISTEN", problem));
        }
        settings.server.listen = address;
    }
    if let Some(listen) = flags.listen {
        settings.server.listen = listen;
    }
    if let Some(workers) = flags.workers {
        settings.server.workers = workers;
    }
    if flags.guests {
        settings.auth.guests = Some(true);
    }
    Ok((settings, SettingSources::new(flags, env, file.as_ref())))
}

/// Reads the file strictly: a number in quotes, or a switch that is a number, is no value.
fn parse_file(path: &Path, text: &str) -> Result<toml::Table, ConfigError> {
    let file = path.display();
    let at_line = |error: &toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        ConfigError::invalid_setting(format!("{file}, line {line}:"), error.message().replace('\n', " "))
    };
    let table: toml::Table = toml::from_str(text).map_err(|error| at_line(&error))?;
    if let Some((unknown, known)) = find_unknown_setting(&table) {
        let next = match nearest_name(&unknown, &known) {
            Some(name) => format!("did you mean {name}?"),
            None => "docs/CONFIGURATION.md lists all settings".to_owned(),
        };
        return Err(ConfigError::invalid_setting(
            format!("{file}: {unknown}"),
            format!("is not a setting; {next}"),
        ));
    }
    toml::from_str::<ServiceSettings>(text)
        .map_err(|error| find_value_fault(&table, &format!("{file}: ")).unwrap_or_else(|| at_line(&error)))?;
    Ok(table)
}

/// The first variable whose value alone is refused: the file was checked before.
fn describe_variables(env: &EnvVars) -> Option<ConfigError> {
    let mut names: Vec<&String> = env.keys().collect();
    names.sort_unstable();
    names.into_iter().find_map(|name| {
        let single = EnvVars::from_iter([(name.clone(), env[name].clone())]);
        let source = config::Config::builder().add_source(environment_source(&single)).build().ok()?;
        let error = source.clone().try_deserialize::<ServiceSettings>().err()?.to_string();
        Some(variable_fault(name, &error, &source.try_deserialize().unwrap_or_default()))
    })
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

/// The key of the commands is easily taken for the keys of a service.
fn command_key_warning(secrets: &SecretSettings, env: &EnvVars) -> Option<String> {
    let names = ["SIGNALBOX_API_KEY", "SIGNALBOX_API_KEY_FILE"];
    let name = names.into_iter().find(|name| variable(name, env).is_some())?;
    secrets.api_keys.is_empty().then(|| {
        format!("{name} is set, which only commands read; a service reads SIGNALBOX_API_KEYS or SIGNALBOX_API_KEYS_FILE")
    })
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
mod tests;
