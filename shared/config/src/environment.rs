//! The environment variables of a process, and secrets that come from a variable or from a file.

use std::collections::HashMap;

use crate::ConfigError;
use signalbox_protocol::file_text::{NOT_UTF8, trim_marks};

/// The variable of the TURN secrets.
pub(crate) const TURN_SECRETS: &str = "SIGNALBOX_TURN_SECRETS";

/// The variables of all secrets, apart from those that webhook endpoints name. Each may be given as
/// `NAME_FILE` instead.
pub const SECRET_VARIABLES: [&str; 9] = [
    "AUTH_SECRET",
    "AUTH_SECRET_PREVIOUS",
    "SIGNALBOX_SESSION_KEY",
    "SIGNALBOX_SESSION_KEY_PREVIOUS",
    "SIGNALBOX_USER_SECRET",
    TURN_SECRETS,
    "SIGNALBOX_API_KEYS",
    "SIGNALBOX_WEBHOOK_SECRETS",
    "REDIS_URL",
];

/// The environment variables as they were at the start: name and value.
pub type EnvVars = HashMap<String, String>;

/// The value of the variable. An empty value counts as not set, because Compose passes an unset
/// variable as an empty one.
pub(crate) fn variable<'a>(name: &str, env: &'a EnvVars) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// The environment variables of this process. Bytes that are not UTF-8 become U+FFFD, which no
/// secret may contain.
pub(crate) fn process_environment() -> EnvVars {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}

/// The secret in `NAME`, or in the file that `NAME_FILE` names. A byte order mark at the start and
/// white space at both ends do not belong to it: editors and shells add them.
///
/// # Errors
/// Both variables are set, the file cannot be read, or a character inside cannot be typed on
/// purpose.
pub fn read_secret(name: &str, env: &EnvVars) -> Result<Option<String>, ConfigError> {
    let file_name = format!("{name}_FILE");
    let (source, text) = match (variable(name, env), variable(&file_name, env)) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::invalid_setting(
                name,
                format!("and {file_name} are both set; keep one"),
            ));
        }
        (Some(text), None) => (name, text.to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read(path).map_err(|error| {
                ConfigError::invalid_setting(&file_name, format!("cannot be read: {error}"))
            })?;
            (file_name.as_str(), String::from_utf8_lossy(&text).into_owned())
        }
        (None, None) => return Ok(None),
    };
    let secret = canonical_secret(&text).map_err(|problem| ConfigError::invalid_setting(source, problem))?;
    Ok(Some(secret).filter(|secret| !secret.is_empty()))
}

/// A secret without the byte order mark and the white space around it; a line ends with a line
/// feed.
///
/// # Errors
/// It contains a character that is invisible or no text, so another program would read another
/// secret.
pub fn canonical_secret(text: &str) -> Result<String, &'static str> {
    let secret = trim_marks(text).replace("\r\n", "\n");
    // NUL is every second byte of UTF-16, which some shells write.
    if secret.contains(['\0', char::REPLACEMENT_CHARACTER]) {
        return Err(NOT_UTF8);
    }
    // A list has line breaks and tabs between its secrets.
    let is_invisible =
        |c: char| c == '\u{feff}' || (c.is_control() || c.is_whitespace()) && !" \t\n".contains(c);
    if secret.contains(is_invisible) {
        return Err("contains an invisible character; write the secret again, in ASCII");
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_white_space_around_a_secret_do_not_belong_to_it() {
        for text in [
            "k",
            "\u{feff}k",
            "k\n",
            "k\r\n",
            " k ",
            "\tk\u{a0}",
            "\u{feff}k\u{feff}\r\n",
            "k\u{2028}",
            "k\r",
        ] {
            assert_eq!(canonical_secret(text).as_deref(), Ok("k"), "{text:?}");
        }
        for text in ["k\u{feff}k", "k\u{a0}k", "k\u{7f}k", "k\0k", "\u{fffd}k", "k\u{1b}[0m", "k\rk"] {
            assert!(canonical_secret(text).is_err(), "{text:?}");
        }
        assert_eq!(canonical_secret("a b\r\n\tc\r\n").as_deref(), Ok("a b\n\tc"), "a list of secrets");
        assert_eq!(canonical_secret(" \u{feff}\r\n").as_deref(), Ok(""));
    }
}
