//! The root of a credential: the API key, the provider or the policy that answers for it.
//!
//! Owns: the forms of a root. A credential that is derived from another one has the same root. Must
//! not: know what a root may do; the auth service does.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::id::CallerId;

/// The most bytes of the issuer of a provider.
pub const MAX_ISSUER_BYTES: usize = 200;

/// The root of a credential. As text: `key:ID`, `provider:ISSUER`, `app` or `guest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialRoot {
    /// An API key. The credentials of its management tokens and invites have this root too.
    ApiKey(CallerId),
    /// An identity provider, by the `iss` of its tokens.
    Provider(Arc<str>),
    /// The application, which signs tokens itself with the shared secret.
    App,
    /// The policy that lets guests in.
    Guest,
}

/// The text is not a root. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be key:ID, provider:ISSUER, app or guest")]
pub struct InvalidRoot;

impl CredentialRoot {
    /// The kinds, with which the texts begin.
    pub const KINDS: [&str; 4] = ["key", "provider", "app", "guest"];

    /// The kind: a stable word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "key",
            Self::Provider(_) => "provider",
            Self::App => "app",
            Self::Guest => "guest",
        }
    }

    /// Reads a root.
    ///
    /// # Errors
    /// [`InvalidRoot`].
    pub fn parse(text: &str) -> Result<Self, InvalidRoot> {
        match text.split_once(':') {
            None if text == "app" => Ok(Self::App),
            None if text == "guest" => Ok(Self::Guest),
            Some(("key", id)) => {
                let id = CallerId::parse(id).map_err(|_| InvalidRoot)?;
                if CallerId::RESERVED.contains(&id.as_str()) {
                    Err(InvalidRoot)
                } else {
                    Ok(Self::ApiKey(id))
                }
            }
            Some(("provider", issuer)) if is_issuer(issuer) => Ok(Self::Provider(issuer.into())),
            _ => Err(InvalidRoot),
        }
    }

    /// The root of a token without the claim `root`: an application that signs tokens itself may
    /// name only the caller, and earlier releases did.
    pub fn of_caller(caller: &CallerId) -> Self {
        match caller.as_str() {
            "guest" => Self::Guest,
            id if CallerId::RESERVED.contains(&id) => Self::App,
            _ => Self::ApiKey(caller.clone()),
        }
    }
}

/// Whether a text can be the issuer of a provider: visible ASCII characters.
pub fn is_issuer(text: &str) -> bool {
    (1..=MAX_ISSUER_BYTES).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
}

impl fmt::Display for CredentialRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(id) => write!(f, "key:{id}"),
            Self::Provider(issuer) => write!(f, "provider:{issuer}"),
            Self::App | Self::Guest => f.write_str(self.kind()),
        }
    }
}

impl TryFrom<String> for CredentialRoot {
    type Error = InvalidRoot;
    fn try_from(text: String) -> Result<Self, InvalidRoot> {
        Self::parse(&text)
    }
}

impl From<CredentialRoot> for String {
    fn from(root: CredentialRoot) -> Self {
        root.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_parses_back_from_its_text() {
        for text in ["key:backend", "provider:https://id.example/realms/a", "provider:app", "app", "guest"] {
            let root = CredentialRoot::parse(text).unwrap();
            assert_eq!(root.to_string(), text);
            assert!(CredentialRoot::KINDS.contains(&root.kind()));
        }
        let long = format!("provider:{}", "x".repeat(MAX_ISSUER_BYTES + 1));
        for bad in [
            "",
            "x",
            "key",
            "key:",
            "key:a b",
            "key:guest",
            "key:invite",
            "provider:",
            "provider:a b",
            "app:x",
            &long,
        ] {
            assert_eq!(CredentialRoot::parse(bad), Err(InvalidRoot), "{bad}");
        }
    }

    #[test]
    fn a_token_without_a_root_has_the_root_of_its_caller() {
        for (caller, root) in
            [("backend", "key:backend"), ("guest", "guest"), ("app", "app"), ("user", "app")]
        {
            assert_eq!(CredentialRoot::of_caller(&CallerId::parse(caller).unwrap()).to_string(), root);
        }
    }
}
