//! One WebSocket, from the upgrade request to its last byte.
//!
//! Owns: taking the socket over after the `101` (`upgrade`), reading frames (`frames`), the order
//! of one peer's requests (`requests`), its rate (`rate`), what its frames mean (`reader`), how it comes in (`enter`), what
//! is done when its shared state is in doubt (`look`), its goodbye (`life`), and the loop that drives them (`session`).
//! Must not: know other peers; it hands messages to its room and is handed entries through its outbox.

mod connection_token;
mod deadlines;
mod disconnect;
mod dispatcher;
mod frame_reader;
mod join;
mod lobby;
mod rate_limiter;
mod request_queue;
mod resync;
mod sender_policy;
mod task;
mod upgrade;

pub use upgrade::serve;
