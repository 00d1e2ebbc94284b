//! The rules as sentences, by what they are about, and as a simulation. Here: what a room in a test is made of.

mod grant;
mod manage;
mod members;
mod roles;
mod simulation;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use serde_json::value::RawValue;
use signalbox_config::Settings;
use signalbox_protocol::{
    LeftReason,
    id::{CallerId, NodeId, PeerId, Role, TokenId, UserId},
};

use super::*;

pub(super) static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    room_peers: 5,
    user_peers: 2,
    window_ms: 1_000,
    room_life_ms: 60_000,
    kept_ms: 100_000,
    implicit: true,
    roles: Arc::new(RoleBook::new(&Settings::default())),
});

pub(crate) fn member(user: u8, node: u128) -> Box<Member> {
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
        region: None,
        waiting: false,
        muted: false,
        overridden: false,
        presence: Presence::Attached(NodeId::from_bits(node)),
        epoch: 1,
        generation: 1,
        mailbox: 1,
    })
}

pub(crate) fn peer(n: u8) -> PeerId {
    PeerId::from_bits(u128::from(n))
}

pub(super) fn join(n: u8, user: u8) -> Input {
    Input::Join { peer: peer(n), member: member(user, 1) }
}

pub(super) fn room_of(inputs: &[Input]) -> RoomState {
    decide(&RoomState::new("r".into(), "L1".into()), 0, inputs, &RULES).next
}

pub(super) fn claim(n: u8, node: u128, proof: Proof, lineage: &str) -> Claim {
    let member = Member { mailbox: 9, ..*member(n, node) };
    Claim { peer: peer(n), proof, lineage: lineage.into(), now_s: None, member }
}

pub(super) fn attach(n: u8, node: u128, proof: Proof) -> Input {
    Input::Attach(Box::new(claim(n, node, proof, "L1")))
}

pub(super) fn handle(generation: u64) -> Proof {
    Proof::Handle { generation, epoch: 1 }
}

fn socket(epoch: u64) -> Proof {
    Proof::Socket { epoch }
}
