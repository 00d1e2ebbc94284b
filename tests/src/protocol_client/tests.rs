//! How a client handles rejected messages, resumes and duplicates.

use super::*;

fn at(ms: u64) -> Elapsed {
    Duration::from_millis(ms)
}

fn first_frame(kind: &str, more: Value) -> Value {
    let mut frame = json!({"type": kind, "peerId": "me", "resume": "h", "seq": 0, "lastId": 0,
        "peers": [{"peerId": "a", "userId": "a", "detached": false}, {"peerId": "b", "userId": "b", "detached": false}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        frame[name] = value.clone();
    }
    frame
}

fn joined_client() -> ProtocolClient {
    let mut client = ProtocolClient::default();
    client.connection_opened();
    assert_eq!(client.handle_frame(at(0), &first_frame("joined", json!({}))), [ClientOutput::Joined]);
    client
}

/// The ids of the messages that are sent now.
fn flushed_ids(client: &mut ProtocolClient, now: u64) -> Vec<u64> {
    let out = client.flush(at(now));
    let frames = out.iter().map(|one| serde_json::from_str::<Value>(&one.text).expect("JSON"));
    frames.filter_map(|frame| frame["id"].as_u64()).collect()
}

fn answer_unavailable(client: &mut ProtocolClient, now: u64, id: u64) {
    let error = json!({"type": "error", "id": id, "code": "unavailable", "retryMs": 500});
    assert!(matches!(client.handle_frame(at(now), &error)[..], [ClientOutput::Unavailable { .. }]));
}

fn message(seq: u64, from: &str, id: u64) -> Value {
    json!({"type": "message", "seq": seq, "from": from, "id": id, "data": id})
}

#[test]
fn a_client_retries_from_the_first_unavailable_id() {
    let mut client = joined_client();
    (1..=4).for_each(|n| client.enqueue(n, Some("a"), &json!(n)));
    assert_eq!(flushed_ids(&mut client, 0), [1, 2, 3, 4]);
    assert_eq!(
        client.handle_frame(at(1), &json!({"type": "ack", "id": 1})),
        [ClientOutput::Accepted { n: 1, durable: true, duplicate: false }]
    );
    (2..=4).for_each(|id| answer_unavailable(&mut client, 10 + id, id));
    client.enqueue(5, Some("a"), &json!(5));
    assert_eq!(flushed_ids(&mut client, 100), [] as [u64; 0]);
    assert_eq!(client.deadline(), Some(at(512)));
    assert_eq!(flushed_ids(&mut client, 512), [2, 3, 4, 5]);
}

#[test]
fn an_unavailable_id_delays_only_messages_to_the_same_target() {
    let mut client = joined_client();
    client.enqueue(1, Some("a"), &json!(1));
    assert_eq!(flushed_ids(&mut client, 0), [1]);
    answer_unavailable(&mut client, 0, 1);
    client.enqueue(2, Some("b"), &json!(2));
    client.enqueue(3, Some("a"), &json!(3));
    client.enqueue(4, None, &json!(4));
    client.enqueue(5, Some("b"), &json!(5));
    assert_eq!(flushed_ids(&mut client, 1), [2], "a is in the room, and 5 may not overtake 4");
    assert_eq!(flushed_ids(&mut client, 500), [1, 3, 4, 5]);
}

#[test]
fn after_a_resume_messages_above_last_id_are_sent_again() {
    let mut client = joined_client();
    (1..=3).for_each(|n| client.enqueue(n, None, &json!(n)));
    assert_eq!(flushed_ids(&mut client, 0), [1, 2, 3]);
    client.connection_lost();
    assert_eq!(client.connect_mode(), ConnectMode::Resume { handle: "h".to_owned(), since: 0 });
    client.connection_opened();
    let resumed = first_frame("resumed", json!({"recovered": true, "lastId": 2, "resume": "i"}));
    let accepted = [1, 2].map(|n| ClientOutput::Accepted { n, durable: true, duplicate: true });
    let outputs = client.handle_frame(at(1), &resumed);
    assert_eq!(outputs[0], ClientOutput::Resumed { recovered: true, requested: true });
    assert_eq!(outputs[1..], accepted);
    assert_eq!(flushed_ids(&mut client, 1), [3]);
    assert_eq!(client.connect_mode(), ConnectMode::Resume { handle: "i".to_owned(), since: 0 });
}

#[test]
fn a_message_delivered_before_recovered_false_is_dropped_when_repeated() {
    let mut client = joined_client();
    let delivered = |id: u64| ClientOutput::Delivered { from: "a".to_owned(), data: json!(id) };
    assert_eq!(client.handle_frame(at(0), &message(1, "a", 7)), [delivered(7)]);
    let resumed = first_frame("resumed", json!({"recovered": false, "seq": 0}));
    assert_eq!(
        client.handle_frame(at(1), &resumed),
        [ClientOutput::Resumed { recovered: false, requested: false }]
    );
    assert_eq!(client.handle_frame(at(2), &message(1, "a", 7)), [ClientOutput::DuplicateDropped]);
    assert_eq!(client.handle_frame(at(2), &message(2, "a", 8)), [delivered(8)]);
    assert_eq!(
        client.handle_frame(at(2), &json!({"type": "duplicate", "seq": 3, "from": "a", "id": 8})),
        [ClientOutput::DuplicateDropped]
    );
    assert_eq!(client.seq(), 3);
}

#[test]
fn a_gap_a_repeated_seq_and_an_unknown_peer_are_protocol_violations() {
    let mut client = joined_client();
    for frame in
        [message(2, "a", 1), message(2, "a", 2), json!({"type": "peer-left", "seq": 3, "peerId": "c"})]
    {
        let outputs = client.handle_frame(at(0), &frame);
        assert!(matches!(outputs[0], ClientOutput::ProtocolViolation(_)), "{outputs:?}");
    }
}

#[test]
fn after_recovered_false_the_snapshot_may_be_newer_than_the_entries() {
    let mut client = joined_client();
    let peers = json!([{"peerId": "a", "userId": "a", "detached": true}]);
    client
        .handle_frame(at(0), &first_frame("resumed", json!({"recovered": false, "seq": 4, "peers": peers})));
    let events = [("peer-detached", "a"), ("peer-left", "b"), ("peer-attached", "a")];
    for (seq, (kind, peer)) in (5..).zip(events) {
        assert_eq!(client.handle_frame(at(0), &json!({"type": kind, "seq": seq, "peerId": peer})), []);
    }
    assert_eq!(client.roster["a"], PeerView { user: "a".to_owned(), detached: false });
    assert_eq!(client.roster.len(), 1);
}

#[test]
fn a_client_confirms_every_64_entries_or_5_seconds() {
    let mut client = joined_client();
    let confirms = |client: &mut ProtocolClient, now| {
        client.flush(at(now)).into_iter().map(|one| one.text).collect::<Vec<_>>()
    };
    client.handle_frame(at(0), &message(1, "a", 1));
    assert_eq!(client.deadline(), Some(at(5_000)));
    assert_eq!(confirms(&mut client, 5_000), [r#"{"seq":1,"type":"received"}"#]);
    (2..65).for_each(|seq| drop(client.handle_frame(at(5_001), &message(seq, "a", seq))));
    assert_eq!(confirms(&mut client, 5_002), [] as [String; 0]);
    client.handle_frame(at(5_003), &message(65, "a", 65));
    assert_eq!(confirms(&mut client, 5_003), [r#"{"seq":65,"type":"received"}"#]);
}

#[test]
fn a_refused_id_of_a_resume_is_rejected_and_not_accepted() {
    let mut client = joined_client();
    (1..=4).for_each(|n| client.enqueue(n, None, &json!(n)));
    assert_eq!(flushed_ids(&mut client, 0), [1, 2, 3, 4]);
    client.connection_lost();
    client.connection_opened();
    let refused = json!([{"id": 2, "code": "peer_backlogged"}, {"id": 9, "code": "no_such_peer"}]);
    let resumed = first_frame("resumed", json!({"recovered": true, "lastId": 3, "refused": refused}));
    let accepted = |n| ClientOutput::Accepted { n, durable: true, duplicate: true };
    assert_eq!(
        client.handle_frame(at(1), &resumed),
        [
            ClientOutput::Resumed { recovered: true, requested: true },
            ClientOutput::Rejected { n: 2, code: "peer_backlogged".to_owned() },
            accepted(1),
            accepted(3),
        ]
    );
    assert_eq!(flushed_ids(&mut client, 2), [4]);
}
