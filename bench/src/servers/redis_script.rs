//! Redis alone: what a message through Redis costs at least. A sender calls a script that appends
//! the message to a stream and publishes it; the target subscribes. Each peer is one connection.

use std::net::SocketAddr;

use anyhow::Result;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY as SHA1, digest};

use super::start_redis;
use crate::{
    dialect::{Dialect, Event, Peer, sdp_in_json},
    framing::Framing,
    processes::Processes,
};

const SCRIPT: &str = "redis.call('XADD', KEYS[1], 'MAXLEN', '~', '64', '*', 'd', ARGV[1]) \
                      redis.call('PUBLISH', KEYS[1], ARGV[1]) return 1";

pub fn start(processes: &mut Processes) -> Result<(Vec<SocketAddr>, Box<dyn Dialect>)> {
    let url = start_redis(processes)?;
    let address = url.trim_start_matches("redis://").trim_end_matches("/0").parse()?;
    let sha = digest(&SHA1, SCRIPT.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((vec![address], Box::new(RedisDialect { sha })))
}

struct RedisDialect {
    sha: String,
}

fn write_command(output: &mut Vec<u8>, parts: &[&str]) {
    output.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        output.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
}

impl Dialect for RedisDialect {
    fn framing(&self) -> Framing {
        Framing::Redis
    }

    fn upgrade_path(&self, peer: &mut Peer, user: &str) -> String {
        peer.id = user.to_owned();
        let mut commands = Vec::new();
        for command in [&["HELLO", "3"][..], &["SCRIPT", "LOAD", SCRIPT], &["SUBSCRIBE", user]] {
            write_command(&mut commands, command);
        }
        String::from_utf8_lossy(&commands).into_owned()
    }

    fn acknowledges(&self) -> bool {
        true
    }

    fn read(&self, peer: &mut Peer, payload: &[u8], _reply: &mut dyn FnMut(&[u8])) -> Event {
        if payload.starts_with(b">3\r\n$7\r\nmessage") {
            Event::Delivered
        } else if payload.starts_with(b">3\r\n$9\r\nsubscribe") {
            Event::Joined
        } else if payload == b":1\r\n" {
            // Replies come in the order of the calls.
            peer.confirmed += 1;
            Event::Acknowledged(peer.confirmed)
        } else if payload.starts_with(b"-") {
            Event::Refused(String::from_utf8_lossy(payload).into_owned())
        } else {
            Event::Ignored
        }
    }

    fn write_message(&self, to: &str, _number: u64, output: &mut Vec<u8>) {
        write_command(output, &["EVALSHA", &self.sha, "1", to, sdp_in_json()]);
    }
}
