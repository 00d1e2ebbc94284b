//! A small model of store, nodes and topics, in one thread and without time of its own, in which one rule of delivery at a time can
//! be left out. Its clients keep to the real rules ([`signalbox_tests::client`]), and what they see goes to the real checker.
//!
//! Owns: just as much of the design as a rule needs to be broken. Must not: be mistaken for the server.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};
use signalbox_tests::{
    checker::{Verdict, check},
    client::{At, Client, Occurred, Outgoing, WayBack},
    history::{Event, History, Run, Who},
};

/// A rule of delivery that a server can be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// D1: whoever serves the room must know its writes; else every box breaks, and says so.
    Lineage,
    /// D4: one call in flight for each sender.
    OneCallInFlight,
    /// D6: delivered frames carry the sender's id.
    IdsOnEntries,
    /// D7: what is ahead of its turn waits for what it overtook.
    HoldAhead,
    /// D12: the handle before the last one is good until the client speaks.
    PreviousHandle,
    /// D13: the inbox is there before the script is sent.
    InboxFirst,
    /// D19: after a topic was down, the heads are asked for.
    HeadsAfterBreak,
}

#[derive(Debug, Clone)]
struct Entry {
    epoch: u64,
    seq: u64,
    from: Who,
    id: u64,
    data: Value,
}

#[derive(Debug, Clone, Default)]
struct Mailbox {
    epoch: u64,
    entries: Vec<Entry>,
    last_id: u64,
    generation: u64,
}

/// What Redis holds: one room.
#[derive(Debug, Clone, Default)]
struct Store {
    server: u64,
    lineage: u64,
    boxes: BTreeMap<Who, Mailbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    epoch: u64,
    next: u64,
    buffered: Option<Vec<Entry>>,
}

#[derive(Debug, Default)]
struct Node {
    inboxes: BTreeMap<Who, Inbox>,
    topic: VecDeque<(Who, Entry)>,
    deaf: bool,
}

struct Actor {
    client: Client,
    history: History,
    node: usize,
}

/// What a node asks the store for a sender.
pub(crate) struct Call {
    who: Who,
    id: u64,
    to: Option<Who>,
    data: Value,
}

/// The page that a `resume` script gave.
pub(crate) struct Page {
    who: Who,
    node: usize,
    epoch: u64,
    recovered: bool,
    seq: u64,
    entries: Vec<Entry>,
}

pub(crate) struct World {
    without: Option<Rule>,
    now: At,
    store: Store,
    replica: Store,
    nodes: Vec<Node>,
    actors: Vec<Actor>,
    said: Vec<u64>,
}

fn name(who: Who) -> String {
    format!("p{who}")
}

fn number(peer: &str) -> Who {
    peer[1..].parse().unwrap()
}

impl World {
    /// Two nodes; a client for each of `homes`, on that node.
    pub(crate) fn new(without: Option<Rule>, homes: &[usize]) -> Self {
        let mut world = Self {
            without,
            now: At::ZERO,
            store: Store::default(),
            replica: Store::default(),
            nodes: vec![Node::default(), Node::default()],
            actors: Vec::new(),
            said: vec![0; homes.len()],
        };
        for (who, home) in homes.iter().enumerate() {
            let who = who as Who;
            world.store.boxes.insert(who, Mailbox { generation: 1, ..Mailbox::default() });
            world.nodes[*home].inboxes.insert(who, Inbox { next: 1, ..Inbox::default() });
            let history = History { who, room: "r".to_owned(), ..History::default() };
            world.actors.push(Actor { client: Client::default(), history, node: *home });
        }
        for who in 0..homes.len() as Who {
            world.actor(who).client.opened();
            let frame = world.welcome(who, 0);
            world.give(who, &frame);
        }
        world.replicate();
        world
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn actor(&mut self, who: Who) -> &mut Actor {
        &mut self.actors[who as usize]
    }

    fn welcome(&self, who: Who, seq: u64) -> Value {
        let others = (0..self.actors.len() as Who).filter(|other| *other != who);
        let peers: Vec<_> = others
            .map(|other| json!({"peerId": name(other), "userId": name(other), "detached": false}))
            .collect();
        let handle = format!("{}.{}", self.store.boxes[&who].generation, self.store.boxes[&who].epoch);
        json!({"type": "joined", "peerId": name(who), "resume": handle, "seq": seq, "peers": peers})
    }

    /// A frame arrives at a client.
    fn give(&mut self, who: Who, frame: &Value) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        let actor = self.actor(who);
        for occurred in actor.client.frame(now, frame) {
            let event = match occurred {
                Occurred::Joined => Event::Joined { peer: name(who) },
                Occurred::Resumed { recovered, asked } => {
                    Event::Resumed { recovered, took: asked.then_some(Duration::ZERO) }
                }
                Occurred::Accepted { n, durable, duplicate } => Event::Accepted { n, durable, duplicate },
                Occurred::Unavailable { n } => Event::Unavailable { n },
                Occurred::Refused { n, code } => Event::Refused { n, code },
                Occurred::Heard { from, data } => {
                    Event::Heard { sender: number(&from), from, n: data["n"].as_u64().unwrap() }
                }
                Occurred::Dropped | Occurred::GoAway(_) => continue,
                Occurred::Fault(what) => Event::Fault(what),
            };
            actor.history.events.push((now, event));
        }
    }

    /// The next message of a client, to one peer or to the room: its frame reaches the node, and the node has not asked the store.
    pub(crate) fn say(&mut self, who: Who, to: Option<Who>) -> Call {
        self.said[who as usize] += 1;
        let n = self.said[who as usize];
        let to = to.map(name);
        self.actor(who).client.say(n, to.as_deref(), &json!({"n": n}));
        self.next_call(who).unwrap()
    }

    fn next_call(&mut self, who: Who) -> Option<Call> {
        self.now += Duration::from_millis(1);
        let now = self.now;
        let actor = self.actor(who);
        let Outgoing { text, message } = actor.client.flush(now).into_iter().next()?;
        let frame: Value = serde_json::from_str(&text).unwrap();
        let to = frame["to"].as_str().map(str::to_owned);
        let call = Call {
            who,
            id: frame["id"].as_u64()?,
            to: to.as_deref().map(number),
            data: frame["data"].clone(),
        };
        let sent =
            message.filter(|said| !said.again).map(|said| (now, Event::Sent { n: said.n, to: said.to }));
        actor.history.events.extend(sent);
        Some(call)
    }

    /// The message goes all the way: script, this node's inboxes, the topics of others, the acknowledgement.
    pub(crate) fn tell(&mut self, who: Who, to: Option<Who>) {
        let call = self.say(who, to);
        self.execute(call);
    }

    pub(crate) fn execute(&mut self, call: Call) {
        let (who, id) = (call.who, call.id);
        self.append(call);
        self.give(who, &json!({"type": "ack", "id": id}));
    }

    /// Two calls of one sender reach the store in the wrong order, if they are on the way at the same time.
    pub(crate) fn execute_crossed(&mut self, first: Call, second: Call) {
        let calls = if self.keeps(Rule::OneCallInFlight) { [first, second] } else { [second, first] };
        let ids = calls.each_ref().map(|call| (call.who, call.id));
        for call in calls {
            self.append(call);
        }
        for (who, id) in ids {
            self.give(who, &json!({"type": "ack", "id": id}));
        }
    }

    /// The script runs; the node never hears the answer and says so. The client sends it again later.
    pub(crate) fn execute_unanswered(&mut self, call: Call) -> Call {
        let (who, id) = (call.who, call.id);
        self.append(call);
        self.give(who, &json!({"type": "error", "id": id, "code": "unavailable", "retryMs": 500}));
        self.now += Duration::from_millis(500);
        self.next_call(who).unwrap()
    }

    fn append(&mut self, call: Call) {
        self.check_lineage();
        let Call { who, id, to, data } = call;
        let sender = self.store.boxes.get_mut(&who).unwrap();
        if id <= sender.last_id {
            return;
        }
        sender.last_id = id;
        let home = self.actors[who as usize].node;
        let targets: Vec<_> = self
            .store
            .boxes
            .keys()
            .copied()
            .filter(|one| *one != who && to.is_none_or(|to| to == *one))
            .collect();
        for target in targets {
            let mailbox = self.store.boxes.get_mut(&target).unwrap();
            let seq = mailbox.entries.last().map_or(1, |entry| entry.seq + 1);
            let entry = Entry { epoch: mailbox.epoch, seq, from: who, id, data: data.clone() };
            mailbox.entries.push(entry.clone());
            let node = self.actors[target as usize].node;
            if node == home {
                self.offer(node, target, entry);
            } else if !self.nodes[node].deaf {
                self.nodes[node].topic.push_back((target, entry));
            }
        }
    }

    fn check_lineage(&mut self) {
        if self.store.lineage != self.store.server && self.keeps(Rule::Lineage) {
            self.store.boxes.values_mut().for_each(|mailbox| mailbox.epoch += 1);
        }
        self.store.lineage = self.store.server;
    }

    /// An entry reaches the inbox of a peer on this node.
    fn offer(&mut self, node: usize, who: Who, entry: Entry) {
        let Some(inbox) = self.nodes[node].inboxes.get_mut(&who) else { return };
        if let Some(buffered) = &mut inbox.buffered {
            return buffered.push(entry);
        }
        if entry.epoch > inbox.epoch {
            *inbox = Inbox { epoch: entry.epoch, next: entry.seq, buffered: None };
            self.break_box(who, entry.seq - 1);
        }
        let next = self.nodes[node].inboxes[&who].next;
        if entry.seq < next {
            return;
        }
        if entry.seq > next && self.keeps(Rule::HoldAhead) {
            return self.read(node, who);
        }
        self.deliver(node, who, &entry);
    }

    fn break_box(&mut self, who: Who, seq: u64) {
        let mut frame = self.welcome(who, seq);
        let last_id = self.store.boxes[&who].last_id;
        frame["type"] = "resumed".into();
        frame["recovered"] = false.into();
        frame["lastId"] = last_id.into();
        self.give(who, &frame);
    }

    /// Serves what the mailbox holds beyond what was delivered.
    fn read(&mut self, node: usize, who: Who) {
        let next = self.nodes[node].inboxes[&who].next;
        let missing: Vec<_> =
            self.store.boxes[&who].entries.iter().filter(|entry| entry.seq >= next).cloned().collect();
        missing.iter().for_each(|entry| self.deliver(node, who, entry));
    }

    fn deliver(&mut self, node: usize, who: Who, entry: &Entry) {
        self.nodes[node].inboxes.get_mut(&who).unwrap().next = entry.seq + 1;
        let mut frame =
            json!({"type": "message", "seq": entry.seq, "from": name(entry.from), "data": entry.data});
        if self.keeps(Rule::IdsOnEntries) {
            frame["id"] = entry.id.into();
        }
        self.give(who, &frame);
    }

    /// What was published for this node arrives.
    pub(crate) fn push(&mut self, node: usize) {
        while let Some((who, entry)) = self.nodes[node].topic.pop_front() {
            self.offer(node, who, entry);
        }
    }

    /// The subscription breaks; what is published meanwhile is lost.
    pub(crate) fn deafen(&mut self, node: usize) {
        self.nodes[node].deaf = true;
    }

    pub(crate) fn resubscribe(&mut self, node: usize) {
        self.nodes[node].deaf = false;
        if self.keeps(Rule::HeadsAfterBreak) {
            let here: Vec<_> = self.nodes[node].inboxes.keys().copied().collect();
            here.into_iter().for_each(|who| self.read(node, who));
        }
    }

    /// The replica has all there is.
    pub(crate) fn replicate(&mut self) {
        self.replica = self.store.clone();
    }

    /// The master dies; the replica is promoted with what it has.
    pub(crate) fn fail_over(&mut self) {
        self.store = Store { server: self.store.server + 1, ..self.replica.clone() };
    }

    pub(crate) fn lose_socket(&mut self, who: Who) {
        let now = self.now;
        let actor = self.actor(who);
        actor.client.lost();
        actor.history.events.push((now, Event::Lost("the test".to_owned())));
        let node = actor.node;
        self.nodes[node].inboxes.remove(&who);
    }

    /// The client comes back: the script runs, and its answer is on the way to the node.
    pub(crate) fn begin_resume(&mut self, who: Who, node: usize) -> Option<Page> {
        let WayBack::Resume { handle, since } = self.actor(who).client.way_back() else {
            panic!("no handle")
        };
        let (generation, epoch) = handle.split_once('.').unwrap();
        let (generation, epoch): (u64, u64) = (generation.parse().unwrap(), epoch.parse().unwrap());
        let previous = u64::from(self.keeps(Rule::PreviousHandle));
        if self.store.boxes[&who].generation > generation + previous {
            let now = self.now;
            self.actor(who).history.events.push((now, Event::Banished("resume_replaced".to_owned())));
            return None;
        }
        self.check_lineage();
        let actor = self.actor(who);
        actor.node = node;
        actor.client.opened();
        if self.keeps(Rule::InboxFirst) {
            let waiting = Inbox { next: since + 1, buffered: Some(Vec::new()), ..Inbox::default() };
            self.nodes[node].inboxes.insert(who, waiting);
        }
        let mailbox = self.store.boxes.get_mut(&who).unwrap();
        mailbox.generation += 1;
        let head = mailbox.entries.last().map_or(0, |entry| entry.seq);
        let recovered = mailbox.epoch == epoch && since <= head;
        let seq = if recovered { since } else { head };
        let entries = mailbox.entries.iter().filter(|entry| entry.seq > seq).cloned().collect();
        Some(Page { who, node, epoch: mailbox.epoch, recovered, seq, entries })
    }

    /// The script's answer reaches the node, and the client.
    pub(crate) fn finish_resume(&mut self, page: Page) {
        let Page { who, node, epoch, recovered, seq, entries } = page;
        let before = self.nodes[node].inboxes.insert(who, Inbox { epoch, next: seq + 1, buffered: None });
        let mut frame = self.welcome(who, seq);
        frame["type"] = "resumed".into();
        frame["recovered"] = recovered.into();
        frame["lastId"] = self.store.boxes[&who].last_id.into();
        self.give(who, &frame);
        let buffered = before.and_then(|inbox| inbox.buffered).unwrap_or_default();
        entries.into_iter().chain(buffered).for_each(|entry| self.offer(node, who, entry));
    }

    pub(crate) fn resume(&mut self, who: Who, node: usize) {
        if let Some(page) = self.begin_resume(who, node) {
            self.finish_resume(page);
        }
    }

    /// What the checker says of it all.
    pub(crate) fn verdict(self) -> Verdict {
        let histories = self.actors.into_iter().map(|actor| History {
            peer: actor.client.is_live().then(|| name(actor.history.who)),
            roster: actor.client.roster,
            ..actor.history
        });
        let window = Duration::from_secs(30);
        check(&Run { histories: histories.collect(), window, ..Run::default() })
    }
}
