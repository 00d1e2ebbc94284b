//! Which settings a running process can change, and the configuration after such a change.
//!
//! Owns: the list of these settings, and the merge of a new configuration into the running one.
//! Must not: read a source (`loader`), or apply a value; each service does that.

use crate::{ConfigError, LoadedConfig, setting_names::setting_names};

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// At the next reload (SIGHUP).
    Reload,
    /// At the next start.
    Restart,
}

/// The settings that a reload applies.
const RELOADED_SETTINGS: [&str; 46] = [
    "server.allowed_origins",
    "server.allowed_hosts",
    "server.trusted_proxies",
    "auth.guests",
    "auth.guest_rooms",
    "auth.guest_role",
    "auth.guest_ttl",
    "auth.default_role",
    "auth.token_ttl",
    "auth.refresh_ttl",
    "auth.providers",
    "api_keys",
    "ice.servers",
    "ice.turn",
    "ice.turn_ttl",
    "limits.frame",
    "limits.sdp",
    "limits.candidate",
    "limits.data",
    "limits.metadata",
    "limits.room_peers",
    "limits.user_peers",
    "limits.lobby_peers",
    "limits.extra_moderators",
    "limits.room_sanctions",
    "limits.connections",
    "limits.burst",
    "limits.rate",
    "limits.backlog",
    "limits.backlog_bytes",
    "limits.room_backlog_bytes",
    "limits.grant_backlog_bytes",
    "limits.outbox",
    "limits.feed_readers",
    "limits.timeline_pairs",
    "limits.timeline_steps",
    "rooms.per_user",
    "rooms.per_key",
    "rooms.creator_role",
    "rooms.signal_url",
    "rooms.page_url",
    "webhooks.record",
    "webhooks.endpoints",
    "webhooks.deadline",
    "webhooks.attempts",
    "webhooks.parallel",
];

/// The variables with secrets that a reload reads again, from their files.
const RELOADED_SECRETS: [&str; 4] =
    ["SIGNALBOX_USER_SECRET", "SIGNALBOX_TURN_SECRETS", "SIGNALBOX_API_KEYS", "SIGNALBOX_WEBHOOK_SECRETS"];

/// When a changed value of a setting, or of the secret in a variable, takes effect.
pub fn takes_effect(name: &str) -> TakesEffect {
    if RELOADED_SETTINGS.contains(&name) || RELOADED_SECRETS.contains(&name) {
        TakesEffect::Reload
    } else {
        TakesEffect::Restart
    }
}

/// The result of reading the configuration again.
#[derive(Debug)]
pub struct ConfigReload {
    /// The running configuration with all changes that can take effect now.
    pub config: LoadedConfig,
    /// The names of these changes.
    pub changed: Vec<String>,
    /// The names of the changes that wait for a restart.
    pub waiting: Vec<String>,
}

impl ConfigReload {
    /// Whether one of these settings has changed. A name that ends with a dot stands for all
    /// settings of its section.
    pub fn concerns(&self, names: &[&str]) -> bool {
        self.changed.iter().any(|changed| {
            names.iter().any(|name| changed == name || name.ends_with('.') && changed.starts_with(name))
        })
    }
}

impl LoadedConfig {
    /// Merges a newer configuration into this one, which is in force.
    ///
    /// # Errors
    /// [`ConfigError`]: the new values do not fit to the old ones that need a restart.
    pub fn reload(&self, next: &Self) -> Result<ConfigReload, ConfigError> {
        let (mut settings, newer) = (to_table(self), to_table(next));
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for name in setting_names() {
            let has_same_file = self.pem_files.get(&*name) == next.pem_files.get(&*name);
            if has_same_file && setting_at(&settings, &name) == setting_at(&newer, &name) {
                continue;
            }
            match takes_effect(&name) {
                TakesEffect::Reload => {
                    copy_setting(&newer, &mut settings, &name);
                    changed.push(name);
                }
                TakesEffect::Restart => waiting.push(name),
            }
        }
        for name in self.secrets.changed_variables(&next.secrets) {
            let names = if takes_effect(name) == TakesEffect::Reload { &mut changed } else { &mut waiting };
            names.push(name.to_owned());
        }
        let settings = toml::Value::Table(settings)
            .try_into()
            .map_err(|error| ConfigError::invalid_setting("the new configuration", error.to_string()))?;
        let secrets = self.secrets.with_reloaded(&next.secrets);
        let mut config = Self::check(settings, secrets, next.sources.clone())?;
        // Clients of the process keep what they have read at the start.
        config.pem_files = self.pem_files.clone();
        Ok(ConfigReload { config, changed, waiting })
    }
}

fn to_table(config: &LoadedConfig) -> toml::Table {
    toml::Table::try_from(&config.settings).unwrap_or_default()
}

/// The value of `section.name`, or of a whole section.
fn setting_at<'a>(settings: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    match name.split_once('.') {
        Some((section, name)) => settings.get(section)?.get(name),
        None => settings.get(name),
    }
}

fn copy_setting(from: &toml::Table, to: &mut toml::Table, name: &str) {
    let value = setting_at(from, name).cloned();
    let (table, key) = match name.split_once('.') {
        Some((section, key)) => match to.get_mut(section).and_then(toml::Value::as_table_mut) {
            Some(table) => (table, key),
            None => return,
        },
        None => (to, name),
    };
    // A setting without a value is left out.
    match value {
        Some(value) => table.insert(key.to_owned(), value),
        None => table.remove(key),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommonFlags, EnvVars, SECRET_VARIABLES, units::TimeSpan};

    fn load(text: &str, env: &[(&str, String)]) -> LoadedConfig {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let flags = CommonFlags { config: Some(file.path().to_owned()), ..CommonFlags::default() };
        let env: EnvVars = env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        LoadedConfig::load(&flags, &env).unwrap()
    }

    #[test]
    fn every_reloaded_name_exists() {
        let settings = setting_names();
        for name in RELOADED_SETTINGS {
            assert!(settings.iter().any(|known| known == name), "{name}");
        }
        for name in RELOADED_SECRETS {
            assert!(SECRET_VARIABLES.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_reload_takes_what_can_change_and_names_the_rest() {
        let running = load("[limits]\nburst = 10\n[timing]\nping = \"20s\"", &[]);
        let text = "[limits]\nburst = 20\n[timing]\nping = \"30s\"\n[server]\nmetrics_listen = \"127.0.0.1:1\"\n\
                    [api_keys.shop]\nrooms = \"shop-*\"";
        let reload = running.reload(&load(text, &[])).unwrap();
        assert_eq!(reload.config.settings.limits.burst, 20);
        assert_eq!(reload.config.settings.timing.ping, TimeSpan::secs(20));
        assert_eq!(reload.config.settings.server.metrics_listen, None);
        assert_eq!(reload.changed, ["api_keys", "limits.burst"]);
        assert_eq!(reload.waiting, ["server.metrics_listen", "timing.ping"]);
        let again = reload.config.reload(&load(text, &[])).unwrap();
        assert_eq!((again.changed.len(), again.waiting.len()), (0, 2), "the rest still waits");
        let back = reload.config.reload(&running).unwrap();
        assert_eq!(back.config.settings.api_keys.len(), 0);
        assert_eq!((back.changed.len(), back.waiting.len()), (2, 0));
    }

    /// A renewed certificate is in the file of the same name.
    #[test]
    fn a_file_of_certificates_or_keys_with_another_content_waits_for_a_restart() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let write = |name: &str, label: &str, body: &str| {
            let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
            std::fs::write(path(name), text).unwrap();
        };
        let names = setting_names();
        let files: Vec<&String> = names
            .iter()
            .filter(|name| ["ca_file", "cert_file", "key_file"].iter().any(|end| name.ends_with(end)))
            .collect();
        assert!(files.len() >= 4, "{files:?}");
        let label = |name: &str| if name.ends_with("key_file") { "PRIVATE KEY" } else { "CERTIFICATE" };
        files.iter().for_each(|name| write(name, label(name), "MAA="));
        let mut text = String::new();
        for section in ["redis", "http_client"] {
            text += &format!("[{section}]\n");
            for name in files.iter().filter(|name| name.starts_with(section)) {
                text += &format!("{} = {:?}\n", name.split('.').nth(1).unwrap(), path(name));
            }
        }
        let running = load(&text, &[]);
        assert_eq!(running.reload(&load(&text, &[])).unwrap().waiting, [""; 0]);
        for name in &files {
            write(name, label(name), "MAE=");
            let reload = running.reload(&load(&text, &[])).unwrap();
            assert_eq!((reload.waiting, reload.changed.len()), (vec![(*name).clone()], 0));
            let again = reload.config.reload(&load(&text, &[])).unwrap();
            assert_eq!(again.waiting, [(*name).clone()], "it still waits");
            write(name, label(name), "MAA=");
        }
    }

    #[test]
    fn secrets_are_compared_without_being_shown() {
        let random = || signalbox_protocol::id::random_hex() + &signalbox_protocol::id::random_hex();
        let (old, new) = (random(), random());
        let with = |auth: &String, key: String| {
            load("", &[("AUTH_SECRET", auth.clone()), ("SIGNALBOX_API_KEYS", format!("shop:{key}"))])
        };
        let running = with(&old, random());
        let reload = running.reload(&with(&new, random())).unwrap();
        assert_eq!(reload.changed, ["SIGNALBOX_API_KEYS"]);
        assert_eq!(reload.waiting, ["AUTH_SECRET"]);
        assert_eq!(reload.config.secrets.auth.as_ref().unwrap().expose(), old.as_bytes());
        assert!(!format!("{reload:?}").contains(&new));
    }

    #[test]
    fn new_values_must_fit_to_the_old_ones_that_stay() {
        let running = load("[limits]\nnode_outbox = \"8MiB\"", &[]);
        let next = load("[limits]\nnode_outbox = \"64MiB\"\noutbox = \"16MiB\"", &[]);
        let error = running.reload(&next).unwrap_err().to_string();
        assert!(error.contains("limits.node_outbox"), "{error}");
    }
}
