//! Why a configuration is rejected.
//!
//! Owns: [`ConfigError`] and the two functions with which a check returns it. Must not: know a
//! setting.

use std::ops::RangeInclusive;

/// Why a configuration is rejected: one line that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file or the environment cannot be parsed.
    #[error("configuration: {0}")]
    InvalidSource(#[from] config::ConfigError),
    /// A value is missing, or it was parsed and does not pass the checks.
    #[error("configuration: {setting} {problem}")]
    InvalidSetting {
        /// The name of the setting, the flag or the environment variable.
        setting: String,
        /// The error in the value and the value that would be right.
        problem: String,
    },
}

impl ConfigError {
    /// A wrong or missing value. `problem` continues a sentence that begins with the name of the
    /// setting.
    pub fn invalid_setting(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidSetting { setting: setting.into(), problem: problem.into() }
    }
}

/// Returns an error unless the condition is true.
pub(crate) fn ensure_setting(is_valid: bool, setting: &str, problem: &str) -> Result<(), ConfigError> {
    if is_valid { Ok(()) } else { Err(ConfigError::invalid_setting(setting, problem)) }
}

/// Returns an error unless the range contains the value.
pub(crate) fn ensure_within<T: PartialOrd>(
    value: T,
    range: RangeInclusive<T>,
    setting: &str,
    problem: &str,
) -> Result<(), ConfigError> {
    ensure_setting(range.contains(&value), setting, problem)
}
