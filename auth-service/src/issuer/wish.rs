//! What a caller asks for, member by member.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use signalbox_shared::{
    id::BadName,
    problem::Problem,
    protocol::object_within,
    text::{DISPLAY_NAME_RULE, is_display_name},
};

/// A member of the body as it was sent.
type Raw = Option<Box<RawValue>>;

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
}

impl Wish {
    /// The members there are, in the order of [`Wish::from`].
    pub const MEMBERS: [&str; 6] = ["room", "user", "role", "name", "ttl", "metadata"];
}

impl From<[Raw; 6]> for Wish {
    fn from([room, user, role, name, ttl, metadata]: [Raw; 6]) -> Self {
        Self { room, user, role, name, ttl, metadata }
    }
}

pub(crate) fn refuse(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::new(400, "bad_request", format!("{field} {rule}")).field(field)
}

/// A room, user or role; `None` where it is absent.
pub(crate) fn named<T>(
    field: &str,
    raw: &Raw,
    parse: fn(&str) -> Result<T, BadName>,
) -> Result<Option<T>, Problem> {
    let text: Option<String> = typed(field, raw, "must be a string")?;
    text.map(|text| parse(&text).map_err(|bad| refuse(field, bad))).transpose()
}

/// A display name.
pub(super) fn display_name(raw: &Raw) -> Result<Option<Arc<str>>, Problem> {
    match typed::<String>("name", raw, "must be a string")? {
        Some(name) if !is_display_name(&name) => Err(refuse("name", DISPLAY_NAME_RULE)),
        name => Ok(name.map(Arc::from)),
    }
}

/// A life in seconds, at most `max`.
pub(super) fn ttl(raw: &Raw, max: u64) -> Result<Option<u64>, Problem> {
    let rule = format!("must be a whole number of seconds from 1 to {max}");
    match typed::<u64>("ttl", raw, &rule)? {
        Some(ttl) if !(1..=max).contains(&ttl) => Err(refuse("ttl", rule)),
        ttl => Ok(ttl),
    }
}

/// A JSON object of at most `max` bytes, kept as it was sent.
pub(super) fn metadata(raw: Raw, max: usize) -> Result<Option<Arc<RawValue>>, Problem> {
    match raw {
        Some(raw) if !object_within(raw.get(), max) => {
            Err(refuse("metadata", format!("must be a JSON object of at most {max} bytes, 64 levels deep")))
        }
        raw => Ok(raw.map(Arc::from)),
    }
}

/// A member of one type; `rule` says which.
pub(crate) fn typed<T: DeserializeOwned>(field: &str, raw: &Raw, rule: &str) -> Result<Option<T>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| refuse(field, rule))
}
