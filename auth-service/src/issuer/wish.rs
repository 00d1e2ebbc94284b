//! What a caller asks for, member by member.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use signalbox_protocol::{
    id::BadName,
    object_within,
    problem::Problem,
    text::{DISPLAY_NAME_RULE, is_display_name},
};

/// A member of the body as it was sent.
pub type Raw = Option<Box<RawValue>>;

/// The body of `POST /auth/token`. Members are judged one by one, so that each refusal names its own, and so that
/// what a caller has no say in is not even read.
#[derive(Debug, Default)]
pub struct Wish {
    pub(super) room: Raw,
    pub(super) user: Raw,
    pub(super) role: Raw,
    pub(super) name: Raw,
    pub(super) ttl: Raw,
    pub(super) metadata: Raw,
    pub(super) region: Raw,
    refresh: Raw,
    invite: Raw,
}

impl Wish {
    /// The members there are, in the order of [`Wish::from`].
    pub const MEMBERS: [&str; 9] =
        ["room", "user", "role", "name", "ttl", "metadata", "region", "refresh", "invite"];

    /// The code of an invite, where one stands in place of room and role.
    ///
    /// # Errors
    /// 400 `bad_request` if it is no text.
    pub fn invite(&self) -> Result<Option<String>, Problem> {
        typed("invite", &self.invite, "must be a string")
    }

    /// Whether a refresh token is wanted too.
    ///
    /// # Errors
    /// 400 `bad_request` if it is neither true nor false.
    pub fn refresh(&self) -> Result<bool, Problem> {
        Ok(typed("refresh", &self.refresh, "must be true or false")?.unwrap_or(false))
    }
}

impl From<[Raw; 9]> for Wish {
    fn from([room, user, role, name, ttl, metadata, region, refresh, invite]: [Raw; 9]) -> Self {
        Self { room, user, role, name, ttl, metadata, region, refresh, invite }
    }
}

/// 400 `bad_request` that names a member and says what it must be.
pub fn refuse(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::new(400, "bad_request", format!("{field} {rule}")).field(field)
}

/// A room, user or role; `None` where it is absent.
///
/// # Errors
/// 400 `bad_request` that names it.
pub fn named<T>(field: &str, raw: &Raw, parse: fn(&str) -> Result<T, BadName>) -> Result<Option<T>, Problem> {
    let text: Option<String> = typed(field, raw, "must be a string")?;
    text.map(|text| parse(&text).map_err(|bad| refuse(field, bad))).transpose()
}

/// A display name.
pub(crate) fn display_name(raw: &Raw) -> Result<Option<Arc<str>>, Problem> {
    match typed::<String>("name", raw, "must be a string")? {
        Some(name) if !is_display_name(&name) => Err(refuse("name", DISPLAY_NAME_RULE)),
        name => Ok(name.map(Arc::from)),
    }
}

/// A life in seconds, at most `max`.
///
/// # Errors
/// 400 `bad_request` that names it.
pub fn ttl(raw: &Raw, max: u64) -> Result<Option<u64>, Problem> {
    within("ttl", raw, 1, max, "a whole number of seconds")
}

/// A number from `min` to `max`; `what` says of what kind.
///
/// # Errors
/// 400 `bad_request` that names it.
pub fn within(field: &str, raw: &Raw, min: u64, max: u64, what: &str) -> Result<Option<u64>, Problem> {
    let rule = format!("must be {what} from {min} to {max}");
    // `60.0` is a whole number too (JSON Schema Validation, section 6.1.1).
    match typed::<f64>(field, raw, &rule)? {
        Some(number) if number.fract() != 0.0 || !(min as f64..=max as f64).contains(&number) => {
            Err(refuse(field, rule))
        }
        number => Ok(number.map(|number| number as u64)),
    }
}

/// A JSON object of at most `max` bytes, kept as it was sent.
pub(crate) fn metadata(raw: Raw, max: usize) -> Result<Option<Arc<RawValue>>, Problem> {
    match raw {
        Some(raw) if !object_within(raw.get(), max) => {
            Err(refuse("metadata", format!("must be a JSON object of at most {max} bytes, 64 levels deep")))
        }
        raw => Ok(raw.map(Arc::from)),
    }
}

/// A member of this type; `rule` says so in an error.
///
/// # Errors
/// 400 `bad_request` that names it.
pub fn typed<T: DeserializeOwned>(field: &str, raw: &Raw, rule: &str) -> Result<Option<T>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| refuse(field, rule))
}
