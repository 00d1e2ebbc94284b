//! The access rules in the memory of one process.
//!
//! Owns: the rules and the bounded log of entries. Must not: decide which rule wins; `access_rule`
//! does.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::clock;
use tokio::sync::watch;

use super::{
    LogPosition, LogState, LogUpdate, MAX_LOG_ENTRIES, RuleChange, RuleLogEntry, RuleRepair, RuleWriteResult,
};
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
    position: LogPosition,
}

impl Default for MemoryRuleLog {
    fn default() -> Self {
        let position =
            LogPosition { replication_id: "memory".into(), instance_id: "1".into(), entry_number: 0 };
        Self {
            state: Mutex::new(MemoryLogState { rules: BTreeMap::new(), entries: VecDeque::new(), position }),
            last_number: watch::Sender::new(0),
        }
    }
}

impl MemoryRuleLog {
    fn state(&self) -> MutexGuard<'_, MemoryLogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_rule(&self, change: &RuleChange, max_rules: usize) -> RuleWriteResult {
        let now = clock::now_ms();
        let mut state = self.state();
        state.rules.retain(|_, rule| !rule.is_forgettable(now));
        let old = state.rules.get(&change.key);
        if old.is_none() && !change.key.is_singleton() && state.rules.len() >= max_rules {
            return RuleWriteResult::TooManyRules;
        }
        let written_at = old.map_or(now, |old| now.max(old.written_at + 1));
        let rule = AccessRule::new(change.key.clone(), written_at, change.life_ms, change.terms.clone());
        RuleWriteResult::Written(Box::new(self.put_rule(&mut state, rule)))
    }

    pub(super) fn lift_rule(&self, key: &RuleKey, terms: &RuleTerms) -> RuleWriteResult {
        let now = clock::now_ms();
        let mut state = self.state();
        match state.rules.get(key).filter(|rule| rule.is_in_force(now)) {
            None => RuleWriteResult::NoSuchRule,
            Some(old) => {
                let lifted = old.to_lifted(now.max(old.written_at + 1), terms.clone());
                RuleWriteResult::Written(Box::new(self.put_rule(&mut state, lifted)))
            }
        }
    }

    fn put_rule(&self, state: &mut MemoryLogState, rule: AccessRule) -> AccessRule {
        let stored = state.rules.entry(rule.key.clone()).or_insert_with(|| rule.clone());
        stored.merge_rule(&rule);
        let stored = stored.clone();
        self.append_entry(state, RuleLogEntry::Rule(stored.clone()));
        stored
    }

    fn append_entry(&self, state: &mut MemoryLogState, entry: RuleLogEntry) {
        state.position.entry_number += 1;
        state.entries.push_back(entry);
        if state.entries.len() > MAX_LOG_ENTRIES {
            state.entries.pop_front();
        }
        self.last_number.send_replace(state.position.entry_number);
    }

    pub(super) fn append_notice(&self, notice: &Notice) {
        self.append_entry(&mut self.state(), RuleLogEntry::Notice(notice.clone()));
    }

    pub(super) fn poll_entries(&self, known: &LogPosition) -> (LogState, LogUpdate) {
        let state = self.state();
        let current = &state.position;
        let is_same_log = known.replication_id == current.replication_id
            && known.instance_id == current.instance_id
            && known.entry_number <= current.entry_number;
        let missed = (current.entry_number - known.entry_number.min(current.entry_number)) as usize;
        let update = match missed {
            _ if !is_same_log => LogUpdate::DifferentLog,
            0 => LogUpdate::Unchanged,
            _ if missed > state.entries.len() => LogUpdate::TooFarBehind,
            _ => LogUpdate::NewEntries(
                state.entries.iter().skip(state.entries.len() - missed).cloned().collect(),
            ),
        };
        (log_state(&state), update)
    }

    pub(crate) fn load_rules(&self) -> (LogState, Vec<AccessRule>) {
        let state = self.state();
        (log_state(&state), state.rules.values().cloned().collect())
    }

    pub(super) fn restore_rules(&self, repairs: &[RuleRepair]) -> LogState {
        let mut state = self.state();
        for RuleRepair { rule, .. } in repairs {
            let is_new = match state.rules.get(&rule.key) {
                None => true,
                Some(stored) => stored.clone().merge_rule(rule),
            };
            if is_new {
                self.put_rule(&mut state, AccessRule::clone(rule));
            }
        }
        log_state(&state)
    }

    /// The number of the last entry, and each later number.
    pub(super) fn watch_numbers(&self) -> watch::Receiver<u64> {
        self.last_number.subscribe()
    }

    /// Deletes everything, as a restart of a shared store does.
    #[cfg(test)]
    pub(crate) fn forget_all(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.entries.clear();
        let instance_id = format!("{}+", state.position.instance_id).into();
        state.position = LogPosition {
            replication_id: format!("{}+", state.position.replication_id).into(),
            instance_id,
            entry_number: 1_000,
        };
        self.last_number.send_replace(1_000);
    }
}

fn log_state(state: &MemoryLogState) -> LogState {
    LogState { position: state.position.clone(), now_ms: clock::now_ms() }
}
