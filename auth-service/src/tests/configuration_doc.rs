//! Compares docs/CONFIGURATION.md with the settings.

use serde_json::Value;
use signalbox_config::ServiceSettings;

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
fn every_secret_and_flag_is_documented() {
    for name in [
        "AUTH_SECRET",
        "AUTH_SECRET_PREVIOUS",
        "SIGNALBOX_API_KEYS",
        "SIGNALBOX_WEBHOOK_SECRETS",
        "SIGNALBOX_USER_SECRET",
        "REDIS_URL",
        "SIGNALBOX_LISTEN",
        "--listen",
        "--redis",
        "--config",
        "--check-config",
        "--guests",
    ] {
        assert!(DOC.contains(&format!("`{name}")), "{name}");
    }
}
