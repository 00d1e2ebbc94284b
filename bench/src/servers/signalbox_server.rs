//! Signalbox: the all-in-one binary, once with the memory store, or several times with one Redis.
//! Rate limits are raised, because a simulated peer sends more than a person.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    start_redis,
    tokens::{TokenSigner, random_hex},
    variable,
};
use crate::{
    dialect::{Dialect, Event, Peer, find, number_after, sdp_in_json, string_after},
    processes::{Processes, free_address},
};

/// After how many entries a client confirms them (docs/PROTOCOL.md, section 3.3).
const CONFIRM_EVERY: u64 = 64;

/// What the name of the server says.
pub struct Options {
    pub nodes: usize,
    /// The workers of each node, if not one for each CPU.
    pub workers: Option<usize>,
    pub with_redis: bool,
    /// Tokens are signed with EdDSA.
    pub with_keys: bool,
}

/// Starts it. Tokens are signed here, so that the auth service takes no part in a join.
pub fn start(
    processes: &mut Processes,
    binary: &Path,
    options: &Options,
) -> Result<(Vec<SocketAddr>, Box<dyn Dialect>)> {
    let secret = format!("{}{}", random_hex(), random_hex());
    let api_key = format!("bench:{}", random_hex());
    let mut variables = vec![
        variable("SIGNALBOX_SESSION_KEY", format!("{}{}", random_hex(), random_hex())),
        variable("SIGNALBOX_API_KEYS", &api_key),
    ];
    variables.extend(raised_limits());
    if let Some(workers) = options.workers {
        variables.push(variable("SIGNALBOX__SERVER__WORKERS", workers));
    }
    let signer = if options.with_keys {
        let folder = processes.folder.path().join("keys");
        variables.push(variable("SIGNALBOX__AUTH__KEYS_DIR", folder.display()));
        make_key(binary, &folder)?
    } else {
        variables.push(variable("AUTH_SECRET", &secret));
        TokenSigner::hs256(&secret)
    };
    if options.with_redis {
        variables.push(variable("REDIS_URL", start_redis(processes)?));
    }
    let mut addresses = Vec::new();
    for node in 0..options.nodes {
        let address = free_address()?;
        let mut variables = variables.clone();
        variables.push(variable("SIGNALBOX_LISTEN", address));
        processes.spawn(&format!("node-{node}"), binary, &[], &variables)?;
        processes.wait_until_ready(address, Some("/health/ready"))?;
        addresses.push(address);
    }
    Ok((addresses, Box::new(SignalboxDialect { signer, api_key })))
}

/// Limits that simulated peers do not reach, as variables of a process.
pub fn raised_limits() -> Vec<(String, String)> {
    [
        ("BURST", "1000000000"),
        ("RATE", "1000000000"),
        ("ROOM_PEERS", "1000"),
        ("CONNECTIONS", "100000"),
        ("BACKLOG", "10000"),
        ("BACKLOG_BYTES", "16MiB"),
        // A simulated peer confirms nothing, so the messages to it count as waiting for long.
        ("ROOM_BACKLOG_BYTES", "2048MiB"),
        ("GRANT_BACKLOG_BYTES", "2048MiB"),
        ("OUTBOX", "16MiB"),
        ("NODE_OUTBOX", "1024MiB"),
    ]
    .map(|(name, value)| variable(&format!("SIGNALBOX__LIMITS__{name}"), value))
    .into_iter()
    .chain([variable("SIGNALBOX__LOG__FILTER", "warn")])
    .collect()
}

/// The messages of a server whose tokens are signed with this secret.
pub fn dialect_with_secret(secret: &str) -> Box<dyn Dialect> {
    Box::new(SignalboxDialect { signer: TokenSigner::hs256(secret), api_key: String::new() })
}

/// Makes a signing key as an operator does.
fn make_key(binary: &Path, folder: &Path) -> Result<TokenSigner> {
    let output = Command::new(binary)
        .args(["keys", "new", "--alg", "EdDSA", "--dir"])
        .arg(folder)
        .env_clear()
        .output()
        .with_context(|| format!("run {}", binary.display()))?;
    if !output.status.success() {
        bail!("signalbox keys new: {}", String::from_utf8_lossy(&output.stderr));
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            return TokenSigner::from_jwk(&std::fs::read_to_string(path)?);
        }
    }
    bail!("signalbox keys new made no key in {}", folder.display())
}

struct SignalboxDialect {
    signer: TokenSigner,
    api_key: String,
}

impl Dialect for SignalboxDialect {
    fn upgrade_path(&self, peer: &mut Peer, user: &str) -> String {
        format!("/ws/signal?token={}", self.signer.sign(&peer.room, user))
    }

    fn acknowledges(&self) -> bool {
        true
    }

    fn read(&self, peer: &mut Peer, payload: &[u8], reply: &mut dyn FnMut(&[u8])) -> Event {
        // The members that matter are before or after the SDP, never inside.
        let head = &payload[..payload.len().min(256)];
        let Some(kind) = string_after(head, b"\"type\":\"") else { return Event::Ignored };
        let seq = || {
            let tail = &payload[payload.len().saturating_sub(64)..];
            number_after(head, b"\"seq\":").or_else(|| number_after(tail, b"\"seq\":"))
        };
        match kind.as_str() {
            "ack" => number_after(head, b"\"id\":").map_or(Event::Ignored, Event::Acknowledged),
            "joined" | "resumed" => {
                peer.id = string_after(payload, b"\"peerId\":\"").unwrap_or_default();
                peer.resume = string_after(payload, b"\"resume\":\"").unwrap_or_default();
                peer.seq = number_after(payload, b"\"seq\":").unwrap_or(0);
                peer.confirmed = peer.seq;
                peer.is_recovered = kind == "joined" || find(payload, b"\"recovered\":true").is_some();
                if kind == "resumed" {
                    // The first text frame confirms the new handle.
                    reply(br#"{"type":"ping"}"#);
                }
                Event::Joined
            }
            "error" => Event::Refused(String::from_utf8_lossy(head).into_owned()),
            _ => {
                let Some(seq) = seq() else { return Event::Ignored };
                peer.seq = seq;
                if seq >= peer.confirmed + CONFIRM_EVERY {
                    peer.confirmed = seq;
                    reply(format!(r#"{{"type":"received","seq":{seq}}}"#).as_bytes());
                }
                if matches!(kind.as_str(), "offer" | "message") {
                    Event::Delivered
                } else {
                    Event::PresenceChanged
                }
            }
        }
    }

    fn write_message(&self, to: &str, number: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(br#"{"type":"offer","to":""#);
        output.extend_from_slice(to.as_bytes());
        output.extend_from_slice(br#"","id":"#);
        output.extend_from_slice(number.to_string().as_bytes());
        output.extend_from_slice(br#","sdp":""#);
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}"#);
    }

    fn write_broadcast(&self, _room: &str, number: u64, output: &mut Vec<u8>) -> bool {
        output.extend_from_slice(format!(r#"{{"type":"message","id":{number},"data":""#).as_bytes());
        output.extend_from_slice(sdp_in_json().as_bytes());
        output.extend_from_slice(br#""}"#);
        true
    }

    fn token_request(&self, user: &str) -> Option<String> {
        let credentials = BASE64.encode(&self.api_key);
        let body = format!(r#"{{"room":"bench","user":"{user}"}}"#);
        Some(format!(
            "POST /auth/token HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn resume_path(&self, peer: &Peer) -> Option<String> {
        Some(format!("/ws/signal?resume={}&since={}", peer.resume, peer.seq))
    }
}
