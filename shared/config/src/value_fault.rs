//! What is wrong with the value of a setting, in the words of the documents. The parsers name types
//! of Rust instead, and no setting.
//!
//! Owns: the search for the setting at fault, and the text about it. Must not: know the bounds of a
//! setting (`checks`), or repeat a value of unknown content.

use crate::{ConfigError, ServiceSettings, setting_names::names_in_table};

/// Finds the first setting of a file whose value has the wrong form.
///
/// `file` begins the text, like `signalbox.toml: `.
pub(crate) fn find_value_fault(settings: &toml::Table, file: &str) -> Option<ConfigError> {
    let (name, rule) = settings.iter().find_map(|(section, value)| find_in_section(section, value))?;
    Some(value_error(&format!("{file}{name}"), rule))
}

/// The text about the value of a variable, of which the parser of variables gave this message.
pub(crate) fn variable_fault(variable: &str, message: &str, settings: &toml::Table) -> ConfigError {
    // This message does not name the known values.
    let rule = if message.contains("does not have variant") {
        settings.iter().find_map(|(section, value)| find_in_section(section, value)).map(|(_, rule)| rule)
    } else {
        None
    };
    let setting = crate::setting_names::setting_names()
        .into_iter()
        .find(|name| crate::variable_names::variable_of(name).eq_ignore_ascii_case(variable));
    let rule = rule.unwrap_or_else(|| {
        let message = message.split(" for key `").next().unwrap_or(message);
        value_rule(message, setting.as_deref().unwrap_or_default(), false)
    });
    value_error(variable, rule)
}

/// A text about a value: a rule that continues the sentence, or a remark of its own.
enum ValueRule {
    Sentence(String),
    Remark(String),
}

fn value_error(setting: &str, rule: ValueRule) -> ConfigError {
    match rule {
        ValueRule::Sentence(rule) => ConfigError::invalid_setting(setting, rule),
        ValueRule::Remark(remark) => ConfigError::invalid_setting(format!("{setting}:"), remark),
    }
}

/// The setting of a section whose value alone is refused, and why.
fn find_in_section(section: &str, value: &toml::Value) -> Option<(String, ValueRule)> {
    let Some(table) = value.as_table() else {
        return Some((section.to_owned(), ValueRule::Sentence(format!("must be a table: [{section}]"))));
    };
    table.iter().find_map(|(name, value)| {
        let path = format!("{section}.{name}");
        // In these sections the operator chooses the names of the tables.
        if names_in_table(section).is_some() {
            let mut inner = value.as_table().into_iter().flatten();
            let fault = inner.find_map(|(key, value)| {
                let path = format!("{path}.{key}");
                let names = names_in_table(section).unwrap_or_default();
                names.contains(&key.as_str()).then(|| find_fault(&path, value)).flatten()
            });
            if fault.is_some() {
                return fault;
            }
        }
        find_fault(&path, value)
    })
}

/// Why settings with this one value alone are refused.
fn find_fault(path: &str, value: &toml::Value) -> Option<(String, ValueRule)> {
    let settings = path.rsplit('.').fold(value.clone(), |inner, key| {
        toml::Value::Table(toml::Table::from_iter([(key.to_owned(), inner)]))
    });
    let error = settings.try_into::<ServiceSettings>().err()?;
    Some((path.to_owned(), value_rule(error.message(), path, value.is_array())))
}

/// The rule behind a message of serde.
fn value_rule(message: &str, setting: &str, is_list: bool) -> ValueRule {
    let message = message.replace('\n', " ");
    if message.contains("socket address") {
        return ValueRule::Sentence(format!("must be an address and a port{}", example_of(setting)));
    }
    if message.contains("string or table") {
        return ValueRule::Sentence(format!("must be {}", kind_text("a string", setting, false)));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return ValueRule::Sentence(format!("needs {name}"));
    }
    for (start, kind) in [("unknown variant ", "value"), ("unknown field ", "name")] {
        let found = message.strip_prefix(start).and_then(|rest| rest.split_once(", expected "));
        if let Some((name, known)) = found {
            let known = known.strip_prefix("one of ").unwrap_or(known);
            return ValueRule::Sentence(format!("has the unknown {kind} {name}; known are {known}"));
        }
    }
    let is_of_serde = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .any(|start| message.starts_with(start));
    match message.rsplit_once("expected ") {
        Some((_, expected)) if is_of_serde => {
            ValueRule::Sentence(format!("must be {}", kind_text(expected, setting, is_list)))
        }
        _ => ValueRule::Remark(message),
    }
}

fn kind_text(expected: &str, setting: &str, is_list: bool) -> String {
    let kind = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" | "an integer" => "a whole number",
        "a boolean" => return "true or false".to_owned(),
        "a string" => "a text in quotes",
        "a sequence" | "an array" => return "a list".to_owned(),
        _ if is_list => return format!("a list of tables: [[{setting}]]"),
        "a map" => return format!("a table: [{setting}]"),
        _ if expected.starts_with("struct ") => return format!("a table: [{setting}]"),
        other => other,
    };
    format!("{kind}{}", example_of(setting))
}

/// The default of a setting, as an example of its form.
fn example_of(setting: &str) -> String {
    let defaults = toml::Table::try_from(ServiceSettings::default()).unwrap_or_default();
    let default = setting.split_once('.').and_then(|(section, name)| defaults.get(section)?.get(name));
    default.map_or(String::new(), |default| format!(", like {default}"))
}
