//! The rules in Redis: one script call each, on keys of one tag.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use redis::{FromRedisValue, Script, Value, from_redis_value};
use signalbox_config as config;
use signalbox_redis::keys;
use signalbox_redis::{Link, StartError, Target, Unavailable};

use super::{At, Change, Entry, News, Place, Written};
use crate::{LONGEST_MS, POLL, Rule, RuleKey, Terms};

/// Most rules that are written back in one call: a server serves others between two.
const AT_ONCE: usize = 256;

/// Before another attempt to connect.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum ScriptId {
    Apply,
    Restore,
    Say,
    Poll,
    Load,
}

/// The scripts, to be loaded on a link in this order. What is taken back must be taken when Redis is full.
pub fn scripts() -> Vec<Script> {
    const SHARED: &str = include_str!("lua/control.lua");
    const WRITES: &str = "allow-oom";
    /// A server that takes no writes for now still tells.
    const READS: &str = "no-writes,allow-oom";
    let texts = [
        (WRITES, include_str!("lua/apply.lua")),
        (WRITES, include_str!("lua/restore.lua")),
        (WRITES, include_str!("lua/say.lua")),
        (READS, include_str!("lua/poll.lua")),
        (READS, include_str!("lua/load.lua")),
    ];
    texts.iter().map(|(flags, own)| Script::new(&format!("#!lua flags={flags}\n{SHARED}\n{own}"))).collect()
}

/// A link that may come later.
pub type Connection = Arc<OnceLock<Arc<Link>>>;

/// See the module.
pub struct RedisLog {
    connection: Connection,
    /// The place of the first script on the link.
    first: usize,
}

impl RedisLog {
    /// Over a link whose scripts, from `first` on, are [`scripts`].
    pub fn over(link: Arc<Link>, first: usize) -> Self {
        Self { connection: Arc::new(OnceLock::from(link)), first }
    }

    /// Over a link of its own, which is opened when Redis answers: until then nothing is known.
    ///
    /// # Errors
    /// A URL or certificates that will not do.
    pub fn later(url: &str, settings: &config::Redis) -> Result<Self, StartError> {
        Target::new(url, settings)?;
        let connection = Connection::default();
        let (weak, url, settings) = (Arc::downgrade(&connection), url.to_owned(), settings.clone());
        let keep_trying = move || {
            let mut told = false;
            while let Some(connection) = weak.upgrade() {
                match Link::connect(&url, &settings, scripts()) {
                    Ok(link) => return drop(connection.set(link)),
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        tracing::warn!(event = "control_away", %error, "the rules are not known until Redis answers");
                    }
                    Err(_) => {}
                }
                drop(connection);
                std::thread::sleep(AGAIN);
            }
        };
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(keep_trying)
            .map_err(StartError::Thread)?;
        Ok(Self { connection, first: 0 })
    }

    pub(super) fn since_disturbance(&self) -> Option<Duration> {
        self.connection.get().map(|link| link.since_disturbance())
    }

    /// How long after this process others may find a store that was away: the longest wait between two attempts of theirs, and the looks that
    /// follow it.
    pub(super) fn quiet(&self) -> Duration {
        self.connection.get().map_or(Duration::ZERO, |link| link.longest_wait() + 3 * POLL)
    }

    async fn call(&self, script: ScriptId, args: &[Vec<u8>]) -> Result<Reply, Unavailable> {
        let keys = [keys::RULES, keys::RULE_ENDS, keys::CONTROL_LOG].map(str::to_owned);
        let link = self.connection.get().ok_or(Unavailable)?;
        let value = link.script_key(self.first + script as usize, &keys, args).await?;
        match value {
            Value::Array(values) => Ok(Reply(values.into_iter())),
            _ => Err(Unavailable),
        }
    }

    pub(super) async fn apply(&self, change: &Change, most: usize) -> Result<Written, Unavailable> {
        let life = change.life_ms.min(LONGEST_MS).to_string();
        let most = if change.key.is_single() { 0 } else { most.max(1) };
        self.write(&change.key, life, &change.terms, most).await
    }

    pub(super) async fn lift(&self, key: &RuleKey, by: &Terms) -> Result<Written, Unavailable> {
        self.write(key, String::new(), by, 0).await
    }

    async fn write(
        &self,
        key: &RuleKey,
        life: String,
        terms: &Terms,
        most: usize,
    ) -> Result<Written, Unavailable> {
        let (key, terms) = (key.to_string(), serde_json::to_string(terms).unwrap_or_default());
        let args = [key.clone(), life, terms, most.to_string()].map(String::into_bytes);
        let mut reply = self.call(ScriptId::Apply, &args).await?;
        let outcome: String = reply.next()?;
        reply.place()?;
        match outcome.as_str() {
            "ok" => Rule::parse(&key, &reply.next::<String>()?).map(Written::Done).ok_or(Unavailable),
            "full" => Ok(Written::Full),
            _ => Ok(Written::None),
        }
    }

    pub(super) async fn say(&self, word: &crate::Word) -> Result<(), Unavailable> {
        let word = serde_json::to_vec(word).unwrap_or_default();
        self.call(ScriptId::Say, &[word]).await.map(drop)
    }

    pub(super) async fn poll(&self, place: &Place) -> Result<(At, News), Unavailable> {
        let args = [&*place.lineage, &*place.life, &*place.number.to_string()].map(|text| text.into());
        let mut reply = self.call(ScriptId::Poll, &args).await?;
        let outcome: String = reply.next()?;
        let at = reply.place()?;
        let news = match outcome.as_str() {
            "same" => News::Same,
            "behind" => News::Behind,
            "more" => News::More(reply.0.map(entry).collect()),
            _ => News::Other,
        };
        Ok((at, news))
    }

    pub(super) async fn load(&self) -> Result<(At, Vec<Rule>), Unavailable> {
        let mut reply = self.call(ScriptId::Load, &[]).await?;
        let at = reply.place()?;
        let mut rules = Vec::new();
        while let (Ok(field), Ok(value)) = (reply.next::<String>(), reply.next::<String>()) {
            if !field.starts_with(':') {
                match Rule::parse(&field, &value) {
                    Some(rule) => rules.push(rule),
                    None => {
                        tracing::warn!(event = "rule_unknown", "a rule of another release is not followed")
                    }
                }
            }
        }
        Ok((at, rules))
    }

    pub(super) async fn restore(&self, rules: &[Arc<Rule>]) -> Result<At, Unavailable> {
        let mut last = None::<At>;
        for some in rules.chunks(AT_ONCE) {
            let pairs = some.iter().flat_map(|rule| [rule.key.to_string(), rule.value()]);
            let args: Vec<_> = pairs.map(String::into_bytes).collect();
            let at = self.call(ScriptId::Restore, &args).await?.place()?;
            // It has forgotten again, what was written a moment ago too.
            if last.is_some_and(|last| {
                last.place.lineage != at.place.lineage || last.place.life != at.place.life
            }) {
                return Err(Unavailable);
            }
            last = Some(at);
        }
        last.ok_or(Unavailable)
    }
}

struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    fn next<T: FromRedisValue>(&mut self) -> Result<T, Unavailable> {
        self.0.next().and_then(|value| from_redis_value(value).ok()).ok_or(Unavailable)
    }

    fn place(&mut self) -> Result<At, Unavailable> {
        let (lineage, now_ms): (String, u64) = (self.next()?, self.next()?);
        let (life, number): (String, u64) = (self.next()?, self.next()?);
        Ok(At { place: Place { lineage: lineage.into(), life: life.into(), number }, now_ms })
    }
}

/// `t`, when; then `k` and `v`, a rule, or `w`, a word.
fn entry(value: Value) -> Entry {
    let fields: Vec<String> = from_redis_value(value).unwrap_or_default();
    let found = match fields.get(2..).unwrap_or_default() {
        [_, key, _, value] => Rule::parse(key, value).map(Entry::Rule),
        [_, word] => serde_json::from_str(word).ok().map(Entry::Word),
        _ => None,
    };
    found.unwrap_or(Entry::Unknown)
}
