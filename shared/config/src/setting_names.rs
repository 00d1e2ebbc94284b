//! The names of all settings, as serde knows them: no list can forget a setting.
//!
//! Owns: [`setting_names`], and the suggestion for a misspelt name. Must not: know a value.

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor, value::Error},
    forward_to_deserialize_any,
};

use crate::{
    ApiKeySettings, AuthSettings, HttpClientSettings, IceSettings, LimitSettings, LogSettings, RedisSettings,
    RoleTemplate, RoomDefaults, ServerSettings, ServiceSettings, TimingSettings, UsageSettings,
    WebhookSettings,
};

/// The names of the fields of a struct.
pub(crate) fn field_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The deserializer has no value, so it always ends with an error.
    let _ = T::deserialize(NameReader(&mut names));
    names
}

struct NameReader<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for NameReader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only names are read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("only names are read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The sections of the configuration.
pub(crate) fn section_names() -> &'static [&'static str] {
    field_names::<ServiceSettings>()
}

/// The settings of a section. The operator chooses the names in `api_keys` and `roles`, so these
/// have no fixed settings.
pub(crate) fn names_in_section(section: &str) -> &'static [&'static str] {
    match section {
        "server" => field_names::<ServerSettings>(),
        "auth" => field_names::<AuthSettings>(),
        "rooms" => field_names::<RoomDefaults>(),
        "ice" => field_names::<IceSettings>(),
        "limits" => field_names::<LimitSettings>(),
        "timing" => field_names::<TimingSettings>(),
        "redis" => field_names::<RedisSettings>(),
        "http_client" => field_names::<HttpClientSettings>(),
        "webhooks" => field_names::<WebhookSettings>(),
        "usage" => field_names::<UsageSettings>(),
        "log" => field_names::<LogSettings>(),
        _ => &[],
    }
}

/// The settings in each table of a section whose names the operator chooses; `None` for any other
/// section.
pub(crate) fn names_in_table(section: &str) -> Option<&'static [&'static str]> {
    match section {
        "api_keys" => Some(field_names::<ApiKeySettings>()),
        "roles" => Some(field_names::<RoleTemplate>()),
        _ => None,
    }
}

/// Every setting as `section.name`, and the sections `api_keys` and `roles` by their name alone.
pub fn setting_names() -> Vec<String> {
    section_names()
        .iter()
        .flat_map(|section| match names_in_section(section) {
            [] => vec![(*section).to_owned()],
            names => names.iter().map(|name| format!("{section}.{name}")).collect(),
        })
        .collect()
}

/// The name that a misspelt one most likely stands for.
pub(crate) fn nearest_name<'a>(
    misspelt: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Option<&'a str> {
    let misspelt = comparable(misspelt);
    let similarity = |name: &str| {
        let name = comparable(name);
        let last = name.rsplit(['.', ' ']).next().unwrap_or_default();
        let whole = strsim::normalized_damerau_levenshtein(&misspelt, &name);
        // A name without its section is less alike than a whole one.
        whole.max(0.9 * strsim::normalized_damerau_levenshtein(&misspelt, last))
    };
    names
        .into_iter()
        .map(|name| (similarity(name), name))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(similarity, _)| *similarity > 0.5)
        .map(|(_, name)| name.as_str())
}

/// The part of a name that tells it from others: all variables begin alike.
fn comparable(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.trim_start_matches("signalbox").trim_start_matches('_').replace("__", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_has_its_names() {
        for section in section_names() {
            assert!(
                !names_in_section(section).is_empty() || names_in_table(section).is_some(),
                "the section {section} has no names here"
            );
        }
        let names = setting_names();
        for name in ["server.listen", "server.metrics_listen", "rooms.creator_role", "limits.burst", "roles"]
        {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let names = setting_names();
        assert_eq!(nearest_name("limits.burts", &names), Some("limits.burst"));
        assert_eq!(nearest_name("server.allowed_origin", &names), Some("server.allowed_origins"));
        assert_eq!(nearest_name("x", &names), None);
    }
}
