//! Servers without logic, each in one thread: what remains of a signaling server when it only
//! forwards. A message goes unread to all other peers of the room that the path names.
//!
//!   floor actix-ws|actix-handover|tokio ADDRESS

mod actix_handover;
mod actix_ws_loop;
mod rooms;
mod tokio_loop;

use std::{io, net::TcpListener};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, kind, address] = &arguments[..] else {
        return Err(io::Error::other("usage: floor actix-ws|actix-handover|tokio ADDRESS"));
    };
    let listener = TcpListener::bind(address.as_str())?;
    listener.set_nonblocking(true)?;
    match kind.as_str() {
        "actix-ws" => actix_ws_loop::serve(listener),
        "actix-handover" => actix_handover::serve(listener),
        "tokio" => tokio_loop::serve(listener),
        other => Err(io::Error::other(format!("there is no floor {other}"))),
    }
}
