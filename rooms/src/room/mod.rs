//! The rules of a room, without I/O: who may join, what the others hear, who has left.
//!
//! Owns: [`RoomState`], what all nodes agree on, and [`decide`], which turns `(state, now, inputs)` into the next state and
//! the events. It reads no clock, makes no ids and sends nothing; whoever has an input commits what it decides.
//! Must not: know sockets, stores or JSON frames beyond a peer's own metadata.
//! Next: `announce` turns its [`Decision`] into a commit, `store` commits it; a node's registry drives it for its sockets.

mod decide;
mod grant;
mod manage;
mod settings;
mod state;
#[cfg(test)]
mod tests;

pub use decide::{Claim, Decision, Event, EventKind, Input, Outcome, Proof, Rules, decide};
pub use manage::{Act, Manage, Whom};
pub use settings::{Creator, CreatorKind, LONGEST_KEPT_MS, Patch, RoomSettings};
pub use state::{Incarnation, Lineage, Member, Permission, Presence, RoomState, TokenRecord, Tombstone};
