//! Tests of the schedule, with days of simulated time.

use signalbox_config::{WebhookEndpoint, WebhookSecrets};

use super::*;

const LIMITS: DeliveryLimits =
    DeliveryLimits { give_up_ms: 24 * 60 * 60_000, max_attempts: 300, max_parallel: 4, max_backlog: 100 };
const RETRY: DeliveryOutcome = DeliveryOutcome::Retry { why: DeliveryFailure::Status(500), after: None };
const SECOND_MS: u64 = 1_000;

fn endpoint_settings(url: &str) -> WebhookEndpoint {
    WebhookEndpoint { url: url.to_owned(), events: vec![], rooms: None, insecure: false, secrets_env: None }
}

fn endpoint(url: &str) -> EndpointTarget {
    EndpointTarget::new(&endpoint_settings(url), WebhookSecrets::default())
}

fn schedule(endpoints: usize, limits: DeliveryLimits) -> DeliverySchedule {
    DeliverySchedule::new(
        (0..endpoints).map(|n| endpoint(&format!("https://e{n}.example/"))).collect(),
        limits,
    )
}

fn event(n: u64, room: &str) -> WebhookEvent {
    let line = format!(r#"{{"id":"evt_{n}","event":"peer-joined","room":"{room}"}}"#);
    WebhookEvent::parse(7, StreamEntryId(n, 0), &line, None).unwrap()
}

fn never_tried(_: &str) -> Option<u32> {
    Some(0)
}

fn start_due(schedule: &mut DeliverySchedule, now: u64) -> Vec<DeliveryAttempt> {
    schedule.start_due_attempts(now)
}

fn attempt_names(attempts: &[DeliveryAttempt]) -> Vec<(usize, &str)> {
    attempts.iter().map(|attempt| (attempt.endpoint, attempt.event.id.as_str())).collect()
}

#[test]
fn events_of_a_room_are_delivered_in_order_and_a_failing_room_delays_no_other() {
    let mut schedule = schedule(1, LIMITS);
    for (n, room) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        schedule.add_event(event(n, room), n, never_tried);
    }
    let attempts = start_due(&mut schedule, 10);
    assert_eq!(attempt_names(&attempts), [(0, "evt_1"), (0, "evt_3")]);
    assert!(start_due(&mut schedule, 10).is_empty(), "the second waits for the first");
    schedule.finish_attempt(&attempts[0], RETRY, 10, 0.0);
    schedule.finish_attempt(&attempts[1], DeliveryOutcome::Delivered, 10, 0.0);
    let attempts = start_due(&mut schedule, 11);
    assert_eq!(attempt_names(&attempts), [(0, "evt_4")], "room b goes on while a backs off");
    assert_eq!(schedule.next_due(), Some(10 + SECOND_MS));
    let attempts = start_due(&mut schedule, 10 + SECOND_MS);
    assert_eq!(attempt_names(&attempts), [(0, "evt_1")]);
    schedule.finish_attempt(&attempts[0], DeliveryOutcome::Delivered, 2_000, 0.0);
    assert_eq!(attempt_names(&start_due(&mut schedule, 2_000)), [(0, "evt_2")]);
    let writes = schedule.take_pending_writes().remove(&7).unwrap();
    assert_eq!(writes.finished_entries, [StreamEntryId(3, 0), StreamEntryId(1, 0)]);
}

#[test]
fn failing_endpoint_delays_no_other_endpoint() {
    let mut schedule = schedule(2, LIMITS);
    schedule.add_event(event(1, "a"), 0, never_tried);
    schedule.add_event(event(2, "a"), 0, never_tried);
    let attempts = start_due(&mut schedule, 0);
    assert_eq!(attempt_names(&attempts), [(0, "evt_1"), (1, "evt_1")]);
    schedule.finish_attempt(&attempts[0], RETRY, 0, 1.0);
    schedule.finish_attempt(&attempts[1], DeliveryOutcome::Delivered, 0, 0.0);
    assert_eq!(attempt_names(&start_due(&mut schedule, 0)), [(1, "evt_2")]);
    let writes = schedule.take_pending_writes().remove(&7).unwrap();
    assert_eq!(writes.finished_entries, [], "an event is not finished while one endpoint still waits for it");
    let progress: Vec<_> = writes.progress.values().collect();
    assert!(progress.contains(&&Some(1)) && progress.contains(&&None));
}

#[test]
fn retry_delay_doubles_up_to_five_minutes_and_retry_after_may_extend_it() {
    let mut longest = Vec::new();
    for attempts in [1, 2, 3, 8, 9, 10, 300] {
        let (short, long) = (retry_delay_ms(attempts, None, 0.0), retry_delay_ms(attempts, None, 1.0));
        assert_eq!(short * 2, long);
        longest.push(long);
    }
    assert_eq!(longest, [2_000, 4_000, 8_000, 256_000, 300_000, 300_000, 300_000]);
    assert_eq!(retry_delay_ms(1, Some(Duration::from_secs(90)), 0.5), 90_000);
    assert_eq!(retry_delay_ms(1, Some(Duration::MAX), 0.5), 60 * 60_000);
}

/// Fails every attempt until no event is left. Returns the number of attempts and the dead letters.
fn fail_until_empty(schedule: &mut DeliverySchedule, from: u64) -> (usize, Vec<AbandonedEvent>) {
    let (mut count, mut now) = (0, from);
    while let Some(due) = schedule.next_due() {
        now = now.max(due);
        for attempt in schedule.start_due_attempts(now) {
            count += 1;
            schedule.finish_attempt(&attempt, RETRY, now, 0.5);
        }
    }
    (count, schedule.take_pending_writes().into_values().flat_map(|writes| writes.dead_letters).collect())
}

#[test]
fn event_becomes_a_dead_letter_after_its_maximum_age_or_attempts() {
    let mut by_age = schedule(1, LIMITS);
    by_age.add_event(event(1, "a"), 1, never_tried);
    let (attempts, dead) = fail_until_empty(&mut by_age, 1);
    assert!((280..400).contains(&attempts) || dead[0].cause == DeadLetterCause::Attempts, "{attempts}");
    let mut by_age = schedule(1, DeliveryLimits { max_attempts: 1_000, ..LIMITS });
    by_age.add_event(event(1, "a"), 1, never_tried);
    let (_, dead) = fail_until_empty(&mut by_age, 1);
    assert_eq!((dead.len(), dead[0].cause, &*dead[0].last_failure), (1, DeadLetterCause::Age, "status 500"));
    let mut by_attempts = schedule(1, DeliveryLimits { max_attempts: 3, ..LIMITS });
    by_attempts.add_event(event(1, "a"), 1, never_tried);
    by_attempts.add_event(event(2, "a"), 1, never_tried);
    let (attempts, dead) = fail_until_empty(&mut by_attempts, 1);
    assert_eq!((attempts, dead.len()), (6, 2));
    assert!(dead.iter().all(|dead| dead.cause == DeadLetterCause::Attempts && dead.attempts == 3));
    assert_eq!(by_attempts.len(), 0);
}

#[test]
fn attempts_before_a_restart_count() {
    let mut schedule = schedule(2, DeliveryLimits { max_attempts: 3, ..LIMITS });
    let done = schedule.endpoints[1].id.clone();
    schedule.add_event(event(1, "a"), 0, |endpoint| if endpoint == done { None } else { Some(2) });
    let attempts = start_due(&mut schedule, 0);
    assert_eq!(attempt_names(&attempts), [(0, "evt_1")], "the other endpoint has finished the event");
    schedule.finish_attempt(&attempts[0], RETRY, 0, 0.0);
    assert_eq!(schedule.take_pending_writes().remove(&7).unwrap().dead_letters[0].attempts, 3);
}

#[test]
fn status_410_is_not_retried() {
    let mut schedule = schedule(1, LIMITS);
    schedule.add_event(event(1, "a"), 0, never_tried);
    let attempts = start_due(&mut schedule, 0);
    schedule.finish_attempt(&attempts[0], DeliveryOutcome::EndpointGone, 0, 0.0);
    let writes = schedule.take_pending_writes().remove(&7).unwrap();
    assert_eq!(
        (writes.dead_letters[0].cause, &writes.finished_entries[..]),
        (DeadLetterCause::EndpointGone, &[StreamEntryId(1, 0)][..])
    );
}

#[test]
fn full_backlog_turns_the_oldest_events_into_dead_letters() {
    let mut schedule = schedule(1, DeliveryLimits { max_backlog: 2, ..LIMITS });
    schedule.add_event(event(1, "a"), 0, never_tried);
    let first = start_due(&mut schedule, 0);
    for n in 2..=5 {
        schedule.add_event(event(n, "a"), 0, never_tried);
    }
    let writes = schedule.take_pending_writes().remove(&7).unwrap();
    let dead: Vec<_> = writes.dead_letters.iter().map(|dead| (&dead.line[..14], dead.cause)).collect();
    assert_eq!(
        dead,
        [
            (r#"{"id":"evt_2","#, DeadLetterCause::BacklogFull),
            (r#"{"id":"evt_3","#, DeadLetterCause::BacklogFull)
        ]
    );
    schedule.finish_attempt(&first[0], DeliveryOutcome::Delivered, 0, 0.0);
    assert_eq!(attempt_names(&start_due(&mut schedule, 0)), [(0, "evt_4")]);
}

#[test]
fn full_backlog_takes_the_events_of_the_room_that_has_most() {
    let mut schedule = schedule(1, DeliveryLimits { max_backlog: 4, ..LIMITS });
    for (n, room) in [(1, "quiet"), (2, "quiet"), (3, "busy"), (4, "busy"), (5, "busy"), (6, "busy")] {
        schedule.add_event(event(n, room), 0, never_tried);
    }
    schedule.add_event(event(7, "new"), 0, never_tried);
    let writes = schedule.take_pending_writes().remove(&7).unwrap();
    let dead: Vec<&str> = writes.dead_letters.iter().map(|dead| &dead.line[7..12]).collect();
    assert_eq!(dead, ["evt_3", "evt_4", "evt_1"], "of rooms that have as much, the oldest");
    let left: Vec<&str> = schedule.events_of(7).map(|event| &*event.id).collect();
    assert_eq!(left, ["evt_2", "evt_5", "evt_6", "evt_7"]);
    schedule.drop_partition(7);
    schedule.add_event(event(8, "new"), 0, never_tried);
    assert!(schedule.take_pending_writes().is_empty(), "a dropped partition does not count");
}

/// A tenant with events in many rooms takes no place of a tenant with one room.
#[test]
fn full_backlog_takes_the_events_of_the_root_that_has_most() {
    let mut schedule = schedule(1, DeliveryLimits { max_backlog: 5, ..LIMITS });
    let mut add = |n: u64, root: &str, room: &str| {
        let line = format!(r#"{{"id":"evt_{n}","event":"peer-left","room":"{room}","root":"{root}"}}"#);
        let event = WebhookEvent::parse(7, StreamEntryId(n, 0), &line, None).unwrap();
        schedule.add_event(event, 0, never_tried);
    };
    add(1, "key:globex", "globex-1");
    add(2, "key:globex", "globex-1");
    add(3, "key:acme", "acme-0");
    add(4, "key:acme", "acme-0");
    for n in 5..20 {
        add(n, "key:acme", &format!("acme-{n}"));
    }
    let left: Vec<&str> = schedule.events_of(7).map(|event| &*event.id).collect();
    assert_eq!(left, ["evt_1", "evt_2", "evt_17", "evt_18", "evt_19"]);
    let writes = schedule.take_pending_writes().remove(&7).unwrap();
    assert!(writes.dead_letters[0].line.contains("evt_3"), "of the room that has most of the root");
}

#[test]
fn parallel_attempts_per_endpoint_are_bounded() {
    let mut schedule = schedule(2, DeliveryLimits { max_parallel: 2, ..LIMITS });
    for (n, room) in [(1, "a"), (2, "b"), (3, "c")] {
        schedule.add_event(event(n, room), 0, never_tried);
    }
    let attempts = start_due(&mut schedule, 0);
    assert_eq!(attempts.len(), 4);
    assert_eq!(schedule.next_due(), None, "the next attempt waits for the end of another");
    schedule.finish_attempt(&attempts[0], DeliveryOutcome::Delivered, 0, 0.0);
    assert_eq!(start_due(&mut schedule, 0).len(), 1);
}

#[test]
fn lost_partition_delivers_and_writes_nothing() {
    let mut schedule = schedule(1, LIMITS);
    schedule.add_event(event(1, "a"), 0, never_tried);
    schedule.add_event(event(2, "a"), 0, never_tried);
    let attempts = start_due(&mut schedule, 0);
    assert_eq!(schedule.drop_partition(7).len(), 2);
    schedule.add_event(event(1, "a"), 5, never_tried);
    schedule.finish_attempt(&attempts[0], DeliveryOutcome::Delivered, 6, 0.0);
    assert!(
        schedule.take_pending_writes().is_empty() && !schedule.has_attempts_in_flight()
            || schedule.has_event(7, StreamEntryId(1, 0))
    );
    assert_eq!(attempt_names(&start_due(&mut schedule, 6)), [(0, "evt_1")]);
}

#[test]
fn endpoint_gets_only_its_event_kinds_and_a_replay_goes_to_one_endpoint() {
    let endpoint_of_leaves =
        WebhookEndpoint { events: vec!["peer-left".to_owned()], ..endpoint_settings("https://e.example/") };
    let endpoint_of_leaves = EndpointTarget::new(&endpoint_of_leaves, WebhookSecrets::default());
    let mut schedule =
        DeliverySchedule::new(vec![endpoint_of_leaves, endpoint("https://f.example/")], LIMITS);
    schedule.add_event(event(1, "a"), 0, never_tried);
    assert_eq!(attempt_names(&start_due(&mut schedule, 0)), [(1, "evt_1")]);
    let only = Some(schedule.endpoints[0].id.clone());
    let line = r#"{"id":"evt_2","event":"peer-joined","room":"b"}"#;
    schedule.add_event(WebhookEvent::parse(7, StreamEntryId(2, 0), line, only).unwrap(), 0, never_tried);
    assert_eq!(attempt_names(&start_due(&mut schedule, 0)), [(0, "evt_2")]);
    let unknown = Some("unknown".to_owned());
    schedule.add_event(WebhookEvent::parse(7, StreamEntryId(3, 0), line, unknown).unwrap(), 0, never_tried);
    assert_eq!(schedule.take_pending_writes().remove(&7).unwrap().finished_entries, [StreamEntryId(3, 0)]);
}
