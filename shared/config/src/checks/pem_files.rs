//! Files with certificates and private keys in PEM form (RFC 7468).
//!
//! Owns: that such a file can be read and has the form. Must not: check a certificate; TLS does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use signalbox_protocol::file_text::{NOT_UTF8, trim_marks};

use crate::{ConfigError, ServiceSettings, error::ensure_setting};
use sha2::{Digest as _, Sha256};

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
    let bytes = std::fs::read(path)
        .map_err(|error| ConfigError::invalid_setting(setting, format!("cannot be read: {error}")))?;
    canonical_pem(&bytes)
        .map_err(|problem| ConfigError::invalid_setting(setting, format!("names a file that {problem}")))
}

/// A digest of the content of each such file, by its setting.
pub(crate) type PemDigests = BTreeMap<&'static str, [u8; 32]>;

/// The digests of the files that the settings name now. A file that cannot be read has none.
pub(crate) fn read_pem_digests(settings: &ServiceSettings) -> PemDigests {
    let (redis, client) = (&settings.redis, &settings.http_client);
    let files = [
        ("redis.ca_file", &redis.ca_file),
        ("redis.cert_file", &redis.cert_file),
        ("redis.key_file", &redis.key_file),
        ("http_client.ca_file", &client.ca_file),
    ];
    let digest = |(setting, path): (&'static str, &Option<PathBuf>)| {
        let bytes = std::fs::read(path.as_ref()?).ok()?;
        Some((setting, Sha256::digest(bytes).into()))
    };
    files.into_iter().filter_map(digest).collect()
}

/// The text of a PEM file, without byte order marks, carriage returns, and white space around its
/// lines. Without that, TLS would find no block where an editor or a shell has added such a
/// character.
///
/// # Errors
/// The bytes are no text in UTF-8.
pub fn canonical_pem(bytes: &[u8]) -> Result<String, &'static str> {
    // A comment between the blocks may have another encoding.
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') {
        return Err(NOT_UTF8);
    }
    Ok(trim_marks(&text).lines().flat_map(|line| [trim_marks(line), "\n"]).collect())
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
