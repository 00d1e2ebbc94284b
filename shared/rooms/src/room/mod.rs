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
mod decide;
mod grant;
mod input;
mod join;
mod leave;
mod lobby;
mod manage;
mod moderate;
mod outcome;
mod record;
mod roles;
mod rules;
mod set;
mod settings;
mod state;
mod tell;
#[cfg(test)]
pub(crate) mod tests;

pub use claim::{Claim, Proof};
pub use decide::decide;
pub use input::Input;
pub use manage::{Act, Manage, Whom};
pub use outcome::{Decision, Event, EventKind, Outcome};
pub use roles::RoleBook;
pub use rules::Rules;
pub use settings::{Creator, CreatorKind, LONGEST_KEPT_MS, Patch, RoomSettings};
pub use state::{Incarnation, Lineage, Member, Permission, Presence, RoomState, TokenRecord, Tombstone};
