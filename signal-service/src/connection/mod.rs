//! One WebSocket, from the upgrade request to its last byte.
//!
//! Owns: taking the socket over after the `101` (`upgrade`), reading frames (`frames`), the order
//! of one peer's requests (`requests`), its rate (`rate`), what its frames mean (`reader`), how it comes in (`enter`), what
//! is done when its shared state is in doubt (`look`), its goodbye (`life`), and the loop that drives them (`session`).
//! Must not: know other peers; it hands messages to its room and is handed entries through its outbox.

mod deadlines;
mod enter;
mod frames;
mod life;
mod lobby;
mod look;
mod policy;
mod rate;
mod reader;
mod refresh;
mod requests;
mod session;
mod upgrade;

pub use upgrade::serve;
