//! The decision: `(state, now, inputs)` → next state and events.
//!
//! Inputs that waited together are decided together and committed at once: a storm of joins is one
//! commit. Every input is idempotent: an input that the state already holds changes nothing.
//!
//! Owns: the file of each kind of input. Next: `decision_batch` is the state that they all change.

use super::{
    decision::Decision, decision_batch::DecisionBatch, outcome::InputOutcome, room_input::RoomInput,
    room_policy::RoomPolicy, room_state::RoomState,
};

/// Decides a batch of inputs. `now` is the time of the store, milliseconds since 1970.
pub fn decide(state: &RoomState, now: u64, inputs: &[RoomInput], policy: &RoomPolicy) -> Decision {
    let mut batch = DecisionBatch::new(state, now, policy);
    let outcomes = inputs.iter().map(|input| apply_input(&mut batch, input)).collect();
    batch.finish_decision(outcomes)
}

fn apply_input(batch: &mut DecisionBatch<'_>, input: &RoomInput) -> InputOutcome {
    match input {
        RoomInput::Join { peer, member } => batch.join_room(peer, member),
        RoomInput::Attach(claim) => batch.attach_peer(claim),
        RoomInput::Replace { old_peer, new_peer, mailbox_version } => {
            batch.replace_peer(old_peer, new_peer, *mailbox_version)
        }
        RoomInput::UpdateRecord { peer, epoch, name, metadata } => {
            batch.update_record(peer, *epoch, name.as_ref(), metadata.as_ref())
        }
        RoomInput::RefreshToken { peer, epoch, token_record } => {
            batch.refresh_token(peer, *epoch, token_record)
        }
        RoomInput::Detach { peer, epoch, is_going } => batch.detach_peer(peer, *epoch, *is_going),
        RoomInput::Leave { peer, epoch, reason } => batch.leave_room(peer, *epoch, *reason),
        RoomInput::NodeDied { node } => batch.detach_matching(|member, _| member.owner() == Some(node)),
        RoomInput::ReconcileNode { node, connected_peers } => batch
            .detach_matching(|member, peer| member.owner() == Some(node) && !connected_peers.contains(peer)),
        RoomInput::CheckDeadlines => batch.check_deadlines(),
        RoomInput::Manage(manage) => batch.apply_action(manage),
    }
}
