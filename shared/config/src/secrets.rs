//! Secrets: from the environment or from a file it names, never from the configuration file, never printed.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{CommonFlags, ConfigError, EndpointSecrets, EnvVars, RedisUrl, WebhookSecrets, WebhookSettings};
use signalbox_token::{SecretBytes, SharedSecret};

/// Everything that must not be printed.
#[derive(Debug, Clone, Default)]
pub struct SecretSettings {
    /// Signs and verifies tokens (HS256).
    pub auth: Option<SharedSecret>,
    /// Still verifies, during a rotation.
    pub auth_previous: Option<SharedSecret>,
    /// Seals resume handles; unset, a key is derived from `auth`.
    pub handle_key: Option<SharedSecret>,
    /// Still opens them, during a rotation.
    pub handle_key_previous: Option<SharedSecret>,
    /// Signs the application's own tokens about its users (HS256); it signs none of ours.
    pub user_secret: Option<SharedSecret>,
    /// What TURN credentials are made with: the first makes them, the others may stand in TURN servers.
    pub turn_secrets: Vec<SharedSecret>,
    /// The application backends that may ask for tokens.
    pub api_keys: ApiKeys,
    /// What webhooks are signed with.
    pub webhooks: EndpointSecrets,
    /// The shared store; its URL may hold a password.
    pub redis_url: Option<RedisUrl>,
}

/// An API key: its id and the SHA-256 of its secret. The secret itself is forgotten once it is read.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Names the caller in logs and metrics.
    pub id: String,
    secret_digest: [u8; 32],
}

/// The API keys there are.
#[derive(Debug, Clone, Default)]
pub struct ApiKeys(Vec<ApiKey>);

impl ApiKeys {
    /// Reads `id:secret` pairs separated by commas or white space. A secret may stand as `sha256=` and 64 hexadecimal digits instead.
    ///
    /// # Errors
    /// Which pair is wrong, by its id or its place, never by its secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pairs = text.split([',', ' ', '\t', '\r', '\n']).filter(|pair| !pair.is_empty());
        let keys = pairs
            .enumerate()
            .map(|(place, pair)| Self::parse_pair(place, pair))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ids: Vec<_> = keys.iter().map(|key| key.id.as_str()).collect();
        ids.sort_unstable();
        match ids.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => Err(format!("names the key `{}` twice", two[0])),
            None => Ok(Self(keys)),
        }
    }

    fn parse_pair(place: usize, pair: &str) -> Result<ApiKey, String> {
        let (id, secret) = pair.split_once(':').ok_or(format!("pair {} is not id:secret", place + 1))?;
        let id_ok = (1..=64).contains(&id.len())
            && id.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        if !id_ok {
            return Err(format!("pair {} has an id that is not 1 to 64 of A-Z a-z 0-9 . _ -", place + 1));
        }
        if signalbox_protocol::id::CallerId::RESERVED.contains(&id) {
            let taken = signalbox_protocol::id::CallerId::RESERVED.join(", ");
            return Err(format!("key `{id}` needs another id: {taken} stand for other callers"));
        }
        let digest = match secret.strip_prefix("sha256=") {
            Some(hex) => parse_digest(hex)
                .ok_or(format!("key `{id}` has a sha256= that is not 64 hexadecimal digits"))?,
            None => {
                let different = secret.bytes().collect::<std::collections::HashSet<_>>().len();
                // Of 32 random hexadecimal digits hardly ever are fewer than six different; nine are, now and then.
                if secret.len() < 22 || different < 6 {
                    return Err(format!(
                        "key `{id}` has a weak secret; use at least 128 random bits: openssl rand -hex 16"
                    ));
                }
                Sha256::digest(secret.as_bytes()).into()
            }
        };
        Ok(ApiKey { id: id.to_owned(), secret_digest: digest })
    }

    /// The key of a caller that proves itself. Every key is compared, each in constant time.
    pub fn authenticate(&self, id: &str, secret: &str) -> Option<&ApiKey> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.secret_digest.ct_eq(&digest)) && key.id == id {
                found = Some(key);
            }
        }
        found
    }

    /// The key with this id.
    pub fn get(&self, id: &str) -> Option<&ApiKey> {
        self.0.iter().find(|key| key.id == id)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

impl SecretSettings {
    pub(super) fn read_from_env(flags: &CommonFlags, env: &EnvVars) -> Result<Self, ConfigError> {
        let shared = |name: &str| -> Result<Option<SharedSecret>, ConfigError> {
            let Some(text) = read_value_or_file(name, env)? else { return Ok(None) };
            let advice = "; make one with: openssl rand -base64 48";
            SharedSecret::new(SecretBytes::new(text))
                .map(Some)
                .map_err(|weak| ConfigError::invalid_setting(name, format!("{weak}{advice}")))
        };
        let auth = shared("AUTH_SECRET")?;
        let auth_previous = shared("AUTH_SECRET_PREVIOUS")?;
        if auth.is_some() && auth == auth_previous {
            return Err(ConfigError::invalid_setting(
                "AUTH_SECRET_PREVIOUS",
                "is the same as AUTH_SECRET; unset it",
            ));
        }
        let session = shared("SIGNALBOX_SESSION_KEY")?;
        let session_previous = shared("SIGNALBOX_SESSION_KEY_PREVIOUS")?;
        if session.is_none() && session_previous.is_some() {
            let problem = "is set without SIGNALBOX_SESSION_KEY; a rotation needs both";
            return Err(ConfigError::invalid_setting("SIGNALBOX_SESSION_KEY_PREVIOUS", problem));
        }
        let user = shared("SIGNALBOX_USER_SECRET")?;
        if user.is_some() && (user == auth || user == auth_previous) {
            let problem =
                "is the same as AUTH_SECRET: who may say who a user is must not be able to make tokens";
            return Err(ConfigError::invalid_setting("SIGNALBOX_USER_SECRET", problem));
        }
        let turn = read_value_or_file("SIGNALBOX_TURN_SECRETS", env)?
            .map_or(Ok(Vec::new()), |text| parse_turn_secrets(&text))?;
        let api_keys = match read_value_or_file("SIGNALBOX_API_KEYS", env)? {
            Some(text) => ApiKeys::parse(&text)
                .map_err(|problem| ConfigError::invalid_setting("SIGNALBOX_API_KEYS", problem))?,
            None => ApiKeys::default(),
        };
        let common = read_webhook_secrets("SIGNALBOX_WEBHOOK_SECRETS", env)?.unwrap_or_default();
        let webhooks = EndpointSecrets { shared_secrets: common, ..EndpointSecrets::default() };
        let url = match &flags.redis {
            Some(url) => Some(url.clone()),
            None => read_value_or_file("REDIS_URL", env)?,
        };
        let redis_url = url.map(|url| RedisUrl::parse(&url)).transpose();
        let redis_url = redis_url.map_err(|problem| ConfigError::invalid_setting("REDIS_URL", problem))?;
        Ok(Self {
            auth,
            auth_previous,
            handle_key: session,
            handle_key_previous: session_previous,
            user_secret: user,
            turn_secrets: turn,
            api_keys,
            webhooks,
            redis_url,
        })
    }

    /// Reads the secrets that endpoints have of their own. A process that tells nothing need not have them.
    pub(super) fn read_endpoint_secrets(
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

    pub(super) fn describe(&self) -> String {
        let set = |present: bool| if present { "set" } else { "not set" };
        let keys: Vec<_> = self.api_keys.0.iter().map(|key| key.id.as_str()).collect();
        format!(
            "# AUTH_SECRET: {}\n# AUTH_SECRET_PREVIOUS: {}\n# SIGNALBOX_SESSION_KEY: {}\n\
             # SIGNALBOX_SESSION_KEY_PREVIOUS: {}\n# SIGNALBOX_USER_SECRET: {}\n# SIGNALBOX_TURN_SECRETS: {}\n# SIGNALBOX_API_KEYS: {}\n\
             # SIGNALBOX_WEBHOOK_SECRETS: {}\n# REDIS_URL: {}\n",
            set(self.auth.is_some()),
            set(self.auth_previous.is_some()),
            if self.handle_key.is_some() { "set" } else { "derived from AUTH_SECRET" },
            set(self.handle_key_previous.is_some()),
            set(self.user_secret.is_some()),
            self.turn_secrets.len(),
            if keys.is_empty() { "none".to_owned() } else { keys.join(", ") },
            set(!self.webhooks.shared_secrets.is_empty()),
            self.redis_url.as_ref().map_or("not set".to_owned(), RedisUrl::describe),
        )
    }
}

/// Reads secrets with commas or white space between them.
fn parse_turn_secrets(text: &str) -> Result<Vec<SharedSecret>, ConfigError> {
    let name = "SIGNALBOX_TURN_SECRETS";
    let parts = text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|part| !part.is_empty());
    let mut secrets: Vec<SharedSecret> = Vec::new();
    for (place, part) in parts.enumerate() {
        let problem = |weak| format!("number {} {weak}; make one with: openssl rand -hex 32", place + 1);
        let secret = SharedSecret::new(SecretBytes::new(part))
            .map_err(|weak| ConfigError::invalid_setting(name, problem(weak)))?;
        if secrets.contains(&secret) {
            return Err(ConfigError::invalid_setting(name, format!("holds number {} twice", place + 1)));
        }
        secrets.push(secret);
    }
    Ok(secrets)
}

/// `USERNAME_CHARS`, or the content of the file that `NAME_FILE` names (without its last line break); both is an error.
fn read_webhook_secrets(name: &str, env: &EnvVars) -> Result<Option<WebhookSecrets>, ConfigError> {
    let secrets = read_value_or_file(name, env)?.map(|text| WebhookSecrets::parse(&text)).transpose();
    secrets.map_err(|problem| ConfigError::invalid_setting(name, problem))
}

fn read_value_or_file(name: &str, env: &EnvVars) -> Result<Option<String>, ConfigError> {
    let file_name = format!("{name}_FILE");
    // Compose passes an unset variable as an empty one.
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let text = match (set(name), set(&file_name)) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::invalid_setting(
                name,
                format!("and {file_name} are both set; keep one"),
            ));
        }
        (Some(text), None) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| ConfigError::invalid_setting(file_name, format!("cannot be read: {error}")))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        (None, None) => return Ok(None),
    };
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_key_needs_matching_id_and_secret() {
        let (a, b) = (signalbox_protocol::id::random_hex(), signalbox_protocol::id::random_hex());
        let digest: String = Sha256::digest(b.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let keys = ApiKeys::parse(&format!("one:{a},\n two:sha256={digest}")).unwrap();
        assert_eq!(keys.authenticate("one", &a).unwrap().id, "one");
        assert_eq!(keys.authenticate("two", &b).unwrap().id, "two");
        for (id, secret) in [("one", &b), ("two", &a), ("two", &digest), ("three", &a)] {
            assert!(keys.authenticate(id, secret).is_none(), "{id}");
        }
    }

    #[test]
    fn an_invalid_pair_is_named_without_its_secret() {
        let good = signalbox_protocol::id::random_hex();
        for (text, expected) in [
            ("nocolon".to_owned(), "pair 1"),
            (format!("ok:{good},b a d"), "pair 2"),
            ("weak:1234567890".to_owned(), "`weak`"),
            (format!("weak:{}", "a".repeat(40)), "`weak`"),
            ("d:sha256=12".to_owned(), "`d`"),
            (format!("guest:{good}"), "`guest`"),
            (format!("x:{good},x:{good}"), "`x` twice"),
        ] {
            let error = ApiKeys::parse(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("1234567890"), "{error}");
        }
    }

    #[test]
    fn every_turn_secret_of_the_list_is_checked() {
        let strong =
            || format!("{}{}", signalbox_protocol::id::random_hex(), signalbox_protocol::id::random_hex());
        let (a, b) = (strong(), strong());
        assert_eq!(parse_turn_secrets(&format!("{a}, {b}\n")).unwrap().len(), 2);
        for (text, expected) in [(format!("{a},short"), "number 2"), (format!("{a} {a}"), "twice")] {
            let error = parse_turn_secrets(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains(&a), "{error}");
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
