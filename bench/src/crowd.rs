//! The simulated peers of one measurement: they join, and their messages are interpreted.
//!
//! Owns: the connections and what is known of each peer. Scenarios build on it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{
    dialect::{Dialect, Event, Peer},
    servers::RunningServer,
    swarm::{Handler, Swarm},
};

/// How long a crowd may take to join.
const JOIN_LIMIT: Duration = Duration::from_secs(120);

/// What a scenario does with the messages of the server.
pub trait Observer {
    /// Something has happened to a peer.
    fn on_event(&mut self, swarm: &mut Swarm, peers: &[Peer], peer: usize, event: Event);
}

/// Peers with what the server has told them.
pub struct Crowd<'a> {
    pub server: &'a RunningServer,
    pub peers: Vec<Peer>,
    pub joined: usize,
    /// When each peer began to connect, and when it was in its room.
    pub times: Vec<(Option<Instant>, Option<Instant>)>,
    /// What the server refused, and connections that ended: the first of them.
    pub first_fault: Option<String>,
    pub faults: u64,
}

/// A crowd with its observer, as the swarm needs it.
pub struct Observed<'c, 'a, O> {
    pub crowd: &'c mut Crowd<'a>,
    pub observer: &'c mut O,
}

impl<'a> Crowd<'a> {
    /// As many peers, each `room_size` of them in one room. The names of the rooms begin with `name`.
    pub fn new(server: &'a RunningServer, name: &str, count: usize, room_size: usize) -> Self {
        let peers = (0..count)
            .map(|index| Peer { room: format!("{name}-{}", index / room_size), ..Peer::default() })
            .collect();
        Self { server, peers, joined: 0, times: vec![(None, None); count], first_fault: None, faults: 0 }
    }

    fn dialect(&self) -> &'a dyn Dialect {
        &*self.server.dialect
    }

    /// The request targets of all upgrades. A token is made here, so not while time is taken.
    pub fn prepare(&mut self) -> Vec<String> {
        let dialect = self.dialect();
        let peers = self.peers.iter_mut().enumerate();
        peers.map(|(index, peer)| dialect.upgrade_path(peer, &format!("user-{index}"))).collect()
    }

    /// Lets all peers join, at most `parallel` at a time.
    pub fn join_all(&mut self, swarm: &mut Swarm, parallel: usize) -> Result<()> {
        let paths = self.prepare();
        self.join(swarm, &paths, parallel, &mut ())
    }

    /// The same with prepared request targets and with an observer of the other events.
    pub fn join(
        &mut self,
        swarm: &mut Swarm,
        paths: &[String],
        parallel: usize,
        observer: &mut impl Observer,
    ) -> Result<()> {
        let (mut begun, goal) = (self.joined, self.joined + paths.len());
        let first = begun;
        let mut observed = Observed { crowd: self, observer };
        let what = format!("{goal} peers have joined");
        swarm.run_until(&mut observed, JOIN_LIMIT, &what, |observed, swarm| {
            let crowd = &mut *observed.crowd;
            crowd.check_faults()?;
            while begun < goal && begun - crowd.joined < parallel {
                crowd.times[begun].0 = Some(Instant::now());
                swarm.connect(begun, crowd.server.address_of(begun), &paths[begun - first])?;
                begun += 1;
            }
            Ok(crowd.joined == goal)
        })
    }

    /// Fails if the server has refused something or has closed a connection.
    pub fn check_faults(&self) -> Result<()> {
        match &self.first_fault {
            Some(fault) => bail!("{} faults, the first: {fault}", self.faults),
            None => Ok(()),
        }
    }

    /// Records what should not have happened.
    pub fn record_fault(&mut self, peer: usize, fault: &str) {
        self.faults += 1;
        self.first_fault.get_or_insert_with(|| format!("peer {peer}: {fault}"));
    }

    fn record_join(&mut self, peer: usize) {
        self.joined += 1;
        self.times[peer].1 = Some(Instant::now());
    }
}

impl<O: Observer> Handler for Observed<'_, '_, O> {
    fn on_open(&mut self, swarm: &mut Swarm, peer: usize) {
        if self.crowd.dialect().joins_by_upgrade() {
            self.crowd.record_join(peer);
            self.observer.on_event(swarm, &self.crowd.peers, peer, Event::Joined);
        }
    }

    fn on_text(&mut self, swarm: &mut Swarm, peer: usize, payload: &[u8]) {
        let dialect = self.crowd.dialect();
        let mut reply = |answer: &[u8]| swarm.send_text(peer, answer);
        let event = dialect.read(&mut self.crowd.peers[peer], payload, &mut reply);
        match &event {
            Event::Joined => self.crowd.record_join(peer),
            Event::Refused(fault) => self.crowd.record_fault(peer, fault),
            _ => {}
        }
        self.observer.on_event(swarm, &self.crowd.peers, peer, event);
    }

    fn on_closed(&mut self, _swarm: &mut Swarm, peer: usize, reason: &str) {
        self.crowd.record_fault(peer, reason);
    }
}

/// No observer.
impl Observer for () {
    fn on_event(&mut self, _swarm: &mut Swarm, _peers: &[Peer], _peer: usize, _event: Event) {}
}
