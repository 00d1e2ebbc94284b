#![no_main]
//! A message of a client: what is forwarded is one JSON object of that type, from the right peer, and parses again.

use std::collections::HashMap;

use serde_json::value::RawValue;
use signalbox_protocol::{ClientMessage, MessageLimits, id::PeerId};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let bounds = MessageLimits { sdp: 4_096, candidate: 1_024, data: 1_024, metadata: 512 };
    if let Ok(ClientMessage::Forward(forward)) = ClientMessage::parse(text, &bounds) {
        let from = PeerId::from_bits(0xa);
        let frame = forward.to_frame(&from);
        let members: HashMap<String, &RawValue> = serde_json::from_str(&frame).expect("a frame is JSON");
        assert_eq!(members["from"].get(), format!("\"{from}\""));
        assert!(!members.contains_key("to"), "{frame}");
        let again = format!(r#"{{"to":"{}",{}"#, PeerId::from_bits(0xb), &frame[1..]);
        assert!(ClientMessage::parse(&again, &bounds).is_ok(), "{again}");
    }
});
