//! Judges a run by what its clients saw: order, doubles, gaps that nobody announced, peers that were given up, views that differ.
//!
//! A message that was acknowledged must be heard by every client it was for, unless that client was *told* that something is
//! missing: by `recovered: false` or by being a new peer, after the message was sent and before a later message of the same sender
//! was heard; for what was acknowledged as not durable the order of the two does not count. What was never acknowledged may be heard once or not at all. [`Verdict`] is the outcome.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::{self, Display, Formatter},
    time::Duration,
};

use crate::{
    client::At,
    history::{Blow, Event, History, Run, Who},
};

/// What kind of promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Acknowledged, not heard, not announced.
    SilentGap,
    /// Heard twice.
    Double,
    /// Heard after a later one of the same sender.
    Disorder,
    /// Heard though it was refused or never sent.
    Ghost,
    /// A peer was given up although its client was back inside the window, or was told to stay away.
    GivenUp,
    /// A loss was announced though nothing that was done may cost anything.
    Needless,
    /// A client's view of its room at the end is not the room.
    View,
    /// A client was not connected at the end.
    NotBack,
    /// A frame broke the protocol.
    Protocol,
}

/// One broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub kind: Kind,
    /// When it was seen, as far as that can be said.
    pub at: At,
    /// Who, what, and what each of them saw.
    pub story: String,
}

/// What became of a run.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Messages that left their sender.
    pub sent: u64,
    /// Messages presented to a receiver.
    pub delivered: u64,
    /// Copies that receivers dropped.
    pub dropped: u64,
    /// Acknowledged without having been written (Redis was away).
    pub not_durable: u64,
    /// Messages missing at a receiver that was told so.
    pub announced: u64,
    /// Of these, what was never written anywhere (`durable: false`) and told only after a later message.
    pub late: u64,
    /// `recovered: false`.
    pub resyncs: u64,
    /// Clients that had to join anew.
    pub lost_peers: u64,
    /// From the loss of a socket to `resumed`, sorted.
    pub resumes: Vec<Duration>,
    /// Everything that is wrong.
    pub violations: Vec<Violation>,
}

/// What a sender knows of one message.
struct Message<'a> {
    sent: At,
    to: Option<&'a str>,
    accepted: Option<At>,
    durable: bool,
    refused: Option<&'a str>,
}

/// The time in which a client was one peer.
struct Life<'a> {
    peer: &'a str,
    from: At,
    to: At,
}

/// A client's record, sorted for questions.
struct Client<'a> {
    history: &'a History,
    sent: BTreeMap<u64, Message<'a>>,
    lives: Vec<Life<'a>>,
    /// When it was told that something may be missing.
    told: Vec<At>,
    heard: HashMap<Who, Vec<(At, &'a str, u64)>>,
}

/// Judges a run.
pub fn check(run: &Run) -> Verdict {
    let mut verdict = Verdict::default();
    let clients: Vec<Client<'_>> = run.histories.iter().map(|history| verdict.read(run, history)).collect();
    let mut rooms: BTreeMap<&str, Vec<&Client<'_>>> = BTreeMap::new();
    for client in &clients {
        rooms.entry(&client.history.room).or_default().push(client);
    }
    for members in rooms.values() {
        for sender in members {
            for receiver in members.iter().filter(|one| one.history.who != sender.history.who) {
                verdict.stream(sender, receiver);
            }
        }
        verdict.views(run, members);
    }
    verdict.resumes.sort_unstable();
    verdict.violations.sort_by_key(|one| (one.at, one.kind));
    for one in &mut verdict.violations {
        one.story += &nearest(&run.blows, one.at);
    }
    verdict
}

impl Verdict {
    fn fail(&mut self, kind: Kind, at: At, story: String) {
        self.violations.push(Violation { kind, at, story });
    }

    /// Counts a record, judges what needs no other record, and sorts the rest.
    fn read<'a>(&mut self, run: &Run, history: &'a History) -> Client<'a> {
        let mut client = Client {
            history,
            sent: BTreeMap::new(),
            lives: Vec::new(),
            told: Vec::new(),
            heard: HashMap::new(),
        };
        self.dropped += history.dropped;
        for (at, event) in &history.events {
            client.note(*at, event);
            self.count(event);
            self.judge(run, history, *at, event);
        }
        client
    }

    fn count(&mut self, event: &Event) {
        match event {
            Event::Sent { .. } => self.sent += 1,
            Event::Heard { .. } => self.delivered += 1,
            Event::Accepted { durable: false, .. } => self.not_durable += 1,
            Event::PeerGone { .. } => self.lost_peers += 1,
            Event::Resumed { recovered, took } => {
                self.resyncs += u64::from(!recovered);
                self.resumes.extend(*took);
            }
            _ => {}
        }
    }

    fn judge(&mut self, run: &Run, history: &History, at: At, event: &Event) {
        let who = format!("client {} of {}", history.who, history.room);
        match event {
            Event::Fault(what) => self.fail(Kind::Protocol, at, format!("{who}: {what}")),
            Event::Banished(why) => {
                let story =
                    format!("{who} was told {why}, and it has no other connection: {}", about(history, at));
                self.fail(Kind::GivenUp, at, story);
            }
            Event::PeerGone { why, silent } if *silent < run.window => {
                let story =
                    format!("{who}: {why}, {silent:?} after it heard the server, window {:?}", run.window);
                self.fail(Kind::GivenUp, at, story);
            }
            Event::Resumed { recovered: false, .. } | Event::PeerGone { .. } if run.lossless => {
                self.fail(Kind::Needless, at, format!("{who}: {event:?}"));
            }
            _ => {}
        }
    }

    /// Judges what one client sent to another.
    fn stream(&mut self, sender: &Client<'_>, receiver: &Client<'_>) {
        let nothing = Vec::new();
        let heard = receiver.heard.get(&sender.history.who).unwrap_or(&nothing);
        self.heard_well(sender, receiver, heard);
        let all: HashSet<u64> = heard.iter().map(|(_, _, n)| *n).collect();
        for (n, message) in &sender.sent {
            let Some(accepted) = message.accepted else { continue };
            if all.contains(n) || !receiver.was_meant(message, accepted) {
                continue;
            }
            let later = heard.iter().filter(|(_, _, other)| other > n).map(|(at, _, _)| *at).min();
            let until = later.unwrap_or(At::MAX);
            if receiver.told.iter().any(|told| (message.sent..=until).contains(told)) {
                self.announced += 1;
            } else if !message.durable && receiver.told.iter().any(|told| *told >= message.sent) {
                // The node that knew of it may reach the store only after the receiver has come back elsewhere.
                self.announced += 1;
                self.late += 1;
            } else {
                let story = gap(sender, receiver, *n, message, heard);
                self.fail(Kind::SilentGap, message.sent, story);
            }
        }
    }

    fn heard_well(&mut self, sender: &Client<'_>, receiver: &Client<'_>, heard: &[(At, &str, u64)]) {
        let pair = format!("{} -> {} of {}", sender.history.who, receiver.history.who, sender.history.room);
        let mut before = HashSet::new();
        let mut highest: HashMap<&str, u64> = HashMap::new();
        for (at, from, n) in heard {
            let last = highest.entry(from).or_default();
            if !before.insert(*n) {
                self.fail(Kind::Double, *at, format!("{pair}: {n} was heard again, as from {from}"));
            } else if *n < *last {
                self.fail(Kind::Disorder, *at, format!("{pair}: {n} was heard after {last}"));
            }
            *last = (*last).max(*n);
            match sender.sent.get(n) {
                None => self.fail(Kind::Ghost, *at, format!("{pair}: {n} was heard and never sent")),
                // Where the store has forgotten that it was written, it may be looked at anew and refused.
                Some(Message { refused: Some(_), sent, .. })
                    if sender.told.iter().any(|told| told >= sent) => {}
                Some(Message { refused: Some(code), .. }) => {
                    self.fail(Kind::Ghost, *at, format!("{pair}: {n} was heard though refused as {code}"));
                }
                Some(Message { to: Some(to), .. }) if !receiver.lives.iter().any(|life| life.peer == *to) => {
                    self.fail(Kind::Ghost, *at, format!("{pair}: {n} was heard though it was for {to}"));
                }
                Some(_) => {}
            }
        }
    }

    /// At the end everybody sees the same room.
    fn views(&mut self, run: &Run, members: &[&Client<'_>]) {
        let end = run.histories.iter().filter_map(|history| history.events.last()).map(|(at, _)| *at).max();
        let end = end.unwrap_or_default();
        let present: Vec<_> = members.iter().filter_map(|one| one.history.peer.as_deref()).collect();
        for History { who, room, peer, roster, .. } in members.iter().map(|one| one.history) {
            let Some(own) = peer else {
                self.fail(Kind::NotBack, end, format!("client {who} of {room} is not connected"));
                continue;
            };
            let mut real: Vec<_> = present.iter().copied().filter(|other| other != own).collect();
            real.sort_unstable();
            let seen: Vec<_> = roster.keys().map(String::as_str).collect();
            let detached: Vec<_> = roster.iter().filter(|(_, member)| member.detached).collect();
            if seen != real || !detached.is_empty() {
                let story = format!(
                    "client {who} of {room} sees {seen:?}, detached {detached:?}; there are {real:?}"
                );
                self.fail(Kind::View, end, story);
            }
        }
    }
}

impl<'a> Client<'a> {
    fn note(&mut self, at: At, event: &'a Event) {
        match event {
            Event::Joined { peer } => self.lives.push(Life { peer, from: at, to: At::MAX }),
            Event::Resumed { recovered: false, .. } => self.told.push(at),
            Event::PeerGone { .. } | Event::Banished(_) => {
                self.told.push(at);
                self.lives.last_mut().into_iter().for_each(|life| life.to = at);
            }
            Event::Sent { n, to } => {
                let message =
                    Message { sent: at, to: to.as_deref(), accepted: None, durable: true, refused: None };
                self.sent.insert(*n, message);
            }
            Event::Accepted { n, durable, .. } => {
                self.sent.entry(*n).and_modify(|one| (one.accepted, one.durable) = (Some(at), *durable));
            }
            Event::Refused { n, code } => {
                self.sent.entry(*n).and_modify(|one| one.refused = Some(code));
            }
            Event::Heard { sender, from, n } => self.heard.entry(*sender).or_default().push((at, from, *n)),
            _ => {}
        }
    }

    /// Whether an accepted message was for this client: it was the target, or in the room all along.
    fn was_meant(&self, message: &Message<'_>, accepted: At) -> bool {
        self.lives.iter().any(|life| match message.to {
            Some(to) => life.peer == to,
            None => life.from <= message.sent && accepted <= life.to,
        })
    }
}

fn gap(
    sender: &Client<'_>,
    receiver: &Client<'_>,
    n: u64,
    message: &Message<'_>,
    heard: &[(At, &str, u64)],
) -> String {
    let before: Vec<_> = heard.iter().filter(|(_, _, other)| *other < n).map(|(_, _, other)| other).collect();
    let after: Vec<_> = heard.iter().filter(|(_, _, other)| *other > n).take(3).collect();
    format!(
        "{} -> {} of {}: {n} to {} was sent at {:?}, acknowledged at {:?}, never heard, never announced.\n  \
         the receiver heard {:?} before it and {after:?} after it; it was told of gaps at {:?}\n  \
         the messages about it:{}\n  the sender then: {}\n  the receiver then: {}",
        sender.history.who,
        receiver.history.who,
        sender.history.room,
        message.to.unwrap_or("the room"),
        message.sent,
        message.accepted.unwrap_or_default(),
        &before[before.len().saturating_sub(3)..],
        receiver.told,
        way(sender.history, n),
        about(sender.history, message.sent),
        about(receiver.history, message.sent),
    )
}

/// What became of a message and of those beside it, as their sender saw it.
fn way(history: &History, wanted: u64) -> String {
    let near = wanted.saturating_sub(1)..=wanted + 2;
    let step = |event: &Event| match event {
        Event::Sent { n, to } => Some((*n, format!("sent to {}", to.as_deref().unwrap_or("the room")))),
        Event::Again { n } => Some((*n, "sent again".to_owned())),
        Event::Unavailable { n } => Some((*n, "unavailable".to_owned())),
        Event::Refused { n, code } => Some((*n, code.clone())),
        Event::Accepted { n, durable, duplicate } => {
            Some((*n, format!("acknowledged, durable={durable} duplicate={duplicate}")))
        }
        _ => None,
    };
    let steps = history.events.iter().filter_map(|(at, event)| Some((at, step(event)?)));
    let steps = steps.filter(|(_, (n, _))| near.contains(n));
    steps.map(|(at, (n, what))| format!("\n    {at:.3?} {n} {what}")).collect()
}

/// How much of the records is shown around a violation.
const AROUND: Duration = Duration::from_secs(6);

/// What happened to a client's connection about that time.
fn about(history: &History, at: At) -> String {
    let (from, to) = (at.saturating_sub(AROUND), at + AROUND);
    let turn = |event: &Event| match event {
        Event::Joined { .. } => Some("joined".to_owned()),
        Event::Resumed { recovered, .. } => Some(format!("resumed recovered={recovered}")),
        Event::Lost(why) => Some(format!("lost ({why})")),
        Event::PeerGone { why, .. } => Some(format!("peer gone ({why})")),
        Event::Banished(why) => Some(format!("banished ({why})")),
        _ => None,
    };
    let shown = history.events.iter().filter(|(at, _)| (from..=to).contains(at));
    let turns: Vec<_> = shown.filter_map(|(at, event)| Some(format!("{at:.2?} {}", turn(event)?))).collect();
    if turns.is_empty() { "nothing".to_owned() } else { turns.join(", ") }
}

/// What was done to the servers about that time.
fn nearest(blows: &[Blow], at: At) -> String {
    let distance = |blow: &Blow| blow.from.saturating_sub(at).max(at.saturating_sub(blow.to));
    let mut near: Vec<_> = blows.iter().filter(|blow| distance(blow) <= AROUND).collect();
    near.sort_by_key(|blow| distance(blow));
    near.truncate(4);
    near.iter().map(|blow| format!("\n  near it: {:.2?}–{:.2?} {}", blow.from, blow.to, blow.what)).collect()
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let count = |kind| self.violations.iter().filter(|one| one.kind == kind).count();
        let at = |share: usize| {
            let last = self.resumes.len().saturating_sub(1);
            self.resumes.get(last * share / 100).copied().unwrap_or_default()
        };
        writeln!(
            f,
            "messages: {} sent, {} delivered, {} acknowledged as not durable, {} copies dropped",
            self.sent, self.delivered, self.not_durable, self.dropped
        )?;
        writeln!(
            f,
            "gaps: {} announced ({} late, {} times recovered: false, {} new peers), {} silent; doubles: {}; out of order: {}",
            self.announced,
            self.late,
            self.resyncs,
            self.lost_peers,
            count(Kind::SilentGap),
            count(Kind::Double),
            count(Kind::Disorder)
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
        for one in self.violations.iter().take(SHOWN) {
            write!(f, "\n- {:?} at {:.2?}: {}", one.kind, one.at, one.story)?;
        }
        if self.violations.len() > SHOWN {
            write!(f, "\n… and {} more", self.violations.len() - SHOWN)?;
        }
        Ok(())
    }
}

/// So many violations are told in full.
const SHOWN: usize = 12;

impl Verdict {
    /// # Panics
    /// If anything is wrong.
    pub fn assert_clean(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}
