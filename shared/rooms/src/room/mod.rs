//! The rules of a room, without I/O: who may join, what the others hear, who has left.
//!
//! Owns: [`RoomState`], what all nodes agree on, and [`decide`], which turns `(state, now, inputs)` into the next state and
//! the events. It reads no clock, makes no ids and sends nothing; whoever has an input commits what it decides.
//! Must not: know sockets, stores or JSON frames beyond a peer's own metadata.
//!
//! | a change of | is in |
//! |---|---|
//! | what can happen, and what comes of it | `input`, `manage` (the acts), `outcome` |
//! | a batch from its begin to its end | `decide` |
//! | who is let in, who waits first | `join`, `lobby`, `rules`, `roles` |
//! | coming back, fencing | `claim` |
//! | losing a socket, leaving, deadlines | `leave` |
//! | tokens of a member | `grant` |
//! | making, setting, locking and ending a room | `set`, `settings` |
//! | who may do what to whom; removing, muting, other roles | `manage`, `moderate` |
//! | who hears of what | `tell`; the frames are made in `announce` |
//!
//! Next: `announce` turns its [`Decision`] into a commit, `store` commits it; a node's registry drives it for its sockets.

mod claim;
mod decision;
mod decision_batch;
mod event_targets;
mod grant_binding;
mod join;
mod leave;
mod lobby;
mod member_record;
mod moderation;
mod role_policy;
mod room_action;
mod room_input;
mod room_lifecycle;
mod room_policy;
mod room_settings;
mod room_state;
#[cfg(test)]
pub(crate) mod tests;

pub use claim::{ClaimProof, PeerClaim};
pub use decision::{Decision, InputOutcome, RoomEvent, RoomEventKind};
pub use decision_batch::decide;
pub use role_policy::RoomRolePolicy;
pub use room_action::{ManageRoom, PeerSelector, RoomAction};
pub use room_input::RoomInput;
pub use room_policy::RoomPolicy;
pub use room_settings::{MAX_ROOM_RETENTION_MS, RoomCreator, RoomCreatorKind, RoomPatch, RoomSettings};
pub use room_state::{
    Member, PeerAttachment, Permission, ReplicationId, RoomInstanceId, RoomState, TokenRecord, Tombstone,
};
