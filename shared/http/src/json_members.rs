//! The members of a JSON object, and how they become a struct.
//!
//! Owns: the order in which faults are found, and the name of the member at fault. First the names:
//! an unknown or doubled member, in the order of the text. Then the values, in the order of the
//! struct's fields; `null` and a missing member are the same. Must not: repeat a value in an
//! answer. Next: [`crate::JsonBody`] uses it.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;
use signalbox_protocol::problem::Problem;

/// The most members of one object. The size of a body is bounded, but thousands of empty names
/// would be compared one by one.
const MAX_MEMBERS: usize = 64;

/// 400 `bad_request` with the name of a member and its rule.
pub fn bad_field(field: &str, rule: impl fmt::Display) -> Problem {
    Problem::new(400, "bad_request", format!("{field} {rule}")).with_field(field)
}

/// The unparsed members of a JSON object. Nothing but an object parses.
#[derive(Debug, Default)]
pub(crate) struct JsonMembers(Vec<(String, Box<RawValue>)>);

impl JsonMembers {
    pub(crate) fn new(members: Vec<(String, Box<RawValue>)>) -> Self {
        Self(members)
    }

    /// Whether the object has a member of this name that is not `null`.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(member, value)| member == name && !is_null(value))
    }

    /// The members as a struct.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, MemberFault> {
        T::deserialize(self)
    }

    /// The values of `fields`, in this order.
    fn sort(&self, fields: &'static [&'static str]) -> Result<Vec<Option<&RawValue>>, MemberFault> {
        let mut values = vec![None; fields.len()];
        for (name, value) in &self.0 {
            let Some(place) = fields.iter().position(|field| field == name) else {
                return Err(MemberFault::Unknown { name: name.clone(), fields });
            };
            if values[place].replace(&**value).is_some() {
                return Err(MemberFault::Doubled { name: fields[place] });
            }
        }
        Ok(values.into_iter().map(|value| value.filter(|value| !is_null(value))).collect())
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

impl<'de> Deserialize<'de> for JsonMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = JsonMembers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonMembers, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MAX_MEMBERS {
                        return Err(de::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(JsonMembers(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Why an object does not become a struct.
#[derive(Debug)]
pub(crate) enum MemberFault {
    Unknown {
        name: String,
        fields: &'static [&'static str],
    },
    Doubled {
        name: &'static str,
    },
    BadValue {
        name: &'static str,
        rule: String,
    },
    /// The type is not a struct.
    NotAStruct(String),
}

impl MemberFault {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Unknown { name, fields } => {
                let detail = format!("a member is unknown; known members are {}", fields.join(", "));
                let problem = Problem::new(400, "bad_request", detail);
                if is_member_name(&name) { problem.with_field(name) } else { problem }
            }
            Self::Doubled { name } => {
                Problem::new(400, "bad_request", "a member occurs twice").with_field(name)
            }
            Self::BadValue { name, rule } => bad_field(name, rule),
            Self::NotAStruct(detail) => Problem::new(400, "bad_request", detail),
        }
    }
}

/// Whether `field` may contain a name: a caller must not put arbitrary text into an answer.
fn is_member_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

impl fmt::Display for MemberFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { .. } => f.write_str("an unknown member"),
            Self::Doubled { name } => write!(f, "{name} occurs twice"),
            Self::BadValue { name, rule } => write!(f, "{name} {rule}"),
            Self::NotAStruct(detail) => f.write_str(detail),
        }
    }
}

impl std::error::Error for MemberFault {}

impl de::Error for MemberFault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::NotAStruct(text.to_string())
    }
}

/// Only a struct can be deserialized from the members.
impl<'de> Deserializer<'de> for &'de JsonMembers {
    type Error = MemberFault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, MemberFault> {
        Err(de::Error::custom("the body must be an object"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MemberFault> {
        let values = self.sort(fields)?;
        visitor.visit_map(FieldAccess { fields: fields.iter().zip(values), value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

type FieldValues<'de> =
    std::iter::Zip<std::slice::Iter<'static, &'static str>, std::vec::IntoIter<Option<&'de RawValue>>>;

/// Hands out every field of a struct in its order, whether or not the object has it.
struct FieldAccess<'de> {
    fields: FieldValues<'de>,
    value: Option<(&'static str, Option<&'de RawValue>)>,
}

impl<'de> MapAccess<'de> for FieldAccess<'de> {
    type Error = MemberFault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, MemberFault> {
        self.value = self.fields.next().map(|(name, value)| (*name, value));
        let Some((name, _)) = self.value else { return Ok(None) };
        let name: StrDeserializer<'_, MemberFault> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, MemberFault> {
        match self.value.take() {
            Some((name, Some(raw))) => {
                let parsed = seed.deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
                parsed.map_err(|error| MemberFault::BadValue { name, rule: value_rule(&error) })
            }
            Some((name, None)) => seed.deserialize(AbsentMember(name)),
            None => Err(de::Error::custom("a value without a name")),
        }
    }
}

/// A missing member: an `Option` becomes `None`, any other type is a fault.
struct AbsentMember(&'static str);

impl<'de> Deserializer<'de> for AbsentMember {
    type Error = MemberFault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, MemberFault> {
        Err(MemberFault::BadValue { name: self.0, rule: "is missing".to_owned() })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MemberFault> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What a value must be. The types of members say it themselves ("must be …"). Of the texts of
/// serde only the end is used: the front may hold the value ("invalid type: string …").
fn value_rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text);
    if text.starts_with("must ") {
        return text.to_owned();
    }
    let is_of_serde = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "]
        .iter()
        .any(|start| text.starts_with(start));
    match text.rsplit_once(", expected ") {
        Some((_, "a boolean")) if is_of_serde => "must be true or false".to_owned(),
        Some((_, "a sequence")) if is_of_serde => "must be a list".to_owned(),
        Some((_, "f64")) if is_of_serde => "must be a number".to_owned(),
        Some((_, expected)) if is_of_serde => format!("must be {expected}"),
        _ => "has a value that is not allowed".to_owned(),
    }
}

/// A member of a body. Its value is parsed when it is read, so a request in which it has no effect
/// is not refused for it.
#[derive(Debug)]
pub struct DeferredMember<T> {
    value: Option<Box<RawValue>>,
    parsed_as: PhantomData<T>,
}

impl<T: DeserializeOwned> DeferredMember<T> {
    /// The value; `None` if the member is missing. `name` is the name of the member.
    ///
    /// # Errors
    /// 400 `bad_request` that names the member.
    pub fn read(&self, name: &'static str) -> Result<Option<T>, Problem> {
        let Some(value) = &self.value else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|error| bad_field(name, value_rule(&error)))
    }
}

impl<'de, T> Deserialize<'de> for DeferredMember<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { value: Option::deserialize(deserializer)?, parsed_as: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        a: Option<u64>,
        b: Box<RawValue>,
        c: Option<bool>,
    }

    fn parse(json: &str) -> Result<Sample, Problem> {
        serde_json::from_str::<JsonMembers>(json).unwrap().parse().map_err(MemberFault::problem)
    }

    #[test]
    fn null_and_a_missing_member_are_the_same() {
        let Sample { a, b, c } = parse(r#"{"b":[1],"a":null}"#).unwrap();
        assert_eq!((a, b.get(), c), (None, "[1]", None));
    }

    #[test]
    fn names_are_checked_before_values_and_values_in_the_order_of_the_struct() {
        for (json, field) in [
            (r#"{"a":"x","d":1}"#, Some("d")),
            (r#"{"c":7,"a":1,"a":1}"#, Some("a")),
            (r#"{"<script>":1}"#, None),
            (r#"{"c":7,"a":"x"}"#, Some("a")),
            (r#"{"c":7}"#, Some("b")),
            (r#"{"c":7,"b":null}"#, Some("b")),
            (r#"{"c":7,"b":1}"#, Some("c")),
        ] {
            let problem = parse(json).unwrap_err();
            assert_eq!((problem.code, problem.field.as_deref()), ("bad_request", field), "{json}");
        }
    }

    #[test]
    fn the_rule_of_a_member_never_repeats_its_value() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Choice {
            On,
        }
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only parsed")]
        struct Values {
            text: Option<String>,
            flag: Option<bool>,
            list: Option<Vec<String>>,
            choice: Option<Choice>,
        }
        for (json, detail) in [
            (r#"{"text":["secret"]}"#, "text must be a string"),
            (r#"{"text":"\ud800secret"}"#, "text has a value that is not allowed"),
            (r#"{"flag":"secret, expected x"}"#, "flag must be true or false"),
            (r#"{"list":"secret"}"#, "list must be a list"),
            (r#"{"choice":"secret"}"#, "choice must be `on`"),
            (r#"{"choice":"secret, expected x"}"#, "choice must be `on`"),
        ] {
            let members = serde_json::from_str::<JsonMembers>(json).unwrap();
            let problem = members.parse::<Values>().map_err(MemberFault::problem).unwrap_err();
            assert_eq!(problem.detail, detail, "{json}");
        }
    }

    #[test]
    fn only_an_object_of_at_most_64_members_is_read() {
        for json in ["[]", r#"["a"]"#, "1", "null", r#""a""#] {
            assert!(serde_json::from_str::<JsonMembers>(json).is_err(), "{json}");
        }
        let many: Vec<_> = (0..65).map(|n| format!(r#""{n}":0"#)).collect();
        assert!(serde_json::from_str::<JsonMembers>(&format!("{{{}}}", many.join(","))).is_err());
    }
}
