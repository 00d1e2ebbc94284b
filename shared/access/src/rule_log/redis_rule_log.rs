//! The access rules in Redis: one script call for each operation, on keys with one hash tag.
//!
//! Owns: the scripts in `lua/`, their arguments and replies. Must not: decide which rule wins; the
//! scripts and `access_rule` do.

use std::{sync::Arc, time::Duration};

use redis::{Value, from_redis_value};
use signalbox_redis::{
    InterruptionClock, RedisClient, RedisScript, RedisUnavailable, ReplyReader, ScriptCall, redis_keys,
};

use super::{LogPosition, LogState, LogUpdate, POLL_INTERVAL, RuleChange, RuleLogEntry, RuleWriteResult};
use crate::{
    access_rule::{AccessRule, MAX_RULE_LIFE_MS, RuleTerms},
    notice::Notice,
    rule_key::RuleKey,
};

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
}

impl RedisRuleLog {
    /// A log over the client of the process. Announces the scripts; does not wait for Redis. No
    /// rule is known until Redis answers.
    pub fn new(client: Arc<RedisClient>) -> Self {
        client.load_scripts(&[&WRITE_RULE, &RESTORE_RULES, &APPEND_NOTICE, &POLL_ENTRIES, &LOAD_RULES]);
        Self { client }
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
        script: &'static RedisScript,
        args: impl IntoIterator<Item = String>,
    ) -> Result<ReplyReader, RedisUnavailable> {
        let mut call = ScriptCall::on_key(redis_keys::RULES_KEY.to_owned());
        call.add_key(redis_keys::RULE_ENDS_KEY.to_owned()).add_key(redis_keys::RULE_LOG_KEY.to_owned());
        args.into_iter().for_each(|arg| _ = call.add_arg(arg));
        Ok(ReplyReader::new(self.client.run_script(script, &call).await?))
    }

    pub(super) async fn write_rule(
        &self,
        change: &RuleChange,
        max_rules: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let life = change.life_ms.min(MAX_RULE_LIFE_MS).to_string();
        let max_rules = if change.key.is_singleton() { 0 } else { max_rules.max(1) };
        self.run_write(&change.key, life, &change.terms, max_rules).await
    }

    pub(super) async fn lift_rule(
        &self,
        key: &RuleKey,
        terms: &RuleTerms,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        self.run_write(key, String::new(), terms, 0).await
    }

    async fn run_write(
        &self,
        key: &RuleKey,
        life: String,
        terms: &RuleTerms,
        max_rules: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let (key, terms) = (key.to_string(), serde_json::to_string(terms).unwrap_or_default());
        let args = [key.clone(), life, terms, max_rules.to_string()];
        let mut reply = self.run_script(&WRITE_RULE, args).await?;
        let outcome = reply.next_text().ok_or(RedisUnavailable)?;
        read_log_state(&mut reply)?;
        match outcome.as_str() {
            "ok" => {
                let rule = reply.next_text().and_then(|text| AccessRule::parse(&key, &text));
                rule.map(RuleWriteResult::Written).ok_or(RedisUnavailable)
            }
            "full" => Ok(RuleWriteResult::TooManyRules),
            _ => Ok(RuleWriteResult::NoSuchRule),
        }
    }

    pub(super) async fn append_notice(&self, notice: &Notice) -> Result<(), RedisUnavailable> {
        let notice = serde_json::to_string(notice).unwrap_or_default();
        self.run_script(&APPEND_NOTICE, [notice]).await.map(drop)
    }

    pub(super) async fn poll_entries(
        &self,
        known: &LogPosition,
    ) -> Result<(LogState, LogUpdate), RedisUnavailable> {
        let args =
            [known.replication_id.to_string(), known.instance_id.to_string(), known.entry_number.to_string()];
        let mut reply = self.run_script(&POLL_ENTRIES, args).await?;
        let outcome = reply.next_text().ok_or(RedisUnavailable)?;
        let state = read_log_state(&mut reply)?;
        let update = match outcome.as_str() {
            "same" => LogUpdate::Unchanged,
            "behind" => LogUpdate::TooFarBehind,
            "more" => {
                let entries = std::iter::from_fn(|| reply.next_value());
                LogUpdate::NewEntries(entries.map(read_entry).collect())
            }
            _ => LogUpdate::DifferentLog,
        };
        Ok((state, update))
    }

    pub(super) async fn load_rules(&self) -> Result<(LogState, Vec<AccessRule>), RedisUnavailable> {
        let mut reply = self.run_script(&LOAD_RULES, []).await?;
        let state = read_log_state(&mut reply)?;
        let mut rules = Vec::new();
        while let (Some(field), Some(value)) = (reply.next_text(), reply.next_text()) {
            if !field.starts_with(':') {
                match AccessRule::parse(&field, &value) {
                    Some(rule) => rules.push(rule),
                    None => {
                        tracing::warn!(event = "rule_unknown", "a rule of another release is ignored")
                    }
                }
            }
        }
        Ok((state, rules))
    }

    pub(super) async fn restore_rules(
        &self,
        rules: &[Arc<AccessRule>],
    ) -> Result<LogState, RedisUnavailable> {
        let mut last = None::<LogState>;
        for batch in rules.chunks(MAX_RESTORE_BATCH) {
            let pairs = batch.iter().flat_map(|rule| [rule.key.to_string(), rule.to_stored_text()]);
            let state = read_log_state(&mut self.run_script(&RESTORE_RULES, pairs).await?)?;
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

/// Reads `t` and a time, then `k` and `v` of a rule, or `w` of a notice.
fn read_entry(value: Value) -> RuleLogEntry {
    let fields: Vec<String> = from_redis_value(value).unwrap_or_default();
    let found = match fields.get(2..).unwrap_or_default() {
        [_, key, _, value] => AccessRule::parse(key, value).map(RuleLogEntry::Rule),
        [_, notice] => serde_json::from_str(notice).ok().map(RuleLogEntry::Notice),
        _ => None,
    };
    found.unwrap_or(RuleLogEntry::Unknown)
}
