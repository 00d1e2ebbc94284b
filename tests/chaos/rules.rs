//! Shows that the checker can fail. For each delivery rule there is a sequence of events that loses
//! or repeats messages without the rule. With all rules the sequence passes; without the one rule
//! the checker reports the violation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delivery_model;

use delivery_model::{DeliveryModel, DeliveryRule};
use signalbox_tests::checker::ViolationKind;

const ALICE: u32 = 0;
const BOB: u32 = 1;
const CAROL: u32 = 2;

/// Runs the sequence with all rules, and without this rule.
fn assert_rule_needed(
    rule: DeliveryRule,
    client_nodes: &[usize],
    kinds: &[ViolationKind],
    sequence: impl Fn(&mut DeliveryModel),
) {
    let run = |without| {
        let mut model = DeliveryModel::new(without, client_nodes);
        sequence(&mut model);
        model.report()
    };
    let complete = run(None);
    assert!(complete.violations.is_empty(), "with all rules: {complete}");
    assert!(complete.sent > 0, "the sequence sends messages");
    let broken = run(Some(rule));
    let found: Vec<_> = broken.violations.iter().map(|one| one.kind).collect();
    assert!(kinds.iter().all(|kind| found.contains(kind)), "without {rule:?}: {broken}");
}

/// Bob has received 1, 2 and 3; the replica has only 1. After the failover the replica assigns 2
/// and 3 again, so Bob's `since=3` looks complete.
#[test]
fn d1_a_failover_replaces_mailboxes_even_when_the_replica_has_grown_past_since() {
    assert_rule_needed(DeliveryRule::ReplicationId, &[0, 1], &[ViolationKind::SilentGap], |model| {
        model.send_message(ALICE, Some(BOB));
        model.replicate();
        model.send_message(ALICE, Some(BOB));
        model.send_message(ALICE, Some(BOB));
        model.receive_topic(1);
        model.disconnect(BOB);
        model.fail_over();
        // Alice's ids continue, because her node received the acknowledgements.
        for _ in 0..3 {
            model.send_message(ALICE, Some(BOB));
        }
        model.resume(BOB, 1);
    });
}

/// Two calls use two connections. The second overtakes the first, which then looks like a
/// duplicate.
#[test]
fn d4_calls_of_one_sender_reach_the_store_in_order() {
    assert_rule_needed(DeliveryRule::OneCallInFlight, &[0, 1], &[ViolationKind::SilentGap], |model| {
        let first = model.start_call(ALICE, Some(BOB));
        let second = model.start_call(ALICE, Some(BOB));
        model.execute_crossed(first, second);
        model.receive_topic(1);
    });
}

/// Bob received the message, its acknowledgement was lost, and the promoted replica lacks it: Alice
/// sends the message again.
#[test]
fn d6_a_message_resent_after_a_failover_is_delivered_once() {
    assert_rule_needed(DeliveryRule::IdsOnEntries, &[0, 1], &[ViolationKind::Duplicate], |model| {
        let call = model.start_call(ALICE, Some(BOB));
        let again = model.execute_unanswered(call);
        model.receive_topic(1);
        model.fail_over();
        model.execute(again);
        model.receive_topic(1);
    });
}

/// Carol's message to Bob waits in the topic. Alice is on Bob's node, so her message arrives at
/// once.
#[test]
fn d7_an_early_entry_does_not_hide_the_entry_before() {
    assert_rule_needed(
        DeliveryRule::HoldEarlyEntries,
        &[0, 0, 1],
        &[ViolationKind::SilentGap, ViolationKind::ProtocolViolation],
        |model| {
            model.send_message(CAROL, Some(BOB));
            model.send_message(ALICE, Some(BOB));
            model.receive_topic(0);
        },
    );
}

/// The `resumed` with the new handle is lost, so the client has only the old handle.
#[test]
fn d12_a_client_that_missed_resumed_can_resume_with_the_previous_handle() {
    assert_rule_needed(DeliveryRule::PreviousHandle, &[0, 1], &[ViolationKind::PeerLostEarly], |model| {
        model.send_message(ALICE, Some(BOB));
        model.receive_topic(1);
        model.disconnect(BOB);
        drop(model.begin_resume(BOB, 0));
        model.disconnect(BOB);
        model.resume(BOB, 1);
    });
}

/// An entry is published between the script and its answer, and no entry follows.
#[test]
fn d13_an_entry_published_during_a_resume_is_delivered() {
    assert_rule_needed(DeliveryRule::InboxBeforeScript, &[0, 0], &[ViolationKind::SilentGap], |model| {
        model.disconnect(BOB);
        let page = model.begin_resume(BOB, 1).unwrap();
        model.send_message(ALICE, Some(BOB));
        model.receive_topic(1);
        model.finish_resume(page);
    });
}

/// No entry follows that would reveal the gap.
#[test]
fn d19_an_entry_published_during_a_topic_break_is_delivered() {
    assert_rule_needed(
        DeliveryRule::CheckHeadsAfterBreak,
        &[0, 1, 1],
        &[ViolationKind::SilentGap],
        |model| {
            model.send_message(ALICE, None);
            model.receive_topic(1);
            model.unsubscribe(1);
            model.send_message(ALICE, None);
            model.resubscribe(1);
            model.receive_topic(1);
        },
    );
}
