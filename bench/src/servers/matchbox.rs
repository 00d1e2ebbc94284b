//! matchbox_server: the room is the path, and the server chooses the ids.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use super::variable;
use crate::{
    dialect::{Dialect, Event, Peer, sdp_in_json, string_after},
    processes::{Processes, free_address},
};

pub fn start(processes: &mut Processes, binary: &Path) -> Result<(Vec<SocketAddr>, Box<dyn Dialect>)> {
    let address = free_address()?;
    let variables = [variable("HOST", address), variable("RUST_LOG", "error")];
    processes.spawn("matchbox", binary, &[], &variables)?;
    processes.wait_until_ready(address, Some("/health"))?;
    Ok((vec![address], Box::new(MatchboxDialect)))
}

struct MatchboxDialect;

impl Dialect for MatchboxDialect {
    fn upgrade_path(&self, peer: &mut Peer, _user: &str) -> String {
        format!("/{}", peer.room)
    }

    fn read(&self, peer: &mut Peer, payload: &[u8], _reply: &mut dyn FnMut(&[u8])) -> Event {
        if payload.starts_with(br#"{"Signal""#) {
            Event::Delivered
        } else if payload.starts_with(br#"{"IdAssigned""#) {
            peer.id = string_after(payload, b"\":\"").unwrap_or_default();
            Event::Joined
        } else {
            Event::PresenceChanged
        }
    }

    fn write_message(&self, to: &str, _number: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(br#"{"Signal":{"receiver":""#);
        output.extend_from_slice(to.as_bytes());
        output.extend_from_slice(br#"","data":{"Offer":""#);
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}}}"#);
    }
}
