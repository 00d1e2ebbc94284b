//! The access rules in Redis: one script call for each operation, on keys with one hash tag.
//!
//! Owns: the scripts in `lua/`, their arguments and replies, and the date of a rule: the writer dates
//! and signs a rule, and the script accepts only a date of now. Must not: decide which rule wins (the
//! scripts and `access_rule` do), or which rule is authentic (`rule_proof`).

use std::{sync::Arc, time::Duration};

use redis::{Value, from_redis_value};
use signalbox_redis::{
    InterruptionClock, KeyCommand, RedisClient, RedisCommand, RedisScript, RedisUnavailable, ReplyReader,
    ScriptCall, redis_keys, value_text,
};

use super::{
    LogPosition, LogState, LogUpdate, POLL_INTERVAL, RuleChange, RuleLogEntry, RuleProof, RuleRepair,
    RuleSet, RuleWriteResult, StoredRules,
};
use crate::{
    access_rule::{AccessRule, MAX_RULE_LIFE_MS, RuleTerms},
    access_rules::AccessRules,
    notice::Notice,
    rule_key::RuleKey,
};

/// How far a rule is dated ahead of the estimated time of the store, ms, so that it is not dated
/// before its write: at the first attempt and, while Redis answers slowly, at the last ones. The
/// script accepts a second.
const FIRST_LEAD_MS: u64 = 25;
const MAX_LEAD_MS: u64 = 800;

/// The number of attempts to write a rule while another process writes one with the same key.
const MAX_WRITE_ATTEMPTS: usize = 8;

/// The number of signatures that are verified before other tasks of the thread have their turn.
const VERIFY_BATCH: usize = 32;

/// The largest number of rules that one call restores, so that the server serves others in between.
const MAX_RESTORE_BATCH: usize = 256;

/// A script that writes. A full server must execute it, so that a revocation has effect.
const fn writing_script(lua: &'static str) -> RedisScript {
    RedisScript::new(lua).with_common(include_str!("lua/common.lua")).with_flags("allow-oom")
}

/// A script that reads. A server that refuses writes for now still executes it.
const fn reading_script(lua: &'static str) -> RedisScript {
    RedisScript::new(lua).with_common(include_str!("lua/common.lua")).with_flags("no-writes,allow-oom")
}

static WRITE_RULE: RedisScript = writing_script(include_str!("lua/write_rule.lua"));
static RESTORE_RULES: RedisScript = writing_script(include_str!("lua/restore_rules.lua"));
static APPEND_NOTICE: RedisScript = writing_script(include_str!("lua/append_notice.lua"));
static POLL_ENTRIES: RedisScript = reading_script(include_str!("lua/poll_entries.lua"));
static LOAD_RULES: RedisScript = reading_script(include_str!("lua/load_rules.lua"));

/// See the module.
pub struct RedisRuleLog {
    client: Arc<RedisClient>,
    proof: RuleProof,
}

/// The keys of a set: rules, their ends, log.
const fn keys_of(set: RuleSet) -> [&'static str; 3] {
    match set {
        RuleSet::Auth => [redis_keys::RULES_KEY, redis_keys::RULE_ENDS_KEY, redis_keys::RULE_LOG_KEY],
        RuleSet::Node => {
            [redis_keys::NODE_RULES_KEY, redis_keys::NODE_RULE_ENDS_KEY, redis_keys::NODE_RULE_LOG_KEY]
        }
    }
}

impl RedisRuleLog {
    /// A log over the client of the process. Announces the scripts; does not wait for Redis. No
    /// rule is known until Redis answers.
    pub fn new(client: Arc<RedisClient>, proof: RuleProof) -> Self {
        client.load_scripts(&[&WRITE_RULE, &RESTORE_RULES, &APPEND_NOTICE, &POLL_ENTRIES, &LOAD_RULES]);
        Self { client, proof }
    }

    pub(super) fn own_set(&self) -> RuleSet {
        self.proof.own_set()
    }

    pub(super) fn interruption_clock(&self) -> InterruptionClock {
        self.client.interruption_clock()
    }

    /// How much later than this process another one may find a server that was lost: its longest
    /// wait between two attempts to connect, and the polls after it.
    pub(super) fn restore_wait(&self) -> Duration {
        self.client.max_reconnect_wait() + 3 * POLL_INTERVAL
    }

    async fn run_script(
        &self,
        set: RuleSet,
        script: &'static RedisScript,
        args: impl IntoIterator<Item = String>,
    ) -> Result<ReplyReader, RedisUnavailable> {
        let [rules, ends, log] = keys_of(set).map(str::to_owned);
        let mut call = ScriptCall::on_key(rules);
        call.add_key(ends).add_key(log);
        args.into_iter().for_each(|arg| _ = call.add_arg(arg));
        Ok(ReplyReader::new(self.client.run_script(script, &call).await?))
    }

    pub(super) async fn write_rule(
        &self,
        change: &RuleChange,
        max_rules: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let life_ms = change.life_ms.min(MAX_RULE_LIFE_MS);
        let max_rules = if change.key.is_singleton() { 0 } else { max_rules.max(1) };
        let build = |written_at: u64, old: Option<&AccessRule>| {
            let mut rule = AccessRule::new(change.key.clone(), written_at, life_ms, change.terms.clone());
            rule.remembered_until = old.map_or(0, |old| old.remembered_until).max(rule.in_force_until);
            Some(rule)
        };
        self.run_write(&change.key, String::new(), max_rules, build).await
    }

    /// `held` is the rule of a node that this process holds.
    pub(super) async fn lift_rule(
        &self,
        key: &RuleKey,
        terms: &RuleTerms,
        held: Option<&AccessRule>,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let build = |written_at: u64, old: Option<&AccessRule>| {
            let old = old.filter(|old| old.is_in_force(written_at));
            let held = held.filter(|held| held.is_in_force(written_at));
            let written_at = written_at.max(held.map_or(0, |held| held.written_at + 1));
            let mut lifted = old.or(held)?.to_lifted(written_at, terms.clone());
            lifted.is_from_node = false;
            Some(lifted)
        };
        let [rules, ..] = keys_of(self.own_set());
        let get = KeyCommand::new(RedisCommand::HGet, rules).arg(key.to_string());
        let stored = value_text(self.client.run_command(&get).await?).unwrap_or_default();
        self.run_write(key, stored, 0, build).await
    }

    /// Writes the rule that `build` makes of its date and of the stored rule. `expected` is the text
    /// that is stored, as far as this process knows.
    async fn run_write(
        &self,
        key: &RuleKey,
        mut expected: String,
        max_rules: usize,
        build: impl Fn(u64, Option<&AccessRule>) -> Option<AccessRule>,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let (key_text, mut now_ms) = (key.to_string(), self.client.now_ms());
        for attempt in 0..MAX_WRITE_ATTEMPTS {
            let lead_ms = (FIRST_LEAD_MS << attempt).min(MAX_LEAD_MS);
            let old = AccessRule::parse(&key_text, &expected)
                .filter(|old| self.proof.is_authentic(self.own_set(), old, now_ms));
            let written_at = (now_ms + lead_ms).max(old.as_ref().map_or(0, |old| old.written_at + 1));
            let Some(rule) = build(written_at, old.as_ref()) else {
                return Ok(RuleWriteResult::NoSuchRule);
            };
            let rule = self.proof.sign(rule).ok_or(RedisUnavailable)?;
            let args = [key_text.clone(), rule.to_stored_text(), expected, max_rules.to_string()];
            let mut reply = self.run_script(self.own_set(), &WRITE_RULE, args).await?;
            let outcome = reply.next_text().ok_or(RedisUnavailable)?;
            now_ms = read_log_state(&mut reply)?.now_ms;
            match outcome.as_str() {
                "ok" => return Ok(RuleWriteResult::Written(Box::new(rule))),
                "full" => return Ok(RuleWriteResult::TooManyRules),
                _ => expected = reply.next_text().ok_or(RedisUnavailable)?,
            }
        }
        Err(RedisUnavailable)
    }

    pub(super) fn sign_again(&self, rule: &AccessRule) -> Option<AccessRule> {
        if self.proof.needs_new_signature(rule) { self.proof.sign(rule.clone()) } else { None }
    }

    pub(super) async fn append_notice(&self, notice: &Notice) -> Result<(), RedisUnavailable> {
        let notice = serde_json::to_string(notice).unwrap_or_default();
        self.run_script(self.own_set(), &APPEND_NOTICE, [notice]).await.map(drop)
    }

    pub(super) async fn poll_entries(
        &self,
        set: RuleSet,
        known: &LogPosition,
    ) -> Result<(LogState, LogUpdate), RedisUnavailable> {
        let args =
            [known.replication_id.to_string(), known.instance_id.to_string(), known.entry_number.to_string()];
        let mut reply = self.run_script(set, &POLL_ENTRIES, args).await?;
        let outcome = reply.next_text().ok_or(RedisUnavailable)?;
        let state = read_log_state(&mut reply)?;
        let update = match outcome.as_str() {
            "same" => LogUpdate::Unchanged,
            "behind" => LogUpdate::TooFarBehind,
            "more" => {
                let entries = std::iter::from_fn(|| reply.next_value());
                LogUpdate::NewEntries(
                    entries.map(|entry| self.read_entry(set, entry, state.now_ms)).collect(),
                )
            }
            _ => LogUpdate::DifferentLog,
        };
        Ok((state, update))
    }

    pub(super) async fn load_rules(
        &self,
        set: RuleSet,
        held: &AccessRules,
    ) -> Result<(LogState, StoredRules), RedisUnavailable> {
        if !self.proof.can_verify() {
            // Every rule would seem to be forged. The next poll tries again.
            return Err(RedisUnavailable);
        }
        let mut reply = self.run_script(set, &LOAD_RULES, []).await?;
        let state = read_log_state(&mut reply)?;
        let (mut stored, mut verified) = (StoredRules::default(), 0);
        while let (Some(field), Some(value)) = (reply.next_text(), reply.next_text()) {
            if field.starts_with(':') {
                continue;
            }
            let rule = AccessRule::parse(&field, &value);
            let is_held =
                |rule: &AccessRule| held.counterpart(rule).is_some_and(|held| held.is_same_record(rule));
            match rule {
                Some(rule) if is_held(&rule) => stored.rules.push(rule),
                Some(rule) if self.proof.is_authentic(set, &rule, state.now_ms) => stored.rules.push(rule),
                _ => stored.rejected.push((field, value)),
            }
            verified += 1;
            if verified % VERIFY_BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok((state, stored))
    }

    pub(super) async fn restore_rules(&self, repairs: &[RuleRepair]) -> Result<LogState, RedisUnavailable> {
        let mut last = None::<LogState>;
        for batch in repairs.chunks(MAX_RESTORE_BATCH) {
            let texts = batch.iter().flat_map(|RuleRepair { rule, replaced }| {
                [rule.key.to_string(), rule.to_stored_text(), replaced.clone()]
            });
            let state = read_log_state(&mut self.run_script(self.own_set(), &RESTORE_RULES, texts).await?)?;
            // Another log: the server has also forgotten the batches before this one.
            if last.is_some_and(|last| {
                last.position.replication_id != state.position.replication_id
                    || last.position.instance_id != state.position.instance_id
            }) {
                return Err(RedisUnavailable);
            }
            last = Some(state);
        }
        last.ok_or(RedisUnavailable)
    }

    /// Reads `t` and a time, then `k` and `v` of a rule, or `w` of a notice.
    fn read_entry(&self, set: RuleSet, value: Value, now_ms: u64) -> RuleLogEntry {
        let fields: Vec<String> = from_redis_value(value).unwrap_or_default();
        let found = match fields.get(2..).unwrap_or_default() {
            [_, key, _, value] => AccessRule::parse(key, value)
                .filter(|rule| self.proof.is_authentic(set, rule, now_ms))
                .map(RuleLogEntry::Rule),
            // A node writes no notice.
            [_, notice] if set == RuleSet::Auth => {
                serde_json::from_str(notice).ok().map(RuleLogEntry::Notice)
            }
            _ => None,
        };
        found.unwrap_or(RuleLogEntry::Rejected)
    }
}

/// Reads replication id, time, instance id and number: the state of the log.
fn read_log_state(reply: &mut ReplyReader) -> Result<LogState, RedisUnavailable> {
    read_state_fields(reply).ok_or(RedisUnavailable)
}

fn read_state_fields(reply: &mut ReplyReader) -> Option<LogState> {
    let (replication_id, now_ms) = (reply.next_text()?.into(), reply.next_number()?);
    let (instance_id, entry_number) = (reply.next_text()?.into(), reply.next_number()?);
    Some(LogState { position: LogPosition { replication_id, instance_id, entry_number }, now_ms })
}
