//! The rooms and peers that this node serves. This file only declares and re-exports.
//!
//! - `room_registry`: finds a room and hands it inputs and entries
//! - `local_room`: one room: its local peers, the view of its state, and the driver that commits
//!   its inputs
//! - `forward`: redacts, appends and delivers messages
//! - `local_peer`: one peer with a socket here; `inbox` orders its entries, `outbox` holds its
//!   frames until they are written, `task_wake` wakes its task
//!
//! Must not: parse frames (`connection`), or decide what a member may do (`signalbox_rooms::room`).

mod forward;
mod inbox;
mod local_peer;
mod local_room;
mod outbox;
mod room_registry;
mod task_wake;

pub use forward::{
    ForwardResult, OutgoingMessage, PayloadRange, SenderProgress, append_at_once, append_messages,
    forward_direct,
};
pub use local_peer::{LocalPeer, MailboxStart, PendingWork};
pub use local_room::LocalRoom;
pub use outbox::start_flush_task;
pub use room_registry::RoomRegistry;
