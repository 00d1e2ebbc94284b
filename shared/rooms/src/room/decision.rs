//! What comes of an input: its outcome, what others hear, and what is to be committed.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeaveReason,
    id::{NodeId, PeerId},
};

use super::{
    room_settings::RoomSettings,
    room_state::{Member, RoomState},
};

/// What became of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputOutcome {
    /// It holds now.
    Done,
    /// The connection owns the peer in this epoch.
    Attached(u64),
    /// The peer is not there any more, or another epoch owns it.
    PeerGone,
    /// A newer connection has the peer.
    Fenced,
    /// The life of its token is over.
    TokenExpired,
    /// Another peer has the grant of its token.
    TokenInUse,
    /// No place left in the room.
    RoomFull,
    /// No place left for this user.
    UserLimit,
    /// The room takes nobody in for now.
    RoomLocked,
    /// The room is switched off.
    RoomDisabled,
    /// The room has not begun.
    RoomNotStarted,
    /// There is no such room, and none is made by joining.
    NoImplicitRoom,
    /// The room takes nobody in with this role: others are named, or what it sends would have to be read where nothing may be.
    RoleRefused,
    /// It would make the server read what a member sends, in a room that demands encryption end to end.
    E2eeRequired,
    /// There is such a room already.
    RoomExists,
    /// There is no such room.
    NoSuchRoom,
    /// There is no such peer in the room, or none that waits.
    NoSuchPeer,
    /// Who asks may not do that, or not to this peer.
    NotPermitted,
    /// So many peers have left by it.
    Removed(usize),
}

impl InputOutcome {
    /// Whether the room is now as the input asks.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::Done | Self::Removed(_) | Self::Attached(_))
    }
}

/// What the others hear.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// What happened.
    pub kind: RoomEventKind,
    /// To whom.
    pub about_peer: PeerId,
    /// Who hears it.
    pub targets: Vec<PeerId>,
}

/// What happened to a peer.
#[derive(Debug, Clone)]
pub enum RoomEventKind {
    /// It joined with this record.
    Joined(Box<Member>),
    /// Its record is now this.
    Updated(Box<Member>),
    /// Its socket is lost.
    Detached,
    /// It is back.
    Attached,
    /// It has left, finally.
    Left(LeaveReason),
    /// It waits to be let in; those hear of it who may let it in.
    Knocked(Box<Member>),
    /// It waits no more: it was let in, or is gone for this reason.
    KnockEnded(Option<LeaveReason>),
    /// Its own role or permissions are now these; it alone hears of it.
    PermissionsChanged(Box<Member>, Option<IcePolicy>),
    /// The room's settings are now these.
    RoomUpdated(Arc<RoomSettings>),
    /// The API has said something.
    AppMessage {
        /// Whether to everybody.
        addressed_to_room: bool,
        /// What.
        data: Arc<RawValue>,
    },
}

/// What to commit.
#[derive(Debug)]
pub struct Decision {
    /// The state after the commit, its version one higher if anything changed.
    pub next_state: RoomState,
    /// Members to write.
    pub written_peers: BTreeSet<PeerId>,
    /// Members to remove.
    pub removed_peers: BTreeSet<PeerId>,
    /// Who has left by it, as it was last: one too that came in by it.
    pub removed_members: Vec<(PeerId, Member)>,
    /// Tombstones that are over.
    pub expired_tombstones: Vec<PeerId>,
    /// Whether the settings are to be written.
    pub settings_changed: bool,
    /// Whether something is said that changes nothing.
    pub has_app_message: bool,
    /// What others hear, in order.
    pub events: Vec<RoomEvent>,
    /// One for each input.
    pub outcomes: Vec<InputOutcome>,
}

impl Decision {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.written_peers.is_empty()
            && self.removed_peers.is_empty()
            && !self.settings_changed
            && !self.has_app_message
    }

    /// The attached peers whose connections do not know yet what the decision changes for them: the
    /// peer has left, has another owner or epoch, or was admitted. With the node that owned each.
    pub fn peers_to_resync<'a>(
        &'a self,
        before: &'a RoomState,
    ) -> impl Iterator<Item = (&'a NodeId, &'a PeerId)> {
        before.members.iter().filter_map(|(peer, member)| {
            let owner = member.owner()?;
            let is_unchanged = self.next_state.members.get(peer).is_some_and(|after| {
                let was_admitted = member.waiting && !after.waiting;
                after.epoch == member.epoch && after.owner() == Some(owner) && !was_admitted
            });
            (!is_unchanged).then_some((owner, peer))
        })
    }
}
