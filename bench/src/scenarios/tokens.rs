//! How many tokens the auth service can issue.

use anyhow::{Context as _, Result, bail};

use super::{Context, NODES, PARALLEL_JOINS};
use crate::{
    framing::Framing,
    sample::{Meter, Sample, TOKENS_PER_SECOND},
    swarm::{Handler, Swarm},
};

/// One request after the other on each connection.
struct TokenRequests {
    request: String,
    issued: u64,
    fault: Option<String>,
}

impl Handler for TokenRequests {
    fn on_open(&mut self, _swarm: &mut Swarm, _peer: usize) {}

    fn on_text(&mut self, swarm: &mut Swarm, peer: usize, payload: &[u8]) {
        if payload.starts_with(b"HTTP/1.1 200") {
            self.issued += 1;
            swarm.send_text(peer, self.request.as_bytes());
        } else {
            self.fault = Some(String::from_utf8_lossy(payload).into_owned());
        }
    }

    fn on_closed(&mut self, _swarm: &mut Swarm, _peer: usize, reason: &str) {
        self.fault = Some(reason.to_owned());
    }
}

pub fn run(context: &Context<'_>) -> Result<Sample> {
    let server = context.spec.start(context.environment, NODES)?;
    let mut swarm = Swarm::new(Framing::Http)?;
    let request = server.dialect.token_request("user").context("this server issues no tokens")?;
    for peer in 0..PARALLEL_JOINS {
        swarm.connect(peer, server.address_of(peer), &request)?;
    }
    let mut requests = TokenRequests { request, issued: 0, fault: None };
    swarm.spin_for(&mut requests, context.size.warm_up)?;
    let (meter, before) = (Meter::start(&server), requests.issued);
    swarm.spin_for(&mut requests, context.size.time)?;
    let sample = meter.stop(&server).sample(requests.issued - before, TOKENS_PER_SECOND);
    match requests.fault {
        Some(fault) => bail!("a token was refused: {fault}"),
        None => Ok(sample),
    }
}
