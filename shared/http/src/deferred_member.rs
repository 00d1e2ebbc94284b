//! A member that is parsed only when it is used.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use signalbox_protocol::problem::Problem;

use crate::json_members::{bad_member, value_rule};

/// A member of a body. Its value is parsed when it is read, so a request in which it has no effect is not refused for
/// it.
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
        serde_json::from_str(value.get()).map(Some).map_err(|error| bad_member(name, value_rule(&error)))
    }
}

impl<'de, T> Deserialize<'de> for DeferredMember<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { value: Option::deserialize(deserializer)?, parsed_as: PhantomData })
    }
}
