//! All access rules at one moment: immutable, shared, checked without a round trip.
//!
//! Owns: [`AccessRules`], which finds the rules for a subject with a few lookups, however many
//! rules there are. Must not: read or write the log (`rule_log`). Next: `access_control` replaces
//! the rules when they change.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use signalbox_config::address_ranges::AddressRanges;
use signalbox_protocol::{
    CredentialRoot,
    id::{RoomId, TokenId, UserId},
};

use crate::{AccessRefusal, AccessRule, AccessSubject, LimitChanges, RuleKey};

/// When clients may retry after a shutdown whose rule does not say, milliseconds.
const DEFAULT_SHUTDOWN_RETRY_MS: u32 = 30_000;

/// The rules that a process holds. A change makes a new set; readers keep the one that they have.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    // Includes lifted rules.
    by_key: BTreeMap<RuleKey, Arc<AccessRule>>,
    // The rules of nodes. They only add to `by_key`: a node cannot replace a rule of the auth
    // service.
    by_nodes: BTreeMap<RuleKey, Arc<AccessRule>>,
    index: RuleIndex,
}

impl AccessRules {
    /// Whether a subject may connect at the time `now` (milliseconds since 1970, by the clock of
    /// the store). A permanent refusal comes first: a banned user must not retry after a shutdown.
    ///
    /// # Errors
    /// [`AccessRefusal`].
    pub fn check_access(&self, subject: &AccessSubject<'_>, now: u64) -> Result<(), AccessRefusal> {
        if subject.address.is_some_and(|address| self.denies_address(address, now)) {
            return Err(AccessRefusal::AddressDenied);
        }
        if self.bans_user(subject, now) {
            return Err(AccessRefusal::Banned);
        }
        if self.revokes_token(subject, now) {
            return Err(AccessRefusal::Revoked);
        }
        match self.index.shutdown {
            Some((times, retry_ms)) if times.is_in_force(now) => Err(AccessRefusal::ShutDown { retry_ms }),
            _ => Ok(()),
        }
    }

    /// Whether clients at an address are denied.
    pub fn denies_address(&self, address: IpAddr, now: u64) -> bool {
        self.index.denied_ranges.values_for(address).any(|times| times.is_in_force(now))
    }

    fn bans_user(&self, subject: &AccessSubject<'_>, now: u64) -> bool {
        let room_ban = || {
            let room = subject.room?;
            self.index.room_bans.get(subject.user)?.get(room)
        };
        self.index.user_bans.get(subject.user).is_some_and(|times| times.is_in_force(now))
            || room_ban().is_some_and(|times| times.is_in_force(now))
    }

    fn revokes_token(&self, subject: &AccessSubject<'_>, now: u64) -> bool {
        let root = subject.root.and_then(|root| self.index.revoked_roots.get(root));
        self.index.revoked_grants.get(subject.grant).is_some_and(|times| times.is_in_force(now))
            || root.is_some_and(|(times, issued)| *issued && times.is_in_force(now))
            || subject.issued_s.is_some_and(|issued_s| {
                self.issued_before_rules(subject).any(|times| times.revokes_issued_at(issued_s, now))
            })
    }

    /// The rules that revoke every token of the subject that was issued before them.
    fn issued_before_rules<'a>(&'a self, subject: &AccessSubject<'a>) -> impl Iterator<Item = &'a RuleTimes> {
        let room = subject.room.and_then(|room| self.index.rooms_before.get(room));
        self.index.users_before.get(subject.user).into_iter().chain(room).chain(&self.index.all_before)
    }

    /// The earliest `iat` (seconds since 1970) with which a new token is not revoked by a rule that
    /// was written before it: `iat` is a whole second. 0 if no rule matters.
    pub fn first_valid_issue_second(&self, subject: &AccessSubject<'_>, now: u64) -> u64 {
        let after = |times: &RuleTimes| times.written_at / 1_000 + 1;
        self.issued_before_rules(subject).filter(|times| times.is_in_force(now)).map(after).max().unwrap_or(0)
    }

    /// Whether a root is revoked, so that nothing more is issued for it.
    pub fn is_root_revoked(&self, root: &CredentialRoot, now: u64) -> bool {
        self.index.revoked_roots.get(root).is_some_and(|(times, _)| times.is_in_force(now))
    }

    /// The limits that differ from the configured ones.
    pub fn limit_changes(&self, now: u64) -> LimitChanges {
        self.index
            .limit_changes
            .filter(|(times, _)| times.is_in_force(now))
            .map(|(_, limits)| limits)
            .unwrap_or_default()
    }

    /// A set with these rules, and without rules that need not be remembered. None if these rules
    /// change nothing.
    pub(crate) fn with_rules(&self, rules: impl IntoIterator<Item = AccessRule>, now: u64) -> Option<Self> {
        let mut all = None::<Self>;
        for rule in rules {
            let current = all.as_ref().unwrap_or(self).rules_of(rule.is_from_node).get(&rule.key);
            let next = match current {
                None => rule,
                Some(current) => {
                    let mut next = AccessRule::clone(current);
                    if !next.merge_rule(&rule) {
                        continue;
                    }
                    next
                }
            };
            let all = all.get_or_insert_with(|| self.clone());
            let rules = if next.is_from_node { &mut all.by_nodes } else { &mut all.by_key };
            rules.insert(next.key.clone(), Arc::new(next));
        }
        all.map(|mut all| {
            all.by_key.retain(|_, rule| !rule.is_forgettable(now));
            all.by_nodes.retain(|_, rule| !rule.is_forgettable(now));
            let mut index = RuleIndex::default();
            all.rules_in_force(now).for_each(|rule| index.insert_rule(rule));
            Self { index, ..all }
        })
    }

    fn rules_of(&self, nodes: bool) -> &BTreeMap<RuleKey, Arc<AccessRule>> {
        if nodes { &self.by_nodes } else { &self.by_key }
    }

    /// The rule for a key, if it is in force.
    pub fn rule_in_force(&self, key: &RuleKey, now: u64) -> Option<&Arc<AccessRule>> {
        let own = self.by_key.get(key).filter(|rule| rule.is_in_force(now));
        let added = self.by_nodes.get(key).filter(|rule| self.is_node_rule_in_force(rule, now));
        own.into_iter().chain(added).max_by_key(|rule| rule.in_force_until)
    }

    /// Whether a rule of a node is in force: the auth service may have lifted it since.
    fn is_node_rule_in_force(&self, rule: &AccessRule, now: u64) -> bool {
        let is_lifted = || {
            self.by_key
                .get(&rule.key)
                .is_some_and(|later| later.is_lifted && later.written_at >= rule.written_at)
        };
        rule.is_in_force(now) && !is_lifted()
    }

    /// The rules in force by key, one for each key.
    pub fn rules_in_force(&self, now: u64) -> impl Iterator<Item = &Arc<AccessRule>> {
        let keys: BTreeSet<&RuleKey> = self.by_key.keys().chain(self.by_nodes.keys()).collect();
        keys.into_iter().filter_map(move |key| self.rule_in_force(key, now))
    }

    /// The rules that must be remembered, lifted rules too: those of the auth service, then those of
    /// nodes.
    pub(crate) fn remembered_rules(&self, now: u64) -> impl Iterator<Item = &Arc<AccessRule>> {
        self.by_key.values().chain(self.by_nodes.values()).filter(move |rule| !rule.is_forgettable(now))
    }

    /// The held rule with the key and the source of another rule.
    pub(crate) fn counterpart(&self, rule: &AccessRule) -> Option<&Arc<AccessRule>> {
        self.rules_of(rule.is_from_node).get(&rule.key)
    }

    /// The rule of a node for a key.
    pub(crate) fn rule_of_nodes(&self, key: &RuleKey) -> Option<&Arc<AccessRule>> {
        self.by_nodes.get(key)
    }

    /// The number of remembered rules of nodes.
    pub(crate) fn count_rules_of_nodes(&self) -> usize {
        self.by_nodes.len()
    }

    /// The number of remembered rules.
    pub fn len(&self) -> usize {
        self.by_key.len() + self.by_nodes.len()
    }

    /// Whether no rule is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.by_nodes.is_empty()
    }
}

/// When a rule was written and until when it is in force.
#[derive(Debug, Clone, Copy, Default)]
struct RuleTimes {
    written_at: u64,
    in_force_until: u64,
}

impl RuleTimes {
    fn is_in_force(&self, now: u64) -> bool {
        now < self.in_force_until
    }

    /// Whether a token that was issued in this second is revoked. A second in which the rule was
    /// written counts as a whole: a token that is issued after the rule gets the next second
    /// ([`AccessRules::first_valid_issue_second`]).
    fn revokes_issued_at(&self, issued_s: u64, now: u64) -> bool {
        self.is_in_force(now) && issued_s <= self.written_at / 1_000
    }
}

/// The rules in force, by the value that is looked up.
#[derive(Debug, Clone, Default)]
struct RuleIndex {
    revoked_grants: HashMap<TokenId, RuleTimes>,
    users_before: HashMap<UserId, RuleTimes>,
    rooms_before: HashMap<RoomId, RuleTimes>,
    all_before: Option<RuleTimes>,
    user_bans: HashMap<UserId, RuleTimes>,
    room_bans: HashMap<UserId, HashMap<RoomId, RuleTimes>>,
    denied_ranges: AddressRanges<RuleTimes>,
    revoked_roots: HashMap<CredentialRoot, (RuleTimes, bool)>,
    limit_changes: Option<(RuleTimes, LimitChanges)>,
    shutdown: Option<(RuleTimes, u32)>,
}

impl RuleIndex {
    fn insert_rule(&mut self, rule: &AccessRule) {
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
            RuleKey::Root(root) => {
                self.revoked_roots.insert(root.clone(), (times, rule.terms.revokes_issued));
            }
            RuleKey::Limits => self.limit_changes = rule.terms.limits.map(|limits| (times, limits)),
            RuleKey::Shutdown => {
                self.shutdown = Some((times, rule.terms.retry_ms.unwrap_or(DEFAULT_SHUTDOWN_RETRY_MS)));
            }
        }
    }
}

#[cfg(test)]
mod tests;
