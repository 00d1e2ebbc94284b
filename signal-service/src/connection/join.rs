//! The begin of a connection: a peer joins, comes back, or takes the place of the one it was.

use std::sync::Arc;

use signalbox_protocol::{CloseCode, ErrorCode, JoinedMessage, ServerMessage, clock};
use signalbox_token::RoomClaims;

use super::{lobby::enter_lobby, resync::left_close_code};
use crate::{
    admission::ConnectIntent,
    node::SignalNode,
    registry::{LocalPeer, LocalRoom},
    resume_handle::{MAX_HANDLE_METADATA_BYTES, ResumeHandle},
};
use signalbox_rooms::{
    room::{
        ClaimProof, InputOutcome, Member, PeerAttachment, PeerClaim, ReplicationId, RoomInput, RoomState,
    },
    store::{MailboxPage, PeerStatus, StoreUnavailable},
};

/// A peer that is in.
pub(super) struct JoinedPeer {
    /// Its record.
    pub(super) member: Member,
    /// Which handle it was given.
    pub(super) handle_generation: u64,
    /// Whether it was there before; then its handle must be confirmed.
    pub(super) is_resumed: bool,
    /// The highest id that was accepted from it.
    pub(super) last_id: u64,
    /// The last entry of its mailbox that the store knows it to have.
    pub(super) acked_seq: u64,
}

/// Commits what the connection wishes and writes the first frame.
pub(super) async fn join_or_resume(
    signal: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    wish: ConnectIntent,
) -> Result<JoinedPeer, CloseCode> {
    match wish {
        ConnectIntent::Join { claims, .. } => {
            let member = build_new_member(signal, &claims);
            let input = RoomInput::Join { peer: peer.id.clone(), member: Box::new(member) };
            commit_join(signal, room, peer, input).await
        }
        ConnectIntent::Replace { handle, peer: id } => {
            let mailbox = signal.registry.context().store.now_ms();
            let old = Box::new(signal.build_claim(&handle));
            commit_join(
                signal,
                room,
                peer,
                RoomInput::Replace { old_peer: old, new_peer: id, mailbox_version: mailbox },
            )
            .await
        }
        ConnectIntent::Resume { handle, since } => commit_resume(signal, room, peer, &handle, since).await,
    }
}

fn build_new_member(signal: &SignalNode, claims: &RoomClaims) -> Member {
    let hub = signal.registry.context();
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
        attachment: PeerAttachment::Attached(hub.node_id.clone()),
        epoch: 1,
        generation: 1,
        mailbox_version: hub.store.now_ms(),
    }
}

/// A peer that was not there before, perhaps in the place of one that was.
async fn commit_join(
    signal: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    input: RoomInput,
) -> Result<JoinedPeer, CloseCode> {
    let answer = room.submit_input(input, None).await;
    let state = match answer {
        Ok((InputOutcome::Done, state)) => state,
        Ok((outcome, _)) => return Err(send_join_refusal(peer, outcome)),
        Err(StoreUnavailable) => return Err(send_unavailable(peer)),
    };
    let Some(member) = state.members.get(&peer.id) else {
        // Somebody has removed it in the same moment.
        return Err(left_close_code(state.tombstones.get(&peer.id).map(|tombstone| tombstone.reason)));
    };
    peer.set_epoch(member.epoch);
    room.activate_peer(peer);
    signal.check_member_access(&room.id, peer, member)?;
    peer.apply_member(member);
    if member.waiting {
        return Ok(enter_lobby(signal, room, peer, member, &state, member.generation, false));
    }
    signal.registry.context().metrics.joins.inc();
    tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %member.user, role = %member.role);
    let welcome =
        build_joined(signal, room, peer, member, &state, member.mailbox_version, member.generation, 0);
    peer.open_mailbox(&ServerMessage::Joined(welcome), &state.replication_id, member.mailbox_version, 0);
    let (member, generation) = (member.clone(), member.generation);
    Ok(JoinedPeer { member, handle_generation: generation, is_resumed: false, last_id: 0, acked_seq: 0 })
}

async fn commit_resume(
    signal: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    handle: &ResumeHandle,
    since: u64,
) -> Result<JoinedPeer, CloseCode> {
    let (epoch, state) =
        match room.submit_input(RoomInput::Attach(Box::new(signal.build_claim(handle))), None).await {
            Ok((InputOutcome::Attached(epoch), state)) => (epoch, state),
            Ok((outcome, _)) => return Err(send_join_refusal(peer, outcome)),
            Err(StoreUnavailable) => return Err(send_unavailable(peer)),
        };
    peer.set_epoch(epoch);
    room.activate_peer(peer);
    if let Some(member) = state.members.get(&peer.id) {
        signal.check_member_access(&room.id, peer, member)?;
    }
    let generation = handle.handle_generation + 1;
    if let Some(member) = state.members.get(&peer.id).filter(|member| member.waiting) {
        peer.apply_member(member);
        return Ok(enter_lobby(signal, room, peer, member, &state, generation, true));
    }
    let resumed = match find_resume_point(signal, room, peer, handle, since, &state).await {
        Ok(resumed) => resumed,
        Err(code) => {
            // The peer is ours, and nobody is there to serve it.
            room.queue_input(RoomInput::Detach { peer: peer.id.clone(), epoch });
            if code == CloseCode::Unavailable {
                send_unavailable(peer);
            }
            return Err(code);
        }
    };
    let metrics = &signal.registry.context().metrics;
    metrics.count_resume(resumed.page.is_some());
    tracing::info!(event = "resumed", room = %room.id, peer = %peer.id, recovered = resumed.page.is_some());
    let ResumePoint { state, page, mailbox_version: mailbox, seq, last_id: floor, acked_seq: told } = resumed;
    let Some(member) = state.members.get(&peer.id) else { return Err(CloseCode::SessionGone) };
    peer.apply_member(member);
    let joined = build_joined(signal, room, peer, member, &state, mailbox, generation, seq);
    let first = ServerMessage::Resumed { joined, recovered: page.is_some(), last_id: floor };
    peer.open_mailbox(&first, &state.replication_id, mailbox, seq);
    peer.start_replay(page);
    // Only when the others here are known to have what it sent through another node may it go straight to them, should the store go.
    signal.registry.mark_rooms_stale([room.id.clone()]);
    Ok(JoinedPeer {
        member: member.clone(),
        handle_generation: generation,
        is_resumed: true,
        last_id: floor,
        acked_seq: told,
    })
}

/// Where a peer that is back goes on.
struct ResumePoint {
    state: Arc<RoomState>,
    /// The first entries it missed, if none is lost.
    page: Option<MailboxPage>,
    mailbox_version: u64,
    seq: u64,
    last_id: u64,
    acked_seq: u64,
}

async fn find_resume_point(
    signal: &SignalNode,
    room: &LocalRoom,
    peer: &LocalPeer,
    handle: &ResumeHandle,
    since: u64,
    state: &Arc<RoomState>,
) -> Result<ResumePoint, CloseCode> {
    let hub = signal.registry.context();
    peer.set_replication_id(&state.replication_id);
    let reader = peer.mailbox_reader(&hub.node_id);
    let page = match hub.store.read_mailbox(&room.id, &reader, since).await {
        Ok(PeerStatus::Owned(page)) => page,
        Ok(PeerStatus::Fenced { .. }) => return Err(CloseCode::Replaced),
        Ok(PeerStatus::Left(reason)) => return Err(left_close_code(reason)),
        Ok(PeerStatus::Unowned | PeerStatus::Forgotten) | Err(StoreUnavailable) => {
            return Err(CloseCode::Unavailable);
        }
    };
    if page.mailbox_version == handle.mailbox_version && page.is_contiguous_after(since) {
        let (mailbox, floor, told) = (page.mailbox_version, page.last_id, page.acked_seq);
        return Ok(ResumePoint {
            state: state.clone(),
            page: Some(page),
            mailbox_version: mailbox,
            seq: since,
            last_id: floor,
            acked_seq: told,
        });
    }
    let renewed = hub.store.renew_mailbox(&room.id, &reader, handle.mailbox_version, 0).await;
    let Ok(Some(renewed)) = renewed else { return Err(CloseCode::Unavailable) };
    Ok(ResumePoint {
        state: Arc::new(renewed.state),
        page: None,
        mailbox_version: renewed.mailbox_version,
        seq: renewed.base_seq,
        last_id: renewed.last_id,
        acked_seq: renewed.base_seq,
    })
}

/// Sends the reason of a refused join. Some reasons have a close code and no message.
fn send_join_refusal(peer: &LocalPeer, outcome: InputOutcome) -> CloseCode {
    let Some(refusal) = outcome.refusal() else { return CloseCode::SessionGone };
    if let Some(error) = refusal.to_error_message(None) {
        peer.send_messages(&[error]);
    }
    refusal.close_code
}

fn send_unavailable(peer: &LocalPeer) -> CloseCode {
    let text = "the store did not answer; try again";
    peer.send_messages(&[ServerMessage::error(None, ErrorCode::Unavailable, None, text)]);
    CloseCode::Unavailable
}

/// Everything a peer is told at the begin, with a handle for the next time.
#[expect(clippy::too_many_arguments, reason = "each is one member of the frame")]
pub(super) fn build_joined(
    signal: &SignalNode,
    room: &LocalRoom,
    peer: &LocalPeer,
    member: &Member,
    state: &RoomState,
    mailbox: u64,
    generation: u64,
    seq: u64,
) -> JoinedMessage {
    let ice = signal.ice_directory.client_config(
        &member.role,
        member.region.as_ref(),
        member.token.grant(),
        clock::now_s(),
    );
    JoinedMessage {
        peer_id: peer.id.clone(),
        room_id: room.id.clone(),
        user_id: member.user.clone(),
        role: member.role.clone(),
        permissions: member.permissions.clone(),
        node: signal.registry.context().node_id.clone(),
        peers: state.peer_entries_for(&peer.id),
        ice_servers: ice.servers,
        ice_policy: ice.policy,
        room: state.settings.to_room_info(state.ends_at),
        waiting: state.knockers_for(&peer.id),
        resume: build_resume_handle(signal, room, peer, member, &state.replication_id, mailbox, generation),
        seq,
        limits: signal.current_wire_limits(),
        ping_interval: signal.settings.timing.ping.as_ms(),
        features: vec!["resume".to_owned()],
    }
}

/// A handle for the next time.
pub(super) fn build_resume_handle(
    signal: &SignalNode,
    room: &LocalRoom,
    peer: &LocalPeer,
    member: &Member,
    lineage: &ReplicationId,
    mailbox: u64,
    generation: u64,
) -> Option<String> {
    let small = member.metadata.get().len() <= MAX_HANDLE_METADATA_BYTES;
    let metadata = if small { &member.metadata } else { &signal.empty_metadata };
    signal.handle_keys.seal_handle(&ResumeHandle {
        room: room.id.clone(),
        peer: peer.id.clone(),
        epoch: peer.epoch(),
        handle_generation: generation,
        mailbox_version: mailbox,
        replication_id: lineage.clone(),
        member: Member { metadata: metadata.clone(), ..member.clone() },
    })
}

impl SignalNode {
    /// What a handle claims.
    pub(crate) fn build_claim(&self, handle: &ResumeHandle) -> PeerClaim {
        let hub = self.registry.context();
        let mailbox = hub.store.now_ms().max(handle.mailbox_version + 1);
        let presence = PeerAttachment::Attached(hub.node_id.clone());
        let (generation, epoch) = (handle.handle_generation, handle.epoch);
        PeerClaim {
            peer: handle.peer.clone(),
            proof: ClaimProof::Handle { generation, epoch },
            replication_id: handle.replication_id.clone(),
            now_s: Some(clock::now_s()),
            member: Member {
                attachment: presence,
                epoch,
                generation,
                mailbox_version: mailbox,
                ..handle.member.clone()
            },
        }
    }
}
