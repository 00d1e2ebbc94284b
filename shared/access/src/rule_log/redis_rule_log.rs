//! The rules in Redis: one script call each, on keys of one tag.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{FromRedisValue, Script, Value, from_redis_value};
use signalbox_config as config;
use signalbox_redis::redis_keys;
use signalbox_redis::{RedisClient, RedisStartError, RedisTarget, RedisUnavailable};

use super::{LogPosition, LogState, LogUpdate, RuleChange, RuleLogEntry, RuleWriteResult};
use crate::{AccessRule, MAX_RULE_LIFE_MS, POLL_INTERVAL, RuleKey, RuleTerms};

/// Most rules that are written back in one call: a server serves others between two.
const MAX_RESTORE_BATCH: usize = 256;

/// Before another attempt to connect.
const CONNECT_RETRY_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum RuleScriptId {
    WriteRule,
    RestoreRules,
    AppendNotice,
    PollEntries,
    LoadRules,
}

/// The scripts, to be loaded on a link in this order. What is taken back must be taken when Redis is full.
pub fn rule_scripts() -> Vec<Script> {
    const COMMON_LUA: &str = include_str!("lua/common.lua");
    const WRITE_FLAGS: &str = "allow-oom";
    /// A server that takes no writes for now still tells.
    const READ_FLAGS: &str = "no-writes,allow-oom";
    let texts = [
        (WRITE_FLAGS, include_str!("lua/write_rule.lua")),
        (WRITE_FLAGS, include_str!("lua/restore_rules.lua")),
        (WRITE_FLAGS, include_str!("lua/append_notice.lua")),
        (READ_FLAGS, include_str!("lua/poll_entries.lua")),
        (READ_FLAGS, include_str!("lua/load_rules.lua")),
    ];
    texts
        .iter()
        .map(|(flags, own)| Script::new(&format!("#!lua flags={flags}\n{COMMON_LUA}\n{own}")))
        .collect()
}

/// A link that may come later.
pub type PendingClient = Arc<OnceLock<Arc<RedisClient>>>;

/// See the module.
pub struct RedisRuleLog {
    client: PendingClient,
    /// The place of the first script on the link.
    first_script: usize,
}

impl RedisRuleLog {
    /// Over a link whose scripts, from `first` on, are [`scripts`].
    pub fn with_client(link: Arc<RedisClient>, first_script: usize) -> Self {
        Self { client: Arc::new(OnceLock::from(link)), first_script }
    }

    /// Over a link of its own, which is opened when Redis answers: until then nothing is known.
    ///
    /// # Errors
    /// A URL or certificates that will not do.
    pub fn connect_in_background(
        url: &str,
        settings: &config::RedisSettings,
    ) -> Result<Self, RedisStartError> {
        RedisTarget::new(url, settings)?;
        let connection = PendingClient::default();
        let (weak, url, settings) = (Arc::downgrade(&connection), url.to_owned(), settings.clone());
        let keep_trying = move || {
            let mut told = false;
            while let Some(connection) = weak.upgrade() {
                match RedisClient::connect(&url, &settings, rule_scripts()) {
                    Ok(link) => return drop(connection.set(link)),
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        tracing::warn!(event = "control_away", %error, "the rules are not known until Redis answers");
                    }
                    Err(_) => {}
                }
                drop(connection);
                std::thread::sleep(CONNECT_RETRY_WAIT);
            }
        };
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(keep_trying)
            .map_err(RedisStartError::Thread)?;
        Ok(Self { client: connection, first_script: 0 })
    }

    pub(super) fn time_since_interruption(&self) -> Option<Duration> {
        self.client.get().map(|link| link.time_since_interruption())
    }

    /// How long after this process others may find a store that was away: the longest wait between two attempts of theirs, and the looks that
    /// follow it.
    pub(super) fn restore_wait(&self) -> Duration {
        self.client.get().map_or(Duration::ZERO, |link| link.max_reconnect_wait() + 3 * POLL_INTERVAL)
    }

    async fn run_script(
        &self,
        script: RuleScriptId,
        args: &[Vec<u8>],
    ) -> Result<RuleReplyReader, RedisUnavailable> {
        let keys =
            [redis_keys::RULES_KEY, redis_keys::RULE_ENDS_KEY, redis_keys::RULE_LOG_KEY].map(str::to_owned);
        let link = self.client.get().ok_or(RedisUnavailable)?;
        let value = link.run_key_script(self.first_script + script as usize, &keys, args).await?;
        match value {
            Value::Array(values) => Ok(RuleReplyReader(values.into_iter())),
            _ => Err(RedisUnavailable),
        }
    }

    pub(super) async fn write_rule(
        &self,
        change: &RuleChange,
        most: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let life = change.life_ms.min(MAX_RULE_LIFE_MS).to_string();
        let most = if change.key.is_singleton() { 0 } else { most.max(1) };
        self.run_write(&change.key, life, &change.terms, most).await
    }

    pub(super) async fn lift_rule(
        &self,
        key: &RuleKey,
        by: &RuleTerms,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        self.run_write(key, String::new(), by, 0).await
    }

    async fn run_write(
        &self,
        key: &RuleKey,
        life: String,
        terms: &RuleTerms,
        most: usize,
    ) -> Result<RuleWriteResult, RedisUnavailable> {
        let (key, terms) = (key.to_string(), serde_json::to_string(terms).unwrap_or_default());
        let args = [key.clone(), life, terms, most.to_string()].map(String::into_bytes);
        let mut reply = self.run_script(RuleScriptId::WriteRule, &args).await?;
        let outcome: String = reply.next_value()?;
        reply.next_log_state()?;
        match outcome.as_str() {
            "ok" => AccessRule::parse(&key, &reply.next_value::<String>()?)
                .map(RuleWriteResult::Written)
                .ok_or(RedisUnavailable),
            "full" => Ok(RuleWriteResult::TooManyRules),
            _ => Ok(RuleWriteResult::NoSuchRule),
        }
    }

    pub(super) async fn append_notice(&self, word: &crate::Notice) -> Result<(), RedisUnavailable> {
        let word = serde_json::to_vec(word).unwrap_or_default();
        self.run_script(RuleScriptId::AppendNotice, &[word]).await.map(drop)
    }

    pub(super) async fn poll_entries(
        &self,
        place: &LogPosition,
    ) -> Result<(LogState, LogUpdate), RedisUnavailable> {
        let args = [&*place.replication_id, &*place.instance_id, &*place.entry_number.to_string()]
            .map(|text| text.into());
        let mut reply = self.run_script(RuleScriptId::PollEntries, &args).await?;
        let outcome: String = reply.next_value()?;
        let at = reply.next_log_state()?;
        let news = match outcome.as_str() {
            "same" => LogUpdate::Unchanged,
            "behind" => LogUpdate::TooFarBehind,
            "more" => LogUpdate::NewEntries(reply.0.map(read_entry).collect()),
            _ => LogUpdate::DifferentLog,
        };
        Ok((at, news))
    }

    pub(super) async fn load_rules(&self) -> Result<(LogState, Vec<AccessRule>), RedisUnavailable> {
        let mut reply = self.run_script(RuleScriptId::LoadRules, &[]).await?;
        let at = reply.next_log_state()?;
        let mut rules = Vec::new();
        while let (Ok(field), Ok(value)) = (reply.next_value::<String>(), reply.next_value::<String>()) {
            if !field.starts_with(':') {
                match AccessRule::parse(&field, &value) {
                    Some(rule) => rules.push(rule),
                    None => {
                        tracing::warn!(event = "rule_unknown", "a rule of another release is not followed")
                    }
                }
            }
        }
        Ok((at, rules))
    }

    pub(super) async fn restore_rules(
        &self,
        rules: &[Arc<AccessRule>],
    ) -> Result<LogState, RedisUnavailable> {
        let mut last = None::<LogState>;
        for some in rules.chunks(MAX_RESTORE_BATCH) {
            let pairs = some.iter().flat_map(|rule| [rule.key.to_string(), rule.to_stored_text()]);
            let args: Vec<_> = pairs.map(String::into_bytes).collect();
            let at = self.run_script(RuleScriptId::RestoreRules, &args).await?.next_log_state()?;
            // It has forgotten again, what was written a moment ago too.
            if last.is_some_and(|last| {
                last.position.replication_id != at.position.replication_id
                    || last.position.instance_id != at.position.instance_id
            }) {
                return Err(RedisUnavailable);
            }
            last = Some(at);
        }
        last.ok_or(RedisUnavailable)
    }
}

struct RuleReplyReader(std::vec::IntoIter<Value>);

impl RuleReplyReader {
    fn next_value<T: FromRedisValue>(&mut self) -> Result<T, RedisUnavailable> {
        self.0.next().and_then(|value| from_redis_value(value).ok()).ok_or(RedisUnavailable)
    }

    fn next_log_state(&mut self) -> Result<LogState, RedisUnavailable> {
        let (lineage, now_ms): (String, u64) = (self.next_value()?, self.next_value()?);
        let (life, number): (String, u64) = (self.next_value()?, self.next_value()?);
        Ok(LogState {
            position: LogPosition {
                replication_id: lineage.into(),
                instance_id: life.into(),
                entry_number: number,
            },
            now_ms,
        })
    }
}

/// `t`, when; then `k` and `v`, a rule, or `w`, a word.
fn read_entry(value: Value) -> RuleLogEntry {
    let fields: Vec<String> = from_redis_value(value).unwrap_or_default();
    let found = match fields.get(2..).unwrap_or_default() {
        [_, key, _, value] => AccessRule::parse(key, value).map(RuleLogEntry::Rule),
        [_, word] => serde_json::from_str(word).ok().map(RuleLogEntry::Notice),
        _ => None,
    };
    found.unwrap_or(RuleLogEntry::Unknown)
}
