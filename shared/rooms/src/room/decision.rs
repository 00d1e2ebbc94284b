//! The decision about a batch of inputs: the next state, the events for peers, and what to commit.

use std::{cell::LazyCell, collections::BTreeSet, sync::Arc};

use serde_json::value::RawValue;
use signalbox_protocol::{
    IcePolicy, LeaveReason,
    id::{NodeId, PeerId},
};

use super::{
    outcome::InputOutcome,
    room_settings::RoomSettings,
    room_state::{Member, RoomState},
};

/// An event for the peers of a room.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// What happened.
    pub kind: RoomEventKind,
    /// The peer to which it happened.
    pub about_peer: PeerId,
    /// The peers that receive the event.
    pub targets: Vec<PeerId>,
}

/// What happened to a peer or the room.
#[derive(Debug, Clone)]
pub enum RoomEventKind {
    /// The peer joined with this record.
    Joined(Box<Member>),
    /// The peer has this record now.
    Updated(Box<Member>),
    /// The peer has lost its connection.
    Detached,
    /// The peer has resumed.
    Attached,
    /// The peer has left.
    Left(LeaveReason),
    /// The peer waits in the lobby. Only members that may admit it receive this.
    Knocked(Box<Member>),
    /// The peer was admitted, or has left the lobby for this reason.
    KnockEnded(Option<LeaveReason>),
    /// The peer has this role and these permissions now. Only the peer itself receives this.
    PermissionsChanged(Box<Member>, Option<IcePolicy>),
    /// The room has these settings now.
    RoomUpdated(Arc<RoomSettings>),
    /// The application has sent a message.
    AppMessage {
        /// Whether the message is for all members.
        addressed_to_room: bool,
        /// Any JSON.
        data: Arc<RawValue>,
    },
}

/// The result of a batch, ready to commit.
#[derive(Debug)]
pub struct Decision {
    /// The state after the commit, its version one higher if anything changed.
    pub next_state: RoomState,
    /// Members to write.
    pub written_peers: BTreeSet<PeerId>,
    /// Members to remove.
    pub removed_peers: BTreeSet<PeerId>,
    /// The last records of all peers that leave, also of peers that join in the same batch.
    pub removed_members: Vec<(PeerId, Arc<Member>)>,
    /// Tombstones that have expired.
    pub expired_tombstones: Vec<PeerId>,
    /// Whether the settings are to be written.
    pub settings_changed: bool,
    /// Whether the sanctions are to be written.
    pub sanctions_changed: bool,
    /// Whether a message of the application is sent, which changes no state.
    pub has_app_message: bool,
    /// The events, in order.
    pub events: Vec<RoomEvent>,
    /// One outcome for each input.
    pub outcomes: Vec<InputOutcome>,
}

impl Decision {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.written_peers.is_empty()
            && self.removed_peers.is_empty()
            && !self.settings_changed
            && !self.sanctions_changed
            && !self.has_app_message
    }

    /// The attached peers whose connections do not know yet what the decision changes for them: the
    /// peer has left, has another owner or epoch, or was admitted; and those in the lobby, if the first
    /// member that may admit them has come or the last has left. With the node that owned each.
    pub fn peers_to_resync<'a>(
        &'a self,
        before: &'a RoomState,
    ) -> impl Iterator<Item = (&'a NodeId, &'a PeerId)> {
        // Searches all members, so only if a peer waits.
        let admitter_changed = LazyCell::new(|| before.has_admitter() != self.next_state.has_admitter());
        before.members.iter().filter_map(move |(peer, member)| {
            let owner = member.owner()?;
            let is_unchanged = self.next_state.members.get(peer).is_some_and(|after| {
                let was_admitted = member.waiting && !after.waiting;
                let lobby_changed = after.waiting && *admitter_changed;
                let is_same_owner = after.epoch == member.epoch && after.owner() == Some(owner);
                is_same_owner && !was_admitted && !lobby_changed
            });
            (!is_unchanged).then_some((owner, peer))
        })
    }
}
