//! Peers that have lost their connections and return: by a resume where the server has one, else by
//! a new join.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    crowd::{Crowd, Observer},
    dialect::Event,
    swarm::{Handler, Swarm},
};

/// A refused peer tries again after this time.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How long all peers may take to return.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Present,
    Away,
    Connecting,
}

/// Returning peers.
pub struct Returns<'c, 'a, O> {
    pub crowd: &'c mut Crowd<'a>,
    pub observer: &'c mut O,
    states: Vec<State>,
    waiting: VecDeque<(Instant, usize)>,
    begin: Instant,
    /// The seconds after which each peer was back.
    pub times: Vec<f64>,
    /// How many tries were refused.
    pub retries: u64,
    in_progress: usize,
}

impl<'c, 'a, O: Observer> Returns<'c, 'a, O> {
    /// These peers lose their connections now.
    pub fn begin(
        swarm: &mut Swarm,
        crowd: &'c mut Crowd<'a>,
        observer: &'c mut O,
        away: impl Iterator<Item = usize>,
    ) -> Self {
        let (begin, mut states) = (Instant::now(), vec![State::Present; crowd.peers.len()]);
        let mut waiting = VecDeque::new();
        for peer in away {
            swarm.disconnect(peer);
            states[peer] = State::Away;
            waiting.push_back((begin, peer));
        }
        Self { crowd, observer, states, waiting, begin, times: Vec::new(), retries: 0, in_progress: 0 }
    }

    /// Lets all of them return, at most `parallel` at a time.
    pub fn run(&mut self, swarm: &mut Swarm, parallel: usize) -> Result<()> {
        let goal = self.waiting.len();
        swarm.run_until(self, RETURN_LIMIT, "all peers are back", |returns, swarm| {
            returns.crowd.check_faults()?;
            while returns.in_progress < parallel
                && let Some((at, peer)) = returns.waiting.front().copied()
                && at <= Instant::now()
            {
                returns.waiting.pop_front();
                returns.connect(swarm, peer)?;
            }
            Ok(returns.times.len() == goal)
        })
    }

    fn connect(&mut self, swarm: &mut Swarm, peer: usize) -> Result<()> {
        let server = self.crowd.server;
        let path = server.dialect.resume_path(&self.crowd.peers[peer]);
        let path = path.unwrap_or_else(|| {
            server.dialect.upgrade_path(&mut self.crowd.peers[peer], &format!("user-{peer}-again"))
        });
        self.states[peer] = State::Connecting;
        self.in_progress += 1;
        swarm.connect(peer, server.address_of(peer), &path)
    }
}

impl<O: Observer> Handler for Returns<'_, '_, O> {
    fn on_open(&mut self, _swarm: &mut Swarm, _peer: usize) {}

    fn on_text(&mut self, swarm: &mut Swarm, peer: usize, payload: &[u8]) {
        let mut reply = |answer: &[u8]| swarm.send_text(peer, answer);
        let event = self.crowd.server.dialect.read(&mut self.crowd.peers[peer], payload, &mut reply);
        if event == Event::Joined && self.states[peer] == State::Connecting {
            self.states[peer] = State::Present;
            self.in_progress -= 1;
            self.times.push(self.begin.elapsed().as_secs_f64());
        }
        self.observer.on_event(swarm, &self.crowd.peers, peer, event);
    }

    fn on_closed(&mut self, swarm: &mut Swarm, peer: usize, reason: &str) {
        if self.states[peer] == State::Connecting {
            swarm.disconnect(peer);
            self.states[peer] = State::Away;
            self.in_progress -= 1;
            self.retries += 1;
            self.waiting.push_back((Instant::now() + RETRY_AFTER, peer));
        } else {
            self.crowd.record_fault(peer, reason);
        }
    }
}
