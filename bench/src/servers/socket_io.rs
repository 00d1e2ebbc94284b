//! Socket.IO with the few lines that a signaling server needs (`npm/socket-io.mjs`). Clients use its
//! WebSocket transport from the start, which is its fastest.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use super::{start_redis, variable};
use crate::{
    dialect::{Dialect, Event, Peer, sdp_in_json, string_after},
    processes::{Processes, free_address},
};

pub fn start(
    processes: &mut Processes,
    npm: &Path,
    nodes: usize,
    with_redis: bool,
) -> Result<(Vec<SocketAddr>, Box<dyn Dialect>)> {
    let redis = if with_redis { Some(start_redis(processes)?) } else { None };
    let program = npm.join("socket-io.mjs");
    let mut addresses = Vec::new();
    for node in 0..nodes {
        let address = free_address()?;
        let mut variables = vec![variable("PORT", address.port()), variable("NODE_ENV", "production")];
        variables.extend(redis.as_ref().map(|url| variable("REDIS_URL", url)));
        processes.spawn(
            &format!("node-{node}"),
            Path::new("node"),
            &[&program.to_string_lossy()],
            &variables,
        )?;
        processes.wait_until_ready(address, None)?;
        addresses.push(address);
    }
    Ok((addresses, Box::new(SocketIoDialect)))
}

struct SocketIoDialect;

impl Dialect for SocketIoDialect {
    fn upgrade_path(&self, _peer: &mut Peer, _user: &str) -> String {
        "/socket.io/?EIO=4&transport=websocket".to_owned()
    }

    fn read(&self, peer: &mut Peer, payload: &[u8], reply: &mut dyn FnMut(&[u8])) -> Event {
        match payload {
            // Engine.IO: open, ping. Socket.IO: connected; event; the answer to `join`.
            [b'0', ..] => {
                reply(b"40");
                Event::Ignored
            }
            [b'2', ..] => {
                reply(b"3");
                Event::Ignored
            }
            [b'4', b'0', ..] => {
                peer.id = string_after(payload, b"\"sid\":\"").unwrap_or_default();
                reply(format!(r#"420["join","{}"]"#, peer.room).as_bytes());
                Event::Ignored
            }
            [b'4', b'3', ..] => Event::Joined,
            _ if payload.starts_with(br#"42["signal""#) => Event::Delivered,
            _ if payload.starts_with(br#"42["peer"#) => Event::PresenceChanged,
            _ => Event::Refused(String::from_utf8_lossy(&payload[..payload.len().min(100)]).into_owned()),
        }
    }

    fn write_message(&self, to: &str, _number: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(br#"42["signal",""#);
        output.extend_from_slice(to.as_bytes());
        output.extend_from_slice(br#"",{"type":"offer","sdp":""#);
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}]"#);
    }

    fn write_broadcast(&self, room: &str, _number: u64, output: &mut Vec<u8>) -> bool {
        output.extend_from_slice(br#"42["broadcast",""#);
        output.extend_from_slice(room.as_bytes());
        output.extend_from_slice(br#"",{"data":""#);
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}]"#);
        true
    }
}
