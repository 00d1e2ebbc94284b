//! Where each value of a configuration comes from.
//!
//! Owns: [`SettingSources`], and the text of `--check-config`. Must not: know a value of a secret.

use std::collections::BTreeMap;

use crate::{
    CommonFlags, EnvVars,
    environment::{SECRET_VARIABLES, variable},
    setting_names::{names_in_section, names_in_table, section_names, setting_names},
    variable_names::variable_of,
};

/// The sources of the values that are not the default: a flag, a variable or a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingSources {
    by_name: BTreeMap<String, String>,
    /// The file whose value another source overrides, by the name of the setting.
    overridden: BTreeMap<String, String>,
}

impl SettingSources {
    /// The sources of a configuration, with the content of its file.
    pub(crate) fn new(flags: &CommonFlags, env: &EnvVars, file: Option<&toml::Table>) -> Self {
        let mut sources = Self::default();
        if let (Some(file), Some(path)) = (file, &flags.config) {
            sources.add_file(file, &path.display().to_string());
        }
        sources.add_variables(env);
        for name in SECRET_VARIABLES {
            for variable_name in [name.to_owned(), format!("{name}_FILE")] {
                if variable(&variable_name, env).is_some() {
                    sources.add(name, &variable_name);
                }
            }
        }
        let flag = |is_set: bool, flag: &'static str| is_set.then_some(flag);
        let by_flag = [
            ("server.listen", flag(flags.listen.is_some(), "--listen")),
            ("server.workers", flag(flags.workers.is_some(), "--workers")),
            ("auth.guests", flag(flags.guests, "--guests")),
            ("REDIS_URL", flag(flags.redis.is_some(), "--redis")),
        ];
        for (name, flag) in by_flag {
            flag.iter().for_each(|flag| sources.add(name, flag));
        }
        if let (Some(file), Some(path)) = (file, &flags.config) {
            sources.find_overridden(file, &path.display().to_string());
        }
        sources
    }

    /// A variable may add to a table whose name the operator chooses, so it does not override it.
    fn find_overridden(&mut self, file: &toml::Table, path: &str) {
        let sections = file.iter().filter(|(section, _)| names_in_table(section).is_none());
        for (section, values) in sections {
            for name in values.as_table().into_iter().flat_map(toml::Table::keys) {
                let name = format!("{section}.{name}");
                if self.source_of(&name).is_some_and(|source| source != path) {
                    self.overridden.insert(name, path.to_owned());
                }
            }
        }
    }

    /// A later source overrides an earlier one.
    fn add(&mut self, name: &str, source: &str) {
        self.by_name.insert(name.to_owned(), source.to_owned());
    }

    /// Each setting of the file that another source overrides, with that source.
    pub(crate) fn overridden(&self) -> impl Iterator<Item = (&str, &str)> {
        self.overridden.keys().filter_map(|name| Some((name.as_str(), self.source_of(name)?)))
    }

    fn add_file(&mut self, file: &toml::Table, path: &str) {
        for (section, values) in file {
            for name in values.as_table().into_iter().flat_map(toml::Table::keys) {
                self.add(&format!("{section}.{name}"), path);
            }
        }
    }

    fn add_variables(&mut self, env: &EnvVars) {
        if variable("SIGNALBOX_LISTEN", env).is_some() {
            self.add("server.listen", "SIGNALBOX_LISTEN");
        }
        for (name, _) in env.iter().filter(|(_, value)| !value.is_empty()) {
            let Some(path) = name.to_ascii_lowercase().strip_prefix("signalbox__").map(str::to_owned) else {
                continue;
            };
            let parts: Vec<&str> = path.split("__").collect();
            if let [section, setting, ..] = parts[..] {
                self.add(&format!("{section}.{setting}"), name);
            }
        }
    }

    /// The source of a setting, or of the secret in a variable; `None` for a default.
    pub(crate) fn source_of(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// Settings as TOML, each with its source in a comment.
    pub(crate) fn annotate(&self, settings: &str) -> String {
        let mut section = String::new();
        let mut text = String::new();
        for line in settings.lines() {
            let name = match line.strip_prefix('[') {
                Some(header) => {
                    section = header.trim_matches(['[', ']']).to_owned();
                    is_table_with_source(&section).then(|| section.clone())
                }
                None => line
                    .split_once(" = ")
                    .filter(|(name, _)| names_in_section(&section).contains(name))
                    .map(|(name, _)| format!("{section}.{name}")),
            };
            text.push_str(line);
            if let Some(name) = name {
                text.push_str("  # ");
                text.push_str(self.source_of(&name).unwrap_or("default"));
                if let Some(file) = self.overridden.get(&name) {
                    text.push_str(&format!(", not {file}"));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Whether a header names a list of tables that is one setting, or a table whose name the operator
/// chooses.
fn is_table_with_source(header: &str) -> bool {
    match header.split('.').collect::<Vec<_>>()[..] {
        [section, name] => names_in_section(section).contains(&name) || names_in_table(section).is_some(),
        _ => false,
    }
}

/// The settings that a file names and that do not exist: the path of the first one, and all paths
/// that it may stand for.
pub(crate) fn find_unknown_setting(file: &toml::Table) -> Option<(String, Vec<String>)> {
    for (section, values) in file {
        if !section_names().contains(&section.as_str()) {
            // It may be a setting without its section.
            let sections = section_names().iter().map(|name| (*name).to_owned());
            return Some((section.clone(), sections.chain(setting_names()).collect()));
        }
        let known = names_in_section(section);
        let is_unknown = |name: &&String| !known.is_empty() && !known.contains(&name.as_str());
        if let Some(name) = values.as_table().into_iter().flat_map(toml::Table::keys).find(is_unknown) {
            let all = section_names().iter().flat_map(|section| {
                names_in_section(section).iter().map(move |name| format!("{section}.{name}"))
            });
            return Some((format!("{section}.{name}"), all.collect()));
        }
    }
    None
}

/// The variables of plain settings whose text is no value of the kind that the default has.
///
/// `1.5` or `true` for a number would otherwise be rounded, and `1` for a switch would be `true`.
pub(crate) fn find_wrong_kind(env: &EnvVars, defaults: &toml::Table) -> Option<(String, &'static str)> {
    let mut settings = Vec::new();
    for (section, values) in defaults {
        for (name, default) in values.as_table().into_iter().flatten() {
            settings.push((variable_of(&format!("{section}.{name}")), default));
        }
    }
    settings.into_iter().find_map(|(name, default)| {
        let (name, text) =
            env.iter().find(|(given, text)| !text.is_empty() && given.eq_ignore_ascii_case(&name))?;
        let problem = match default {
            toml::Value::Integer(_) if text.parse::<u64>().is_err() => "must be a whole number",
            toml::Value::Boolean(_) if text.parse::<bool>().is_err() => "must be true or false",
            _ => return None,
        };
        Some((name.clone(), problem))
    })
}
