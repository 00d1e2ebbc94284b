//! The rules by what is asked: some lookups for each question, however many rules there are.

use std::{collections::HashMap, net::IpAddr};

use signalbox_config::address_ranges::AddressRanges;
use signalbox_protocol::{
    CloseCode,
    id::{CallerId, RoomId, TokenId, UserId},
    problem::Problem,
};

use crate::{AccessRule, LimitChanges, RuleKey};

/// How long clients wait after a shutdown where nobody said, milliseconds.
const DEFAULT_SHUTDOWN_RETRY_MS: u32 = 30_000;

/// Who has issued a token: an API key's id, or a word for those that have none.
pub type TokenIssuer<'a> = Option<&'a str>;

/// Who asks to be, or is, connected, or wants a token.
#[derive(Debug, Clone, Copy)]
pub struct AccessSubject<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The room; none where it is about no room.
    pub room: Option<&'a RoomId>,
    /// What all tokens of one grant share; empty where there is none yet.
    pub grant: &'a str,
    /// When the token was issued, seconds since 1970; none where it is not yet.
    pub issued_s: Option<u64>,
    /// Who has issued it.
    pub issuer: TokenIssuer<'a>,
    /// Where the client is; none where that is not known.
    pub address: Option<IpAddr>,
}

/// Why somebody may not be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccessRefusal {
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

impl AccessRefusal {
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
    pub fn to_problem(self) -> Problem {
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
struct RuleTimes {
    written_at: u64,
    in_force_until: u64,
}

impl RuleTimes {
    fn is_in_force(&self, now: u64) -> bool {
        now < self.in_force_until
    }

    /// Whether what was issued in this second is taken back. A second that had begun counts as a whole: what is issued after the rule
    /// is dated into the next one ([`RuleIndex::first_valid_issue_second`]).
    fn revokes_issued_at(&self, issued_s: u64, now: u64) -> bool {
        self.is_in_force(now) && issued_s <= self.written_at / 1_000
    }
}

/// What is in force, by what is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleIndex {
    revoked_grants: HashMap<TokenId, RuleTimes>,
    users_before: HashMap<UserId, RuleTimes>,
    rooms_before: HashMap<RoomId, RuleTimes>,
    all_before: Option<RuleTimes>,
    user_bans: HashMap<UserId, RuleTimes>,
    room_bans: HashMap<UserId, HashMap<RoomId, RuleTimes>>,
    denied_ranges: AddressRanges<RuleTimes>,
    revoked_keys: HashMap<CallerId, (RuleTimes, bool)>,
    limit_changes: Option<(RuleTimes, LimitChanges)>,
    shutdown: Option<(RuleTimes, u32)>,
}

impl RuleIndex {
    pub(crate) fn insert_rule(&mut self, rule: &AccessRule) {
        let times = RuleTimes { written_at: rule.written_at, in_force_until: rule.in_force_until };
        match &rule.key {
            RuleKey::Grant(grant) => drop(self.revoked_grants.insert(grant.clone(), times)),
            RuleKey::UserBefore(user) => drop(self.users_before.insert(user.clone(), times)),
            RuleKey::RoomBefore(room) => drop(self.rooms_before.insert(room.clone(), times)),
            RuleKey::AllBefore => self.all_before = Some(times),
            RuleKey::Ban { room: None, user } => drop(self.user_bans.insert(user.clone(), times)),
            RuleKey::Ban { room: Some(room), user } => {
                self.room_bans.entry(user.clone()).or_default().insert(room.clone(), times);
            }
            RuleKey::Deny(range) => self.denied_ranges.insert(*range, times),
            RuleKey::ApiKey(id) => {
                self.revoked_keys.insert(id.clone(), (times, rule.terms.revokes_issued));
            }
            RuleKey::Limits => self.limit_changes = rule.terms.limits.map(|limits| (times, limits)),
            RuleKey::Shutdown => {
                self.shutdown = Some((times, rule.terms.retry_ms.unwrap_or(DEFAULT_SHUTDOWN_RETRY_MS)));
            }
        }
    }

    /// What will not change comes first: a banned user is not told to ask again after a shutdown.
    pub(crate) fn check_access(&self, subject: &AccessSubject<'_>, now: u64) -> Result<(), AccessRefusal> {
        if subject.address.is_some_and(|address| self.denies_address(address, now)) {
            return Err(AccessRefusal::AddressDenied);
        }
        if self.bans_user(subject, now) {
            return Err(AccessRefusal::Banned);
        }
        if self.revokes_token(subject, now) {
            return Err(AccessRefusal::Revoked);
        }
        match self.shutdown {
            Some((times, retry_ms)) if times.is_in_force(now) => Err(AccessRefusal::ShutDown { retry_ms }),
            _ => Ok(()),
        }
    }

    pub(crate) fn denies_address(&self, address: IpAddr, now: u64) -> bool {
        self.denied_ranges.values_for(address).any(|times| times.is_in_force(now))
    }

    fn bans_user(&self, subject: &AccessSubject<'_>, now: u64) -> bool {
        let here = || {
            let room = subject.room?;
            self.room_bans.get(subject.user)?.get(room)
        };
        self.user_bans.get(subject.user).is_some_and(|times| times.is_in_force(now))
            || here().is_some_and(|times| times.is_in_force(now))
    }

    fn revokes_token(&self, subject: &AccessSubject<'_>, now: u64) -> bool {
        let issued = subject.issuer.and_then(|id| self.revoked_keys.get(id));
        self.revoked_grants.get(subject.grant).is_some_and(|times| times.is_in_force(now))
            || issued.is_some_and(|(times, issued)| *issued && times.is_in_force(now))
            || subject.issued_s.is_some_and(|issued_s| {
                self.issued_before_rules(subject).any(|times| times.revokes_issued_at(issued_s, now))
            })
    }

    /// The rules that take back what was issued before them to such a subject.
    fn issued_before_rules<'a>(&'a self, subject: &AccessSubject<'a>) -> impl Iterator<Item = &'a RuleTimes> {
        let room = subject.room.and_then(|room| self.rooms_before.get(room));
        self.users_before.get(subject.user).into_iter().chain(room).chain(&self.all_before)
    }

    pub(crate) fn first_valid_issue_second(&self, subject: &AccessSubject<'_>, now: u64) -> u64 {
        let after = |times: &RuleTimes| times.written_at / 1_000 + 1;
        self.issued_before_rules(subject).filter(|times| times.is_in_force(now)).map(after).max().unwrap_or(0)
    }

    pub(crate) fn is_key_revoked(&self, id: &str, now: u64) -> bool {
        self.revoked_keys.get(id).is_some_and(|(times, _)| times.is_in_force(now))
    }

    pub(crate) fn limit_changes(&self, now: u64) -> LimitChanges {
        self.limit_changes
            .filter(|(times, _)| times.is_in_force(now))
            .map(|(_, limits)| limits)
            .unwrap_or_default()
    }
}
