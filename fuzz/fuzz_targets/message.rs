#![no_main]
//! The parser of client messages. A forwarded message is one JSON object with the `from` of the
//! server and without `to`, and it parses again.

use std::collections::HashMap;

use serde_json::value::RawValue;
use signalbox_protocol::{ClientMessage, MessageLimits, id::PeerId};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let limits = MessageLimits { sdp: 4_096, candidate: 1_024, data: 1_024, metadata: 512 };
    if let Ok(ClientMessage::Forward(forward)) = ClientMessage::parse(text, &limits) {
        let from = PeerId::from_bits(0xa);
        let frame = forward.to_frame(&from);
        let members: HashMap<String, &RawValue> = serde_json::from_str(&frame).expect("a frame is JSON");
        assert_eq!(members["from"].get(), format!("\"{from}\""));
        assert!(!members.contains_key("to"), "{frame}");
        let sent_again = format!(r#"{{"to":"{}",{}"#, PeerId::from_bits(0xb), &frame[1..]);
        assert!(ClientMessage::parse(&sent_again, &limits).is_ok(), "{sent_again}");
    }
});
