//! A small model of store, nodes and topics: one thread, no real time. One delivery rule at a time
//! can be disabled. The clients follow the real rules ([`signalbox_tests::protocol_client`]), and
//! the real checker checks their histories.
//!
//! Owns: only the part of the design that a rule needs in order to be broken. Must not: be mistaken
//! for the server.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};
use signalbox_tests::{
    checker::{RunReport, check},
    history::{ClientEvent, ClientHistory, ClientId, RunRecord},
    protocol_client::{ClientOutput, ConnectMode, Elapsed, OutgoingFrame, ProtocolClient},
};

/// A delivery rule that the model can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryRule {
    /// D1: after a change of the replication id, every mailbox is replaced.
    ReplicationId,
    /// D4: one call in flight for each sender.
    OneCallInFlight,
    /// D6: delivered frames carry the id of the sender.
    IdsOnEntries,
    /// D7: an entry that arrives before its turn waits for the missing entries.
    HoldEarlyEntries,
    /// D12: the previous handle is valid until the client sends a text frame.
    PreviousHandle,
    /// D13: the inbox exists before the script is sent.
    InboxBeforeScript,
    /// D19: after a break of a topic, the node reads the mailboxes.
    CheckHeadsAfterBreak,
}

#[derive(Debug, Clone)]
struct ModelEntry {
    version: u64,
    seq: u64,
    from: ClientId,
    id: u64,
    data: Value,
}

#[derive(Debug, Clone, Default)]
struct ModelMailbox {
    version: u64,
    entries: Vec<ModelEntry>,
    last_id: u64,
    generation: u64,
}

/// The content of Redis: one room.
#[derive(Debug, Clone, Default)]
struct ModelStore {
    current_replication_id: u64,
    replication_id: u64,
    mailboxes: BTreeMap<ClientId, ModelMailbox>,
}

#[derive(Debug, Default)]
struct ModelInbox {
    version: u64,
    next_seq: u64,
    buffered: Option<Vec<ModelEntry>>,
}

#[derive(Debug, Default)]
struct ModelNode {
    inboxes: BTreeMap<ClientId, ModelInbox>,
    topic: VecDeque<(ClientId, ModelEntry)>,
    unsubscribed: bool,
}

struct ModelClient {
    client: ProtocolClient,
    history: ClientHistory,
    node: usize,
}

/// The append that a node sends to the store for a sender.
pub(crate) struct AppendCall {
    client: ClientId,
    id: u64,
    to: Option<ClientId>,
    data: Value,
}

/// The page that the `resume` script returned.
pub(crate) struct ResumePage {
    client: ClientId,
    node: usize,
    version: u64,
    recovered: bool,
    seq: u64,
    entries: Vec<ModelEntry>,
}

pub(crate) struct DeliveryModel {
    without: Option<DeliveryRule>,
    now: Elapsed,
    store: ModelStore,
    replica: ModelStore,
    nodes: Vec<ModelNode>,
    clients: Vec<ModelClient>,
    last_message: Vec<u64>,
}

fn peer_id(client: ClientId) -> String {
    format!("p{client}")
}

fn client_id(peer: &str) -> ClientId {
    peer[1..].parse().unwrap()
}

impl DeliveryModel {
    /// Two nodes, and one client for each item of `homes`, connected to that node.
    pub(crate) fn new(without: Option<DeliveryRule>, client_nodes: &[usize]) -> Self {
        let mut model = Self {
            without,
            now: Elapsed::ZERO,
            store: ModelStore::default(),
            replica: ModelStore::default(),
            nodes: vec![ModelNode::default(), ModelNode::default()],
            clients: Vec::new(),
            last_message: vec![0; client_nodes.len()],
        };
        for (client, client_node) in client_nodes.iter().enumerate() {
            let client = client as ClientId;
            model.store.mailboxes.insert(client, ModelMailbox { generation: 1, ..ModelMailbox::default() });
            model.nodes[*client_node]
                .inboxes
                .insert(client, ModelInbox { next_seq: 1, ..ModelInbox::default() });
            let history = ClientHistory { client, room: "r".to_owned(), ..ClientHistory::default() };
            model.clients.push(ModelClient {
                client: ProtocolClient::default(),
                history,
                node: *client_node,
            });
        }
        for client in 0..client_nodes.len() as ClientId {
            model.client(client).client.connection_opened();
            let frame = model.joined_frame(client, 0);
            model.deliver_frame(client, &frame);
        }
        model.replicate();
        model
    }

    fn follows(&self, rule: DeliveryRule) -> bool {
        self.without != Some(rule)
    }

    fn client(&mut self, client: ClientId) -> &mut ModelClient {
        &mut self.clients[client as usize]
    }

    fn joined_frame(&self, client: ClientId, seq: u64) -> Value {
        let others = (0..self.clients.len() as ClientId).filter(|other| *other != client);
        let peers: Vec<_> = others
            .map(|other| json!({"peerId": peer_id(other), "userId": peer_id(other), "detached": false}))
            .collect();
        let handle =
            format!("{}.{}", self.store.mailboxes[&client].generation, self.store.mailboxes[&client].version);
        json!({"type": "joined", "peerId": peer_id(client), "resume": handle, "seq": seq, "peers": peers})
    }

    /// A frame arrives at a client.
    fn deliver_frame(&mut self, client: ClientId, frame: &Value) {
        self.now += Duration::from_millis(1);
        let now = self.now;
        let model_client = self.client(client);
        for output in model_client.client.handle_frame(now, frame) {
            let event = match output {
                ClientOutput::Joined => ClientEvent::Joined { peer: peer_id(client) },
                ClientOutput::Resumed { recovered, requested } => {
                    ClientEvent::Resumed { recovered, downtime: requested.then_some(Duration::ZERO) }
                }
                ClientOutput::Accepted { n, durable, duplicate } => {
                    ClientEvent::Accepted { n, durable, duplicate }
                }
                ClientOutput::Unavailable { n } => ClientEvent::Unavailable { n },
                ClientOutput::Rejected { n, code } => ClientEvent::Rejected { n, code },
                ClientOutput::Delivered { from, data } => {
                    ClientEvent::Delivered { sender: client_id(&from), from, n: data["n"].as_u64().unwrap() }
                }
                ClientOutput::DuplicateDropped | ClientOutput::GoAway(_) => continue,
                ClientOutput::ProtocolViolation(violation) => ClientEvent::ProtocolViolation(violation),
            };
            model_client.history.events.push((now, event));
        }
    }

    /// A client sends its next message, to one peer or to the room. The node has the frame and has
    /// not called the store.
    pub(crate) fn start_call(&mut self, client: ClientId, to: Option<ClientId>) -> AppendCall {
        self.last_message[client as usize] += 1;
        let n = self.last_message[client as usize];
        let to = to.map(peer_id);
        self.client(client).client.enqueue(n, to.as_deref(), &json!({"n": n}));
        self.next_call(client).unwrap()
    }

    fn next_call(&mut self, client: ClientId) -> Option<AppendCall> {
        self.now += Duration::from_millis(1);
        let now = self.now;
        let model_client = self.client(client);
        let OutgoingFrame { text, message } = model_client.client.flush(now).into_iter().next()?;
        let frame: Value = serde_json::from_str(&text).unwrap();
        let to = frame["to"].as_str().map(str::to_owned);
        let call = AppendCall {
            client,
            id: frame["id"].as_u64()?,
            to: to.as_deref().map(client_id),
            data: frame["data"].clone(),
        };
        let sent = message
            .filter(|message| !message.is_resend)
            .map(|message| (now, ClientEvent::Sent { n: message.n, to: message.to }));
        model_client.history.events.extend(sent);
        Some(call)
    }

    /// Sends a message and executes it: script, inboxes of this node, topics of others, `ack`.
    pub(crate) fn send_message(&mut self, client: ClientId, to: Option<ClientId>) {
        let call = self.start_call(client, to);
        self.execute(call);
    }

    pub(crate) fn execute(&mut self, call: AppendCall) {
        let (client, id) = (call.client, call.id);
        self.append(call);
        self.deliver_frame(client, &json!({"type": "ack", "id": id}));
    }

    /// Two calls of one sender are in flight together and reach the store in the wrong order,
    /// unless the rule prevents it.
    pub(crate) fn execute_crossed(&mut self, first: AppendCall, second: AppendCall) {
        let calls =
            if self.follows(DeliveryRule::OneCallInFlight) { [first, second] } else { [second, first] };
        let ids = calls.each_ref().map(|call| (call.client, call.id));
        for call in calls {
            self.append(call);
        }
        for (client, id) in ids {
            self.deliver_frame(client, &json!({"type": "ack", "id": id}));
        }
    }

    /// The script runs, and the node does not receive the answer. The client sends the message
    /// again later.
    pub(crate) fn execute_unanswered(&mut self, call: AppendCall) -> AppendCall {
        let (client, id) = (call.client, call.id);
        self.append(call);
        self.deliver_frame(
            client,
            &json!({"type": "error", "id": id, "code": "unavailable", "retryMs": 500}),
        );
        self.now += Duration::from_millis(500);
        self.next_call(client).unwrap()
    }

    fn append(&mut self, call: AppendCall) {
        self.check_replication_id();
        let AppendCall { client, id, to, data } = call;
        let sender = self.store.mailboxes.get_mut(&client).unwrap();
        if id <= sender.last_id {
            return;
        }
        sender.last_id = id;
        let client_node = self.clients[client as usize].node;
        let targets: Vec<_> = self
            .store
            .mailboxes
            .keys()
            .copied()
            .filter(|other| *other != client && to.is_none_or(|to| to == *other))
            .collect();
        for target in targets {
            let mailbox = self.store.mailboxes.get_mut(&target).unwrap();
            let seq = mailbox.entries.last().map_or(1, |entry| entry.seq + 1);
            let entry = ModelEntry { version: mailbox.version, seq, from: client, id, data: data.clone() };
            mailbox.entries.push(entry.clone());
            let node = self.clients[target as usize].node;
            if node == client_node {
                self.handle_entry(node, target, entry);
            } else if !self.nodes[node].unsubscribed {
                self.nodes[node].topic.push_back((target, entry));
            }
        }
    }

    fn check_replication_id(&mut self) {
        if self.store.replication_id != self.store.current_replication_id
            && self.follows(DeliveryRule::ReplicationId)
        {
            self.store.mailboxes.values_mut().for_each(|mailbox| mailbox.version += 1);
        }
        self.store.replication_id = self.store.current_replication_id;
    }

    /// An entry reaches the inbox of a peer on this node.
    fn handle_entry(&mut self, node: usize, client: ClientId, entry: ModelEntry) {
        let Some(inbox) = self.nodes[node].inboxes.get_mut(&client) else { return };
        if let Some(buffered) = &mut inbox.buffered {
            return buffered.push(entry);
        }
        if entry.version > inbox.version {
            *inbox = ModelInbox { version: entry.version, next_seq: entry.seq, buffered: None };
            self.replace_mailbox(client, entry.seq - 1);
        }
        let next = self.nodes[node].inboxes[&client].next_seq;
        if entry.seq < next {
            return;
        }
        if entry.seq > next && self.follows(DeliveryRule::HoldEarlyEntries) {
            return self.read_mailbox(node, client);
        }
        self.deliver(node, client, &entry);
    }

    fn replace_mailbox(&mut self, client: ClientId, seq: u64) {
        let mut frame = self.joined_frame(client, seq);
        let last_id = self.store.mailboxes[&client].last_id;
        frame["type"] = "resumed".into();
        frame["recovered"] = false.into();
        frame["lastId"] = last_id.into();
        self.deliver_frame(client, &frame);
    }

    /// Delivers the entries of the mailbox that were not delivered yet.
    fn read_mailbox(&mut self, node: usize, client: ClientId) {
        let next = self.nodes[node].inboxes[&client].next_seq;
        let missing: Vec<_> =
            self.store.mailboxes[&client].entries.iter().filter(|entry| entry.seq >= next).cloned().collect();
        missing.iter().for_each(|entry| self.deliver(node, client, entry));
    }

    fn deliver(&mut self, node: usize, client: ClientId, entry: &ModelEntry) {
        self.nodes[node].inboxes.get_mut(&client).unwrap().next_seq = entry.seq + 1;
        let mut frame =
            json!({"type": "message", "seq": entry.seq, "from": peer_id(entry.from), "data": entry.data});
        if self.follows(DeliveryRule::IdsOnEntries) {
            frame["id"] = entry.id.into();
        }
        self.deliver_frame(client, &frame);
    }

    /// The entries that were published for this node arrive.
    pub(crate) fn receive_topic(&mut self, node: usize) {
        while let Some((client, entry)) = self.nodes[node].topic.pop_front() {
            self.handle_entry(node, client, entry);
        }
    }

    /// The subscription breaks. Entries published during the break are lost.
    pub(crate) fn unsubscribe(&mut self, node: usize) {
        self.nodes[node].unsubscribed = true;
    }

    pub(crate) fn resubscribe(&mut self, node: usize) {
        self.nodes[node].unsubscribed = false;
        if self.follows(DeliveryRule::CheckHeadsAfterBreak) {
            let here: Vec<_> = self.nodes[node].inboxes.keys().copied().collect();
            here.into_iter().for_each(|client| self.read_mailbox(node, client));
        }
    }

    /// The replica receives all writes.
    pub(crate) fn replicate(&mut self) {
        self.replica = self.store.clone();
    }

    /// The master dies, and the replica with its writes becomes the master.
    pub(crate) fn fail_over(&mut self) {
        self.store = ModelStore {
            current_replication_id: self.store.current_replication_id + 1,
            ..self.replica.clone()
        };
    }

    pub(crate) fn disconnect(&mut self, client: ClientId) {
        let now = self.now;
        let model_client = self.client(client);
        model_client.client.connection_lost();
        model_client.history.events.push((now, ClientEvent::ConnectionLost("the test".to_owned())));
        let node = model_client.node;
        self.nodes[node].inboxes.remove(&client);
    }

    /// The client resumes: the script has run, and its answer is on the way to the node.
    pub(crate) fn begin_resume(&mut self, client: ClientId, node: usize) -> Option<ResumePage> {
        let ConnectMode::Resume { handle, since } = self.client(client).client.connect_mode() else {
            panic!("no handle")
        };
        let (generation, version) = handle.split_once('.').unwrap();
        let (generation, version): (u64, u64) = (generation.parse().unwrap(), version.parse().unwrap());
        let previous = u64::from(self.follows(DeliveryRule::PreviousHandle));
        if self.store.mailboxes[&client].generation > generation + previous {
            let now = self.now;
            self.client(client)
                .history
                .events
                .push((now, ClientEvent::ReconnectForbidden("resume_replaced".to_owned())));
            return None;
        }
        self.check_replication_id();
        let model_client = self.client(client);
        model_client.node = node;
        model_client.client.connection_opened();
        if self.follows(DeliveryRule::InboxBeforeScript) {
            let waiting =
                ModelInbox { next_seq: since + 1, buffered: Some(Vec::new()), ..ModelInbox::default() };
            self.nodes[node].inboxes.insert(client, waiting);
        }
        let mailbox = self.store.mailboxes.get_mut(&client).unwrap();
        mailbox.generation += 1;
        let head = mailbox.entries.last().map_or(0, |entry| entry.seq);
        let recovered = mailbox.version == version && since <= head;
        let seq = if recovered { since } else { head };
        let entries = mailbox.entries.iter().filter(|entry| entry.seq > seq).cloned().collect();
        Some(ResumePage { client, node, version: mailbox.version, recovered, seq, entries })
    }

    /// The answer of the script reaches the node and the client.
    pub(crate) fn finish_resume(&mut self, page: ResumePage) {
        let ResumePage { client, node, version, recovered, seq, entries } = page;
        let before = self.nodes[node]
            .inboxes
            .insert(client, ModelInbox { version, next_seq: seq + 1, buffered: None });
        let mut frame = self.joined_frame(client, seq);
        frame["type"] = "resumed".into();
        frame["recovered"] = recovered.into();
        frame["lastId"] = self.store.mailboxes[&client].last_id.into();
        self.deliver_frame(client, &frame);
        let buffered = before.and_then(|inbox| inbox.buffered).unwrap_or_default();
        entries.into_iter().chain(buffered).for_each(|entry| self.handle_entry(node, client, entry));
    }

    pub(crate) fn resume(&mut self, client: ClientId, node: usize) {
        if let Some(page) = self.begin_resume(client, node) {
            self.finish_resume(page);
        }
    }

    /// The result of the checker.
    pub(crate) fn report(self) -> RunReport {
        let histories = self.clients.into_iter().map(|model_client| ClientHistory {
            peer: model_client.client.is_connected().then(|| peer_id(model_client.history.client)),
            roster: model_client.client.roster,
            ..model_client.history
        });
        let window = Duration::from_secs(30);
        check(&RunRecord { histories: histories.collect(), window, ..RunRecord::default() })
    }
}
