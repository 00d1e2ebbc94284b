//! Reads the members of one JSON object (RFC 8259) in one pass, without a copy.
//!
//! Owns: [`MessageEnvelope`], and the check that a text is one JSON object. Must not: know what a
//! member means. Next: `mod.rs` parses the members.
//!
//! Each byte is looked at once: a value is checked, measured and left where it is. Long strings, SDP
//! above all, are checked many bytes at a time.

use serde_json::value::RawValue;
use wide::u8x16;

use crate::json_bounds::MAX_DEPTH;

/// The nesting that the scanner follows by itself.
const MAX_SCANNED_DEPTH: u32 = u64::BITS;

/// The text of one member: valid JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberJson<'a> {
    /// The JSON, without white space around it.
    pub(super) text: &'a str,
    /// Whether it nests deeper than [`MAX_DEPTH`].
    pub(super) is_too_deep: bool,
}

/// The members of a client message, not parsed yet. `null` is a value here, not an absence.
#[derive(Debug, Default)]
pub(super) struct MessageEnvelope<'a> {
    pub(super) kind: Option<MemberJson<'a>>,
    pub(super) id: Option<MemberJson<'a>>,
    pub(super) to: Option<MemberJson<'a>>,
    pub(super) re: Option<MemberJson<'a>>,
    pub(super) sdp: Option<MemberJson<'a>>,
    pub(super) candidate: Option<MemberJson<'a>>,
    pub(super) data: Option<MemberJson<'a>>,
    pub(super) name: Option<MemberJson<'a>>,
    pub(super) metadata: Option<MemberJson<'a>>,
    pub(super) seq: Option<MemberJson<'a>>,
    pub(super) token: Option<MemberJson<'a>>,
    pub(super) peer: Option<MemberJson<'a>>,
    pub(super) muted: Option<MemberJson<'a>>,
    pub(super) locked: Option<MemberJson<'a>>,
    pub(super) lobby: Option<MemberJson<'a>>,
    pub(super) lock: Option<MemberJson<'a>>,
    pub(super) result: Option<MemberJson<'a>>,
    pub(super) code: Option<MemberJson<'a>>,
    pub(super) ms: Option<MemberJson<'a>>,
    pub(super) relayed: Option<MemberJson<'a>>,
    pub(super) protocol: Option<MemberJson<'a>>,
}

/// The text is not one JSON object, or it repeats a member of the protocol.
#[derive(Debug)]
pub(super) struct NotAnObject;

impl<'a> MessageEnvelope<'a> {
    /// Reads one object. Members that the protocol does not have are checked and ignored.
    pub(super) fn read(text: &'a str) -> Result<Self, NotAnObject> {
        let mut scanner = Scanner { text, at: 0 };
        let mut envelope = Self::default();
        scanner.skip_space();
        scanner.expect(b'{')?;
        scanner.skip_space();
        if scanner.peek() != Some(b'}') {
            loop {
                scanner.skip_space();
                let name = scanner.read_value(0)?.text;
                scanner.skip_space();
                scanner.expect(b':')?;
                scanner.skip_space();
                let value = scanner.read_value(1)?;
                envelope.insert(name, value)?;
                scanner.skip_space();
                if scanner.peek() != Some(b',') {
                    break;
                }
                scanner.at += 1;
            }
        }
        scanner.expect(b'}')?;
        scanner.skip_space();
        if scanner.at == text.len() { Ok(envelope) } else { Err(NotAnObject) }
    }

    /// Keeps a member. `name` is the JSON of its name.
    fn insert(&mut self, name: &str, value: MemberJson<'a>) -> Result<(), NotAnObject> {
        let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).ok_or(NotAnObject)?;
        let unescaped: String;
        let name = if inner.contains('\\') {
            unescaped = serde_json::from_str(name).map_err(|_| NotAnObject)?;
            &unescaped
        } else {
            inner
        };
        let member = match name {
            "type" => &mut self.kind,
            "id" => &mut self.id,
            "to" => &mut self.to,
            "re" => &mut self.re,
            "sdp" => &mut self.sdp,
            "candidate" => &mut self.candidate,
            "data" => &mut self.data,
            "name" => &mut self.name,
            "metadata" => &mut self.metadata,
            "seq" => &mut self.seq,
            "token" => &mut self.token,
            "peer" => &mut self.peer,
            "muted" => &mut self.muted,
            "locked" => &mut self.locked,
            "lobby" => &mut self.lobby,
            "lock" => &mut self.lock,
            "result" => &mut self.result,
            "code" => &mut self.code,
            "ms" => &mut self.ms,
            "relayed" => &mut self.relayed,
            "protocol" => &mut self.protocol,
            _ => return Ok(()),
        };
        if member.replace(value).is_some() { Err(NotAnObject) } else { Ok(()) }
    }
}

/// A position in a JSON text.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotAnObject> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(NotAnObject)
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Reads one value. At `depth` 0 it is the name of a member and must be a string.
    fn read_value(&mut self, depth: u32) -> Result<MemberJson<'a>, NotAnObject> {
        let start = self.at;
        let depth = match self.peek() {
            Some(b'"') => self.skip_string().map(|()| 0)?,
            _ if depth == 0 => return Err(NotAnObject),
            Some(b'{' | b'[') => self.skip_nested()?,
            _ => self.skip_scalar().map(|()| 0)?,
        };
        Ok(MemberJson { text: &self.text[start..self.at], is_too_deep: depth > MAX_DEPTH })
    }

    /// Skips an array or an object. Returns how deep it nests.
    fn skip_nested(&mut self) -> Result<usize, NotAnObject> {
        let start = self.at;
        // The open brackets, the innermost in the lowest bit: 1 for an object.
        let (mut open, mut depth, mut max_depth) = (0_u64, 0_u32, 0);
        loop {
            // A value begins here.
            self.skip_space();
            let opening = self.peek().ok_or(NotAnObject)?;
            let is_nested = matches!(opening, b'{' | b'[');
            if is_nested {
                if depth == MAX_SCANNED_DEPTH {
                    return self.skip_very_deep(start);
                }
                self.at += 1;
                (open, depth) = (open << 1 | u64::from(opening == b'{'), depth + 1);
                max_depth = max_depth.max(depth);
                self.skip_space();
                if self.peek() != Some(closing_bracket(open)) {
                    if open & 1 == 1 {
                        self.skip_name()?;
                    }
                    continue;
                }
            } else {
                self.skip_scalar()?;
            }
            // A value has ended, or an empty array or object is about to.
            loop {
                self.skip_space();
                let next = self.peek().ok_or(NotAnObject)?;
                if next == closing_bracket(open) {
                    self.at += 1;
                    (open, depth) = (open >> 1, depth - 1);
                    if depth == 0 {
                        return Ok(max_depth as usize);
                    }
                } else if next == b',' {
                    self.at += 1;
                    if open & 1 == 1 {
                        self.skip_space();
                        self.skip_name()?;
                    }
                    break;
                } else {
                    return Err(NotAnObject);
                }
            }
        }
    }

    /// Skips a value that nests deeper than the scanner follows, from its beginning.
    fn skip_very_deep(&mut self, start: usize) -> Result<usize, NotAnObject> {
        let mut values = serde_json::Deserializer::from_str(&self.text[start..]).into_iter::<&RawValue>();
        let value = values.next().and_then(Result::ok).ok_or(NotAnObject)?;
        self.at = start + value.get().len();
        Ok(usize::MAX)
    }

    fn skip_name(&mut self) -> Result<(), NotAnObject> {
        if self.peek() != Some(b'"') {
            return Err(NotAnObject);
        }
        self.skip_string()?;
        self.skip_space();
        self.expect(b':')
    }

    /// Skips a string, a number or a literal.
    fn skip_scalar(&mut self) -> Result<(), NotAnObject> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            Some(b't') => self.skip_literal("true"),
            Some(b'f') => self.skip_literal("false"),
            Some(b'n') => self.skip_literal("null"),
            _ => Err(NotAnObject),
        }
    }

    fn skip_literal(&mut self, literal: &str) -> Result<(), NotAnObject> {
        if self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            self.at += literal.len();
            Ok(())
        } else {
            Err(NotAnObject)
        }
    }

    /// Skips a number (RFC 8259, section 6).
    fn skip_number(&mut self) -> Result<(), NotAnObject> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    /// Skips one digit or more.
    fn skip_digits(&mut self) -> Result<(), NotAnObject> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotAnObject) }
    }

    /// Skips a string (RFC 8259, section 7) from its opening quote to behind its closing one.
    fn skip_string(&mut self) -> Result<(), NotAnObject> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        // Most strings are short, and long ones have an escape in every line.
        let (mut special, mut length) = (special_bytes::<16>(bytes, self.at), 16);
        loop {
            while special == 0 {
                self.at += length;
                (special, length) = (special_bytes::<64>(bytes, self.at), 64);
            }
            let index = special.trailing_zeros() as usize;
            let skipped = match bytes.get(self.at + index..) {
                Some([b'"', ..]) => {
                    self.at += index + 1;
                    return Ok(());
                }
                Some([b'\\', escape @ ..]) => index + 1 + escape_length(escape).ok_or(NotAnObject)?,
                // The end of the text, or a control character.
                _ => return Err(NotAnObject),
            };
            if skipped < length {
                special &= u64::MAX << skipped;
            } else {
                self.at += skipped;
                (special, length) = (special_bytes::<64>(bytes, self.at), 64);
            }
        }
    }
}

/// The length of an escape behind its backslash, if it is one.
fn escape_length(escape: &[u8]) -> Option<usize> {
    match escape {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(1),
        [b'u', digits @ ..] => {
            let digits = digits.first_chunk::<4>()?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(5)
        }
        _ => None,
    }
}

fn closing_bracket(open: u64) -> u8 {
    if open & 1 == 1 { b'}' } else { b']' }
}

/// Which of the next `LENGTH` bytes, 64 at most, end the plain part of a string: a bit for each
/// quote, backslash and control character, and for each byte behind the text.
fn special_bytes<const LENGTH: usize>(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut padded = [0; LENGTH];
    let block = rest.first_chunk().unwrap_or_else(|| {
        padded[..rest.len()].copy_from_slice(rest);
        &padded
    });
    let mut special = 0;
    for (index, chunk) in block.as_chunks::<16>().0.iter().enumerate() {
        let chunk = u8x16::new(*chunk);
        let is_control = chunk.min(u8x16::splat(0x1f)).simd_eq(chunk);
        let is_special = chunk.simd_eq(u8x16::splat(b'"')) | chunk.simd_eq(u8x16::splat(b'\\')) | is_control;
        special |= u64::from(is_special.to_bitmask()) << (16 * index);
    }
    special
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The members of an object as serde reads them; none if it is not JSON, or repeats a member.
    fn read_with_serde(text: &str) -> Option<BTreeMap<String, String>> {
        struct Members(BTreeMap<String, String>);
        impl<'de> serde::Deserialize<'de> for Members {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = Members;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Members, A::Error> {
                        let mut members = BTreeMap::new();
                        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                            let known = ["id", "to", "data"].contains(&&*name);
                            if members.insert(name, value.get().to_owned()).is_some() && known {
                                return Err(serde::de::Error::custom("repeated"));
                            }
                        }
                        Ok(Members(members))
                    }
                }
                deserializer.deserialize_map(Visitor)
            }
        }
        serde_json::from_str::<Members>(text).ok().map(|members| members.0)
    }

    fn assert_same(text: &str) {
        let (own, serde) = (MessageEnvelope::read(text), read_with_serde(text));
        assert_eq!(own.is_ok(), serde.is_some(), "{text:?}");
        let (Ok(own), Some(serde)) = (own, serde) else { return };
        for (name, member) in [("id", own.id), ("to", own.to), ("data", own.data)] {
            assert_eq!(member.map(|member| member.text), serde.get(name).map(|json| &**json), "{text:?}");
        }
    }

    #[test]
    fn an_escape_is_found_at_each_place_of_a_long_string() {
        let pieces = [
            r#"\n"#,
            r#"\\"#,
            r#"\""#,
            r#"\u00eF"#,
            r#"\u00"#,
            r#"\u00g0"#,
            r#"\q"#,
            "\u{1}",
            "\n",
            "\"",
            "\u{e9}",
            "\u{7f}",
        ];
        for (before, piece, after) in (0..150).flat_map(|before| {
            pieces.iter().flat_map(move |piece| [0, 1, 20, 100].map(|after| (before, piece, after)))
        }) {
            let string = format!(r#"{}{piece}{}"#, "x".repeat(before), "y".repeat(after));
            assert_same(&format!(r#"{{"data":"{string}","id":3}}"#));
            assert_same(&format!(r#"{{"data":"{string}"#));
            assert_same(&format!(r#"{{"data":"{string}{piece}{piece}"}}"#));
        }
    }

    #[test]
    fn what_is_json_is_decided_as_serde_does() {
        let long = "x".repeat(100);
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let values = [
            "",
            "0",
            "-0",
            "01",
            "1.",
            "1.5e+3",
            "1e",
            "-",
            "+1",
            ".5",
            "1E-2",
            "0x1",
            "NaN",
            "tru",
            "true",
            "nulll",
            "[]",
            "[1,]",
            "[,]",
            "[1 2]",
            "{}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{a:1}"#,
            r#"{1:2}"#,
            "[}",
            "{]",
            r#"[{"a":[]}]"#,
            r#"[{"a":[}]]"#,
            r#""\q""#,
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\ud800""#,
            r#""\"""#,
            r#""\\""#,
            "\"\u{1}\"",
            "\"\u{7f}\"",
            "\"é\u{10ffff}\"",
            "\"",
            "\"\\",
            r#""a" "b""#,
            "1 1",
            "\"\n\"",
            " [ 1 , { \"a\" : null } ] ",
        ];
        let longer = [
            format!("\"{long}\""),
            format!("\"{long}\\"),
            format!("\"{long}\t\""),
            deep(63),
            deep(64),
            deep(65),
            deep(127),
            deep(300),
            format!("{}]", deep(300)),
            "[".repeat(300),
            format!("{{\"a\":{}}}", deep(64)),
        ];
        for value in values.into_iter().map(str::to_owned).chain(longer) {
            for text in [
                format!(r#"{{"data":{value}}}"#),
                format!(r#"{{"x":{value},"id":1}}"#),
                format!(r#"{{"id":1,"data":{value}}} "#),
                format!(r#"{{"id" : {value} , "to":2}}"#),
                value.clone(),
                format!(r#"{{{value}}}"#),
                format!(r#"{{{value}:1}}"#),
                format!(r#"{{"id":1,{value}}}"#),
                format!(r#"{{"id":1}}{value}"#),
                format!(r#"{{"id":{value}"#),
            ] {
                assert_same(&text);
            }
        }
        for text in [
            r#"{"id":1,"id":1}"#,
            r#"{"\u0069d":1}"#,
            r#"{"\u0069d":1,"id":2}"#,
            r#"{"x":1,"x":2}"#,
            "",
            " ",
            "{",
            "\u{feff}{}",
        ] {
            assert_same(text);
        }
    }

    #[test]
    fn nesting_is_measured() {
        let data = |n: usize| format!(r#"{{"data":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        let is_too_deep = |n| MessageEnvelope::read(&data(n)).unwrap().data.unwrap().is_too_deep;
        assert_eq!([1, 64, 65, 200].map(is_too_deep), [false, false, true, true]);
    }

    proptest! {
        #[test]
        fn a_changed_message_is_judged_as_serde_does(
            at in 0_usize..200, byte in prop::sample::select(b"{}[]\",:\\u019-+.eE truefalsn\x00\x1f\x7f".to_vec()), remove: bool,
        ) {
            let sample = r#"{"id":12,"to":"ab","data":{"a":[1,-2.5e3,true,null,{"b":"\u00e9\r\n"}],"c":""},"x":[[],{}],"sdp":"v=0\r\no=- 46 2 IN IP4 127.0.0.1\r\n"}"#;
            let mut bytes = sample.as_bytes().to_vec();
            let at = at % bytes.len();
            if remove { bytes.remove(at); } else { bytes[at] = byte; }
            if let Ok(text) = std::str::from_utf8(&bytes) { assert_same(text); }
        }
    }
}
