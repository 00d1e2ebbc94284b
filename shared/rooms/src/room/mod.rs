//! The rules of a room, without I/O: admission, events for peers, and leaves.
//!
//! Owns: [`RoomState`], the state that all nodes agree on, and [`decide()`], which turns
//! `(state, now, inputs)` into the next state and the events. It reads no clock, makes no ids and
//! sends nothing. Must not: know connections, stores or JSON frames, except the metadata of a peer.
//!
//! | to change | see |
//! |---|---|
//! | the inputs that change a room | `room_input` |
//! | the outcome of an input, and the answer to its caller | `outcome` |
//! | a batch of inputs, and which peers receive an event | `decide`, `decision_batch`, `decision` |
//! | the admission of new peers, the lobby | `join`, `lobby`, `room_policy`, `role_policy` |
//! | resume, takeover, fencing | `claim` |
//! | lost connections, leaves, deadlines | `leave` |
//! | the token and the record of a member | `token_refresh`, `member_record` |
//! | create, configure, lock and end a room | `room_lifecycle`, `room_settings` |
//! | permissions of actors; remove, mute, assign roles | `room_action`, `moderation` |
//! | what outlasts a removed, muted or demoted peer | `sanction`, `sanction_effect` |
//!
//! Imports point one way: `decide` → the file of each input → `decision_batch` → `decision`,
//! `outcome`, `room_input` → `room_state`.
//! Next: `commit_loop` runs [`decide()`] and commits its [`Decision`].

mod claim;
mod decide;
mod decision;
mod decision_batch;
mod join;
mod leave;
mod lobby;
mod member_record;
mod moderation;
mod outcome;
mod role_policy;
mod room_action;
mod room_input;
mod room_lifecycle;
mod room_policy;
mod room_settings;
mod room_state;
mod sanction;
mod sanction_effect;
#[cfg(test)]
pub(crate) mod tests;
mod token_refresh;

pub use decide::decide;
pub use decision::{Decision, RoomEvent, RoomEventKind};
pub use outcome::{InputOutcome, NO_SUCH_PEER, NO_SUCH_ROOM, OutcomeRefusal};
pub use role_policy::RoomRolePolicy;
pub use room_input::{ClaimProof, ManageRoom, PeerClaim, PeerSelector, RoomAction, RoomInput};
pub use room_policy::RoomPolicy;
pub use room_settings::{MAX_ROOM_RETENTION_MS, RoomCreator, RoomCreatorKind, RoomPatch, RoomSettings};
pub use room_state::{
    Member, PeerAttachment, Permission, ReplicationId, RoomInstanceId, RoomState, TokenRecord, Tombstone,
};
pub use sanction::{AssignedRole, BlockReason, JoinBlock, Sanction, SanctionList, UserSource};
