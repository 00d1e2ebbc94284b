//! The JSON Schema of the wire (docs/schema), generated from the Rust types.
//!
//! `client` parses client messages without derived types, for speed. So their shape is described
//! here once more as types. The golden vectors check that the parser and the schema accept the same
//! messages.

use schemars::{JsonSchema, Schema, schema_for};

use super::ServerMessage;
use crate::{FailureCode, PairResult, PathProtocol, id::PeerId};

// The schemas by the name of their file in `docs/schema`.
fn all_schemas() -> [(&'static str, Schema); 2] {
    [("client.schema.json", schema_for!(ClientFrame)), ("server.schema.json", schema_for!(ServerMessage))]
}

/// A message of a client (docs/PROTOCOL.md, section 4).
#[derive(JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum ClientFrame {
    Offer(OfferFrame),
    Answer(AnswerFrame),
    Pranswer(AnswerFrame),
    Rollback(RollbackFrame),
    Candidate(CandidateFrame),
    Message(ApplicationMessageFrame),
    Update(UpdateFrame),
    Leave(MessageIdMember),
    Going(MessageIdMember),
    Received(ReceivedFrame),
    Outcome(OutcomeFrame),
    Refresh(RefreshFrame),
    Ping(MessageIdMember),
    Kick(PeerCommandFrame),
    Mute(MuteFrame),
    Lock(LockFrame),
    Lobby(LobbyFrame),
    Admit(PeerCommandFrame),
    End(EndFrame),
}

/// An `RTCSessionDescriptionInit` with an address.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct OfferFrame {
    to: PeerId,
    #[schemars(length(min = 1))]
    sdp: String,
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 9_007_199_254_740_991_u64))]
    id: Option<u64>,
}

/// A description that belongs to an offer.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct AnswerFrame {
    #[serde(flatten)]
    description: OfferFrame,
    /// The `id` of the offer.
    #[serde(default)]
    #[schemars(with = "u64", range(max = 9_007_199_254_740_991_u64))]
    re: Option<u64>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RollbackFrame {
    to: PeerId,
    #[serde(flatten)]
    numbered: MessageIdMember,
    #[serde(default)]
    #[schemars(with = "u64", range(max = 9_007_199_254_740_991_u64))]
    re: Option<u64>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct CandidateFrame {
    to: PeerId,
    candidate: CandidateInit,
    #[serde(flatten)]
    numbered: MessageIdMember,
    #[serde(default)]
    #[schemars(with = "u64", range(max = 9_007_199_254_740_991_u64))]
    re: Option<u64>,
}

/// An `RTCIceCandidateInit`.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
struct CandidateInit {
    /// The candidate line; empty for end-of-candidates.
    candidate: String,
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    sdp_m_line_index: Option<u16>,
    username_fragment: Option<String>,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ApplicationMessageFrame {
    #[serde(default)]
    #[schemars(with = "PeerId")]
    to: Option<PeerId>,
    data: serde_json::Value,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct UpdateFrame {
    #[serde(default)]
    #[schemars(with = "String", length(max = 64))]
    name: Option<String>,
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct ReceivedFrame {
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    seq: u64,
}

/// How an attempt to connect to another peer ended.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct OutcomeFrame {
    peer: PeerId,
    result: PairResult,
    /// Only with `failed` and `closed`.
    #[serde(default)]
    #[schemars(with = "FailureCode")]
    code: Option<FailureCode>,
    /// The time from the start of the attempt to its end, milliseconds.
    #[serde(default)]
    #[schemars(with = "u32", range(max = 3_600_000))]
    ms: Option<u32>,
    /// Whether the path goes through a relay.
    #[serde(default)]
    #[schemars(with = "bool")]
    relayed: Option<bool>,
    /// The protocol of the path.
    #[serde(default)]
    #[schemars(with = "PathProtocol")]
    protocol: Option<PathProtocol>,
}

/// A command about another peer.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct PeerCommandFrame {
    peer: PeerId,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct MuteFrame {
    peer: PeerId,
    /// True if absent.
    #[serde(default)]
    #[schemars(with = "bool")]
    muted: Option<bool>,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct LockFrame {
    /// True if absent.
    #[serde(default)]
    #[schemars(with = "bool")]
    locked: Option<bool>,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct LobbyFrame {
    /// True if absent.
    #[serde(default)]
    #[schemars(with = "bool")]
    lobby: Option<bool>,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct EndFrame {
    /// False if absent.
    #[serde(default)]
    #[schemars(with = "bool")]
    lock: Option<bool>,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

/// A newer token for the connection.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct RefreshFrame {
    /// A room token of the same user and room.
    #[schemars(length(min = 1))]
    token: String,
    #[serde(flatten)]
    numbered: MessageIdMember,
}

/// The message id, under which the server answers.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct MessageIdMember {
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 9_007_199_254_740_991_u64))]
    id: Option<u64>,
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use serde_json::Value;

    use super::*;
    use crate::{ClientMessage, MessageLimits, ServerMessage};

    const LIMITS: MessageLimits =
        MessageLimits { sdp: 49_152, candidate: 2_048, data: 16_384, metadata: 4_096 };

    fn schema_path(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema").join(name)
    }

    /// The name of each case, its frame as text, and the whole case.
    fn load_vectors(file: &str) -> Vec<(String, String, Value)> {
        let text = fs::read_to_string(schema_path("vectors").join(file)).unwrap();
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let case = |case: &Value| {
            let frame = match &case["frame"] {
                Value::String(raw) => raw.clone(),
                object => object.to_string(),
            };
            (case["name"].as_str().unwrap().to_owned(), frame, case.clone())
        };
        vectors["cases"].as_array().unwrap().iter().map(case).collect()
    }

    fn schema_validator(file: &str) -> jsonschema::Validator {
        let schema = all_schemas().into_iter().find(|(name, _)| *name == file).unwrap().1;
        jsonschema::validator_for(schema.as_value()).unwrap()
    }

    #[test]
    fn the_schemas_in_docs_match_the_types() {
        for (name, schema) in all_schemas() {
            let expected = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            if std::env::var_os("UPDATE_SCHEMA").is_some() {
                fs::write(schema_path(name), &expected).unwrap();
            }
            let found = fs::read_to_string(schema_path(name)).unwrap_or_default();
            assert!(
                found == expected,
                "docs/schema/{name} is out of date: UPDATE_SCHEMA=1 cargo test -p signalbox-protocol schema"
            );
        }
    }

    #[test]
    fn every_client_vector_is_accepted_or_rejected_as_recorded() {
        let schema = schema_validator("client.schema.json");
        for (name, frame, case) in load_vectors("client.json") {
            match ClientMessage::parse(&frame, &LIMITS) {
                Ok(_) => {
                    assert_eq!(case["ok"], true, "{name}: was taken");
                    let frame: Value = serde_json::from_str(&frame).unwrap();
                    assert!(schema.is_valid(&frame), "{name}: the parser takes it, the schema does not");
                }
                Err(broken) => {
                    assert_eq!(case["ok"], false, "{name}: {broken:?}");
                    assert_eq!(case["code"], broken.code.as_str(), "{name}");
                    assert_eq!(case["field"].as_str(), broken.field, "{name}");
                }
            }
        }
    }

    /// The members in the schema of one `type`.
    fn schema_members(kind: &str) -> Vec<String> {
        let schema = serde_json::to_value(schema_for!(ServerMessage)).unwrap();
        let branches = schema["oneOf"].as_array().unwrap();
        let branch =
            branches.iter().find(|branch| branch["properties"]["type"]["const"] == kind).expect(kind);
        let referred = branch["$ref"].as_str().map(|path| schema.pointer(&path[1..]).unwrap());
        let objects = std::iter::once(branch).chain(referred);
        objects.flat_map(|object| object["properties"].as_object().unwrap().keys().cloned()).collect()
    }

    #[test]
    fn every_server_vector_matches_the_schema() {
        let schema = schema_validator("server.schema.json");
        for (name, frame, _) in load_vectors("server.json") {
            let value: Value = serde_json::from_str(&frame).unwrap();
            assert!(schema.is_valid(&value), "{name}: not as the schema says");
            let known = schema_members(value["type"].as_str().unwrap());
            for member in value.as_object().unwrap().keys() {
                assert!(known.contains(member), "{name}: the types have no member {member}");
            }
        }
    }

    #[test]
    fn every_forwarded_client_vector_becomes_a_valid_server_message() {
        let schema = schema_validator("server.schema.json");
        for (name, frame, case) in load_vectors("client.json") {
            let Ok(ClientMessage::Forward(forward)) = ClientMessage::parse(&frame, &LIMITS) else { continue };
            let body = forward.to_frame(&PeerId::from_bits(1));
            let delivered = format!(r#"{{"seq":1,{}"#, &body[1..]);
            let message: Value = serde_json::from_str(&delivered).unwrap();
            assert_eq!(message["type"], case["frame"]["type"], "{name}");
            assert!(schema.is_valid(&message), "{name}: {delivered}");
        }
    }
}
