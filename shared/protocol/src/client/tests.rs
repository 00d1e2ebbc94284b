//! What is taken and what is refused.

use super::*;

const LIMITS: MessageLimits = MessageLimits { sdp: 200, candidate: 200, data: 200, metadata: 100 };

fn peer() -> PeerId {
    PeerId::from_bits(0xb0b)
}

fn parse_to_frame(json: &str) -> Result<String, MessageError> {
    let text = json.replace("$B", peer().as_str());
    match ClientMessage::parse(&text, &LIMITS)? {
        ClientMessage::Forward(forward) => Ok(forward.to_frame(&PeerId::from_bits(0xa))),
        other => panic!("{other:?}"),
    }
}

fn parse_error(json: &str) -> (ErrorCode, Option<&'static str>) {
    let broken = parse_to_frame(json).unwrap_err();
    (broken.code, broken.field)
}

#[test]
fn an_offer_is_forwarded_with_from_and_without_to() {
    let out =
        parse_to_frame(r#"{"type":"offer","to":"$B","id":7,"sdp":"v=0\r\n","from":"forged","x":1}"#).unwrap();
    assert_eq!(
        out,
        format!(r#"{{"type":"offer","from":"{}","id":7,"sdp":"v=0\r\n"}}"#, PeerId::from_bits(0xa))
    );
}

#[test]
fn a_candidate_is_forwarded_byte_for_byte() {
    let init = r#"{"candidate":"","sdpMid":null, "usernameFragment" : "xyz","later":[1]}"#;
    let out =
        parse_to_frame(&format!(r#"{{"type":"candidate","to":"$B","re":3,"candidate":{init}}}"#)).unwrap();
    assert!(out.ends_with(&format!(r#","re":3,"candidate":{init}}}"#)), "{out}");
}

#[test]
fn the_payload_range_is_the_payload_of_the_frame() {
    let init = r#"{"candidate":"","sdpMid":"0"}"#;
    for (rest, payload) in [
        (r#""type":"offer","id":7,"re":3,"sdp":"v=0""#.to_owned(), Some(r#""v=0""#)),
        (format!(r#""type":"candidate","candidate":{init}"#), Some(init)),
        (r#""type":"rollback","id":1"#.to_owned(), None),
    ] {
        let text = format!(r#"{{"to":"{}",{rest}}}"#, peer());
        let Ok(ClientMessage::Forward(forward)) = ClientMessage::parse(&text, &LIMITS) else {
            panic!("{text}")
        };
        let frame = forward.to_frame(&peer());
        assert_eq!(forward.payload_range(&frame).map(|at| &frame[at]), payload, "{frame}");
    }
}

#[test]
fn null_data_is_valid_and_missing_data_is_not() {
    assert!(
        parse_to_frame(r#"{"type":"message","data":null}"#).unwrap().ends_with(r#""room":true,"data":null}"#)
    );
    assert_eq!(parse_error(r#"{"type":"message"}"#), (ErrorCode::BadMessage, Some("data")));
}

#[test]
fn every_defect_names_its_field() {
    use ErrorCode::{BadMessage, TooLarge, UnknownType, Unsupported};
    let long = "x".repeat(300);
    for (json, code, field) in [
        ("", BadMessage, None),
        ("[]", BadMessage, None),
        ("{", BadMessage, None),
        (r#"["offer"]"#, BadMessage, None),
        (r#"{"type":"ping","type":"ping"}"#, BadMessage, None),
        (r#"{"id":1}"#, BadMessage, Some("type")),
        (r#"{"type":1}"#, BadMessage, Some("type")),
        (r#"{"type":"Offer"}"#, UnknownType, Some("type")),
        (r#"{"type":"report"}"#, Unsupported, Some("type")),
        (r#"{"type":"kick"}"#, BadMessage, Some("peer")),
        (r#"{"type":"admit","peer":"bob"}"#, BadMessage, Some("peer")),
        (r#"{"type":"mute","peer":"$B","muted":1}"#, BadMessage, Some("muted")),
        (r#"{"type":"lock","locked":null}"#, BadMessage, Some("locked")),
        (r#"{"type":"lobby","lobby":1}"#, BadMessage, Some("lobby")),
        (r#"{"type":"end","lock":"yes"}"#, BadMessage, Some("lock")),
        (r#"{"type":"outcome","result":"failed"}"#, BadMessage, Some("peer")),
        (r#"{"type":"outcome","peer":"bob","result":"failed"}"#, BadMessage, Some("peer")),
        (r#"{"type":"outcome","peer":"$B"}"#, BadMessage, Some("result")),
        (r#"{"type":"outcome","peer":"$B","result":"Failed"}"#, BadMessage, Some("result")),
        (r#"{"type":"outcome","peer":"$B","result":"failed","code":"other"}"#, BadMessage, Some("code")),
        (r#"{"type":"outcome","peer":"$B","result":"connected","code":"no_path"}"#, BadMessage, Some("code")),
        (r#"{"type":"outcome","peer":"$B","result":"failed","ms":-1}"#, BadMessage, Some("ms")),
        (r#"{"type":"outcome","peer":"$B","result":"failed","ms":3600001}"#, BadMessage, Some("ms")),
        (r#"{"type":"outcome","peer":"$B","result":"failed","relayed":0}"#, BadMessage, Some("relayed")),
        (
            r#"{"type":"outcome","peer":"$B","result":"failed","protocol":"UDP"}"#,
            BadMessage,
            Some("protocol"),
        ),
        (r#"{"type":"offer","sdp":"v=0"}"#, BadMessage, Some("to")),
        (r#"{"type":"offer","to":"bob","sdp":"v=0"}"#, BadMessage, Some("to")),
        (r#"{"type":"offer","to":"$B"}"#, BadMessage, Some("sdp")),
        (r#"{"type":"offer","to":"$B","sdp":""}"#, BadMessage, Some("sdp")),
        (r#"{"type":"offer","to":"$B","sdp":{}}"#, BadMessage, Some("sdp")),
        (&format!(r#"{{"type":"offer","to":"$B","sdp":"{long}"}}"#), TooLarge, Some("sdp")),
        (r#"{"type":"candidate","to":"$B","candidate":null}"#, BadMessage, Some("candidate")),
        (r#"{"type":"candidate","to":"$B","candidate":{"sdpMLineIndex":-1}}"#, BadMessage, Some("candidate")),
        (r#"{"type":"answer","to":"$B","sdp":"v=0","re":"x"}"#, BadMessage, Some("re")),
        (r#"{"type":"ping","id":0}"#, BadMessage, Some("id")),
        (r#"{"type":"ping","id":9007199254740992}"#, BadMessage, Some("id")),
        (r#"{"type":"ping","id":1.5}"#, BadMessage, Some("id")),
        (r#"{"type":"received"}"#, BadMessage, Some("seq")),
        (r#"{"type":"update","name":"a\u0007"}"#, BadMessage, Some("name")),
        (r#"{"type":"update","metadata":[]}"#, BadMessage, Some("metadata")),
        (&format!(r#"{{"type":"message","data":"{long}"}}"#), TooLarge, Some("data")),
        (
            &format!(r#"{{"type":"message","data":{}{}}}"#, "[".repeat(65), "]".repeat(65)),
            BadMessage,
            Some("data"),
        ),
    ] {
        assert_eq!(parse_error(json), (code, field), "{json}");
    }
}

#[test]
fn an_error_carries_the_id_of_the_message() {
    assert_eq!(parse_to_frame(r#"{"type":"offer","id":9}"#).unwrap_err().id, Some(9));
}

#[test]
fn an_outcome_has_every_result_code_and_protocol_and_no_message_id() {
    for result in PairResult::ALL {
        for code in FailureCode::ALL.iter().filter(|_| *result != PairResult::Connected) {
            for protocol in PathProtocol::ALL {
                let text = format!(
                    r#"{{"type":"outcome","peer":"{}","result":"{}","code":"{}","ms":0,"relayed":false,"protocol":"{}","id":7}}"#,
                    peer(),
                    result.as_str(),
                    code.as_str(),
                    protocol.as_str()
                );
                let message = ClientMessage::parse(&text, &LIMITS).unwrap();
                assert_eq!(message.message_id(), None, "{text}");
                assert!(!message.is_allowed_in_lobby());
                let ClientMessage::Outcome(outcome) = message else { panic!("{text}") };
                let expected = PairOutcome {
                    peer: peer(),
                    result: *result,
                    code: Some(*code),
                    ms: Some(0),
                    relayed: Some(false),
                    protocol: Some(*protocol),
                };
                assert_eq!(outcome, expected);
            }
        }
    }
}
