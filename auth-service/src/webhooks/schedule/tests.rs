//! The schedule, over days in no time.

use signalbox_config::{WebhookEndpoint, WebhookSecrets};

use super::*;

const BOUNDS: Bounds = Bounds { give_up_ms: 24 * 60 * 60_000, attempts: 300, parallel: 4, backlog: 100 };
const LATER: Verdict = Verdict::Later { why: Failure::Status(500), after: None };
const SECOND: u64 = 1_000;

fn rule(url: &str) -> WebhookEndpoint {
    WebhookEndpoint { url: url.to_owned(), events: vec![], rooms: None, insecure: false, secrets_env: None }
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint::new(&rule(url), WebhookSecrets::default())
}

fn schedule(endpoints: usize, bounds: Bounds) -> Schedule {
    Schedule::new((0..endpoints).map(|n| endpoint(&format!("https://e{n}.example/"))).collect(), bounds)
}

fn event(n: u64, room: &str) -> Event {
    let line = format!(r#"{{"id":"evt_{n}","event":"peer-joined","room":"{room}"}}"#);
    Event::read(7, EntryId(n, 0), &line, None).unwrap()
}

fn fresh(_: &str) -> Option<u32> {
    Some(0)
}

fn started(schedule: &mut Schedule, now: u64) -> Vec<Job> {
    schedule.start(now)
}

fn names(jobs: &[Job]) -> Vec<(usize, &str)> {
    jobs.iter().map(|job| (job.endpoint, job.event.id.as_str())).collect()
}

#[test]
fn a_room_is_told_in_order_and_one_that_fails_holds_up_no_other() {
    let mut schedule = schedule(1, BOUNDS);
    for (n, room) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        schedule.take(event(n, room), n, fresh);
    }
    let jobs = started(&mut schedule, 10);
    assert_eq!(names(&jobs), [(0, "evt_1"), (0, "evt_3")]);
    assert!(started(&mut schedule, 10).is_empty(), "the second waits for the first");
    schedule.done(&jobs[0], LATER, 10, 0.0);
    schedule.done(&jobs[1], Verdict::Taken, 10, 0.0);
    let jobs = started(&mut schedule, 11);
    assert_eq!(names(&jobs), [(0, "evt_4")], "room b goes on while a backs off");
    assert_eq!(schedule.next_due(), Some(10 + SECOND));
    let jobs = started(&mut schedule, 10 + SECOND);
    assert_eq!(names(&jobs), [(0, "evt_1")]);
    schedule.done(&jobs[0], Verdict::Taken, 2_000, 0.0);
    assert_eq!(names(&started(&mut schedule, 2_000)), [(0, "evt_2")]);
    let effects = schedule.effects().remove(&7).unwrap();
    assert_eq!(effects.finished, [EntryId(3, 0), EntryId(1, 0)]);
}

#[test]
fn one_endpoint_that_fails_holds_up_no_other() {
    let mut schedule = schedule(2, BOUNDS);
    schedule.take(event(1, "a"), 0, fresh);
    schedule.take(event(2, "a"), 0, fresh);
    let jobs = started(&mut schedule, 0);
    assert_eq!(names(&jobs), [(0, "evt_1"), (1, "evt_1")]);
    schedule.done(&jobs[0], LATER, 0, 1.0);
    schedule.done(&jobs[1], Verdict::Taken, 0, 0.0);
    assert_eq!(names(&started(&mut schedule, 0)), [(1, "evt_2")]);
    let effects = schedule.effects().remove(&7).unwrap();
    assert_eq!(effects.finished, [], "the first is not finished while one endpoint has it to come");
    let progress: Vec<_> = effects.progress.values().collect();
    assert!(progress.contains(&&Some(1)) && progress.contains(&&None));
}

#[test]
fn pauses_double_from_a_second_to_five_minutes_and_an_endpoint_may_ask_for_longer() {
    let mut longest = Vec::new();
    for attempts in [1, 2, 3, 8, 9, 10, 300] {
        let (short, long) = (pause(attempts, None, 0.0), pause(attempts, None, 1.0));
        assert_eq!(short * 2, long);
        longest.push(long);
    }
    assert_eq!(longest, [2_000, 4_000, 8_000, 256_000, 300_000, 300_000, 300_000]);
    assert_eq!(pause(1, Some(Duration::from_secs(90)), 0.5), 90_000);
    assert_eq!(pause(1, Some(Duration::MAX), 0.5), 60 * 60_000);
}

/// Fails everything until nothing is left; how often, and what became of it.
fn fail_all(schedule: &mut Schedule, from: u64) -> (usize, Vec<Dead>) {
    let (mut attempts, mut now) = (0, from);
    while let Some(due) = schedule.next_due() {
        now = now.max(due);
        for job in schedule.start(now) {
            attempts += 1;
            schedule.done(&job, LATER, now, 0.5);
        }
    }
    (attempts, schedule.effects().into_values().flat_map(|effects| effects.dead).collect())
}

#[test]
fn an_event_is_given_up_by_age_or_by_attempts_and_becomes_a_dead_letter() {
    let mut by_age = schedule(1, BOUNDS);
    by_age.take(event(1, "a"), 1, fresh);
    let (attempts, dead) = fail_all(&mut by_age, 1);
    assert!((280..400).contains(&attempts) || dead[0].cause == Cause::Attempts, "{attempts}");
    let mut by_age = schedule(1, Bounds { attempts: 1_000, ..BOUNDS });
    by_age.take(event(1, "a"), 1, fresh);
    let (_, dead) = fail_all(&mut by_age, 1);
    assert_eq!((dead.len(), dead[0].cause, &*dead[0].last), (1, Cause::Age, "status 500"));
    let mut by_attempts = schedule(1, Bounds { attempts: 3, ..BOUNDS });
    by_attempts.take(event(1, "a"), 1, fresh);
    by_attempts.take(event(2, "a"), 1, fresh);
    let (attempts, dead) = fail_all(&mut by_attempts, 1);
    assert_eq!((attempts, dead.len()), (6, 2));
    assert!(dead.iter().all(|dead| dead.cause == Cause::Attempts && dead.attempts == 3));
    assert_eq!(by_attempts.len(), 0);
}

#[test]
fn what_was_tried_before_a_restart_counts() {
    let mut schedule = schedule(2, Bounds { attempts: 3, ..BOUNDS });
    let done = schedule.endpoints[1].id.clone();
    schedule.take(event(1, "a"), 0, |endpoint| if endpoint == done { None } else { Some(2) });
    let jobs = started(&mut schedule, 0);
    assert_eq!(names(&jobs), [(0, "evt_1")], "the other endpoint has it");
    schedule.done(&jobs[0], LATER, 0, 0.0);
    assert_eq!(schedule.effects().remove(&7).unwrap().dead[0].attempts, 3);
}

#[test]
fn gone_is_not_tried_again() {
    let mut schedule = schedule(1, BOUNDS);
    schedule.take(event(1, "a"), 0, fresh);
    let jobs = started(&mut schedule, 0);
    schedule.done(&jobs[0], Verdict::Gone, 0, 0.0);
    let effects = schedule.effects().remove(&7).unwrap();
    assert_eq!((effects.dead[0].cause, &effects.finished[..]), (Cause::Gone, &[EntryId(1, 0)][..]));
}

#[test]
fn beyond_the_backlog_the_oldest_is_given_up_and_told_so() {
    let mut schedule = schedule(1, Bounds { backlog: 2, ..BOUNDS });
    schedule.take(event(1, "a"), 0, fresh);
    let first = started(&mut schedule, 0);
    for n in 2..=5 {
        schedule.take(event(n, "a"), 0, fresh);
    }
    let effects = schedule.effects().remove(&7).unwrap();
    let dead: Vec<_> = effects.dead.iter().map(|dead| (&dead.line[..14], dead.cause)).collect();
    assert_eq!(dead, [(r#"{"id":"evt_2","#, Cause::Backlog), (r#"{"id":"evt_3","#, Cause::Backlog)]);
    schedule.done(&first[0], Verdict::Taken, 0, 0.0);
    assert_eq!(names(&started(&mut schedule, 0)), [(0, "evt_4")]);
}

#[test]
fn so_many_attempts_are_under_way_at_one_endpoint() {
    let mut schedule = schedule(2, Bounds { parallel: 2, ..BOUNDS });
    for (n, room) in [(1, "a"), (2, "b"), (3, "c")] {
        schedule.take(event(n, room), 0, fresh);
    }
    let jobs = started(&mut schedule, 0);
    assert_eq!(jobs.len(), 4);
    assert_eq!(schedule.next_due(), None, "a free place is what is waited for");
    schedule.done(&jobs[0], Verdict::Taken, 0, 0.0);
    assert_eq!(started(&mut schedule, 0).len(), 1);
}

#[test]
fn of_a_partition_that_another_tells_nothing_is_told_or_written() {
    let mut schedule = schedule(1, BOUNDS);
    schedule.take(event(1, "a"), 0, fresh);
    schedule.take(event(2, "a"), 0, fresh);
    let jobs = started(&mut schedule, 0);
    assert_eq!(schedule.forget(7).len(), 2);
    schedule.take(event(1, "a"), 5, fresh);
    schedule.done(&jobs[0], Verdict::Taken, 6, 0.0);
    assert!(schedule.effects().is_empty() && !schedule.is_busy() || schedule.holds(7, EntryId(1, 0)));
    assert_eq!(names(&started(&mut schedule, 6)), [(0, "evt_1")]);
}

#[test]
fn who_wants_nothing_of_it_is_not_told_and_a_replay_is_for_one() {
    let some = WebhookEndpoint { events: vec!["peer-left".to_owned()], ..rule("https://e.example/") };
    let some = Endpoint::new(&some, WebhookSecrets::default());
    let mut schedule = Schedule::new(vec![some, endpoint("https://f.example/")], BOUNDS);
    schedule.take(event(1, "a"), 0, fresh);
    assert_eq!(names(&started(&mut schedule, 0)), [(1, "evt_1")]);
    let only = Some(schedule.endpoints[0].id.clone());
    let line = r#"{"id":"evt_2","event":"peer-joined","room":"b"}"#;
    schedule.take(Event::read(7, EntryId(2, 0), line, only).unwrap(), 0, fresh);
    assert_eq!(names(&started(&mut schedule, 0)), [(0, "evt_2")]);
    let nobody = Some("nobody".to_owned());
    schedule.take(Event::read(7, EntryId(3, 0), line, nobody).unwrap(), 0, fresh);
    assert_eq!(schedule.effects().remove(&7).unwrap().finished, [EntryId(3, 0)]);
}
