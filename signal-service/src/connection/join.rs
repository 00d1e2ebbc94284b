//! The beginning of a connection: a peer joins, resumes, or replaces the peer that its client was.
//! Then the first frame.
//!
//! Owns: the commit of the join or resume, the access check after it, and the frames `joined`,
//! `resumed` and `waiting` with their handle. Must not: decide whether a peer may join
//! (`signalbox_rooms::room`). Next: `task` serves the connection.

use std::sync::Arc;

use signalbox_access::AccessRefusal;
use signalbox_protocol::{
    CloseCode, ErrorCode, JoinedMessage, ServerMessage, WaitingMessage, clock,
    id::{PeerId, RoomId},
};
use signalbox_rooms::{
    room::{InputOutcome, Member, PeerAttachment, PeerClaim, ReplicationId, RoomInput, RoomState},
    store::{MailboxPage, PeerStatus, RefusedIds, StoreUnavailable},
};

use super::disconnect::left_close_code;
use crate::{
    admission::ConnectIntent,
    connection_subject::ConnectionSubject,
    node::SignalNode,
    registry::{LocalPeer, LocalRoom, MailboxStart},
    resume_handle::{HandleContent, ResumeHandle},
    room_token::RoomToken,
};

/// A peer that has got its first frame.
pub(super) struct JoinedPeer {
    /// The record of the member.
    pub(super) member: Arc<Member>,
    /// The generation of the handle in the first frame.
    pub(super) handle_generation: u64,
    /// What `waiting` said about moderators, if the peer is in the lobby.
    pub(super) moderator_present: bool,
    /// Whether the peer existed before; then the client must confirm its new handle.
    pub(super) is_resumed: bool,
    /// The highest message id that was accepted from the peer.
    pub(super) last_id: u64,
    /// The ids below `last_id` that were refused.
    pub(super) refused: RefusedIds,
    /// The last entry up to which the store knows that the peer has it.
    pub(super) acked_seq: u64,
    /// The peer and the epoch of the connection of this grant before this one.
    pub(super) previous: Option<(PeerId, u64)>,
}

/// Commits the intent of a connection and sends the first frame.
pub(super) async fn join_or_resume(
    node: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    intent: ConnectIntent,
) -> Result<JoinedPeer, CloseCode> {
    match intent {
        ConnectIntent::Join { token, .. } => {
            let member = Box::new(build_new_member(node, &token));
            commit_join(node, room, peer, RoomInput::Join { peer: peer.id.clone(), member }, None).await
        }
        ConnectIntent::Replace { handle, peer: new_peer } => {
            let old_peer = Box::new(build_claim(node, &handle));
            let mailbox_version = node.registry.context().store.now_ms();
            let input = RoomInput::Replace { old_peer, new_peer, mailbox_version };
            commit_join(node, room, peer, input, Some(&handle.peer)).await
        }
        ConnectIntent::Resume { handle, since } => commit_resume(node, room, peer, &handle, since).await,
    }
}

fn build_new_member(node: &SignalNode, token: &RoomToken) -> Member {
    let context = node.registry.context();
    Member {
        attachment: PeerAttachment::Attached(context.node_id.clone()),
        mailbox_version: context.store.now_ms(),
        ..token.to_member()
    }
}

fn build_claim(node: &SignalNode, handle: &ResumeHandle) -> PeerClaim {
    let context = node.registry.context();
    handle.to_claim(&context.node_id, context.store.now_ms(), clock::now_s())
}

/// A new peer, perhaps in place of an older one.
async fn commit_join(
    node: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    input: RoomInput,
    old_peer: Option<&PeerId>,
) -> Result<JoinedPeer, CloseCode> {
    let state = match room.submit_input(input, None).await {
        Ok((InputOutcome::Done, state)) => state,
        Ok((outcome, _)) => return Err(send_join_refusal(room, peer, outcome)),
        Err(StoreUnavailable) => return Err(send_unavailable(peer)),
    };
    let Some(member) = state.members.get(&peer.id) else {
        // A moderator has removed it at the same moment.
        return Err(left_close_code(state.tombstones.get(&peer.id).map(|tombstone| tombstone.reason)));
    };
    peer.set_epoch(member.epoch);
    room.activate_peer(peer);
    check_member_access(node, &room.id, peer, member)?;
    peer.apply_member(member);
    let generation = member.generation;
    // Without a tombstone the store has forgotten the old peer, and its last epoch is unknown.
    let last_epoch = |old: &PeerId| state.tombstones.get(old).map_or(0, |tombstone| tombstone.epoch);
    let previous = match old_peer {
        Some(old) => Some((old.clone(), last_epoch(old))),
        // A peer of the same grant may have used up the rate limit on another node.
        None => state.last_left_of_grant(member.token.grant()),
    };
    if member.waiting {
        let waiting = enter_lobby(node, room, peer, member, &state, generation, false);
        return Ok(JoinedPeer { previous, ..waiting });
    }
    node.registry.context().metrics.joins.inc();
    tracing::info!(event = "joined", room = %room.id, peer = %peer.id, user = %member.user, role = %member.role);
    let start = MailboxStart::acknowledged_up_to(member.mailbox_version, 0);
    let joined = ServerMessage::Joined(build_joined(node, room, peer, member, &state, start, generation));
    peer.open_mailbox(&joined, &state.replication_id, start);
    let member = member.clone();
    Ok(JoinedPeer {
        member,
        handle_generation: generation,
        moderator_present: false,
        is_resumed: false,
        last_id: 0,
        refused: RefusedIds::default(),
        acked_seq: 0,
        previous,
    })
}

async fn commit_resume(
    node: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    handle: &ResumeHandle,
    since: u64,
) -> Result<JoinedPeer, CloseCode> {
    let input = RoomInput::Attach(Box::new(build_claim(node, handle)));
    let (epoch, state) = match room.submit_input(input, None).await {
        Ok((InputOutcome::Attached(epoch), state)) => (epoch, state),
        Ok((outcome, _)) => return Err(send_join_refusal(room, peer, outcome)),
        Err(StoreUnavailable) => return Err(send_unavailable(peer)),
    };
    peer.set_epoch(epoch);
    room.activate_peer(peer);
    let member = state.members.get(&peer.id);
    if let Some(member) = member {
        check_member_access(node, &room.id, peer, member)?;
    }
    let generation = handle.handle_generation.saturating_add(1);
    let previous = Some((peer.id.clone(), epoch - 1));
    if let Some(member) = member.filter(|member| member.waiting) {
        peer.apply_member(member);
        let waiting = enter_lobby(node, room, peer, member, &state, generation, true);
        return Ok(JoinedPeer { previous, ..waiting });
    }
    match find_resume_point(node, room, peer, handle, since, &state).await {
        Ok(point) => {
            send_resumed(node, room, peer, point, generation).map(|joined| JoinedPeer { previous, ..joined })
        }
        Err(code) => {
            // This node owns the peer, and no connection serves it.
            room.queue_input(RoomInput::Detach { peer: peer.id.clone(), epoch, is_going: false });
            if code == CloseCode::Unavailable {
                send_unavailable(peer);
            }
            Err(code)
        }
    }
}

/// Sends `resumed`, then the entries that the client has missed.
fn send_resumed(
    node: &SignalNode,
    room: &Arc<LocalRoom>,
    peer: &Arc<LocalPeer>,
    point: ResumePoint,
    handle_generation: u64,
) -> Result<JoinedPeer, CloseCode> {
    let ResumePoint { state, page, has_all_events, start, last_id, refused } = point;
    let recovered = page.is_some() && has_all_events;
    node.registry.context().metrics.count_resume(recovered);
    tracing::info!(event = "resumed", room = %room.id, peer = %peer.id, recovered);
    let Some(member) = state.members.get(&peer.id) else { return Err(CloseCode::SessionGone) };
    peer.apply_member(member);
    let joined = build_joined(node, room, peer, member, &state, start, handle_generation);
    let refused_ids = refused.clone().into_vec();
    let resumed = ServerMessage::Resumed { joined, recovered, last_id, refused: refused_ids };
    peer.open_mailbox(&resumed, &state.replication_id, start);
    peer.start_replay(page);
    // Before direct delivery is possible, the other local peers must have every message that this
    // peer sent through another node.
    node.registry.mark_rooms_stale([room.id.clone()]);
    let member = member.clone();
    Ok(JoinedPeer {
        member,
        handle_generation,
        moderator_present: false,
        is_resumed: true,
        last_id,
        refused,
        acked_seq: start.acked_seq,
        previous: None,
    })
}

/// The point from which a resumed peer continues.
struct ResumePoint {
    state: Arc<RoomState>,
    /// The first missed entries; none if messages were lost.
    page: Option<MailboxPage>,
    /// Whether no event is missing in the mailbox. If one is, the client must use the snapshot.
    has_all_events: bool,
    start: MailboxStart,
    last_id: u64,
    refused: RefusedIds,
}

async fn find_resume_point(
    node: &SignalNode,
    room: &LocalRoom,
    peer: &LocalPeer,
    handle: &ResumeHandle,
    since: u64,
    state: &Arc<RoomState>,
) -> Result<ResumePoint, CloseCode> {
    let context = node.registry.context();
    peer.set_replication_id(&state.replication_id);
    let reader = peer.mailbox_reader(&context.node_id);
    let page = match context.store.read_mailbox(&room.id, &reader, since).await {
        Ok(PeerStatus::Owned(page)) => page,
        Ok(PeerStatus::Fenced { .. }) => return Err(CloseCode::Replaced),
        Ok(PeerStatus::Left(reason)) => return Err(left_close_code(reason)),
        Ok(PeerStatus::Unowned | PeerStatus::Forgotten) | Err(StoreUnavailable) => {
            return Err(CloseCode::Unavailable);
        }
    };
    if page.mailbox_version == handle.mailbox_version && page.is_contiguous_after(since) {
        let has_all_events = page.dropped_seq <= since;
        // The snapshot stands for dropped events, so it must not be older than they are.
        let state = match has_all_events {
            true => state.clone(),
            false => room.refresh_view().await.map_err(|StoreUnavailable| CloseCode::Unavailable)?,
        };
        return Ok(ResumePoint {
            state,
            has_all_events,
            start: MailboxStart {
                mailbox_version: page.mailbox_version,
                seq: since,
                acked_seq: page.acked_seq,
            },
            last_id: page.last_id,
            refused: page.refused.clone(),
            page: Some(page),
        });
    }
    let (store, refused) = (&context.store, RefusedIds::default());
    let renewed = store.renew_mailbox(&room.id, &reader, handle.mailbox_version, 0, &refused).await;
    let Ok(Some(renewed)) = renewed else { return Err(CloseCode::Unavailable) };
    Ok(ResumePoint {
        state: Arc::new(renewed.state),
        page: None,
        has_all_events: false,
        start: MailboxStart::acknowledged_up_to(renewed.mailbox_version, renewed.base_seq),
        last_id: renewed.last_id,
        refused: renewed.refused,
    })
}

/// Checks the committed member against the access rules. The connection is registered already, so a
/// rule that changes now is either seen here or by `access_enforcer`.
fn check_member_access(
    node: &SignalNode,
    room: &RoomId,
    peer: &LocalPeer,
    member: &Member,
) -> Result<(), CloseCode> {
    let subject = ConnectionSubject::from_member(room, member, peer.access_subject().address);
    let result = node.access_control.check_access(&subject.access_subject());
    peer.set_access_subject(subject);
    result.map_err(AccessRefusal::close_code)
}

/// Sends the reason of a refused join. Some reasons have a close code and no message.
fn send_join_refusal(room: &LocalRoom, peer: &LocalPeer, outcome: InputOutcome) -> CloseCode {
    let Some(refusal) = outcome.refusal() else { return CloseCode::SessionGone };
    tracing::info!(event = "join_refused", room = %room.id, code = refusal.close_code.reason());
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

/// Sends `waiting`, the first frame of a peer in the lobby.
fn enter_lobby(
    node: &SignalNode,
    room: &LocalRoom,
    peer: &LocalPeer,
    member: &Arc<Member>,
    state: &RoomState,
    handle_generation: u64,
    is_resumed: bool,
) -> JoinedPeer {
    tracing::info!(event = "waiting", room = %room.id, peer = %peer.id, user = %member.user, resumed = is_resumed);
    let context = node.registry.context();
    let (replication_id, mailbox_version) = (&state.replication_id, member.mailbox_version);
    let moderator_present = state.has_admitter();
    let waiting = WaitingMessage {
        peer_id: peer.id.clone(),
        room_id: room.id.clone(),
        user_id: member.user.clone(),
        role: member.role.clone(),
        moderator_present,
        node: context.node_id.clone(),
        resume: build_resume_handle(node, peer, member, replication_id, mailbox_version, handle_generation),
        seq: 0,
        limits: context.limits.wire_limits(),
        ping_interval: node.settings.read(|settings| settings.timing.ping.as_ms()),
        resume_window: node.settings.read(|settings| settings.timing.resume_window.as_ms()),
        features: served_features(),
    };
    peer.set_replication_id(replication_id);
    peer.send_messages(&[ServerMessage::Waiting(waiting)]);
    // A moderator may have admitted the peer before this node subscribed to its entries.
    peer.mark_stale();
    let member = member.clone();
    let refused = RefusedIds::default();
    JoinedPeer {
        member,
        handle_generation,
        moderator_present,
        is_resumed,
        last_id: 0,
        refused,
        acked_seq: 0,
        previous: None,
    }
}

/// The members of `joined`, with a new handle.
pub(super) fn build_joined(
    node: &SignalNode,
    room: &LocalRoom,
    peer: &LocalPeer,
    member: &Member,
    state: &RoomState,
    start: MailboxStart,
    handle_generation: u64,
) -> JoinedMessage {
    let context = node.registry.context();
    let (region, grant) = (member.region.as_ref(), member.token.grant());
    let ice = node.ice_directory.client_config(&member.role, region, grant, clock::now_s());
    let (replication_id, mailbox_version) = (&state.replication_id, start.mailbox_version);
    JoinedMessage {
        peer_id: peer.id.clone(),
        room_id: room.id.clone(),
        user_id: member.user.clone(),
        role: member.role.clone(),
        permissions: member.permissions.clone(),
        node: context.node_id.clone(),
        peers: state.peer_entries_for(&peer.id),
        ice_servers: ice.servers,
        ice_policy: ice.policy,
        room: state.settings.to_room_info(state.ends_at),
        waiting: state.knockers_for(&peer.id),
        resume: build_resume_handle(node, peer, member, replication_id, mailbox_version, handle_generation),
        seq: start.seq,
        limits: context.limits.wire_limits(),
        ping_interval: node.settings.read(|settings| settings.timing.ping.as_ms()),
        resume_window: node.settings.read(|settings| settings.timing.resume_window.as_ms()),
        features: served_features(),
    }
}

/// What a client may use without being refused.
fn served_features() -> Vec<String> {
    ["resume", "outcome"].map(str::to_owned).into()
}

/// A sealed handle. None if there is no key that seals.
pub(super) fn build_resume_handle(
    node: &SignalNode,
    peer: &LocalPeer,
    member: &Member,
    replication_id: &ReplicationId,
    mailbox_version: u64,
    handle_generation: u64,
) -> Option<String> {
    node.handle_keys.seal_handle(HandleContent {
        peer: &peer.id,
        epoch: peer.epoch(),
        handle_generation,
        mailbox_version,
        replication_id,
        member,
        token: &peer.handle_token(),
    })
}
