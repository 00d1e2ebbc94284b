//! Tests of the rules: as sentences, one file for each subject, and as a simulation. This file
//! makes test rooms.

mod grants;
mod members;
mod role_policy;
mod room_action;
mod sanctions;
mod simulation;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde_json::value::RawValue;
use signalbox_config::ServiceSettings;
use signalbox_protocol::{
    LeaveReason,
    id::{CallerId, NodeId, PeerId, Role, TokenId, UserId},
};

use super::*;

pub(super) static TEST_POLICY: LazyLock<RoomPolicy> = LazyLock::new(|| RoomPolicy {
    max_room_peers: 5,
    max_user_peers: 2,
    max_extra_moderators: 1,
    max_waiting_peers: 4,
    max_waiting_per_caller: 3,
    max_sanctions: 3,
    resume_window_ms: 1_000,
    going_window_ms: 200,
    max_room_life_ms: 60_000,
    ended_room_retention_ms: 100_000,
    auto_create_rooms: true,
    role_policy: Arc::new(RoomRolePolicy::new(&ServiceSettings::default())),
});

pub(crate) fn test_member(user: u8, node: u128) -> Box<Member> {
    Box::new(Member {
        user: UserId::parse(&format!("user-{user}")).unwrap(),
        role: Role::parse("guest").unwrap(),
        name: "".into(),
        metadata: RawValue::from_string("{}".into()).unwrap().into(),
        permissions: Vec::new().into(),
        token: TokenId::random(),
        issued: 0,
        expires: 0,
        caller: CallerId::app(),
        root: None,
        creation: None,
        grant_expires: None,
        region: None,
        waiting: false,
        muted: false,
        has_assigned_permissions: false,
        attachment: PeerAttachment::Attached(NodeId::from_bits(node)),
        epoch: 1,
        generation: 1,
        mailbox_version: 1,
    })
}

pub(crate) fn test_peer(n: u8) -> PeerId {
    PeerId::from_bits(u128::from(n))
}

pub(super) fn join_input(n: u8, user: u8) -> RoomInput {
    RoomInput::Join { peer: test_peer(n), member: test_member(user, 1) }
}

pub(super) fn room_after(inputs: &[RoomInput]) -> RoomState {
    decide(&RoomState::new("r".into(), "L1".into()), 0, inputs, &TEST_POLICY).next_state
}

pub(super) fn test_claim(n: u8, node: u128, proof: ClaimProof, replication_id: &str) -> PeerClaim {
    let member = Member { mailbox_version: 9, ..*test_member(n, node) };
    PeerClaim { peer: test_peer(n), proof, replication_id: replication_id.into(), now_s: None, member }
}

pub(super) fn attach_input(n: u8, node: u128, proof: ClaimProof) -> RoomInput {
    RoomInput::Attach(Box::new(test_claim(n, node, proof, "L1")))
}

pub(super) fn handle_proof(generation: u64) -> ClaimProof {
    ClaimProof::Handle { generation, epoch: 1 }
}

fn connection_proof(epoch: u64) -> ClaimProof {
    ClaimProof::Connection { epoch }
}
