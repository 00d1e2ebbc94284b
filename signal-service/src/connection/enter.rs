//! The begin of a connection: a peer joins, comes back, or takes the place of the one it was.

use std::sync::Arc;

use signalbox_protocol::{CloseCode, ErrorCode, Joined, ServerMessage, clock};
use signalbox_token::RoomClaims;

use super::{lobby::wait, look::gone};
use crate::{
    door::Wish,
    handle::{Handle, MOST_METADATA},
    node::Signal,
    registry::{LocalPeer, LocalRoom},
};
use signalbox_rooms::{
    room::{Claim, Input, Lineage, Member, Outcome, Presence, Proof, RoomState},
    store::{Look, Page, Unavailable},
};

/// A peer that is in.
pub(super) struct Entered {
    /// Its record.
    pub(super) member: Member,
    /// Which handle it was given.
    pub(super) generation: u64,
    /// Whether it was there before; then its handle must be confirmed.
    pub(super) resumed: bool,
    /// The highest id that was accepted from it.
    pub(super) floor: u64,
    /// The last entry of its mailbox that the store knows it to have.
    pub(super) told: u64,
}

/// Commits what the connection wishes and writes the first frame.
pub(super) async fn enter(
    signal: &Signal,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    wish: Wish,
) -> Result<Entered, CloseCode> {
    match wish {
        Wish::Join { claims, .. } => {
            let member = newcomer(signal, &claims);
            let input = Input::Join { peer: peer.id.clone(), member: Box::new(member) };
            join(signal, room, peer, input).await
        }
        Wish::Replace { handle, peer: id } => {
            let mailbox = signal.registry.hub().store.now_ms();
            let old = Box::new(signal.claim(&handle));
            join(signal, room, peer, Input::Replace { old, peer: id, mailbox }).await
        }
        Wish::Resume { handle, since } => resume(signal, room, peer, &handle, since).await,
    }
}

fn newcomer(signal: &Signal, claims: &RoomClaims) -> Member {
    let hub = signal.registry.hub();
    Member {
        user: claims.sub.clone(),
        role: claims.role.clone(),
        permissions: claims.permissions.clone(),
        token: claims.jti.clone(),
        issued: claims.iat,
        expires: claims.exp,
        caller: claims.caller.clone(),
        region: claims.region.clone(),
        name: claims.name.clone().unwrap_or_else(|| "".into()),
        metadata: claims.metadata.clone().unwrap_or_else(|| signal.empty_metadata.clone()),
        waiting: false,
        muted: false,
        overridden: false,
        presence: Presence::Attached(hub.node.clone()),
        epoch: 1,
        generation: 1,
        mailbox: hub.store.now_ms(),
    }
}

/// A peer that was not there before, perhaps in the place of one that was.
async fn join(
    signal: &Signal,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    input: Input,
) -> Result<Entered, CloseCode> {
    let answer = room.submit(input, None).await;
    let state = match answer {
        Ok((Outcome::Done, state)) => state,
        Ok((outcome, _)) => return Err(refuse(peer, outcome)),
        Err(Unavailable) => return Err(unavailable(peer)),
    };
    let Some(member) = state.members.get(&peer.id) else {
        // Somebody has removed it in the same moment.
        return Err(gone(state.left.get(&peer.id).map(|tombstone| tombstone.reason)));
    };
    peer.set_epoch(member.epoch);
    room.settle(peer);
    signal.admit(&room.id, peer, member)?;
    peer.follow(member);
    if member.waiting {
        return Ok(wait(signal, room, peer, member, &state, member.generation, false));
    }
    signal.registry.hub().metrics.joins.inc();
    tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %member.user, role = %member.role);
    let welcome = welcome(signal, room, peer, member, &state, member.mailbox, member.generation, 0);
    peer.open(&ServerMessage::Joined(welcome), &state.lineage, member.mailbox, 0);
    let (member, generation) = (member.clone(), member.generation);
    Ok(Entered { member, generation, resumed: false, floor: 0, told: 0 })
}

async fn resume(
    signal: &Signal,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    handle: &Handle,
    since: u64,
) -> Result<Entered, CloseCode> {
    let (epoch, state) = match room.submit(Input::Attach(Box::new(signal.claim(handle))), None).await {
        Ok((Outcome::Attached(epoch), state)) => (epoch, state),
        Ok((outcome, _)) => return Err(refuse(peer, outcome)),
        Err(Unavailable) => return Err(unavailable(peer)),
    };
    peer.set_epoch(epoch);
    room.settle(peer);
    if let Some(member) = state.members.get(&peer.id) {
        signal.admit(&room.id, peer, member)?;
    }
    let generation = handle.generation + 1;
    if let Some(member) = state.members.get(&peer.id).filter(|member| member.waiting) {
        peer.follow(member);
        return Ok(wait(signal, room, peer, member, &state, generation, true));
    }
    let resumed = match pick_up(signal, room, peer, handle, since, &state).await {
        Ok(resumed) => resumed,
        Err(code) => {
            // The peer is ours, and nobody is there to serve it.
            room.post(Input::Detach { peer: peer.id.clone(), epoch });
            if code == CloseCode::Unavailable {
                unavailable(peer);
            }
            return Err(code);
        }
    };
    let metrics = &signal.registry.hub().metrics;
    metrics.resumed(resumed.page.is_some());
    tracing::info!(event = "resumed", room = %room.id, peer = %peer.id, recovered = resumed.page.is_some());
    let Resumed { state, page, mailbox, seq, floor, told } = resumed;
    let Some(member) = state.members.get(&peer.id) else { return Err(CloseCode::SessionGone) };
    peer.follow(member);
    let joined = welcome(signal, room, peer, member, &state, mailbox, generation, seq);
    let first = ServerMessage::Resumed { joined, recovered: page.is_some(), last_id: floor };
    peer.open(&first, &state.lineage, mailbox, seq);
    peer.replay(page);
    // Only when the others here are known to have what it sent through another node may it go straight to them, should the store go.
    signal.registry.doubt([room.id.clone()]);
    Ok(Entered { member: member.clone(), generation, resumed: true, floor, told })
}

/// Where a peer that is back goes on.
struct Resumed {
    state: Arc<RoomState>,
    /// The first entries it missed, if none is lost.
    page: Option<Page>,
    mailbox: u64,
    seq: u64,
    floor: u64,
    told: u64,
}

async fn pick_up(
    signal: &Signal,
    room: &LocalRoom,
    peer: &LocalPeer,
    handle: &Handle,
    since: u64,
    state: &Arc<RoomState>,
) -> Result<Resumed, CloseCode> {
    let hub = signal.registry.hub();
    peer.set_lineage(&state.lineage);
    let reader = peer.reader(&hub.node);
    let page = match hub.store.read(&room.id, &reader, since).await {
        Ok(Look::Mine(page)) => page,
        Ok(Look::Fenced { .. }) => return Err(CloseCode::Replaced),
        Ok(Look::Gone(reason)) => return Err(gone(reason)),
        Ok(Look::Unowned | Look::Forgotten) | Err(Unavailable) => return Err(CloseCode::Unavailable),
    };
    if page.mailbox == handle.mailbox && page.continues(since) {
        let (mailbox, floor, told) = (page.mailbox, page.last_id, page.acked);
        return Ok(Resumed { state: state.clone(), page: Some(page), mailbox, seq: since, floor, told });
    }
    let renewed = hub.store.renew(&room.id, &reader, handle.mailbox, 0).await;
    let Ok(Some(renewed)) = renewed else { return Err(CloseCode::Unavailable) };
    Ok(Resumed {
        state: Arc::new(renewed.state),
        page: None,
        mailbox: renewed.mailbox,
        seq: renewed.seq,
        floor: renewed.last_id,
        told: renewed.seq,
    })
}

fn refuse(peer: &LocalPeer, outcome: Outcome) -> CloseCode {
    let (code, close, text) = match outcome {
        Outcome::UserLimit => {
            (ErrorCode::UserLimit, CloseCode::UserLimit, "this user is in the room as often as it may be")
        }
        Outcome::TokenInUse => {
            (ErrorCode::TokenInUse, CloseCode::TokenInUse, "the peer of this token is connected elsewhere")
        }
        Outcome::RoomFull => (ErrorCode::RoomFull, CloseCode::RoomFull, "the room has no place left"),
        // The close code says it all.
        Outcome::Replaced => return CloseCode::Replaced,
        Outcome::Expired => return CloseCode::TokenExpired,
        Outcome::RoomLocked => {
            (ErrorCode::RoomLocked, CloseCode::RoomLocked, "the room is locked and takes nobody in")
        }
        Outcome::RoomDisabled => {
            (ErrorCode::RoomDisabled, CloseCode::RoomDisabled, "the room is switched off")
        }
        Outcome::NotStarted => {
            (ErrorCode::RoomNotStarted, CloseCode::RoomNotStarted, "the room has not begun")
        }
        Outcome::RoleNotTaken => {
            (ErrorCode::RoomNotAllowed, CloseCode::RoomNotAllowed, "the room takes nobody in with this role")
        }
        Outcome::NotAllowed => (
            ErrorCode::RoomNotAllowed,
            CloseCode::RoomNotAllowed,
            "there is no such room, and none is made by joining",
        ),
        _ => return CloseCode::SessionGone,
    };
    peer.send(&[ServerMessage::error(None, code, None, text)]);
    close
}

fn unavailable(peer: &LocalPeer) -> CloseCode {
    let text = "the store did not answer; try again";
    peer.send(&[ServerMessage::error(None, ErrorCode::Unavailable, None, text)]);
    CloseCode::Unavailable
}

/// Everything a peer is told at the begin, with a handle for the next time.
#[expect(clippy::too_many_arguments, reason = "each is one member of the frame")]
pub(super) fn welcome(
    signal: &Signal,
    room: &LocalRoom,
    peer: &LocalPeer,
    member: &Member,
    state: &RoomState,
    mailbox: u64,
    generation: u64,
    seq: u64,
) -> Joined {
    let ice = signal.ice.offer(&member.role, member.region.as_ref(), member.token.grant(), clock::now_s());
    Joined {
        peer_id: peer.id.clone(),
        room_id: room.id.clone(),
        user_id: member.user.clone(),
        role: member.role.clone(),
        permissions: member.permissions.clone(),
        node: signal.registry.hub().node.clone(),
        peers: state.entries_for(&peer.id),
        ice_servers: ice.servers,
        ice_policy: ice.policy,
        room: state.settings.info(state.ends_at),
        waiting: state.knockers_for(&peer.id),
        resume: seal(signal, room, peer, member, &state.lineage, mailbox, generation),
        seq,
        limits: signal.wire_limits(),
        ping_interval: signal.settings.timing.ping.as_ms(),
        features: vec!["resume".to_owned()],
    }
}

/// A handle for the next time.
pub(super) fn seal(
    signal: &Signal,
    room: &LocalRoom,
    peer: &LocalPeer,
    member: &Member,
    lineage: &Lineage,
    mailbox: u64,
    generation: u64,
) -> Option<String> {
    let small = member.metadata.get().len() <= MOST_METADATA;
    let metadata = if small { &member.metadata } else { &signal.empty_metadata };
    signal.handles.seal(&Handle {
        room: room.id.clone(),
        peer: peer.id.clone(),
        epoch: peer.epoch(),
        generation,
        mailbox,
        lineage: lineage.clone(),
        member: Member { metadata: metadata.clone(), ..member.clone() },
    })
}

impl Signal {
    /// What a handle claims.
    pub(crate) fn claim(&self, handle: &Handle) -> Claim {
        let hub = self.registry.hub();
        let mailbox = hub.store.now_ms().max(handle.mailbox + 1);
        let presence = Presence::Attached(hub.node.clone());
        let (generation, epoch) = (handle.generation, handle.epoch);
        Claim {
            peer: handle.peer.clone(),
            proof: Proof::Handle { generation, epoch },
            lineage: handle.lineage.clone(),
            now_s: Some(clock::now_s()),
            member: Member { presence, epoch, generation, mailbox, ..handle.member.clone() },
        }
    }
}
