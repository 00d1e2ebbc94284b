//! Files with certificates and private keys in PEM form (RFC 7468).
//!
//! Owns: that such a file can be read and has the form. Must not: check a certificate; TLS does.

use std::path::Path;

use base64::Engine as _;

use crate::{ConfigError, error::ensure_setting};

/// Checks a file with certificates, if a setting names one.
pub(super) fn check_certificates(setting: &str, path: Option<&Path>) -> Result<(), ConfigError> {
    let Some(path) = path else { return Ok(()) };
    ensure_setting(
        contains_blocks(&read_file(setting, path)?, |label| label == "CERTIFICATE"),
        setting,
        "names a file without a certificate in PEM form (RFC 7468)",
    )
}

/// Checks a file with a private key, if a setting names one.
pub(super) fn check_private_key(setting: &str, path: Option<&Path>) -> Result<(), ConfigError> {
    let Some(path) = path else { return Ok(()) };
    let labels = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
    ensure_setting(
        contains_blocks(&read_file(setting, path)?, |label| labels.contains(&label)),
        setting,
        "names a file without an unencrypted private key in PEM form (RFC 7468)",
    )
}

fn read_file(setting: &str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::invalid_setting(setting, format!("cannot be read: {error}")))
}

/// Whether the text has at least one block with such a label, and each is base64 of a DER sequence.
fn contains_blocks(text: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
    let mut found = false;
    for part in text.split("-----BEGIN ").skip(1) {
        let Some((label, rest)) = part.split_once("-----") else { return false };
        if !is_wanted(label) {
            continue;
        }
        let body = rest.split_once(&format!("-----END {label}-----")).map_or("", |(body, _)| body);
        let body: String = body.split_ascii_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(body);
        if !der.is_ok_and(|der| der.first() == Some(&0x30)) {
            return false;
        }
        found = true;
    }
    found
}
