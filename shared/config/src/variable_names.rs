//! Which environment variables Signalbox reads: a misspelt name must not be ignored.
//!
//! Owns: the check of the names. Must not: know the value of a setting; an empty variable counts as
//! not set, so its name does not matter.

use crate::{
    ConfigError, EnvVars, ServiceSettings,
    environment::SECRET_VARIABLES,
    setting_names::{names_in_section, names_in_table, nearest_name, section_names},
};

/// Variables that are neither a secret of a service nor a setting with its section.
const OTHER_VARIABLES: [&str; 4] =
    ["SIGNALBOX_LISTEN", "SIGNALBOX_URL", "SIGNALBOX_API_KEY", "SIGNALBOX_API_KEY_FILE"];

/// Variables of docker-compose.yml and of the tests, which a shell may pass on to a service.
const OTHER_READERS: [&str; 6] = [
    "SIGNALBOX_NET",
    "SIGNALBOX_MEMORY",
    "SIGNALBOX_NOFILE",
    "SIGNALBOX_BIN",
    "SIGNALBOX_BIN_DIR",
    "SIGNALBOX_TEST_",
];

/// The start of the names that only Signalbox has.
const OWN_PREFIXES: [&str; 2] = ["SIGNALBOX", "AUTH_SECRET"];

const SETTING_PREFIX: &str = "SIGNALBOX__";

/// Refuses a variable `SIGNALBOX__SECTION__NAME` that is no setting.
///
/// # Errors
/// One line that names the variable and the one that was probably meant.
pub(crate) fn check_setting_variables(env: &EnvVars) -> Result<(), ConfigError> {
    let is_wrong = |name: &&str| is_setting(name) && !is_known_setting(name);
    match set_variables(env).into_iter().find(is_wrong) {
        None => Ok(()),
        Some(name) => Err(unknown_setting(name)),
    }
}

/// Refuses any other variable whose name looks like one of Signalbox. The settings name the
/// variables with the secrets of single webhook endpoints.
///
/// # Errors
/// One line that names the variable and the one that was probably meant.
pub(crate) fn check_other_variables(settings: &ServiceSettings, env: &EnvVars) -> Result<(), ConfigError> {
    let endpoints = settings.webhooks.endpoints.iter().filter_map(|endpoint| endpoint.secrets_env.as_deref());
    let mut known: Vec<String> = SECRET_VARIABLES.into_iter().chain(endpoints).flat_map(with_file).collect();
    known.extend(OTHER_VARIABLES.map(str::to_owned));
    let is_wrong = |name: &&str| {
        !is_setting(name)
            && !known.iter().any(|known| known == name)
            && !has_other_reader(name)
            && !is_service_link(name, &env[*name])
    };
    match set_variables(env).into_iter().find(is_wrong) {
        None => Ok(()),
        Some(name) => Err(unknown_variable(name, known)),
    }
}

/// The variables with a name like ours, in the order of the alphabet, so that the same one is
/// always reported first.
fn set_variables(env: &EnvVars) -> Vec<&str> {
    let is_own = |name: &str| {
        OWN_PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
    };
    let set = env.iter().filter(|(name, value)| !value.is_empty() && is_own(name));
    let mut names: Vec<&str> = set.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// A name of [`OTHER_READERS`]; one that ends with an underscore is a prefix.
fn has_other_reader(name: &str) -> bool {
    OTHER_READERS.iter().any(|other| name == *other || other.ends_with('_') && name.starts_with(other))
}

fn with_file(name: &str) -> [String; 2] {
    [name.to_owned(), format!("{name}_FILE")]
}

fn is_setting(name: &str) -> bool {
    name.to_ascii_uppercase().starts_with(SETTING_PREFIX)
}

/// Whether a variable `SIGNALBOX__…` has a section and a name that exist. The settings in a table
/// below are checked when they are read.
fn is_known_setting(variable: &str) -> bool {
    let path = variable[SETTING_PREFIX.len()..].to_ascii_lowercase();
    let parts: Vec<&str> = path.split("__").collect();
    match parts[..] {
        [section, _, name, ..] if names_in_table(section).is_some_and(|names| names.contains(&name)) => true,
        [section, name] => names_in_section(section).contains(&name),
        _ => false,
    }
}

/// Whether Kubernetes set the variable for a Service of the namespace, or Docker for a linked
/// container: a Service may be called `signalbox`.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_port = |value: &str| value.starts_with("tcp://") || value.starts_with("udp://");
    let is_numbered = || name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP"));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || is_numbered()
        || name.ends_with("_PORT") && is_port(value)
}

fn unknown_setting(variable: &str) -> ConfigError {
    let all = section_names()
        .iter()
        .flat_map(|section| names_in_section(section).iter().map(move |name| format!("{section}.{name}")));
    let written = variable[SETTING_PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
    let names: Vec<String> = all.collect();
    let next = match nearest_name(&written, &names) {
        Some(name) => format!("did you mean {}?", variable_of(name)),
        None => "docs/CONFIGURATION.md lists all settings".to_owned(),
    };
    ConfigError::invalid_setting(variable, format!("({written}) is not a setting; {next}"))
}

fn unknown_variable(variable: &str, mut known: Vec<String>) -> ConfigError {
    for section in section_names() {
        known.extend(names_in_section(section).iter().map(|name| variable_of(&format!("{section}.{name}"))));
    }
    let next = match nearest_name(variable, &known) {
        Some(name) => format!("did you mean {name}?"),
        None => "docs/CONFIGURATION.md lists all variables".to_owned(),
    };
    ConfigError::invalid_setting(variable, format!("is not a variable that Signalbox reads; {next}"))
}

/// The variable of a setting `section.name`.
pub(crate) fn variable_of(setting: &str) -> String {
    format!("{SETTING_PREFIX}{}", setting.to_ascii_uppercase().replace('.', "__"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WebhookEndpoint;

    fn check(name: &str, value: &str) -> Result<(), String> {
        let env: EnvVars = [(name.to_owned(), value.to_owned())].into();
        let mut settings = ServiceSettings::default();
        settings.webhooks.endpoints = vec![WebhookEndpoint {
            url: "https://a.example/".to_owned(),
            events: vec![],
            rooms: None,
            insecure: false,
            secrets_env: Some("SIGNALBOX_SHOP_SECRETS".to_owned()),
        }];
        check_setting_variables(&env)
            .and_then(|()| check_other_variables(&settings, &env))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_misspelt_variable_is_refused_with_the_right_name() {
        for (name, meant) in [
            ("SIGNALBOX_LIMITS__ROOM_PEERS", "SIGNALBOX__LIMITS__ROOM_PEERS"),
            ("SIGNALBOX__LIMITS_ROOM_PEERS", "SIGNALBOX__LIMITS__ROOM_PEERS"),
            ("SIGNALBOX__LIMITS__BURTS", "SIGNALBOX__LIMITS__BURST"),
            ("SIGNALBOX__LIMIT__BURST", "SIGNALBOX__LIMITS__BURST"),
            ("SIGNALBOX__LISTEN", "SIGNALBOX__SERVER__LISTEN"),
            ("SIGNALBOX_APIKEYS", "SIGNALBOX_API_KEYS"),
            ("SIGNALBOX_API_KEYS_FIEL", "SIGNALBOX_API_KEYS_FILE"),
            ("SIGNALBOX_TURN_SECRET", "SIGNALBOX_TURN_SECRETS"),
            ("SIGNALBOX_TURN_SECRET_FILE", "SIGNALBOX_TURN_SECRETS_FILE"),
            ("SIGNALBOX_SESION_KEY", "SIGNALBOX_SESSION_KEY"),
            ("SIGNALBOX_ALLOWED_ORIGINS", "SIGNALBOX__SERVER__ALLOWED_ORIGINS"),
            ("signalbox_listen", "SIGNALBOX_LISTEN"),
            ("SIGNALBOXLISTEN", "SIGNALBOX_LISTEN"),
            ("AUTH_SECRETS", "AUTH_SECRET"),
            ("AUTH_SECRET_PREVIUOS", "AUTH_SECRET_PREVIOUS"),
            ("SIGNALBOX_SHOP_SECRET", "SIGNALBOX_SHOP_SECRETS"),
        ] {
            let error = check(name, "x").unwrap_err();
            assert!(error.contains(name) && error.contains(&format!("did you mean {meant}?")), "{error}");
            assert_eq!(check(name, ""), Ok(()), "an empty variable counts as not set: {name}");
        }
        assert!(check("SIGNALBOX_Q", "x").unwrap_err().contains("docs/CONFIGURATION.md"));
    }

    #[test]
    fn a_variable_that_is_read_is_known() {
        let settings = crate::setting_names();
        let settings = settings.iter().filter(|name| name.contains('.')).map(|name| variable_of(name));
        let secrets = SECRET_VARIABLES.into_iter().flat_map(with_file);
        let others = OTHER_VARIABLES.map(str::to_owned);
        let chosen = [
            "SIGNALBOX_SHOP_SECRETS",
            "SIGNALBOX_SHOP_SECRETS_FILE",
            "SIGNALBOX__API_KEYS__BACKEND__SCOPES",
            "SIGNALBOX__ROLES__GUEST__CANDIDATES__DROP_PRIVATE",
            "signalbox__limits__burst",
            "SIGNALBOX_NET",
            "SIGNALBOX_TEST_LOGS",
            "PATH",
            "AUTH_TOKEN",
        ]
        .map(str::to_owned);
        for name in settings.chain(secrets).chain(others).chain(chosen) {
            assert_eq!(check(&name, "x"), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_variables_of_a_kubernetes_service_are_ignored() {
        for (name, value) in [
            ("SIGNALBOX_SERVICE_HOST", "10.0.0.1"),
            ("SIGNALBOX_SERVICE_PORT", "8080"),
            ("SIGNALBOX_SERVICE_PORT_HTTP", "8080"),
            ("SIGNALBOX_PORT", "tcp://10.0.0.1:8080"),
            ("SIGNALBOX_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SIGNALBOX_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("SIGNALBOX_AUTH_SERVICE_HOST", "10.0.0.2"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        assert!(check("SIGNALBOX_PORT", "8080").is_err());
    }
}
