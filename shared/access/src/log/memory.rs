//! The rules of one process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::clock;
use tokio::sync::watch;

use super::{At, Change, ENTRIES, Entry, News, Place, Written};
use crate::{Rule, RuleKey, Terms, Word};

/// See the module.
pub struct MemoryLog {
    // A std mutex: held for one operation on the maps below.
    state: Mutex<State>,
    number: watch::Sender<u64>,
}

struct State {
    rules: BTreeMap<RuleKey, Rule>,
    latest: VecDeque<Entry>,
    place: Place,
}

impl Default for MemoryLog {
    fn default() -> Self {
        let place = Place { lineage: "memory".into(), life: "1".into(), number: 0 };
        Self {
            state: Mutex::new(State { rules: BTreeMap::new(), latest: VecDeque::new(), place }),
            number: watch::Sender::new(0),
        }
    }
}

impl MemoryLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn apply(&self, change: &Change, most: usize) -> Written {
        let now = clock::now_ms();
        let mut state = self.state();
        state.rules.retain(|_, rule| !rule.is_over(now));
        let old = state.rules.get(&change.key);
        if old.is_none() && !change.key.is_single() && state.rules.len() >= most {
            return Written::Full;
        }
        let at = old.map_or(now, |old| now.max(old.at + 1));
        let rule = Rule::new(change.key.clone(), at, change.life_ms, change.terms.clone());
        Written::Done(self.put(&mut state, rule))
    }

    pub(super) fn lift(&self, key: &RuleKey, by: &Terms) -> Written {
        let now = clock::now_ms();
        let mut state = self.state();
        match state.rules.get(key).filter(|rule| rule.is_in_force(now)) {
            None => Written::None,
            Some(old) => {
                let lifted = old.lifted_at(now.max(old.at + 1), by.clone());
                Written::Done(self.put(&mut state, lifted))
            }
        }
    }

    fn put(&self, state: &mut State, rule: Rule) -> Rule {
        let held = state.rules.entry(rule.key.clone()).or_insert_with(|| rule.clone());
        held.merge(&rule);
        let held = held.clone();
        self.note(state, Entry::Rule(held.clone()));
        held
    }

    fn note(&self, state: &mut State, entry: Entry) {
        state.place.number += 1;
        state.latest.push_back(entry);
        if state.latest.len() > ENTRIES {
            state.latest.pop_front();
        }
        self.number.send_replace(state.place.number);
    }

    pub(super) fn say(&self, word: &Word) {
        self.note(&mut self.state(), Entry::Word(word.clone()));
    }

    pub(super) fn poll(&self, known: &Place) -> (At, News) {
        let state = self.state();
        let here = &state.place;
        let same = known.lineage == here.lineage && known.life == here.life && known.number <= here.number;
        let missed = (here.number - known.number.min(here.number)) as usize;
        let news = match missed {
            _ if !same => News::Other,
            0 => News::Same,
            _ if missed > state.latest.len() => News::Behind,
            _ => News::More(state.latest.iter().skip(state.latest.len() - missed).cloned().collect()),
        };
        (at(&state), news)
    }

    pub(crate) fn load(&self) -> (At, Vec<Rule>) {
        let state = self.state();
        (at(&state), state.rules.values().cloned().collect())
    }

    pub(super) fn restore(&self, rules: &[Arc<Rule>]) -> At {
        let mut state = self.state();
        for rule in rules {
            let is_new = match state.rules.get(&rule.key) {
                None => true,
                Some(held) => held.clone().merge(rule),
            };
            if is_new {
                self.put(&mut state, Rule::clone(rule));
            }
        }
        at(&state)
    }

    /// The number of the last entry, and word of every further one.
    pub(super) fn numbers(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// As a restart of a shared store would: everything is gone.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.latest.clear();
        let life = format!("{}+", state.place.life).into();
        state.place = Place { lineage: format!("{}+", state.place.lineage).into(), life, number: 1_000 };
        self.number.send_replace(1_000);
    }
}

fn at(state: &State) -> At {
    At { place: state.place.clone(), now_ms: clock::now_ms() }
}
