//! The decision: `(state, now, inputs)` → next state and events.
//!
//! Inputs that waited together are decided together and committed at once (a storm of joins is one commit). A peer that
//! joins in a batch learns the room as it is after the whole batch, so events of the batch go only to peers that were there
//! before it. Every input is idempotent: deciding it again on a state that already holds it changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_shared::{
    config::Settings,
    id::{NodeId, PeerId},
    protocol::{IcePolicy, LeftReason},
};

use super::{
    manage::Manage,
    settings::RoomSettings,
    state::{Lineage, Member, Permission, Presence, RoomState, TokenRecord, Tombstone},
};

/// Something that happens to a room.
#[derive(Debug, Clone)]
pub enum Input {
    /// A peer wants in. Ids are made by the caller, so that deciding twice decides the same.
    Join {
        /// Its id.
        peer: PeerId,
        /// Its record, with the node that serves it.
        member: Box<Member>,
    },
    /// A connection takes over a peer that is, or was, there.
    Attach(Box<Claim>),
    /// The client of a peer is back without its state: the peer has left, and a new one joins in its place.
    Replace {
        /// The peer it was.
        old: Box<Claim>,
        /// The peer it is.
        peer: PeerId,
        /// Its mailbox.
        mailbox: u64,
    },
    /// A peer changes its public record; what is absent stays.
    Update {
        /// Which peer.
        peer: PeerId,
        /// Its new name.
        name: Option<Arc<str>>,
        /// Its new metadata.
        metadata: Option<Arc<RawValue>>,
    },
    /// A peer has shown another token. Only the owner of that epoch may say so.
    Refresh {
        /// Which peer.
        peer: PeerId,
        /// The epoch whose connection it was shown on.
        epoch: u64,
        /// What the token says.
        record: Box<TokenRecord>,
    },
    /// A peer's socket is lost. Only the owner of that epoch may say so.
    Detach {
        /// Which peer.
        peer: PeerId,
        /// The epoch whose socket it was.
        epoch: u64,
    },
    /// A peer is gone for good. Only the owner of that epoch may say so.
    Leave {
        /// Which peer.
        peer: PeerId,
        /// The epoch that says so.
        epoch: u64,
        /// What the others are told.
        reason: LeftReason,
    },
    /// A node is dead: its peers are detached.
    Bury {
        /// Which node.
        node: NodeId,
    },
    /// A node has looked at its sockets: its peers without one are detached.
    Sweep {
        /// Which node.
        node: NodeId,
        /// Its peers with a socket.
        live: BTreeSet<PeerId>,
    },
    /// Deadlines may have come: the windows of detached peers, the longest life of the room, or until when it is kept.
    Tick,
    /// Somebody who may changes the room or its members.
    Manage(Box<Manage>),
}

/// A connection's claim to a peer.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which peer.
    pub peer: PeerId,
    /// Why it should be believed.
    pub proof: Proof,
    /// Where the peer was last known to be a member.
    pub lineage: Lineage,
    /// The claimant's clock, seconds since 1970: a token that has ended by it gives nothing back. None for a connection that was there
    /// all the time, which watches over its token itself.
    pub now_s: Option<u64>,
    /// Its record in that case, attached to the node of the connection, with a mailbox it never had.
    pub member: Member,
}

/// Why a claim should be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The client showed this handle; a newer one makes it void.
    Handle {
        /// Which handle of the peer.
        generation: u64,
        /// The epoch it was made for.
        epoch: u64,
    },
    /// The client's socket has been there all the time, in this epoch; a newer one makes it void.
    Socket {
        /// The epoch.
        epoch: u64,
    },
}

impl Proof {
    /// The newest epoch that the claimant knows of.
    pub fn epoch(self) -> u64 {
        match self {
            Self::Handle { epoch, .. } | Self::Socket { epoch } => epoch,
        }
    }
}

/// What became of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds now.
    Done,
    /// The connection owns the peer in this epoch.
    Attached(u64),
    /// The peer is not there any more, or another epoch owns it.
    Gone,
    /// A newer connection has the peer.
    Replaced,
    /// The life of its token is over.
    Expired,
    /// Another peer has the grant of its token.
    TokenInUse,
    /// No place left in the room.
    RoomFull,
    /// No place left for this user.
    UserLimit,
    /// The room takes nobody in for now.
    RoomLocked,
    /// The room is switched off.
    RoomDisabled,
    /// The room has not begun.
    NotStarted,
    /// There is no such room, and none is made by joining.
    NotAllowed,
    /// There is such a room already.
    RoomExists,
    /// There is no such room.
    NoSuchRoom,
    /// There is no such peer in the room, or none that waits.
    NoSuchPeer,
    /// Who asks may not do that, or not to this peer.
    NotPermitted,
    /// So many peers have left by it.
    Removed(usize),
}

/// What the others hear.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub about: PeerId,
    /// Who hears it.
    pub targets: Vec<PeerId>,
}

/// What happened to a peer.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// It joined with this record.
    Joined(Box<Member>),
    /// Its record is now this.
    Updated(Box<Member>),
    /// Its socket is lost.
    Detached,
    /// It is back.
    Attached,
    /// It has left, finally.
    Left(LeftReason),
    /// It waits to be let in; those hear of it who may let it in.
    Knocked(Box<Member>),
    /// It waits no more: it was let in, or is gone for this reason.
    KnockEnded(Option<LeftReason>),
    /// Its own role or permissions are now these; it alone hears of it.
    Standing(Box<Member>, Option<IcePolicy>),
    /// The room's settings are now these.
    RoomUpdated(Arc<RoomSettings>),
    /// The API has said something.
    Said {
        /// Whether to everybody.
        to_room: bool,
        /// What.
        data: Arc<RawValue>,
    },
}

/// The limits the rules need.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Most peers in a room.
    pub room_peers: usize,
    /// Most peers of one user in a room.
    pub user_peers: usize,
    /// How long a detached peer has, and a peer that left is remembered, milliseconds.
    pub window_ms: u64,
    /// The longest life of a room, milliseconds.
    pub room_life_ms: u64,
    /// How long a room is kept that is locked by its end, milliseconds.
    pub kept_ms: u64,
    /// Whether a room that nobody made springs up at the first join.
    pub implicit: bool,
}

impl Rules {
    /// From the configuration.
    pub fn new(settings: &Settings) -> Self {
        Self {
            room_peers: settings.limits.room_peers as usize,
            user_peers: settings.limits.user_peers as usize,
            window_ms: settings.timing.resume_window.as_ms(),
            room_life_ms: settings.timing.room_life.as_ms(),
            kept_ms: settings.rooms.kept.as_ms(),
            implicit: settings.rooms.implicit,
        }
    }
}

/// What to commit.
#[derive(Debug)]
pub struct Decision {
    /// The state after the commit, its version one higher if anything changed.
    pub next: RoomState,
    /// Members to write.
    pub put: BTreeSet<PeerId>,
    /// Members to remove.
    pub removed: BTreeSet<PeerId>,
    /// Tombstones that are over.
    pub forgotten: Vec<PeerId>,
    /// Whether the settings are to be written.
    pub configured: bool,
    /// Whether something is said that changes nothing.
    pub said: bool,
    /// What others hear, in order.
    pub events: Vec<Event>,
    /// One for each input.
    pub outcomes: Vec<Outcome>,
}

impl Decision {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty() && !self.configured && !self.said
    }
}

/// Decides a batch of inputs; `now` is the store's time. Each input makes at most one event per affected peer, to at most `room_peers` targets.
pub fn decide(state: &RoomState, now: u64, inputs: &[Input], rules: &Rules) -> Decision {
    let mut batch = Batch {
        before: state.members.iter().filter(|(_, m)| !m.waiting).map(|(peer, _)| peer.clone()).collect(),
        was_empty: state.members.is_empty(),
        decision: Decision {
            next: state.clone(),
            put: BTreeSet::new(),
            removed: BTreeSet::new(),
            forgotten: Vec::new(),
            configured: false,
            said: false,
            events: Vec::new(),
            outcomes: Vec::with_capacity(inputs.len()),
        },
        now,
        rules,
    };
    for input in inputs {
        let outcome = batch.input(input);
        batch.decision.outcomes.push(outcome);
    }
    batch.finish()
}

/// A batch while it is decided.
pub(super) struct Batch<'a> {
    /// Who hears of it: who was there before and did not wait.
    before: BTreeSet<PeerId>,
    was_empty: bool,
    pub(super) decision: Decision,
    pub(super) now: u64,
    pub(super) rules: &'a Rules,
}

impl Batch<'_> {
    fn input(&mut self, input: &Input) -> Outcome {
        match input {
            Input::Join { peer, member } => self.join(peer, member),
            Input::Update { peer, name, metadata } => self.update(peer, name.as_ref(), metadata.as_ref()),
            Input::Refresh { peer, epoch, record } => self.refresh(peer, *epoch, record),
            Input::Detach { peer, epoch } => self.detach(peer, *epoch),
            Input::Leave { peer, epoch, reason } => match self.owned(peer, *epoch) {
                Some(_) => self.remove(peer, *reason),
                None => Outcome::Gone,
            },
            Input::Attach(claim) => self.attach(claim),
            Input::Replace { old, peer, mailbox } => self.replace(old, peer, *mailbox),
            Input::Bury { node } => self.detach_all(|member, _| member.owner() == Some(node)),
            Input::Sweep { node, live } => {
                self.detach_all(|member, peer| member.owner() == Some(node) && !live.contains(peer))
            }
            Input::Tick => self.tick(),
            Input::Manage(manage) => self.manage(manage),
        }
    }

    pub(super) fn owned(&mut self, peer: &PeerId, epoch: u64) -> Option<&mut Member> {
        self.decision.next.members.get_mut(peer).filter(|member| member.epoch == epoch)
    }

    fn join(&mut self, peer: &PeerId, member: &Member) -> Outcome {
        if self.decision.next.members.contains_key(peer) {
            return Outcome::Done;
        }
        if let Some(refused) = self.closed_to(member) {
            return refused;
        }
        let member = match self.bind(member) {
            Ok(Some(successor)) => {
                // Its place was its own: no limit is asked.
                self.insert(peer, successor);
                return Outcome::Done;
            }
            Ok(None) => member,
            Err(outcome) => return outcome,
        };
        let settings = &self.decision.next.settings;
        let most =
            settings.max_peers.map_or(self.rules.room_peers, |most| self.rules.room_peers.min(most as usize));
        if self.decision.next.members.len() >= most {
            return Outcome::RoomFull;
        }
        if self.decision.next.peers_of(&member.user) >= self.rules.user_peers {
            return Outcome::UserLimit;
        }
        let waiting = settings.lobby && !member.passes_lobby();
        self.insert(peer, Member { waiting, ..member.clone() });
        Outcome::Done
    }

    /// Why the room takes this newcomer in under no circumstances; none if it may.
    fn closed_to(&self, member: &Member) -> Option<Outcome> {
        let (state, settings) = (&self.decision.next, &self.decision.next.settings);
        if !self.rules.implicit && !state.is_there(self.now) {
            return Some(Outcome::NotAllowed);
        }
        if !settings.enabled {
            return Some(Outcome::RoomDisabled);
        }
        // Who moderates may prepare the room.
        if settings.starts_at.is_some_and(|at| at > self.now) && !member.may(Permission::Moderate) {
            return Some(Outcome::NotStarted);
        }
        settings.locked.then_some(Outcome::RoomLocked)
    }

    fn insert(&mut self, peer: &PeerId, member: Member) {
        self.decision.next.members.insert(peer.clone(), member.clone());
        self.decision.put.insert(peer.clone());
        self.decision.removed.remove(peer);
        if member.waiting {
            self.tell_admitters(peer, EventKind::Knocked(Box::new(member)));
        } else {
            self.tell(peer, EventKind::Joined(Box::new(member)));
        }
    }

    fn update(
        &mut self,
        peer: &PeerId,
        name: Option<&Arc<str>>,
        metadata: Option<&Arc<RawValue>>,
    ) -> Outcome {
        let Some(member) = self.decision.next.members.get_mut(peer) else { return Outcome::Gone };
        let same_name = name.is_none_or(|name| *name == member.name);
        let same_metadata = metadata.is_none_or(|metadata| metadata.get() == member.metadata.get());
        if same_name && same_metadata {
            return Outcome::Done;
        }
        if let Some(name) = name {
            member.name = name.clone();
        }
        if let Some(metadata) = metadata {
            member.metadata = metadata.clone();
        }
        let member = Box::new(member.clone());
        self.decision.put.insert(peer.clone());
        if !member.waiting {
            self.tell(peer, EventKind::Updated(member));
        }
        Outcome::Done
    }

    fn detach(&mut self, peer: &PeerId, epoch: u64) -> Outcome {
        let until = self.now + self.rules.window_ms;
        let Some(member) = self.owned(peer, epoch) else { return Outcome::Gone };
        if member.owner().is_some() {
            member.presence = Presence::Detached(until);
            let waiting = member.waiting;
            self.decision.put.insert(peer.clone());
            if !waiting {
                self.tell(peer, EventKind::Detached);
            }
        }
        Outcome::Done
    }

    fn detach_all(&mut self, whose: impl Fn(&Member, &PeerId) -> bool) -> Outcome {
        let members = self.decision.next.members.iter();
        let lost: Vec<_> =
            members.filter(|(peer, m)| whose(m, peer)).map(|(peer, m)| (peer.clone(), m.epoch)).collect();
        for (peer, epoch) in &lost {
            self.detach(peer, *epoch);
        }
        Outcome::Done
    }

    fn attach(&mut self, claim: &Claim) -> Outcome {
        match self.check(claim) {
            Ok(Some(epoch)) => self.take(claim, epoch + 1),
            Ok(None) => self.readmit(claim),
            Err(outcome) => outcome,
        }
    }

    /// The epoch of the peer that is claimed; none where the store has forgotten it.
    fn check(&self, claim: &Claim) -> Result<Option<u64>, Outcome> {
        let (state, peer) = (&self.decision.next, &claim.peer);
        let Some(member) = state.members.get(peer) else {
            return match state.left.get(peer) {
                Some(tombstone) if tombstone.reason == LeftReason::Expired => Err(Outcome::Expired),
                None if claim.lineage != state.lineage => {
                    claim.is_current(None).then_some(None).ok_or(Outcome::Expired)
                }
                _ => Err(Outcome::Gone),
            };
        };
        // One whose window is over is still there until a tick removes it: it came in time.
        match claim.proof {
            Proof::Handle { generation, .. } if generation < member.generation => Err(Outcome::Replaced),
            Proof::Socket { epoch } if epoch < member.epoch => Err(Outcome::Replaced),
            Proof::Socket { epoch }
                if epoch == member.epoch
                    && member.owner().is_some_and(|node| Some(node) != claim.member.owner()) =>
            {
                Err(Outcome::Replaced)
            }
            _ if !claim.is_current(Some(member)) => Err(Outcome::Expired),
            // A restored room may know an older epoch than the claimant.
            proof => Ok(Some(member.epoch.max(proof.epoch()))),
        }
    }

    fn take(&mut self, claim: &Claim, epoch: u64) -> Outcome {
        let Some(member) = self.decision.next.members.get_mut(&claim.peer) else { return Outcome::Gone };
        let was_lost = member.owner().is_none() && !member.waiting;
        member.presence = claim.member.presence.clone();
        member.epoch = epoch;
        if let Proof::Handle { generation, .. } = claim.proof {
            member.generation = generation;
        }
        self.decision.put.insert(claim.peer.clone());
        if was_lost {
            self.tell(&claim.peer, EventKind::Attached);
        }
        self.renew_by(claim);
        Outcome::Attached(epoch)
    }

    /// Back into a room that has forgotten the peer; its place was its own, so no limit is asked.
    fn readmit(&mut self, claim: &Claim) -> Outcome {
        let epoch = claim.proof.epoch() + 1;
        let member = Member { epoch, ..claim.member.clone() };
        self.insert(&claim.peer, member);
        Outcome::Attached(epoch)
    }

    fn replace(&mut self, old: &Claim, peer: &PeerId, mailbox: u64) -> Outcome {
        if self.decision.next.members.contains_key(peer) {
            return Outcome::Done;
        }
        let record = match self.check(old) {
            Ok(Some(_)) => self.decision.next.members.get(&old.peer).map(|known| old.newest(known)),
            Ok(None) => Some(old.member.clone()),
            Err(outcome) => return outcome,
        };
        let Some(record) = record else { return Outcome::Gone };
        if self.decision.next.members.contains_key(&old.peer) {
            self.remove(&old.peer, LeftReason::Replaced);
        }
        let presence = old.member.presence.clone();
        self.insert(peer, Member { presence, epoch: 1, generation: 1, mailbox, ..record });
        Outcome::Done
    }

    fn tick(&mut self) -> Outcome {
        let (now, state) = (self.now, &self.decision.next);
        // Where the room's own limit came first it has ended; at the end of the longest life of any room another one may begin.
        let own = state.settings.life_ms(self.rules.room_life_ms) < self.rules.room_life_ms;
        let ended = state.ends_at > 0 && state.ends_at <= now;
        let over = |m: &Member| matches!(m.presence, Presence::Detached(until) if until <= now);
        let members = state.members.iter();
        let due: Vec<PeerId> =
            members.filter(|(_, m)| ended || over(m)).map(|(peer, _)| peer.clone()).collect();
        for peer in &due {
            match (ended, own) {
                (true, true) => self.remove(peer, LeftReason::Ended),
                (true, false) => self.remove_as(peer, LeftReason::Ended, LeftReason::Timeout),
                (false, _) => self.remove(peer, LeftReason::Timeout),
            };
        }
        let next = &self.decision.next;
        if next.members.is_empty() && next.settings.kept_until > 0 && !next.settings.is_kept(now) {
            // It was kept for long enough.
            self.decision.configured = true;
        }
        Outcome::Done
    }

    pub(super) fn remove(&mut self, peer: &PeerId, reason: LeftReason) -> Outcome {
        self.remove_as(peer, reason, reason)
    }

    /// Removes a member; what its own connection finds may differ from what the others are told.
    fn remove_as(&mut self, peer: &PeerId, told: LeftReason, reason: LeftReason) -> Outcome {
        let member = self.decision.next.members.remove(peer);
        let (epoch, waiting) = member.map_or((0, false), |member| (member.epoch, member.waiting));
        let until = self.now + self.rules.window_ms;
        self.decision.next.left.insert(peer.clone(), Tombstone { epoch, reason, until });
        self.decision.put.remove(peer);
        self.decision.removed.insert(peer.clone());
        if waiting {
            self.tell_admitters(peer, EventKind::KnockEnded(Some(told)));
        } else {
            self.tell(peer, EventKind::Left(told));
        }
        Outcome::Done
    }

    pub(super) fn tell(&mut self, about: &PeerId, kind: EventKind) {
        let targets = self.before.iter().filter(|peer| *peer != about).cloned().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }

    /// Tells one member. One that is new in this batch learns it from its snapshot.
    pub(super) fn tell_only(&mut self, about: &PeerId, target: &PeerId, kind: EventKind) {
        let targets = self.before.get(target).cloned().into_iter().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }

    /// Tells those who may let somebody in.
    pub(super) fn tell_admitters(&mut self, about: &PeerId, kind: EventKind) {
        let members = &self.decision.next.members;
        let may = |peer: &&PeerId| members.get(*peer).is_some_and(|member| member.may(Permission::Admit));
        let targets = self.before.iter().filter(|peer| *peer != about).filter(may).cloned().collect();
        self.decision.events.push(Event { kind, about: about.clone(), targets });
    }

    /// Tells one who may let somebody in from now on of those who wait.
    pub(super) fn tell_of_knocks(&mut self, reader: &PeerId) {
        let waiting = self.decision.next.members.iter().filter(|(_, member)| member.waiting);
        let waiting: Vec<_> = waiting.map(|(peer, member)| (peer.clone(), member.clone())).collect();
        for (peer, member) in waiting {
            self.tell_only(&peer, reader, EventKind::Knocked(Box::new(member)));
        }
    }

    /// Drops targets that the batch itself removed: their mailboxes go with them.
    fn finish(mut self) -> Decision {
        let (now, configured) = (self.now, self.decision.configured);
        let next = &mut self.decision.next;
        if self.was_empty || next.members.is_empty() {
            // Another life begins, or one is over. The store sets the moments by its own clock; these are close to them.
            next.began_at = if next.members.is_empty() { 0 } else { now };
        }
        if next.began_at == 0 {
            next.ends_at = 0;
        } else if self.was_empty || configured {
            next.ends_at = next.began_at + next.settings.life_ms(self.rules.room_life_ms);
        }
        if next.members.is_empty() && !next.settings.is_kept(now) {
            // Nothing of it is left but tombstones.
            next.settings = Arc::default();
        }
        let over = next.left.iter().filter(|(_, tombstone)| tombstone.until <= now);
        self.decision.forgotten = over.map(|(peer, _)| peer.clone()).collect();
        for peer in &self.decision.forgotten {
            next.left.remove(peer);
        }
        for event in &mut self.decision.events {
            event.targets.retain(|peer| next.members.contains_key(peer));
        }
        if !self.decision.is_empty() {
            self.decision.next.version += 1;
        }
        self.decision
    }
}
