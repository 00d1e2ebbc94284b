//! What a caller asks for, member by member.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use signalbox_protocol::{
    display_text::{DISPLAY_NAME_RULE, is_display_name},
    id::InvalidName,
    is_bounded_object,
    problem::Problem,
};

/// A member of the body as it was sent.
pub(crate) type RawMember = Option<Box<RawValue>>;

/// The body of `POST /auth/token`. Members are judged one by one, so that each refusal names its own, and so that
/// what a caller has no say in is not even read.
#[derive(Debug, Default)]
pub(crate) struct TokenRequest {
    pub(crate) room: RawMember,
    pub(crate) user: RawMember,
    pub(crate) role: RawMember,
    pub(crate) name: RawMember,
    pub(crate) ttl: RawMember,
    pub(crate) metadata: RawMember,
    pub(crate) region: RawMember,
    refresh: RawMember,
    invite: RawMember,
}

impl TokenRequest {
    /// The members there are, in the order of [`TokenRequest::from`].
    pub(crate) const MEMBERS: [&str; 9] =
        ["room", "user", "role", "name", "ttl", "metadata", "region", "refresh", "invite"];

    /// The code of an invite, where one stands in place of room and role.
    ///
    /// # Errors
    /// 400 `bad_request` if it is no text.
    pub(crate) fn invite_code(&self) -> Result<Option<String>, Problem> {
        parse_member("invite", &self.invite, "must be a string")
    }

    /// Whether a refresh token is wanted too.
    ///
    /// # Errors
    /// 400 `bad_request` if it is neither true nor false.
    pub(crate) fn wants_refresh(&self) -> Result<bool, Problem> {
        Ok(parse_member("refresh", &self.refresh, "must be true or false")?.unwrap_or(false))
    }
}

impl From<[RawMember; 9]> for TokenRequest {
    fn from([room, user, role, name, ttl, metadata, region, refresh, invite]: [RawMember; 9]) -> Self {
        Self { room, user, role, name, ttl, metadata, region, refresh, invite }
    }
}

/// 400 `bad_request` that names a member and says what it must be.
pub(crate) fn bad_member(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::new(400, "bad_request", format!("{field} {rule}")).with_field(field)
}

/// A room, user or role; `NoSuchRule` where it is absent.
///
/// # Errors
/// 400 `bad_request` that names it.
pub(crate) fn parse_name<T>(
    field: &str,
    raw: &RawMember,
    parse: fn(&str) -> Result<T, InvalidName>,
) -> Result<Option<T>, Problem> {
    let text: Option<String> = parse_member(field, raw, "must be a string")?;
    text.map(|text| parse(&text).map_err(|bad| bad_member(field, bad))).transpose()
}

/// A display name.
pub(crate) fn parse_display_name(raw: &RawMember) -> Result<Option<Arc<str>>, Problem> {
    match parse_member::<String>("name", raw, "must be a string")? {
        Some(name) if !is_display_name(&name) => Err(bad_member("name", DISPLAY_NAME_RULE)),
        name => Ok(name.map(Arc::from)),
    }
}

/// A life in seconds, at most `max`.
///
/// # Errors
/// 400 `bad_request` that names it.
pub(crate) fn parse_ttl(raw: &RawMember, max: u64) -> Result<Option<u64>, Problem> {
    parse_integer("ttl", raw, 1, max, "a whole number of seconds")
}

/// A number from `min` to `max`; `what` says of what kind.
///
/// # Errors
/// 400 `bad_request` that names it.
pub(crate) fn parse_integer(
    field: &str,
    raw: &RawMember,
    min: u64,
    max: u64,
    what: &str,
) -> Result<Option<u64>, Problem> {
    let rule = format!("must be {what} from {min} to {max}");
    // `60.0` is a whole number too (JSON Schema Validation, section 6.1.1).
    match parse_member::<f64>(field, raw, &rule)? {
        Some(number) if number.fract() != 0.0 || !(min as f64..=max as f64).contains(&number) => {
            Err(bad_member(field, rule))
        }
        number => Ok(number.map(|number| number as u64)),
    }
}

/// A JSON object of at most `max` bytes, kept as it was sent.
pub(crate) fn parse_metadata(raw: RawMember, max: usize) -> Result<Option<Arc<RawValue>>, Problem> {
    match raw {
        Some(raw) if !is_bounded_object(raw.get(), max) => Err(bad_member(
            "metadata",
            format!("must be a JSON object of at most {max} bytes, 64 levels deep"),
        )),
        raw => Ok(raw.map(Arc::from)),
    }
}

/// A member of this type; `rule` says so in an error.
///
/// # Errors
/// 400 `bad_request` that names it.
pub(crate) fn parse_member<T: DeserializeOwned>(
    field: &str,
    raw: &RawMember,
    rule: &str,
) -> Result<Option<T>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| bad_member(field, rule))
}
