//! Compares docs/CONFIGURATION.md with the settings.

use serde_json::Value;
use signalbox_config::{SECRET_VARIABLES, ServiceSettings, TakesEffect, setting_names, takes_effect};

const DOC: &str = include_str!("../../../docs/CONFIGURATION.md");

#[test]
fn every_setting_is_documented_with_its_default() {
    let settings = serde_json::to_value(ServiceSettings::default()).unwrap();
    for (section, members) in settings.as_object().unwrap() {
        assert!(DOC.contains(&format!("`[{section}]`")), "section {section}");
        for (name, default) in members.as_object().unwrap() {
            // The operator chooses the names of roles.
            let setting =
                if section == "roles" { format!("`{name}`") } else { format!("`{section}.{name}`") };
            let row = DOC.lines().find(|line| line.starts_with(&format!("| {setting} |")));
            let row = row.unwrap_or_else(|| panic!("{setting} has no row"));
            let default = match if section == "roles" { &default["permissions"] } else { default } {
                Value::Null => "unset".to_owned(),
                Value::Array(list) if list.is_empty() => "none".to_owned(),
                Value::Array(list) => {
                    list.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
                }
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let cell = row.split('|').nth(2).map(str::trim);
            assert_eq!(cell, Some(&*format!("`{default}`")), "{row}");
        }
    }
}

#[test]
fn every_setting_and_secret_is_documented_with_the_time_of_its_effect() {
    let effect_of = |name: &str| match takes_effect(name) {
        TakesEffect::Reload => "reload",
        TakesEffect::Restart => "restart",
    };
    let row_of = |name: &str| DOC.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
    for name in setting_names() {
        if !name.contains('.') {
            let section = DOC.split(&format!("## `[{name}]`")).nth(1).unwrap();
            let effect = format!("Takes effect at a {}.", effect_of(&name));
            assert!(section.trim_start().starts_with(&effect), "[{name}] does not begin with: {effect}");
            continue;
        }
        let row = row_of(&name).unwrap_or_else(|| panic!("{name} has no row"));
        assert_eq!(row.split('|').nth(3).map(str::trim), Some(effect_of(&name)), "{row}");
    }
    for name in SECRET_VARIABLES {
        let row = row_of(name).unwrap_or_else(|| panic!("{name} has no row"));
        assert_eq!(row.split('|').nth(2).map(str::trim), Some(effect_of(name)), "{row}");
    }
}

#[test]
fn every_flag_is_documented() {
    for name in
        ["SIGNALBOX_LISTEN", "--listen", "--redis", "--config", "--check-config", "--workers", "--guests"]
    {
        assert!(DOC.contains(&format!("`{name}")), "{name}");
    }
}
