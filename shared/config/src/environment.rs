//! The environment variables of a process, and values that come from a variable or from a file.

use std::collections::HashMap;

use crate::ConfigError;

/// The environment variables as they were at the start: name and value.
pub type EnvVars = HashMap<String, String>;

/// The value of the variable. An empty value counts as not set, because Compose passes an unset
/// variable as an empty one.
pub(crate) fn variable<'a>(name: &str, env: &'a EnvVars) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// The value of `NAME`, or the content of the file that `NAME_FILE` names, without line breaks at
/// its end.
///
/// # Errors
/// Both variables are set, or the file cannot be read.
pub(crate) fn read_value_or_file(name: &str, env: &EnvVars) -> Result<Option<String>, ConfigError> {
    let file_name = format!("{name}_FILE");
    let text = match (variable(name, env), variable(&file_name, env)) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::invalid_setting(
                name,
                format!("and {file_name} are both set; keep one"),
            ));
        }
        (Some(text), None) => text.to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| ConfigError::invalid_setting(file_name, format!("cannot be read: {error}")))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        (None, None) => return Ok(None),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}
