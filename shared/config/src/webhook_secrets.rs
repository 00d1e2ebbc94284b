//! The secrets that sign webhooks, in the form of Standard Webhooks: `whsec_` and base64.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::WebhookEndpoint;
use signalbox_token::{SecretBytes, check_secret_strength};

/// At most four secrets; each signs every webhook, so that a receiver may still have an old one.
#[derive(Debug, Clone, Default)]
pub struct WebhookSecrets(Vec<SecretBytes>);

impl WebhookSecrets {
    /// Parses secrets that are separated by commas or white space, each `whsec_` and base64 of 24
    /// to 64 bytes.
    ///
    /// # Errors
    /// Says which secret is wrong, by its number, and never repeats it. The text continues a
    /// sentence that begins with the name of the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split([',', ' ', '\t', '\r', '\n']).filter(|part| !part.is_empty());
        let secrets: Vec<_> = parts
            .enumerate()
            .map(|(index, part)| {
                parse_secret(part).map_err(|problem| format!("number {} {problem}", index + 1))
            })
            .collect::<Result<_, String>>()?;
        if secrets.len() > 4 {
            return Err("contains more than 4 secrets".to_owned());
        }
        Ok(Self(secrets))
    }

    /// The bytes of each secret.
    pub fn expose(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(SecretBytes::expose)
    }

    /// Whether no secret is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_secret(text: &str) -> Result<SecretBytes, String> {
    let encoded = text.strip_prefix("whsec_").ok_or_else(|| "does not begin with whsec_".to_owned())?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "is not base64 after whsec_".to_owned())?;
    if bytes.len() > 64 {
        return Err("holds more than 64 bytes".to_owned());
    }
    check_secret_strength(encoded.as_bytes(), 24)
        .map_err(|why| format!("{why}; make one with: echo whsec_$(openssl rand -base64 32)"))?;
    Ok(SecretBytes::new(bytes))
}

/// The secrets of all endpoints.
#[derive(Debug, Clone, Default)]
pub struct EndpointSecrets {
    /// Sign for every endpoint without `secrets_env`.
    pub shared_secrets: WebhookSecrets,
    /// Sign for the endpoints whose `secrets_env` names this environment variable.
    pub by_variable: BTreeMap<String, WebhookSecrets>,
}

impl EndpointSecrets {
    /// The secrets that sign for an endpoint; `None` if they are not set.
    pub fn for_endpoint(&self, endpoint: &WebhookEndpoint) -> Option<&WebhookSecrets> {
        let secrets = match &endpoint.secrets_env {
            Some(name) => self.by_variable.get(name)?,
            None => &self.shared_secrets,
        };
        Some(secrets).filter(|secrets| !secrets.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn a_webhook_secret_needs_its_prefix_and_random_bytes() {
        let encode = |bytes: &[u8]| format!("whsec_{}", STANDARD.encode(bytes));
        let random = |bytes: usize| {
            let digest = Sha256::digest([bytes as u8]);
            encode(&digest[..bytes])
        };
        let good = random(32);
        let two = WebhookSecrets::parse(&format!("{good},\n {}", random(24))).unwrap();
        assert_eq!(two.expose().count(), 2);
        assert!(!format!("{two:?}").contains(&good[6..]));
        let (short, typed) = (random(23), encode(b"this is a text and not a random secret"));
        let uniform = encode(&[7; 32]);
        for bad in [&good[6..], "whsec_###", &*short, &*uniform, &*typed] {
            let error = WebhookSecrets::parse(&format!("{good} {bad}")).unwrap_err();
            assert!(error.contains("number 2") && !error.contains(bad), "{error}");
        }
        assert!(WebhookSecrets::parse(&[&*good; 4].join(",")).is_ok());
        assert!(WebhookSecrets::parse(&[&*good; 5].join(",")).is_err());
    }
}
