//! The rules of a room, without I/O: who may join, what the others hear, who has left.
//!
//! Owns: [`RoomState`], what all nodes agree on, and [`decide`], which turns `(state, now, inputs)` into the next state and
//! the events. It reads no clock, makes no ids and sends nothing; the registry commits what it decides.
//! Must not: know sockets, stores or JSON frames beyond a peer's own metadata.
//! Next: `registry/room.rs` runs it; `store` commits its [`Decision`].

mod decide;
mod state;
#[cfg(test)]
mod tests;

pub use decide::{Claim, Decision, Event, EventKind, Input, Outcome, Proof, Rules, decide};
pub use state::{Incarnation, Lineage, Member, Presence, RoomState, Tombstone};
