//! One WebSocket, from the upgrade request to its last byte.
//!
//! - `listener`: the server and its workers; `upgrade`: verifies the request, answers `101` and
//!   hands the socket to the worker of the room
//! - `task`: the loop of one connection; it owns `state` and acts on the values of the others;
//!   `wait`: what wakes it
//! - `frame_reader`: bytes to frames, at a limited rate; `dispatcher`: frames to actions
//! - `request_queue`: the order of the requests of the peer, and their store calls;
//!   `message_ids`: which ids must come again; `request_answers`: their answers
//! - `join`: the commit and the first frame; `resync`, `lobby`: repair and admission later
//! - `pair_activity`, `outcome_report`: the steps toward another peer, and how they ended as the client
//!   reports it
//! - `connection_token`, `deadlines`: what ends or changes with time
//! - `disconnect`: the close code and the close handshake
//!
//! Must not: know other peers. A message goes to the room of the peer; an entry comes through its
//! `LocalPeer`.

mod connection_token;
mod deadlines;
mod disconnect;
mod dispatcher;
mod frame_reader;
mod join;
mod listener;
mod lobby;
mod message_ids;
mod outcome_report;
mod pair_activity;
mod request_answers;
mod request_queue;
mod resync;
mod state;
mod task;
mod upgrade;
mod wait;

pub use listener::serve;
