//! The rules by what is asked: some lookups for each question, however many rules there are.

use std::{collections::HashMap, net::IpAddr};

use signalbox_config::address::Ranges;
use signalbox_protocol::{
    CloseCode,
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};

use crate::{LimitChanges, Rule, RuleKey};

/// How long clients wait after a shutdown where nobody said, milliseconds.
const SHUT_DOWN_RETRY_MS: u32 = 30_000;

/// Who has issued a token: an API key's id, or a word for those that have none.
pub type Issuer<'a> = Option<&'a str>;

/// Who asks to be, or is, connected, or wants a token.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The room; none where it is about no room.
    pub room: Option<&'a RoomId>,
    /// What all tokens of one grant share; empty where there is none yet.
    pub grant: &'a str,
    /// When the token was issued, seconds since 1970; none where it is not yet.
    pub issued_s: Option<u64>,
    /// Who has issued it.
    pub issuer: Issuer<'a>,
    /// Where the client is; none where that is not known.
    pub address: Option<IpAddr>,
}

/// Why somebody may not be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The client's address is denied.
    AddressDenied,
    /// The user is banned, here or everywhere.
    Banned,
    /// The token was taken back.
    Revoked,
    /// Everybody is sent away.
    ShutDown {
        /// When to ask again, milliseconds.
        retry_ms: u32,
    },
}

impl Verdict {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::AddressDenied => "address_denied",
            Self::Banned => "banned",
            Self::Revoked => "token_revoked",
            Self::ShutDown { .. } => "shut_down",
        }
    }

    /// How it is said over HTTP.
    pub fn problem(self) -> Problem {
        let (status, detail) = match self {
            Self::AddressDenied => (403, "clients at this address are refused"),
            Self::Banned => (403, "the user is banned; do not ask again with another token"),
            Self::Revoked => (401, "the token was taken back; get a new one"),
            Self::ShutDown { .. } => (503, "the service was stopped by its operator"),
        };
        let mut problem = Problem::new(status, self.code(), detail);
        if let Self::ShutDown { retry_ms } = self {
            problem.retry_after = Some(retry_ms.div_ceil(1_000).max(1));
        }
        problem
    }

    /// How it is said to a connection that is open.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::AddressDenied => CloseCode::AddressDenied,
            Self::Banned => CloseCode::Banned,
            Self::Revoked => CloseCode::Revoked,
            Self::ShutDown { .. } => CloseCode::ShutDown,
        }
    }
}

/// When something was said and until when it holds.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    at: u64,
    until: u64,
}

impl Times {
    fn hold(&self, now: u64) -> bool {
        now < self.until
    }

    /// Whether what was issued in this second is taken back. A second that had begun counts as a whole: what is issued after the rule
    /// is dated into the next one ([`Index::first_good_second`]).
    fn take_back(&self, issued_s: u64, now: u64) -> bool {
        self.hold(now) && issued_s <= self.at / 1_000
    }
}

/// What is in force, by what is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    tokens: HashMap<TokenId, Times>,
    users_before: HashMap<UserId, Times>,
    rooms_before: HashMap<RoomId, Times>,
    all_before: Option<Times>,
    bans: HashMap<UserId, Times>,
    room_bans: HashMap<UserId, HashMap<RoomId, Times>>,
    denied: Ranges<Times>,
    keys: HashMap<CallerId, (Times, bool)>,
    limits: Option<(Times, LimitChanges)>,
    shutdown: Option<(Times, u32)>,
}

impl Index {
    pub(crate) fn insert(&mut self, rule: &Rule) {
        let times = Times { at: rule.at, until: rule.until };
        match &rule.key {
            RuleKey::Token(grant) => drop(self.tokens.insert(grant.clone(), times)),
            RuleKey::UserBefore(user) => drop(self.users_before.insert(user.clone(), times)),
            RuleKey::RoomBefore(room) => drop(self.rooms_before.insert(room.clone(), times)),
            RuleKey::AllBefore => self.all_before = Some(times),
            RuleKey::Ban { room: None, user } => drop(self.bans.insert(user.clone(), times)),
            RuleKey::Ban { room: Some(room), user } => {
                self.room_bans.entry(user.clone()).or_default().insert(room.clone(), times);
            }
            RuleKey::Deny(range) => self.denied.insert(*range, times),
            RuleKey::Key(id) => drop(self.keys.insert(id.clone(), (times, rule.terms.issued))),
            RuleKey::Limits => self.limits = rule.terms.limits.map(|limits| (times, limits)),
            RuleKey::Shutdown => {
                self.shutdown = Some((times, rule.terms.retry_ms.unwrap_or(SHUT_DOWN_RETRY_MS)));
            }
        }
    }

    /// What will not change comes first: a banned user is not told to ask again after a shutdown.
    pub(crate) fn judge(&self, subject: &Subject<'_>, now: u64) -> Result<(), Verdict> {
        if subject.address.is_some_and(|address| self.denies(address, now)) {
            return Err(Verdict::AddressDenied);
        }
        if self.bans_user(subject, now) {
            return Err(Verdict::Banned);
        }
        if self.takes_back(subject, now) {
            return Err(Verdict::Revoked);
        }
        match self.shutdown {
            Some((times, retry_ms)) if times.hold(now) => Err(Verdict::ShutDown { retry_ms }),
            _ => Ok(()),
        }
    }

    pub(crate) fn denies(&self, address: IpAddr, now: u64) -> bool {
        self.denied.holding(address).any(|times| times.hold(now))
    }

    fn bans_user(&self, subject: &Subject<'_>, now: u64) -> bool {
        let here = || {
            let room = subject.room?;
            self.room_bans.get(subject.user)?.get(room)
        };
        self.bans.get(subject.user).is_some_and(|times| times.hold(now))
            || here().is_some_and(|times| times.hold(now))
    }

    fn takes_back(&self, subject: &Subject<'_>, now: u64) -> bool {
        let issued = subject.issuer.and_then(|id| self.keys.get(id));
        self.tokens.get(subject.grant).is_some_and(|times| times.hold(now))
            || issued.is_some_and(|(times, issued)| *issued && times.hold(now))
            || subject
                .issued_s
                .is_some_and(|issued_s| self.befores(subject).any(|times| times.take_back(issued_s, now)))
    }

    /// The rules that take back what was issued before them to such a subject.
    fn befores<'a>(&'a self, subject: &Subject<'a>) -> impl Iterator<Item = &'a Times> {
        let room = subject.room.and_then(|room| self.rooms_before.get(room));
        self.users_before.get(subject.user).into_iter().chain(room).chain(&self.all_before)
    }

    pub(crate) fn first_good_second(&self, subject: &Subject<'_>, now: u64) -> u64 {
        let after = |times: &Times| times.at / 1_000 + 1;
        self.befores(subject).filter(|times| times.hold(now)).map(after).max().unwrap_or(0)
    }

    pub(crate) fn has_revoked_key(&self, id: &str, now: u64) -> bool {
        self.keys.get(id).is_some_and(|(times, _)| times.hold(now))
    }

    pub(crate) fn limits(&self, now: u64) -> LimitChanges {
        self.limits.filter(|(times, _)| times.hold(now)).map(|(_, limits)| limits).unwrap_or_default()
    }
}
