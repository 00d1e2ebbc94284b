//! Checks a run against the histories of its clients: order, duplicates, gaps without a notice,
//! lost peers, and views of a room that differ.
//!
//! Every client to which an acknowledged message was addressed must receive that message. The only
//! exception is a *gap notice*: `recovered: false`, or the need to join as a new peer. The notice
//! must come after the message was sent and before a later message of the same sender is delivered.
//! After `durable: false` the notice may also come later. A message without an acknowledgement may
//! be delivered once or not at all.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::{self, Display, Formatter},
    time::Duration,
};

use crate::{
    history::{ClientEvent, ClientHistory, ClientId, InjectedFault, RunRecord},
    protocol_client::Elapsed,
};

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// A message was acknowledged and not delivered, and no gap notice came.
    SilentGap,
    /// A message was delivered twice.
    Duplicate,
    /// A message was delivered after a later message of the same sender.
    OutOfOrder,
    /// A message was delivered although it was rejected or never sent.
    UnexpectedDelivery,
    /// A client lost its peer within the resume window, or was told not to reconnect.
    PeerLostEarly,
    /// A gap notice came although no injected fault may cause a loss.
    UnnecessaryLoss,
    /// At the end, the view of a client differs from its room.
    ViewMismatch,
    /// A client was not connected at the end.
    NotReconnected,
    /// A frame broke the protocol.
    ProtocolViolation,
}

/// One broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which promise.
    pub kind: ViolationKind,
    /// When the violation was seen, as far as that is known.
    pub at: Elapsed,
    /// The clients, the messages, and what each client saw.
    pub details: String,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct RunReport {
    /// Messages that their clients sent.
    pub sent: u64,
    /// Messages that were delivered to a client.
    pub delivered: u64,
    /// Duplicates that clients dropped.
    pub dropped: u64,
    /// Messages acknowledged with `durable: false`, because the store was unavailable.
    pub not_durable: u64,
    /// Messages that were lost with a gap notice.
    pub announced: u64,
    /// Of these, `durable: false` messages whose notice came after a later message was delivered.
    pub announced_late: u64,
    /// How often `recovered: false` came.
    pub recovered_false: u64,
    /// Peers that were lost, so that their clients had to join again.
    pub lost_peers: u64,
    /// Times from the loss of a socket to `resumed`, sorted.
    pub resumes: Vec<Duration>,
    /// All violations.
    pub violations: Vec<Violation>,
}

/// What the sender knows of one message.
struct MessageRecord<'a> {
    sent_at: Elapsed,
    to: Option<&'a str>,
    accepted_at: Option<Elapsed>,
    durable: bool,
    rejected: Option<&'a str>,
}

/// The time in which a client was one peer.
struct PeerLifetime<'a> {
    peer: &'a str,
    start: Elapsed,
    end: Elapsed,
}

/// The history of a client, in the form that the checks need.
struct ClientRecord<'a> {
    history: &'a ClientHistory,
    sent: BTreeMap<u64, MessageRecord<'a>>,
    lifetimes: Vec<PeerLifetime<'a>>,
    /// When a gap notice came.
    gap_notices: Vec<Elapsed>,
    deliveries: HashMap<ClientId, Vec<(Elapsed, &'a str, u64)>>,
}

/// Checks a run.
pub fn check(run: &RunRecord) -> RunReport {
    let mut report = RunReport::default();
    let clients: Vec<ClientRecord<'_>> =
        run.histories.iter().map(|history| report.read_history(run, history)).collect();
    let mut rooms: BTreeMap<&str, Vec<&ClientRecord<'_>>> = BTreeMap::new();
    for client in &clients {
        rooms.entry(&client.history.room).or_default().push(client);
    }
    for members in rooms.values() {
        for sender in members {
            for receiver in members.iter().filter(|one| one.history.client != sender.history.client) {
                report.check_pair(sender, receiver);
            }
        }
        report.check_views(run, members);
    }
    report.resumes.sort_unstable();
    report.violations.sort_by_key(|one| (one.at, one.kind));
    for one in &mut report.violations {
        one.details += &nearby_faults(&run.faults, one.at);
    }
    report
}

impl RunReport {
    fn add_violation(&mut self, kind: ViolationKind, at: Elapsed, details: String) {
        self.violations.push(Violation { kind, at, details });
    }

    /// Counts the events of a history, checks each event by itself, and indexes the history.
    fn read_history<'a>(&mut self, run: &RunRecord, history: &'a ClientHistory) -> ClientRecord<'a> {
        let mut client = ClientRecord {
            history,
            sent: BTreeMap::new(),
            lifetimes: Vec::new(),
            gap_notices: Vec::new(),
            deliveries: HashMap::new(),
        };
        self.dropped += history.dropped;
        for (at, event) in &history.events {
            client.record(*at, event);
            self.count(event);
            self.check_event(run, history, *at, event);
        }
        client
    }

    fn count(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Sent { .. } => self.sent += 1,
            ClientEvent::Delivered { .. } => self.delivered += 1,
            ClientEvent::Accepted { durable: false, .. } => self.not_durable += 1,
            ClientEvent::PeerLost { .. } => self.lost_peers += 1,
            ClientEvent::Resumed { recovered, downtime } => {
                self.recovered_false += u64::from(!recovered);
                self.resumes.extend(*downtime);
            }
            _ => {}
        }
    }

    fn check_event(&mut self, run: &RunRecord, history: &ClientHistory, at: Elapsed, event: &ClientEvent) {
        let client = format!("client {} of {}", history.client, history.room);
        match event {
            ClientEvent::ProtocolViolation(violation) => {
                self.add_violation(ViolationKind::ProtocolViolation, at, format!("{client}: {violation}"))
            }
            ClientEvent::ReconnectForbidden(reason) => {
                let details = format!(
                    "{client} was told not to reconnect ({reason}), and it has no other connection: {}",
                    connection_timeline(history, at)
                );
                self.add_violation(ViolationKind::PeerLostEarly, at, details);
            }
            ClientEvent::PeerLost { reason, silence } if *silence < run.window => {
                let details = format!(
                    "{client}: {reason}, {silence:?} after its last frame from the server, window {:?}",
                    run.window
                );
                self.add_violation(ViolationKind::PeerLostEarly, at, details);
            }
            ClientEvent::Resumed { recovered: false, .. } | ClientEvent::PeerLost { .. } if run.lossless => {
                self.add_violation(ViolationKind::UnnecessaryLoss, at, format!("{client}: {event:?}"));
            }
            _ => {}
        }
    }

    /// Checks the messages of one client to another.
    fn check_pair(&mut self, sender: &ClientRecord<'_>, receiver: &ClientRecord<'_>) {
        let none = Vec::new();
        let deliveries = receiver.deliveries.get(&sender.history.client).unwrap_or(&none);
        self.check_deliveries(sender, receiver, deliveries);
        let delivered: HashSet<u64> = deliveries.iter().map(|(_, _, n)| *n).collect();
        for (n, message) in &sender.sent {
            let Some(accepted) = message.accepted_at else { continue };
            if delivered.contains(n) || !receiver.was_target(message, accepted) {
                continue;
            }
            let later = deliveries.iter().filter(|(_, _, other)| other > n).map(|(at, _, _)| *at).min();
            let until = later.unwrap_or(Elapsed::MAX);
            if receiver.gap_notices.iter().any(|notice| (message.sent_at..=until).contains(notice)) {
                self.announced += 1;
            } else if !message.durable && receiver.gap_notices.iter().any(|notice| *notice >= message.sent_at)
            {
                // The node that held the message may reach the store only after the receiver has
                // resumed on another node.
                self.announced += 1;
                self.announced_late += 1;
            } else {
                let details = describe_gap(sender, receiver, *n, message, deliveries);
                self.add_violation(ViolationKind::SilentGap, message.sent_at, details);
            }
        }
    }

    fn check_deliveries(
        &mut self,
        sender: &ClientRecord<'_>,
        receiver: &ClientRecord<'_>,
        deliveries: &[(Elapsed, &str, u64)],
    ) {
        let pair =
            format!("{} -> {} of {}", sender.history.client, receiver.history.client, sender.history.room);
        let mut earlier = HashSet::new();
        let mut highest: HashMap<&str, u64> = HashMap::new();
        for (at, from, n) in deliveries {
            let last = highest.entry(from).or_default();
            if !earlier.insert(*n) {
                self.add_violation(
                    ViolationKind::Duplicate,
                    *at,
                    format!("{pair}: {n} was delivered twice, from {from}"),
                );
            } else if *n < *last {
                self.add_violation(
                    ViolationKind::OutOfOrder,
                    *at,
                    format!("{pair}: {n} was delivered after {last}"),
                );
            }
            *last = (*last).max(*n);
            match sender.sent.get(n) {
                None => self.add_violation(
                    ViolationKind::UnexpectedDelivery,
                    *at,
                    format!("{pair}: {n} was delivered and never sent"),
                ),
                // A store that lost the record of the write may check the message again and reject
                // it.
                Some(MessageRecord { rejected: Some(_), sent_at, .. })
                    if sender.gap_notices.iter().any(|notice| notice >= sent_at) => {}
                Some(MessageRecord { rejected: Some(code), .. }) => {
                    self.add_violation(
                        ViolationKind::UnexpectedDelivery,
                        *at,
                        format!("{pair}: {n} was delivered although it was rejected as {code}"),
                    );
                }
                Some(MessageRecord { to: Some(to), .. })
                    if !receiver.lifetimes.iter().any(|life| life.peer == *to) =>
                {
                    self.add_violation(
                        ViolationKind::UnexpectedDelivery,
                        *at,
                        format!("{pair}: {n} was delivered although its target was {to}"),
                    );
                }
                Some(_) => {}
            }
        }
    }

    /// At the end all clients of a room must see the same room.
    fn check_views(&mut self, run: &RunRecord, members: &[&ClientRecord<'_>]) {
        let end = run.histories.iter().filter_map(|history| history.events.last()).map(|(at, _)| *at).max();
        let end = end.unwrap_or_default();
        let present: Vec<_> = members.iter().filter_map(|one| one.history.peer.as_deref()).collect();
        for ClientHistory { client, room, peer, roster, .. } in members.iter().map(|one| one.history) {
            let Some(own) = peer else {
                self.add_violation(
                    ViolationKind::NotReconnected,
                    end,
                    format!("client {client} of {room} is not connected"),
                );
                continue;
            };
            let mut expected: Vec<_> = present.iter().copied().filter(|other| other != own).collect();
            expected.sort_unstable();
            let visible: Vec<_> = roster.keys().map(String::as_str).collect();
            let detached: Vec<_> = roster.iter().filter(|(_, member)| member.detached).collect();
            if visible != expected || !detached.is_empty() {
                let details = format!(
                    "client {client} of {room} sees {visible:?}, detached {detached:?}; expected {expected:?}"
                );
                self.add_violation(ViolationKind::ViewMismatch, end, details);
            }
        }
    }
}

impl<'a> ClientRecord<'a> {
    fn record(&mut self, at: Elapsed, event: &'a ClientEvent) {
        match event {
            ClientEvent::Joined { peer } => {
                self.lifetimes.push(PeerLifetime { peer, start: at, end: Elapsed::MAX })
            }
            ClientEvent::Resumed { recovered: false, .. } => self.gap_notices.push(at),
            ClientEvent::PeerLost { .. } | ClientEvent::ReconnectForbidden(_) => {
                self.gap_notices.push(at);
                self.lifetimes.last_mut().into_iter().for_each(|life| life.end = at);
            }
            ClientEvent::Sent { n, to } => {
                let message = MessageRecord {
                    sent_at: at,
                    to: to.as_deref(),
                    accepted_at: None,
                    durable: true,
                    rejected: None,
                };
                self.sent.insert(*n, message);
            }
            ClientEvent::Accepted { n, durable, .. } => {
                self.sent.entry(*n).and_modify(|one| (one.accepted_at, one.durable) = (Some(at), *durable));
            }
            ClientEvent::Rejected { n, code } => {
                self.sent.entry(*n).and_modify(|one| one.rejected = Some(code));
            }
            ClientEvent::Delivered { sender, from, n } => {
                self.deliveries.entry(*sender).or_default().push((at, from, *n))
            }
            _ => {}
        }
    }

    /// Whether an accepted message was addressed to this client: the client was the target, or it
    /// was in the room from the send to the acknowledgement.
    fn was_target(&self, message: &MessageRecord<'_>, accepted: Elapsed) -> bool {
        self.lifetimes.iter().any(|life| match message.to {
            Some(to) => life.peer == to,
            None => life.start <= message.sent_at && accepted <= life.end,
        })
    }
}

fn describe_gap(
    sender: &ClientRecord<'_>,
    receiver: &ClientRecord<'_>,
    n: u64,
    message: &MessageRecord<'_>,
    deliveries: &[(Elapsed, &str, u64)],
) -> String {
    let before: Vec<_> =
        deliveries.iter().filter(|(_, _, other)| *other < n).map(|(_, _, other)| other).collect();
    let after: Vec<_> = deliveries.iter().filter(|(_, _, other)| *other > n).take(3).collect();
    format!(
        "{} -> {} of {}: {n} to {} was sent at {:?}, acknowledged at {:?}, never delivered, without a notice.\n  \
         the receiver got {:?} before and {after:?} after it; gap notices came at {:?}\n  \
         the neighboring messages:{}\n  the sender at that time: {}\n  the receiver at that time: {}",
        sender.history.client,
        receiver.history.client,
        sender.history.room,
        message.to.unwrap_or("the room"),
        message.sent_at,
        message.accepted_at.unwrap_or_default(),
        &before[before.len().saturating_sub(3)..],
        receiver.gap_notices,
        message_timeline(sender.history, n),
        connection_timeline(sender.history, message.sent_at),
        connection_timeline(receiver.history, message.sent_at),
    )
}

/// What happened to a message and to its neighbors, as the sender saw it.
fn message_timeline(history: &ClientHistory, wanted: u64) -> String {
    let near = wanted.saturating_sub(1)..=wanted + 2;
    let describe = |event: &ClientEvent| match event {
        ClientEvent::Sent { n, to } => Some((*n, format!("sent to {}", to.as_deref().unwrap_or("the room")))),
        ClientEvent::Resent { n } => Some((*n, "sent again".to_owned())),
        ClientEvent::Unavailable { n } => Some((*n, "unavailable".to_owned())),
        ClientEvent::Rejected { n, code } => Some((*n, code.clone())),
        ClientEvent::Accepted { n, durable, duplicate } => {
            Some((*n, format!("acknowledged, durable={durable} duplicate={duplicate}")))
        }
        _ => None,
    };
    let steps = history.events.iter().filter_map(|(at, event)| Some((at, describe(event)?)));
    let steps = steps.filter(|(_, (n, _))| near.contains(n));
    steps.map(|(at, (n, text))| format!("\n    {at:.3?} {n} {text}")).collect()
}

/// How much of the histories is shown around a violation.
const CONTEXT: Duration = Duration::from_secs(6);

/// What happened to the connections of a client around this time.
fn connection_timeline(history: &ClientHistory, at: Elapsed) -> String {
    let (from, to) = (at.saturating_sub(CONTEXT), at + CONTEXT);
    let describe = |event: &ClientEvent| match event {
        ClientEvent::Joined { .. } => Some("joined".to_owned()),
        ClientEvent::Resumed { recovered, .. } => Some(format!("resumed recovered={recovered}")),
        ClientEvent::ConnectionLost(reason) => Some(format!("lost ({reason})")),
        ClientEvent::PeerLost { reason, .. } => Some(format!("peer lost ({reason})")),
        ClientEvent::ReconnectForbidden(reason) => Some(format!("reconnect forbidden ({reason})")),
        _ => None,
    };
    let shown = history.events.iter().filter(|(at, _)| (from..=to).contains(at));
    let events: Vec<_> =
        shown.filter_map(|(at, event)| Some(format!("{at:.2?} {}", describe(event)?))).collect();
    if events.is_empty() { "nothing".to_owned() } else { events.join(", ") }
}

/// Which faults were injected around this time.
fn nearby_faults(faults: &[InjectedFault], at: Elapsed) -> String {
    let distance = |fault: &InjectedFault| fault.start.saturating_sub(at).max(at.saturating_sub(fault.end));
    let mut near: Vec<_> = faults.iter().filter(|fault| distance(fault) <= CONTEXT).collect();
    near.sort_by_key(|fault| distance(fault));
    near.truncate(4);
    near.iter()
        .map(|fault| format!("\n  near: {:.2?}–{:.2?} {}", fault.start, fault.end, fault.description))
        .collect()
}

impl Display for RunReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let count = |kind| self.violations.iter().filter(|one| one.kind == kind).count();
        let at = |percent: usize| {
            let last = self.resumes.len().saturating_sub(1);
            self.resumes.get(last * percent / 100).copied().unwrap_or_default()
        };
        writeln!(
            f,
            "messages: {} sent, {} delivered, {} acknowledged as not durable, {} duplicates dropped",
            self.sent, self.delivered, self.not_durable, self.dropped
        )?;
        writeln!(
            f,
            "gaps: {} announced ({} late, {} times recovered: false, {} lost peers), {} silent; duplicates: {}; out of order: {}",
            self.announced,
            self.announced_late,
            self.recovered_false,
            self.lost_peers,
            count(ViolationKind::SilentGap),
            count(ViolationKind::Duplicate),
            count(ViolationKind::OutOfOrder)
        )?;
        writeln!(
            f,
            "resumes: {}, p50 {:.0?}, p99 {:.0?}, max {:.0?}",
            self.resumes.len(),
            at(50),
            at(99),
            at(100)
        )?;
        write!(f, "violations: {}", self.violations.len())?;
        for one in self.violations.iter().take(SHOWN_VIOLATIONS) {
            write!(f, "\n- {:?} at {:.2?}: {}", one.kind, one.at, one.details)?;
        }
        if self.violations.len() > SHOWN_VIOLATIONS {
            write!(f, "\n… and {} more", self.violations.len() - SHOWN_VIOLATIONS)?;
        }
        Ok(())
    }
}

/// How many violations are shown in full.
const SHOWN_VIOLATIONS: usize = 12;

impl RunReport {
    /// # Panics
    /// If there is a violation.
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}
