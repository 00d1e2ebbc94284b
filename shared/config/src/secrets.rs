//! The secrets of a process: from the environment, or from a file that a variable names.
//!
//! Owns: [`SecretSettings`]. Must not: read a secret from the configuration file, or print one.

use crate::{
    ApiKeys, CommonFlags, ConfigError, EndpointSecrets, EnvVars, RedisUrl, WebhookSecrets, WebhookSettings,
    environment::{SECRET_VARIABLES, TURN_SECRETS, canonical_secret, read_secret},
    error::ensure_setting,
    setting_sources::SettingSources,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use signalbox_token::{SecretBytes, SharedSecret};

/// All secrets of a process.
#[derive(Debug, Clone, Default)]
pub struct SecretSettings {
    /// Signs and verifies tokens (HS256).
    pub auth: Option<SharedSecret>,
    /// Still verifies tokens, during a rotation.
    pub auth_previous: Option<SharedSecret>,
    /// Seals resume handles (HMAC-SHA256). Unset: a key derived from `auth`.
    pub handle_key: Option<SharedSecret>,
    /// Still opens resume handles, during a rotation.
    pub handle_key_previous: Option<SharedSecret>,
    /// Signs the application's own tokens about its users (HS256); it signs no token of Signalbox.
    pub user_secret: Option<SharedSecret>,
    /// The first makes TURN credentials. The others are secrets that TURN servers also accept.
    pub turn_secrets: Vec<SharedSecret>,
    /// Authenticate the application backends.
    pub api_keys: ApiKeys,
    /// Sign webhooks.
    pub webhooks: EndpointSecrets,
    /// The shared store; its URL may contain a password.
    pub redis_url: Option<RedisUrl>,
}

impl SecretSettings {
    pub(crate) fn read_from_env(flags: &CommonFlags, env: &EnvVars) -> Result<Self, ConfigError> {
        let auth = read_shared_secret("AUTH_SECRET", env)?;
        let auth_previous = read_shared_secret("AUTH_SECRET_PREVIOUS", env)?;
        let handle_key = read_shared_secret("SIGNALBOX_SESSION_KEY", env)?;
        let handle_key_previous = read_shared_secret("SIGNALBOX_SESSION_KEY_PREVIOUS", env)?;
        ensure_setting(
            handle_key.is_some() || handle_key_previous.is_none(),
            "SIGNALBOX_SESSION_KEY_PREVIOUS",
            "is set without SIGNALBOX_SESSION_KEY; a rotation needs both",
        )?;
        let user_secret = read_shared_secret("SIGNALBOX_USER_SECRET", env)?;
        let turn_secrets =
            read_secret(TURN_SECRETS, env)?.map_or(Ok(Vec::new()), |text| parse_turn_secrets(&text))?;
        let api_keys = match read_secret("SIGNALBOX_API_KEYS", env)? {
            Some(text) => ApiKeys::parse(&text)
                .map_err(|problem| ConfigError::invalid_setting("SIGNALBOX_API_KEYS", problem))?,
            None => ApiKeys::default(),
        };
        let shared_secrets = read_webhook_secrets("SIGNALBOX_WEBHOOK_SECRETS", env)?.unwrap_or_default();
        let webhooks = EndpointSecrets { shared_secrets, ..EndpointSecrets::default() };
        let redis_url = match &flags.redis {
            Some(url) => {
                let url = canonical_secret(url);
                Some(url.map_err(|problem| ConfigError::invalid_setting("--redis", problem))?)
            }
            None => read_secret("REDIS_URL", env)?,
        };
        let redis_url = redis_url
            .map(|url| RedisUrl::parse(&url))
            .transpose()
            .map_err(|problem| ConfigError::invalid_setting("REDIS_URL", problem))?;
        Ok(Self {
            auth,
            auth_previous,
            handle_key,
            handle_key_previous,
            user_secret,
            turn_secrets,
            api_keys,
            webhooks,
            redis_url,
        })
    }

    /// Reads the secrets that single endpoints have. A missing variable is not an error here,
    /// because only the auth service needs it.
    pub(crate) fn read_endpoint_secrets(
        &mut self,
        webhooks: &WebhookSettings,
        env: &EnvVars,
    ) -> Result<(), ConfigError> {
        for name in webhooks.endpoints.iter().filter_map(|endpoint| endpoint.secrets_env.as_ref()) {
            if let Some(secrets) = read_webhook_secrets(name, env)? {
                self.webhooks.by_variable.insert(name.clone(), secrets);
            }
        }
        Ok(())
    }

    /// Checks that no two secrets are the same: the owner of one would have the rights of the other.
    pub(crate) fn check_distinct(&self) -> Result<(), ConfigError> {
        let shared = [
            ("AUTH_SECRET", &self.auth),
            ("AUTH_SECRET_PREVIOUS", &self.auth_previous),
            ("SIGNALBOX_SESSION_KEY", &self.handle_key),
            ("SIGNALBOX_SESSION_KEY_PREVIOUS", &self.handle_key_previous),
            ("SIGNALBOX_USER_SECRET", &self.user_secret),
        ];
        let digest = |bytes: &[u8]| -> [u8; 32] { Sha256::digest(bytes).into() };
        let mut digests: Vec<(String, [u8; 32])> = Vec::new();
        for (name, secret) in shared {
            digests.extend(secret.iter().map(|secret| (name.to_owned(), digest(secret.expose()))));
        }
        for (index, secret) in self.turn_secrets.iter().enumerate() {
            digests.push((format!("number {} of {TURN_SECRETS}", index + 1), digest(secret.expose())));
        }
        for (id, digest) in self.api_keys.digests() {
            digests.push((format!("the key `{id}` of SIGNALBOX_API_KEYS"), digest));
        }
        let by_variable = self.webhooks.by_variable.iter().map(|(name, secrets)| (name.as_str(), secrets));
        for (name, secrets) in
            by_variable.chain([("SIGNALBOX_WEBHOOK_SECRETS", &self.webhooks.shared_secrets)])
        {
            for (index, secret) in secrets.expose().enumerate() {
                let name = format!("number {} of {name}", index + 1);
                digests.push((name, digest(STANDARD.encode(secret).as_bytes())));
            }
        }
        for (index, (name, digest)) in digests.iter().enumerate() {
            if let Some((other, _)) = digests[..index].iter().find(|(_, other)| other == digest) {
                return Err(ConfigError::invalid_setting(
                    name,
                    format!("is the same as {other}; use another value"),
                ));
            }
        }
        Ok(())
    }

    /// The variables whose secrets differ. Secrets that webhook endpoints name count as
    /// `SIGNALBOX_WEBHOOK_SECRETS`.
    pub(crate) fn changed_variables(&self, other: &Self) -> Vec<&'static str> {
        SECRET_VARIABLES.into_iter().filter(|name| self.exposed(name) != other.exposed(name)).collect()
    }

    /// These secrets, with those of `next` that a reload may change.
    pub(crate) fn with_reloaded(&self, next: &Self) -> Self {
        Self {
            user_secret: next.user_secret.clone(),
            turn_secrets: next.turn_secrets.clone(),
            api_keys: next.api_keys.clone(),
            webhooks: next.webhooks.clone(),
            ..self.clone()
        }
    }

    /// The parts of the secrets in this variable, to compare them.
    fn exposed(&self, variable: &str) -> Vec<Vec<u8>> {
        let bytes = |secrets: &mut dyn Iterator<Item = &SharedSecret>| -> Vec<Vec<u8>> {
            secrets.map(|secret| secret.expose().to_vec()).collect()
        };
        match variable {
            "AUTH_SECRET" => bytes(&mut self.auth.iter()),
            "AUTH_SECRET_PREVIOUS" => bytes(&mut self.auth_previous.iter()),
            "SIGNALBOX_SESSION_KEY" => bytes(&mut self.handle_key.iter()),
            "SIGNALBOX_SESSION_KEY_PREVIOUS" => bytes(&mut self.handle_key_previous.iter()),
            "SIGNALBOX_USER_SECRET" => bytes(&mut self.user_secret.iter()),
            TURN_SECRETS => bytes(&mut self.turn_secrets.iter()),
            "SIGNALBOX_API_KEYS" => {
                let keys = self.api_keys.digests();
                keys.flat_map(|(id, digest)| [id.as_bytes().to_vec(), digest.to_vec()]).collect()
            }
            "SIGNALBOX_WEBHOOK_SECRETS" => {
                let own = self.webhooks.by_variable.iter().flat_map(|(name, secrets)| {
                    [name.as_bytes()].into_iter().chain(secrets.expose()).map(<[u8]>::to_vec)
                });
                self.webhooks.shared_secrets.expose().map(<[u8]>::to_vec).chain(own).collect()
            }
            _ => self.redis_url.iter().map(|url| url.expose().as_bytes().to_vec()).collect(),
        }
    }

    /// Comment lines for `--check-config` that say which secrets are set, and where.
    pub(crate) fn describe(&self, sources: &SettingSources) -> String {
        let line = |name: &&str| {
            let source = sources.source_of(name).map_or(String::new(), |source| format!("  ({source})"));
            format!("# {name}: {}{source}\n", self.describe_variable(name))
        };
        SECRET_VARIABLES.iter().map(line).collect()
    }

    fn describe_variable(&self, name: &str) -> String {
        let secrets = self.exposed(name).len();
        match name {
            "SIGNALBOX_SESSION_KEY" if secrets == 0 && self.auth.is_some() => {
                "derived from AUTH_SECRET".to_owned()
            }
            TURN_SECRETS => secrets.to_string(),
            "SIGNALBOX_API_KEYS" if secrets > 0 => self.api_keys.describe(),
            "REDIS_URL" => self.redis_url.as_ref().map_or("not set".to_owned(), RedisUrl::describe),
            _ if secrets > 0 => "set".to_owned(),
            _ => "not set".to_owned(),
        }
    }
}

fn read_shared_secret(name: &str, env: &EnvVars) -> Result<Option<SharedSecret>, ConfigError> {
    let Some(text) = read_secret(name, env)? else { return Ok(None) };
    let problem = |weak| format!("{weak}; make one with: openssl rand -base64 48");
    SharedSecret::new(SecretBytes::new(text))
        .map(Some)
        .map_err(|weak| ConfigError::invalid_setting(name, problem(weak)))
}

fn parse_turn_secrets(text: &str) -> Result<Vec<SharedSecret>, ConfigError> {
    let parts = text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|part| !part.is_empty());
    let parse = |(index, part): (usize, &str)| {
        let problem = |weak| format!("number {} {weak}; make one with: openssl rand -hex 32", index + 1);
        SharedSecret::new(SecretBytes::new(part))
            .map_err(|weak| ConfigError::invalid_setting(TURN_SECRETS, problem(weak)))
    };
    parts.enumerate().map(parse).collect()
}

fn read_webhook_secrets(name: &str, env: &EnvVars) -> Result<Option<WebhookSecrets>, ConfigError> {
    let secrets = read_secret(name, env)?.map(|text| WebhookSecrets::parse(&text)).transpose();
    secrets.map_err(|problem| ConfigError::invalid_setting(name, problem))
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::id::random_hex;

    use super::*;

    #[test]
    fn every_turn_secret_of_the_list_is_checked() {
        let strong = || format!("{}{}", random_hex(), random_hex());
        let (a, b) = (strong(), strong());
        assert_eq!(parse_turn_secrets(&format!("{a}, {b}\n")).unwrap().len(), 2);
        for (text, expected) in [(format!("{a},short"), "number 2"), (format!("{b} {a} 12345"), "number 3")] {
            let error = parse_turn_secrets(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains(&a), "{error}");
        }
    }

    #[test]
    fn no_two_secrets_may_be_the_same() {
        let digest = |text: &str| -> String {
            Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        // The text that each variable holds for one secret.
        type Form = fn(&str) -> String;
        let forms: [(&str, Form); 8] = [
            ("AUTH_SECRET", str::to_owned),
            ("AUTH_SECRET_PREVIOUS", str::to_owned),
            ("SIGNALBOX_SESSION_KEY", str::to_owned),
            ("SIGNALBOX_SESSION_KEY_PREVIOUS", str::to_owned),
            ("SIGNALBOX_USER_SECRET", str::to_owned),
            ("SIGNALBOX_TURN_SECRETS", str::to_owned),
            ("SIGNALBOX_API_KEYS", |text| format!("shop:{text}")),
            ("SIGNALBOX_WEBHOOK_SECRETS", |text| format!("whsec_{text}")),
        ];
        let random = || {
            let bytes = Sha256::digest(random_hex());
            STANDARD.encode(bytes)
        };
        let check = |values: &[(&str, String)]| {
            let mut env: EnvVars =
                values.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
            // The previous session key needs a current one.
            env.entry("SIGNALBOX_SESSION_KEY".to_owned()).or_insert_with(random);
            SecretSettings::read_from_env(&CommonFlags::default(), &env)?.check_distinct()
        };
        let same = random();
        for (index, (first, first_form)) in forms.iter().enumerate() {
            for (second, second_form) in &forms[index + 1..] {
                let error = check(&[(first, first_form(&same)), (second, second_form(&same))]).unwrap_err();
                let error = error.to_string();
                assert!(error.contains(first) && error.contains(second) && !error.contains(&same), "{error}");
                assert!(check(&[(first, first_form(&same)), (second, second_form(&random()))]).is_ok());
            }
        }
        for (name, text) in [
            ("SIGNALBOX_TURN_SECRETS", format!("{same} {same}")),
            ("SIGNALBOX_API_KEYS", format!("a:{same} b:{same}")),
            ("SIGNALBOX_API_KEYS", format!("a:{same} b:sha256={}", digest(&same))),
            ("SIGNALBOX_WEBHOOK_SECRETS", format!("whsec_{same} whsec_{same}")),
        ] {
            assert!(check(&[(name, text)]).unwrap_err().to_string().contains(name), "{name}");
        }
    }

    #[test]
    fn a_value_and_a_file_together_are_rejected() {
        let env = [("AUTH_SECRET", "x"), ("AUTH_SECRET_FILE", "/y")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let error = SecretSettings::read_from_env(&CommonFlags::default(), &env).unwrap_err();
        assert!(error.to_string().contains("both set"), "{error}");
    }
}
