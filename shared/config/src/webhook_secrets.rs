//! What webhooks are signed with, as Standard Webhooks writes it: `whsec_` and base64.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::WebhookEndpoint;
use crate::telemetry::HiddenValue;

/// The secrets there are; each signs. The bytes never show.
#[derive(Debug, Clone, Default)]
pub struct WebhookSecrets(Vec<HiddenValue<Vec<u8>>>);

impl WebhookSecrets {
    /// Reads secrets separated by commas or white space, each `whsec_` and base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// Which one is wrong, by its place, never by what it is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = text.split([',', ' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
        let secrets: Vec<_> = words
            .enumerate()
            .map(|(place, word)| {
                let wrong = |what| format!("holds a secret, number {}, that {what}", place + 1);
                let encoded =
                    word.strip_prefix("whsec_").ok_or_else(|| wrong("does not begin with whsec_"))?;
                let bytes = STANDARD.decode(encoded).map_err(|_| wrong("is not base64 after whsec_"))?;
                let different = bytes.iter().collect::<std::collections::HashSet<_>>().len();
                if !(24..=64).contains(&bytes.len()) || different < 10 {
                    return Err(wrong(
                        "is not 24 to 64 random bytes; make one with: echo whsec_$(openssl rand -base64 32)",
                    ));
                }
                Ok(HiddenValue(bytes))
            })
            .collect::<Result<_, String>>()?;
        if secrets.len() > 4 {
            return Err("holds more than 4 secrets".to_owned());
        }
        Ok(Self(secrets))
    }

    /// Each secret.
    pub fn expose(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|secret| &secret.0[..])
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The secrets of all endpoints.
#[derive(Debug, Clone, Default)]
pub struct EndpointSecrets {
    /// Of those that have none of their own.
    pub shared_secrets: WebhookSecrets,
    /// The others, by the environment variable they are from.
    pub by_variable: BTreeMap<String, WebhookSecrets>,
}

impl EndpointSecrets {
    /// What an endpoint is signed with; none where nothing is set.
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
    use super::*;

    #[test]
    fn a_webhook_secret_needs_its_prefix_and_random_bytes() {
        let good = format!("whsec_{}", STANDARD.encode((0..32).collect::<Vec<u8>>()));
        let two = WebhookSecrets::parse(&format!("{good},\n {good}")).unwrap();
        assert_eq!(two.expose().count(), 2);
        assert!(!format!("{two:?}").contains("31"));
        let short = format!("whsec_{}", STANDARD.encode((0..23).collect::<Vec<u8>>()));
        let flat = format!("whsec_{}", STANDARD.encode([7; 32]));
        for bad in [&good[6..], "whsec_###", &*short, &*flat] {
            let error = WebhookSecrets::parse(&format!("{good} {bad}")).unwrap_err();
            assert!(error.contains("number 2") && !error.contains(bad), "{error}");
        }
    }
}
