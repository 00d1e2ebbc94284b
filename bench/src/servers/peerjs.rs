//! PeerJS server: clients choose their ids, and there are no rooms.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use super::{tokens::random_hex, variable};
use crate::{
    dialect::{Dialect, Event, Peer, find, sdp_in_json},
    processes::{Processes, free_address},
};

pub fn start(processes: &mut Processes, npm: &Path) -> Result<(Vec<SocketAddr>, Box<dyn Dialect>)> {
    let address = free_address()?;
    let program = npm.join("peerjs.mjs");
    let variables = [variable("PORT", address.port()), variable("NODE_ENV", "production")];
    processes.spawn("peerjs", Path::new("node"), &[&program.to_string_lossy()], &variables)?;
    processes.wait_until_ready(address, Some("/"))?;
    Ok((vec![address], Box::new(PeerJsDialect)))
}

struct PeerJsDialect;

impl Dialect for PeerJsDialect {
    fn upgrade_path(&self, peer: &mut Peer, _user: &str) -> String {
        peer.id = random_hex();
        format!("/peerjs?key=peerjs&id={}&token={}&version=1.5.5", peer.id, &peer.id[..11])
    }

    fn read(&self, _peer: &mut Peer, payload: &[u8], _reply: &mut dyn FnMut(&[u8])) -> Event {
        let head = &payload[..payload.len().min(64)];
        if find(head, br#""type":"OFFER""#).is_some() {
            Event::Delivered
        } else if find(head, br#""type":"OPEN""#).is_some() {
            Event::Joined
        } else {
            Event::Refused(String::from_utf8_lossy(head).into_owned())
        }
    }

    fn write_message(&self, to: &str, _number: u64, output: &mut Vec<u8>) {
        output
            .extend_from_slice(br#"{"type":"OFFER","payload":{"type":"data","sdp":{"type":"offer","sdp":""#);
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}},"dst":""#);
        output.extend_from_slice(to.as_bytes());
        output.extend_from_slice(br#""}"#);
    }
}
