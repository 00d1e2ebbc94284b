//! The rules of one process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::clock;
use tokio::sync::watch;

use super::{LogPosition, LogState, LogUpdate, MAX_LOG_ENTRIES, RuleChange, RuleLogEntry, RuleWriteResult};
use crate::{AccessRule, Notice, RuleKey, RuleTerms};

/// See the module.
pub struct MemoryRuleLog {
    // A std mutex: held for one operation on the maps below.
    state: Mutex<MemoryLogState>,
    last_number: watch::Sender<u64>,
}

struct MemoryLogState {
    rules: BTreeMap<RuleKey, AccessRule>,
    entries: VecDeque<RuleLogEntry>,
    place: LogPosition,
}

impl Default for MemoryRuleLog {
    fn default() -> Self {
        let place = LogPosition { replication_id: "memory".into(), instance_id: "1".into(), entry_number: 0 };
        Self {
            state: Mutex::new(MemoryLogState { rules: BTreeMap::new(), entries: VecDeque::new(), place }),
            last_number: watch::Sender::new(0),
        }
    }
}

impl MemoryRuleLog {
    fn state(&self) -> MutexGuard<'_, MemoryLogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_rule(&self, change: &RuleChange, most: usize) -> RuleWriteResult {
        let now = clock::now_ms();
        let mut state = self.state();
        state.rules.retain(|_, rule| !rule.is_forgettable(now));
        let old = state.rules.get(&change.key);
        if old.is_none() && !change.key.is_singleton() && state.rules.len() >= most {
            return RuleWriteResult::TooManyRules;
        }
        let at = old.map_or(now, |old| now.max(old.written_at + 1));
        let rule = AccessRule::new(change.key.clone(), at, change.life_ms, change.terms.clone());
        RuleWriteResult::Written(self.put_rule(&mut state, rule))
    }

    pub(super) fn lift_rule(&self, key: &RuleKey, by: &RuleTerms) -> RuleWriteResult {
        let now = clock::now_ms();
        let mut state = self.state();
        match state.rules.get(key).filter(|rule| rule.is_in_force(now)) {
            None => RuleWriteResult::NoSuchRule,
            Some(old) => {
                let lifted = old.to_lifted(now.max(old.written_at + 1), by.clone());
                RuleWriteResult::Written(self.put_rule(&mut state, lifted))
            }
        }
    }

    fn put_rule(&self, state: &mut MemoryLogState, rule: AccessRule) -> AccessRule {
        let held = state.rules.entry(rule.key.clone()).or_insert_with(|| rule.clone());
        held.merge_rule(&rule);
        let held = held.clone();
        self.append_entry(state, RuleLogEntry::Rule(held.clone()));
        held
    }

    fn append_entry(&self, state: &mut MemoryLogState, entry: RuleLogEntry) {
        state.place.entry_number += 1;
        state.entries.push_back(entry);
        if state.entries.len() > MAX_LOG_ENTRIES {
            state.entries.pop_front();
        }
        self.last_number.send_replace(state.place.entry_number);
    }

    pub(super) fn append_notice(&self, word: &Notice) {
        self.append_entry(&mut self.state(), RuleLogEntry::Notice(word.clone()));
    }

    pub(super) fn poll_entries(&self, known: &LogPosition) -> (LogState, LogUpdate) {
        let state = self.state();
        let here = &state.place;
        let same = known.replication_id == here.replication_id
            && known.instance_id == here.instance_id
            && known.entry_number <= here.entry_number;
        let missed = (here.entry_number - known.entry_number.min(here.entry_number)) as usize;
        let news = match missed {
            _ if !same => LogUpdate::DifferentLog,
            0 => LogUpdate::Unchanged,
            _ if missed > state.entries.len() => LogUpdate::TooFarBehind,
            _ => LogUpdate::NewEntries(
                state.entries.iter().skip(state.entries.len() - missed).cloned().collect(),
            ),
        };
        (log_state(&state), news)
    }

    pub(crate) fn load_rules(&self) -> (LogState, Vec<AccessRule>) {
        let state = self.state();
        (log_state(&state), state.rules.values().cloned().collect())
    }

    pub(super) fn restore_rules(&self, rules: &[Arc<AccessRule>]) -> LogState {
        let mut state = self.state();
        for rule in rules {
            let is_new = match state.rules.get(&rule.key) {
                None => true,
                Some(held) => held.clone().merge_rule(rule),
            };
            if is_new {
                self.put_rule(&mut state, AccessRule::clone(rule));
            }
        }
        log_state(&state)
    }

    /// The number of the last entry, and word of every further one.
    pub(super) fn watch_numbers(&self) -> watch::Receiver<u64> {
        self.last_number.subscribe()
    }

    /// As a restart of a shared store would: everything is gone.
    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.entries.clear();
        let life = format!("{}+", state.place.instance_id).into();
        state.place = LogPosition {
            replication_id: format!("{}+", state.place.replication_id).into(),
            instance_id: life,
            entry_number: 1_000,
        };
        self.last_number.send_replace(1_000);
    }
}

fn log_state(state: &MemoryLogState) -> LogState {
    LogState { position: state.place.clone(), now_ms: clock::now_ms() }
}
