//! The names of users: each source of users has names of its own.
//!
//! Owns: which name a guest gets, and which names an application may not use. A name of a provider
//! begins with its `user_prefix` (`providers/claims.rs`), and the configuration is refused if two
//! prefixes overlap. Must not: check a credential.

use signalbox_config::ServiceSettings;
use signalbox_http::bad_field;
use signalbox_protocol::{id::UserId, problem::Problem};

/// The names that an application may use.
#[derive(Debug)]
pub(crate) struct UserNamePolicy {
    /// The prefixes of guests, invites and providers.
    foreign_prefixes: Vec<String>,
}

impl UserNamePolicy {
    /// Reads the configuration. The provider that the application itself stands for has the names of
    /// the application.
    pub(super) fn new(settings: &ServiceSettings) -> Self {
        let providers = settings.auth.providers.iter().filter(|provider| !provider.is_application());
        let prefixes = providers.map(|provider| &*provider.user_prefix).filter(|prefix| !prefix.is_empty());
        let fixed = [UserId::GUEST_PREFIX, UserId::INVITE_PREFIX];
        Self { foreign_prefixes: fixed.into_iter().chain(prefixes).map(str::to_owned).collect() }
    }

    /// The user that an application names.
    ///
    /// # Errors
    /// 403 `user_not_allowed` if the name belongs to another source of users.
    pub(super) fn application_user(&self, user: UserId) -> Result<UserId, Problem> {
        match self.foreign_prefixes.iter().find(|prefix| user.as_str().starts_with(prefix.as_str())) {
            None => Ok(user),
            Some(prefix) => {
                let detail =
                    format!("names with `{prefix}` belong to another source of users; use another name");
                Err(Problem::new(403, "user_not_allowed", detail).with_field("user"))
            }
        }
    }
}

/// The name of a guest. The server adds the prefix, unless the guest has sent it.
///
/// # Errors
/// 400 `bad_request` that names `user`, if the name is too long.
pub(super) fn guest_user(name: &str) -> Result<UserId, Problem> {
    prefixed_user(UserId::GUEST_PREFIX, name.strip_prefix(UserId::GUEST_PREFIX).unwrap_or(name))
}

/// The name of a person with an invite.
///
/// # Errors
/// As [`guest_user`].
pub(super) fn invited_user(random: &str) -> Result<UserId, Problem> {
    prefixed_user(UserId::INVITE_PREFIX, random)
}

fn prefixed_user(prefix: &str, name: &str) -> Result<UserId, Problem> {
    UserId::parse(&format!("{prefix}{name}"))
        .map_err(|bad| bad_field("user", format!("with `{prefix}` {bad}")))
}
