//! The floors: servers without logic (`floor/`). A message of a peer goes to all other peers of its
//! room, unread, and the room is the path.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use crate::{
    dialect::{Dialect, Event, Peer, sdp_in_json},
    processes::{Processes, free_address},
};

pub fn start(
    processes: &mut Processes,
    binary: &Path,
    kind: &str,
) -> Result<(Vec<SocketAddr>, Box<dyn Dialect>)> {
    let address = free_address()?;
    processes.spawn(kind, binary, &[kind, &address.to_string()], &[])?;
    processes.wait_until_ready(address, None)?;
    Ok((vec![address], Box::new(FloorDialect)))
}

struct FloorDialect;

impl Dialect for FloorDialect {
    fn upgrade_path(&self, peer: &mut Peer, user: &str) -> String {
        peer.id = user.to_owned();
        format!("/{}", peer.room)
    }

    fn joins_by_upgrade(&self) -> bool {
        true
    }

    fn read(&self, _peer: &mut Peer, _payload: &[u8], _reply: &mut dyn FnMut(&[u8])) -> Event {
        Event::Delivered
    }

    // As long as the same message of Signalbox.
    fn write_message(&self, to: &str, number: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(
            format!(r#"{{"type":"offer","to":"{to:0>32}","id":{number},"sdp":""#).as_bytes(),
        );
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}"#);
    }

    fn write_broadcast(&self, _room: &str, number: u64, output: &mut Vec<u8>) -> bool {
        self.write_message("", number, output);
        true
    }
}
