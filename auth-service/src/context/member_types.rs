//! The types of members that several requests have. Each checks its form when it is parsed, and
//! knows its schema.
//!
//! Must not: know the configuration. A bound of the configuration is checked by the handler
//! ([`UncheckedNumber`]). Names such as a room or a user are in `signalbox_protocol::id`.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use signalbox_http::bad_field;
use signalbox_protocol::{
    display_text::{DISPLAY_NAME_RULE, is_display_name, is_plain_text},
    is_bounded_object,
    problem::Problem,
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// A display name: empty, or with a visible character. It has no invisible characters except spaces.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, pattern = r"^[^\x00-\x1F\x7F-\x9F\u061C\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF]{0,64}$")]
pub(crate) struct DisplayName(Arc<str>);

impl DisplayName {
    /// The name as text.
    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }
}

impl TryFrom<String> for DisplayName {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        if is_display_name(&text) { Ok(Self(text.into())) } else { Err(DISPLAY_NAME_RULE) }
    }
}

/// A text for people: 1 to `MAX` characters, none of them a control character.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PlainText<const MAX: usize>(Arc<str>);

impl<const MAX: usize> PlainText<MAX> {
    /// The text.
    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }
}

impl<const MAX: usize> TryFrom<String> for PlainText<MAX> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if is_plain_text(&text, MAX) {
            return Ok(Self(text.into()));
        }
        Err(format!("must be a string of 1 to {MAX} characters without control characters"))
    }
}

/// The reason of an access rule.
pub(crate) type ReasonText = PlainText<256>;

impl PartialSchema for ReasonText {
    fn schema() -> RefOr<Schema> {
        let pattern = r"^[^\x00-\x1F\x7F-\x9F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]{1,256}$";
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        text.description(Some("The reason of an access rule, for its readers.")).into()
    }
}

impl ToSchema for ReasonText {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Reason")
    }
}

/// Metadata of the application: any JSON object.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(as = Metadata, value_type = Object)]
pub(crate) struct MetadataObject(Box<RawValue>);

impl MetadataObject {
    /// The object as it was sent.
    ///
    /// # Errors
    /// 400 `bad_request` if it is no object, or longer than `max` bytes, or too deep.
    pub(crate) fn within(self, max: usize) -> Result<Arc<RawValue>, Problem> {
        if is_bounded_object(self.0.get(), max) {
            return Ok(self.0.into());
        }
        Err(bad_field("metadata", format!("must be a JSON object of at most {max} bytes, 64 levels deep")))
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeNumber<const MIN: u32, const MAX: u32>(u32);

impl<const MIN: u32, const MAX: u32> WholeNumber<MIN, MAX> {
    /// The number.
    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for WholeNumber<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = NumberBounds { min: MIN.into(), max: MAX.into(), unit: "" }.read(deserializer)?;
        u32::try_from(number).map(Self).map_err(de::Error::custom)
    }
}

/// A whole number of seconds from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Seconds<MIN, MAX> {
    /// The number of seconds.
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The number of milliseconds.
    pub(crate) fn as_ms(self) -> u64 {
        self.0 * 1_000
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Seconds<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NumberBounds { min: MIN, max: MAX, unit: " of seconds" }.read(deserializer).map(Self)
    }
}

/// A number whose bounds are in the configuration or may change while the process runs.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct UncheckedNumber(f64);

impl UncheckedNumber {
    /// The number, if it is a whole one from `min` to `max`. `unit` follows "a whole number" in the
    /// error.
    ///
    /// # Errors
    /// 400 `bad_request` that names `field`.
    pub(crate) fn within(self, field: &str, min: u64, max: u64, unit: &'static str) -> Result<u64, Problem> {
        let bounds = NumberBounds { min, max, unit };
        bounds.check(self.0).ok_or_else(|| bad_field(field, format!("must be {bounds}")))
    }
}

/// The bounds of a number, and their text.
struct NumberBounds {
    min: u64,
    max: u64,
    unit: &'static str,
}

impl NumberBounds {
    /// `60.0` is a whole number too (JSON Schema Validation, section 6.1.1).
    fn check(&self, number: f64) -> Option<u64> {
        let is_within = number.fract() == 0.0 && (self.min as f64..=self.max as f64).contains(&number);
        is_within.then_some(number as u64)
    }

    fn read<'de, D: Deserializer<'de>>(&self, deserializer: D) -> Result<u64, D::Error> {
        let number = self.check(f64::deserialize(deserializer)?);
        number.ok_or_else(|| de::Error::custom(format!("must be {self}")))
    }
}

impl fmt::Display for NumberBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max, unit } = self;
        write!(f, "a whole number{unit} from {min} to {max}")
    }
}

/// A number of a query from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct QueryNumber<const MIN: usize, const MAX: usize>(usize);

impl<const MIN: usize, const MAX: usize> QueryNumber<MIN, MAX> {
    /// The number.
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> TryFrom<String> for QueryNumber<MIN, MAX> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
        number.map(Self).ok_or_else(|| format!("must be from {MIN} to {MAX}"))
    }
}
