//! Names of rooms, users, roles, peers and nodes. Each is a type of its own, which checks length
//! and alphabet when it is parsed.
//!
//! Owns: the alphabets and lengths of docs/PROTOCOL.md, and the creation of random ids. Must not:
//! know how the names are used.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A map by ids or names, with a cheap hash. Its random seed keeps names that a client has chosen from
/// being put into one bucket.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Why a text is not a valid name. It gives the rule and never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {min} to {max} characters of {alphabet}{exception}")]
pub struct InvalidName {
    min: usize,
    max: usize,
    alphabet: &'static str,
    exception: &'static str,
}

/// The names that a URL parser removes from a path (RFC 3986, section 5.2.4).
const DOT_SEGMENTS: [&str; 2] = [".", ".."];

/// The text of a random id: 32 hexadecimal digits, without an allocation, because each message has
/// several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HexText([u8; 32]);

impl From<&str> for HexText {
    /// The caller has checked length and alphabet.
    fn from(text: &str) -> Self {
        Self(text.as_bytes().try_into().unwrap_or([b'0'; 32]))
    }
}

impl From<String> for HexText {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl std::ops::Deref for HexText {
    type Target = str;

    fn deref(&self) -> &str {
        // The digits are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::hash::Hash for HexText {
    /// The digits are random, so some of them do. Each message is looked up by several ids.
    #[inline]
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

macro_rules! name_type {
    (
        $(#[$doc:meta])*
        $type:ident($repr:ty), $min:literal..=$max:literal, $alphabet:literal, $allowed:expr
        $(, except $exceptions:ident $exception:literal)?
        $(; $component:literal, $description:literal)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type($repr);

        impl $type {
            /// Texts of the alphabet that are no names.
            const EXCEPTIONS: &'static [&'static str] = {
                let exceptions: &[&str] = &[];
                $(let exceptions: &[&str] = { let _ = exceptions; &$exceptions };)?
                exceptions
            };

            /// Checks length and alphabet.
            ///
            /// # Errors
            /// [`InvalidName`] gives the rule; it never repeats the text.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let allowed: fn(u8) -> bool = $allowed;
                let is_exception = Self::EXCEPTIONS.contains(&text);
                if ($min..=$max).contains(&text.len()) && text.bytes().fold(true, |valid, byte| valid & allowed(byte)) && !is_exception {
                    Ok(Self(<$repr>::from(text)))
                } else {
                    let exception = concat!("" $(, $exception)?);
                    Err(InvalidName { min: $min, max: $max, alphabet: $alphabet, exception })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        $(
            #[cfg(feature = "openapi")]
            impl utoipa::PartialSchema for $type {
                fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                    name_schema($min, $max, $alphabet, !Self::EXCEPTIONS.is_empty(), $description)
                }
            }

            #[cfg(feature = "openapi")]
            impl utoipa::ToSchema for $type {
                fn name() -> std::borrow::Cow<'static, str> {
                    $component.into()
                }
            }
        )?

        #[cfg(test)]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "minLength": $min, "maxLength": $max,
                    "description": concat!("characters: ", $alphabet $(, $exception)?) })
            }
        }
    };
}

/// The schema of a name. The pattern follows from the alphabet, so the document and
/// [`RoomId::parse`] cannot differ.
#[cfg(feature = "openapi")]
fn name_schema(
    min: usize,
    max: usize,
    alphabet: &str,
    is_no_dot_segment: bool,
    description: &str,
) -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
    let length = if min == max { max.to_string() } else { format!("{min},{max}") };
    let all = alphabet.replace(' ', "");
    let builder = utoipa::openapi::ObjectBuilder::new().schema_type(utoipa::openapi::Type::String);
    let builder = if is_no_dot_segment {
        // Without a look-ahead, which not every implementation of regular expressions has.
        let pattern = format!(r"^(\.*[{}][{all}]*|\.{{3,}})$", all.replace('.', ""));
        builder.pattern(Some(pattern)).min_length(Some(min)).max_length(Some(max))
    } else {
        builder.pattern(Some(format!("^[{all}]{{{length}}}$")))
    };
    builder.description(Some(description)).into()
}

name_type!(
    /// The name of a room. Its alphabet is the unreserved characters of RFC 3986, section 2.3, so a
    /// URL and a Redis key can contain the name unchanged. The two names that a URL parser takes
    /// for a step in the path are no rooms.
    RoomId(Arc<str>), 1..=64, "A-Z a-z 0-9 . _ ~ -", |c| c.is_ascii_alphanumeric() || b"._~-".contains(&c),
    except DOT_SEGMENTS ", and not . or ..";
    "RoomName", "The name of a room."
);
name_type!(
    /// The name of a user: the subject of a token.
    UserId(Arc<str>), 1..=128, "A-Z a-z 0-9 . _ ~ @ : + -", |c| c.is_ascii_alphanumeric() || b"._~@:+-".contains(&c);
    "UserName", "The name of a user."
);
name_type!(
    /// A role: the name of a permission template in the configuration.
    Role(Arc<str>), 1..=32, "a-z 0-9 -", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    "RoleName", "The name of a role."
);
name_type!(
    /// The id of a peer. It has 122 random bits, so it cannot be guessed. Ids are compared as text
    /// to choose the polite peer.
    PeerId(HexText), 32..=32, "0-9 a-f", |c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    "PeerName", "The id of a peer."
);
name_type!(
    /// The id of a node: one signaling process, with a new random id for each start.
    NodeId(HexText), 32..=32, "0-9 a-f", |c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)
);
name_type!(
    /// The caller for whom a token was issued: the id of an API key, or `guest`, `user`, `invite`,
    /// `app`.
    CallerId(Arc<str>), 1..=64, "A-Z a-z 0-9 . _ -", |c| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    "CallerName", "Where a token comes from: the id of an API key, `guest`, `user`, `invite` or `app`."
);
name_type!(
    /// The id of the creation of a room: random, and another one for the next room with the same
    /// name.
    CreationId(HexText), 32..=32, "0-9 a-f", |c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    "CreationId", "The id of the creation of a room."
);
name_type!(
    /// The name of a region, which the operator chooses.
    RegionId(Arc<str>), 1..=32, "a-z 0-9 -", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    "RegionName", "The name of a region."
);
name_type!(
    /// The `jti` of a token: `GRANT` or `GRANT.N`. All tokens of one grant share the part before
    /// the first dot.
    TokenId(Arc<str>), 1..=128, "A-Z a-z 0-9 . _ ~ : -", |c| c.is_ascii_alphanumeric() || b"._~:-".contains(&c)
);

/// A map with these keys is also asked for a text: for the grant of a token, or the name of an API
/// key.
macro_rules! borrow_as_text {
    ($($type:ident)*) => {
        $(impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        })*
    };
}
borrow_as_text!(TokenId CallerId);

/// 122 random bits as 32 hexadecimal digits (a UUID of version 4).
#[expect(clippy::disallowed_methods, reason = "ids are created here")]
pub fn random_hex() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl CallerId {
    /// [`CallerId::user`] as text.
    pub const USER: &str = "user";

    /// The names that no API key may have.
    pub const RESERVED: [&str; 4] = ["guest", "user", "invite", "app"];

    /// A guest without an invite.
    pub fn guest() -> Self {
        Self(Arc::from("guest"))
    }

    /// A user of the application, who asks with a user token.
    pub fn user() -> Self {
        Self(Arc::from(Self::USER))
    }

    /// A guest with an invite.
    pub fn invite() -> Self {
        Self(Arc::from("invite"))
    }

    /// An application that signs its tokens itself.
    pub fn app() -> Self {
        Self(Arc::from("app"))
    }
}

impl RoomId {
    /// Whether the name of a room may begin with this text.
    pub fn may_begin_with(text: &str) -> bool {
        text.is_empty() || DOT_SEGMENTS.contains(&text) || Self::parse(text).is_ok()
    }
}

impl UserId {
    /// The start of the name of every guest.
    pub const GUEST_PREFIX: &str = "guest:";
    /// The start of the name of every user who comes by an invite.
    pub const INVITE_PREFIX: &str = "invite:";
}

impl TokenId {
    /// The id of the first token of a new grant.
    pub fn random() -> Self {
        Self(Arc::from(random_hex()))
    }

    /// The grant of the token. It is empty only if the id begins with a dot, which no valid token
    /// has.
    pub fn grant(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// The id of another token of the same grant.
    pub fn sibling(&self, number: u64) -> Self {
        Self(Arc::from(format!("{}.{number}", self.grant())))
    }
}

impl CreationId {
    /// A new random id.
    pub fn random() -> Self {
        Self(HexText::from(random_hex()))
    }
}

impl PeerId {
    /// A new random id.
    pub fn random() -> Self {
        Self(HexText::from(random_hex()))
    }

    /// The id with these bits, for tests and simulations.
    pub fn from_bits(bits: u128) -> Self {
        Self(HexText::from(format!("{bits:032x}")))
    }

    /// The id that an entry about the room, or from the API, has instead of a peer. No peer has
    /// this id.
    pub fn no_peer() -> Self {
        Self::from_bits(u128::MAX)
    }

    /// Whether this peer is the polite peer toward `other`: the smaller id is polite.
    pub fn is_polite_toward(&self, other: &Self) -> bool {
        self < other
    }
}

impl NodeId {
    /// A new random id.
    pub fn random() -> Self {
        Self(HexText::from(random_hex()))
    }

    /// The id with these bits, for tests and simulations.
    pub fn from_bits(bits: u128) -> Self {
        Self(HexText::from(format!("{bits:032x}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_id_cannot_break_out_of_a_key_or_a_url() {
        for bad in ["", ".", "..", "a b", "a/b", "a{b}", "a:b", "é", "a\n", &"x".repeat(65)] {
            assert!(RoomId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "Stand-up_1.~", "...", ".a", &"x".repeat(64)] {
            assert!(RoomId::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn exactly_one_of_two_peers_is_polite() {
        let (a, b) = (PeerId::random(), PeerId::random());
        assert_ne!(a.is_polite_toward(&b), b.is_polite_toward(&a));
    }

    #[test]
    fn an_invalid_name_is_not_repeated_in_its_error() {
        let error = UserId::parse("se cret").unwrap_err().to_string();
        assert!(!error.contains("cret"), "{error}");
    }

    #[cfg(feature = "openapi")]
    #[test]
    fn the_schema_of_a_name_allows_what_parses() {
        fn check<T: utoipa::ToSchema>(parses: impl Fn(&str) -> bool) {
            let schema = serde_json::to_value(T::schema()).unwrap();
            let schema = jsonschema::validator_for(&schema).unwrap();
            let characters = (0..=255u8).map(char::from);
            let texts =
                characters.flat_map(|c| [1, 2, 3, 32, 33, 64, 65, 128, 129].map(|n| c.to_string().repeat(n)));
            let dotted = ["", "..a", "a..", ".a.", "...a"].map(str::to_owned);
            for text in texts.chain(dotted) {
                let is_valid = schema.is_valid(&serde_json::Value::from(&*text));
                assert_eq!(is_valid, parses(&text), "{} {text:?}", T::name());
            }
        }
        check::<RoomId>(|text| RoomId::parse(text).is_ok());
        check::<UserId>(|text| UserId::parse(text).is_ok());
        check::<Role>(|text| Role::parse(text).is_ok());
        check::<CreationId>(|text| CreationId::parse(text).is_ok());
        check::<PeerId>(|text| PeerId::parse(text).is_ok());
        check::<CallerId>(|text| CallerId::parse(text).is_ok());
        check::<RegionId>(|text| RegionId::parse(text).is_ok());
    }
}
