//! What a client that comes back does with refusals, breaks and copies.

use super::*;

fn at(ms: u64) -> At {
    Duration::from_millis(ms)
}

fn first(kind: &str, more: Value) -> Value {
    let mut frame = json!({"type": kind, "peerId": "me", "resume": "h", "seq": 0, "lastId": 0,
        "peers": [{"peerId": "a", "userId": "a", "detached": false}, {"peerId": "b", "userId": "b", "detached": false}]});
    for (name, value) in more.as_object().into_iter().flatten() {
        frame[name] = value.clone();
    }
    frame
}

fn joined() -> Client {
    let mut client = Client::default();
    client.opened();
    assert_eq!(client.frame(at(0), &first("joined", json!({}))), [Occurred::Joined]);
    client
}

/// The ids that go out now.
fn ids(client: &mut Client, now: u64) -> Vec<u64> {
    let out = client.flush(at(now));
    let frames = out.iter().map(|one| serde_json::from_str::<Value>(&one.text).expect("JSON"));
    frames.filter_map(|frame| frame["id"].as_u64()).collect()
}

fn refuse(client: &mut Client, now: u64, id: u64) {
    let error = json!({"type": "error", "id": id, "code": "unavailable", "retryMs": 500});
    assert!(matches!(client.frame(at(now), &error)[..], [Occurred::Unavailable { .. }]));
}

fn message(seq: u64, from: &str, id: u64) -> Value {
    json!({"type": "message", "seq": seq, "from": from, "id": id, "data": id})
}

#[test]
fn after_unavailable_it_goes_back_to_the_first_refused_id() {
    let mut client = joined();
    (1..=4).for_each(|n| client.say(n, Some("a"), &json!(n)));
    assert_eq!(ids(&mut client, 0), [1, 2, 3, 4]);
    assert_eq!(
        client.frame(at(1), &json!({"type": "ack", "id": 1})),
        [Occurred::Accepted { n: 1, durable: true, duplicate: false }]
    );
    (2..=4).for_each(|id| refuse(&mut client, 10 + id, id));
    client.say(5, Some("a"), &json!(5));
    assert_eq!(ids(&mut client, 100), [] as [u64; 0]);
    assert_eq!(client.deadline(), Some(at(512)));
    assert_eq!(ids(&mut client, 512), [2, 3, 4, 5]);
}

#[test]
fn a_refused_id_holds_up_its_own_target_and_no_other() {
    let mut client = joined();
    client.say(1, Some("a"), &json!(1));
    assert_eq!(ids(&mut client, 0), [1]);
    refuse(&mut client, 0, 1);
    client.say(2, Some("b"), &json!(2));
    client.say(3, Some("a"), &json!(3));
    client.say(4, None, &json!(4));
    client.say(5, Some("b"), &json!(5));
    assert_eq!(ids(&mut client, 1), [2], "the room has a in it, and 5 may not overtake 4");
    assert_eq!(ids(&mut client, 500), [1, 3, 4, 5]);
}

#[test]
fn what_last_id_covers_was_accepted_and_the_rest_is_sent_again() {
    let mut client = joined();
    (1..=3).for_each(|n| client.say(n, None, &json!(n)));
    assert_eq!(ids(&mut client, 0), [1, 2, 3]);
    client.lost();
    assert_eq!(client.way_back(), WayBack::Resume { handle: "h".to_owned(), since: 0 });
    client.opened();
    let resumed = first("resumed", json!({"recovered": true, "lastId": 2, "resume": "i"}));
    let accepted = [1, 2].map(|n| Occurred::Accepted { n, durable: true, duplicate: true });
    let came = client.frame(at(1), &resumed);
    assert_eq!(came[0], Occurred::Resumed { recovered: true, asked: true });
    assert_eq!(came[1..], accepted);
    assert_eq!(ids(&mut client, 1), [3]);
    assert_eq!(client.way_back(), WayBack::Resume { handle: "i".to_owned(), since: 0 });
}

#[test]
fn what_was_heard_is_dropped_across_a_break() {
    let mut client = joined();
    let heard = |id: u64| Occurred::Heard { from: "a".to_owned(), data: json!(id) };
    assert_eq!(client.frame(at(0), &message(1, "a", 7)), [heard(7)]);
    let broken = first("resumed", json!({"recovered": false, "seq": 0}));
    assert_eq!(client.frame(at(1), &broken), [Occurred::Resumed { recovered: false, asked: false }]);
    assert_eq!(client.frame(at(2), &message(1, "a", 7)), [Occurred::Dropped]);
    assert_eq!(client.frame(at(2), &message(2, "a", 8)), [heard(8)]);
    assert_eq!(
        client.frame(at(2), &json!({"type": "duplicate", "seq": 3, "from": "a", "id": 8})),
        [Occurred::Dropped]
    );
    assert_eq!(client.seq(), 3);
}

#[test]
fn a_gap_a_double_and_a_stranger_are_faults() {
    let mut client = joined();
    for bad in [message(2, "a", 1), message(2, "a", 2), json!({"type": "peer-left", "seq": 3, "peerId": "c"})]
    {
        let came = client.frame(at(0), &bad);
        assert!(matches!(came[0], Occurred::Fault(_)), "{came:?}");
    }
}

#[test]
fn a_view_that_came_with_a_break_may_be_ahead_of_the_entries() {
    let mut client = joined();
    let peers = json!([{"peerId": "a", "userId": "a", "detached": true}]);
    client.frame(at(0), &first("resumed", json!({"recovered": false, "seq": 4, "peers": peers})));
    let said = [("peer-detached", "a"), ("peer-left", "b"), ("peer-attached", "a")];
    for (seq, (kind, peer)) in (5..).zip(said) {
        assert_eq!(client.frame(at(0), &json!({"type": kind, "seq": seq, "peerId": peer})), []);
    }
    assert_eq!(client.roster["a"], Member { user: "a".to_owned(), detached: false });
    assert_eq!(client.roster.len(), 1);
}

#[test]
fn it_confirms_every_64_entries_or_5_seconds() {
    let mut client = joined();
    let confirms =
        |client: &mut Client, now| client.flush(at(now)).into_iter().map(|one| one.text).collect::<Vec<_>>();
    client.frame(at(0), &message(1, "a", 1));
    assert_eq!(client.deadline(), Some(at(5_000)));
    assert_eq!(confirms(&mut client, 5_000), [r#"{"seq":1,"type":"received"}"#]);
    (2..65).for_each(|seq| drop(client.frame(at(5_001), &message(seq, "a", seq))));
    assert_eq!(confirms(&mut client, 5_002), [] as [String; 0]);
    client.frame(at(5_003), &message(65, "a", 65));
    assert_eq!(confirms(&mut client, 5_003), [r#"{"seq":65,"type":"received"}"#]);
}
