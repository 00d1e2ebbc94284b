//! The checker can fail: for each of these rules of delivery the sequence of events that breaks a server without it. With all rules
//! the same sequence passes; without the one, the checker says what was lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod naive;

use naive::{Rule, World};
use signalbox_tests::checker::Kind;

const ALICE: u32 = 0;
const BOB: u32 = 1;
const CAROL: u32 = 2;

/// Plays the sequence on a server with all rules, and on one without this rule.
fn proves(rule: Rule, homes: &[usize], kinds: &[Kind], sequence: impl Fn(&mut World)) {
    let play = |without| {
        let mut world = World::new(without, homes);
        sequence(&mut world);
        world.verdict()
    };
    let whole = play(None);
    assert!(whole.violations.is_empty(), "with all rules: {whole}");
    assert!(whole.sent > 0, "the sequence says something");
    let broken = play(Some(rule));
    let found: Vec<_> = broken.violations.iter().map(|one| one.kind).collect();
    assert!(kinds.iter().all(|kind| found.contains(kind)), "without {rule:?}: {broken}");
}

/// Bob has seen 1, 2, 3 and the replica only 1. It is promoted and hands out 2 and 3 again: to Bob's `since=3` nothing is missing.
#[test]
fn d1_a_promoted_replica_that_grew_past_since_is_not_taken_for_the_same_mailbox() {
    proves(Rule::Lineage, &[0, 1], &[Kind::SilentGap], |world| {
        world.tell(ALICE, Some(BOB));
        world.replicate();
        world.tell(ALICE, Some(BOB));
        world.tell(ALICE, Some(BOB));
        world.push(1);
        world.lose_socket(BOB);
        world.fail_over();
        // Alice's ids go on; her node heard the acknowledgements.
        for _ in 0..3 {
            world.tell(ALICE, Some(BOB));
        }
        world.resume(BOB, 1);
    });
}

/// Two calls on two connections: the second overtakes the first, which then looks like a duplicate.
#[test]
fn d4_two_calls_of_one_sender_do_not_cross() {
    proves(Rule::OneCallInFlight, &[0, 1], &[Kind::SilentGap], |world| {
        let first = world.say(ALICE, Some(BOB));
        let second = world.say(ALICE, Some(BOB));
        world.execute_crossed(first, second);
        world.push(1);
    });
}

/// Bob heard the message, its acknowledgement was lost, and the promoted replica has never seen it: Alice sends it again.
#[test]
fn d6_what_is_sent_again_after_a_failover_is_heard_once() {
    proves(Rule::IdsOnEntries, &[0, 1], &[Kind::Double], |world| {
        let call = world.say(ALICE, Some(BOB));
        let again = world.execute_unanswered(call);
        world.push(1);
        world.fail_over();
        world.execute(again);
        world.push(1);
    });
}

/// Carol's message to Bob waits in the topic while Alice's, on Bob's own node, is handed over at once.
#[test]
fn d7_an_entry_ahead_of_its_turn_does_not_swallow_the_one_before() {
    proves(Rule::HoldAhead, &[0, 0, 1], &[Kind::SilentGap, Kind::Protocol], |world| {
        world.tell(CAROL, Some(BOB));
        world.tell(ALICE, Some(BOB));
        world.push(0);
    });
}

/// The `resumed` with the new handle is lost; the client only has the old one.
#[test]
fn d12_a_lost_resumed_does_not_lock_the_client_out() {
    proves(Rule::PreviousHandle, &[0, 1], &[Kind::GivenUp], |world| {
        world.tell(ALICE, Some(BOB));
        world.push(1);
        world.lose_socket(BOB);
        drop(world.begin_resume(BOB, 0));
        world.lose_socket(BOB);
        world.resume(BOB, 1);
    });
}

/// A push arrives between the script and its answer, and nothing follows it.
#[test]
fn d13_a_push_during_the_resume_finds_an_inbox() {
    proves(Rule::InboxFirst, &[0, 0], &[Kind::SilentGap], |world| {
        world.lose_socket(BOB);
        let page = world.begin_resume(BOB, 1).unwrap();
        world.tell(ALICE, Some(BOB));
        world.push(1);
        world.finish_resume(page);
    });
}

/// The last push before a break has no successor to reveal it.
#[test]
fn d19_the_last_push_before_a_break_is_asked_for() {
    proves(Rule::HeadsAfterBreak, &[0, 1, 1], &[Kind::SilentGap], |world| {
        world.tell(ALICE, None);
        world.push(1);
        world.deafen(1);
        world.tell(ALICE, None);
        world.resubscribe(1);
        world.push(1);
    });
}
