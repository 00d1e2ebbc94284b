//! Events and dead letters in Redis: one lease, one stream, one hash and one stream of dead letters for each partition.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use redis::{FromRedisValue as _, Value};
use signalbox_redis::Unavailable;
use signalbox_redis::keys;

use super::{
    event::EntryId,
    schedule::Effects,
    store::{Asked, DeadLetter, Found, Letter, Polled, Recorded},
};
use crate::link::{ScriptId, SharedLink};

/// Most entries of one partition in one answer.
const PAGE: usize = 256;
/// Partitions in one script, so that it holds nobody up for long.
const AT_ONCE: usize = 32;

/// How long things are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) lease_ms: u64,
    pub(super) events: usize,
    pub(super) events_ms: u64,
    pub(super) dead: u32,
    pub(super) dead_ms: u64,
}

/// See the module.
pub(super) struct RedisStore {
    pub(super) link: SharedLink,
    pub(super) me: String,
    pub(super) kept: Kept,
}

fn args(values: impl IntoIterator<Item = String>) -> Vec<Vec<u8>> {
    values.into_iter().map(String::into_bytes).collect()
}

impl RedisStore {
    pub(super) async fn poll(&self, asked: &[Asked]) -> Result<Polled, Unavailable> {
        let at_once = if self.link.is_cluster() { 1 } else { AT_ONCE };
        let parts = asked.chunks(at_once).map(|part| self.poll_some(part));
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }

    async fn poll_some(&self, asked: &[Asked]) -> Result<Polled, Unavailable> {
        let Some(first) = asked.first() else { return Ok(vec![]) };
        let of = |asked: &Asked| {
            let p = asked.partition;
            [keys::hooks_lease(p), keys::hooks(p), keys::hooks_state(p)]
        };
        let keys: Vec<String> = asked.iter().flat_map(of).collect();
        let mut values = vec![self.me.clone(), self.kept.lease_ms.to_string(), PAGE.to_string()];
        for asked in asked {
            values.push(asked.after.map_or("-".to_owned(), |after| after.to_string()));
            values.push(u8::from(asked.is_new).to_string());
        }
        let reply = self.link.script(first.partition, ScriptId::Poll, &keys, &args(values)).await?;
        let (lineage, found) = read_poll(reply).ok_or(Unavailable)?;
        let found = asked.iter().zip(found).map(|(asked, found)| (*asked, lineage.clone(), found));
        Ok(found.collect())
    }

    pub(super) async fn finish(
        &self,
        p: usize,
        effects: &Effects,
        endpoints: &[String],
    ) -> Result<Option<u64>, Unavailable> {
        let keys = [keys::hooks_lease(p), keys::hooks(p), keys::hooks_state(p), keys::hooks_dead(p)];
        let kept = &self.kept;
        let mut values = vec![
            self.me.clone(),
            kept.events_ms.to_string(),
            kept.dead.to_string(),
            kept.dead_ms.to_string(),
        ];
        values.push(effects.dead.len().to_string());
        for dead in &effects.dead {
            values.extend([dead.endpoint.clone(), dead.cause.word().to_owned(), dead.attempts.to_string()]);
            values.extend([dead.last.clone(), dead.line.to_string()]);
        }
        values.push(effects.progress.len().to_string());
        for ((entry, endpoint), attempts) in &effects.progress {
            values.push(format!("{entry} {endpoint}"));
            values.push(attempts.map_or("d".to_owned(), |attempts| attempts.to_string()));
        }
        values.push((effects.finished.len() * endpoints.len()).to_string());
        let of = |entry: &EntryId| {
            endpoints.iter().map(move |endpoint| format!("{entry} {endpoint}")).collect::<Vec<_>>()
        };
        values.extend(effects.finished.iter().flat_map(of));
        values.push(effects.finished.len().to_string());
        values.extend(effects.finished.iter().map(EntryId::to_string));
        let reply = self.link.script(p, ScriptId::Finish, &keys, &args(values)).await?;
        let gone = i64::from_redis_value(reply).map_err(|_| Unavailable)?;
        Ok(u64::try_from(gone).ok())
    }

    pub(super) async fn restore(&self, p: usize, events: &[Recorded]) -> Result<(), Unavailable> {
        for part in events.chunks(PAGE) {
            let own = part.iter().map(|event| (format!("x{}", event.entry), &event.line, event.only.clone()));
            self.put(p, own).await?;
        }
        Ok(())
    }

    async fn put<'a>(
        &self,
        p: usize,
        events: impl Iterator<Item = (String, &'a Arc<str>, Option<String>)>,
    ) -> Result<usize, Unavailable> {
        let mut values = vec![self.kept.events.to_string(), self.kept.events_ms.to_string()];
        for (id, line, only) in events {
            values.extend([id, line.to_string(), only.unwrap_or_default()]);
        }
        let keys = [keys::hooks(p), keys::hooks_dead(p)];
        let reply = self.link.script(p, ScriptId::Put, &keys, &args(values)).await?;
        usize::from_redis_value(reply).map_err(|_| Unavailable)
    }

    pub(super) async fn release(&self, partitions: &[usize]) {
        let at_once = if self.link.is_cluster() { 1 } else { partitions.len().max(1) };
        let parts = partitions.chunks(at_once).map(|part| async move {
            let keys: Vec<String> = part.iter().map(|p| keys::hooks_lease(*p)).collect();
            // They end by themselves, should this fail.
            let _ = self.link.script(part[0], ScriptId::Release, &keys, &args([self.me.clone()])).await;
        });
        join_all(parts).await;
    }

    pub(super) async fn dead(
        &self,
        partition: usize,
        after: Option<EntryId>,
        most: usize,
    ) -> Result<Vec<Letter>, Unavailable> {
        let mut cmd = redis::cmd("XRANGE");
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        cmd.arg(keys::hooks_dead(partition)).arg(from).arg("+").arg("COUNT").arg(most);
        let reply = self.link.call(partition, &cmd).await?;
        let found = Vec::<(String, Vec<String>)>::from_redis_value(reply).map_err(|_| Unavailable)?;
        let oldest = self.link.now_ms().saturating_sub(self.kept.dead_ms);
        let letters = found.into_iter().filter_map(|(id, fields)| {
            let entry = EntryId::parse(&id).filter(|entry| entry.0 >= oldest)?;
            Some(Letter { partition, entry, dead: read_dead(&fields)? })
        });
        Ok(letters.collect())
    }

    pub(super) async fn replay(&self, partition: usize, letters: &[Letter]) -> Result<usize, Unavailable> {
        let mut count = 0;
        for part in letters.chunks(PAGE) {
            let own = part.iter().map(|letter| {
                (letter.entry.to_string(), &letter.dead.line, Some(letter.dead.endpoint.clone()))
            });
            count += self.put(partition, own).await?;
        }
        Ok(count)
    }
}

fn read_dead(fields: &[String]) -> Option<DeadLetter> {
    let field =
        |name: &str| fields.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1).cloned());
    Some(DeadLetter {
        endpoint: field("e")?,
        cause: field("c")?,
        attempts: field("n")?.parse().ok()?,
        last: field("l")?,
        line: field("d")?.into(),
    })
}

fn read_poll(reply: Value) -> Option<(Arc<str>, Vec<Option<Found>>)> {
    let Value::Array(parts) = reply else { return None };
    let mut parts = parts.into_iter();
    let lineage = String::from_redis_value(parts.next()?).ok()?.into();
    let found = parts.map(|part| match part {
        Value::Int(_) => Some(None),
        part => read_found(part).map(Some),
    });
    Some((lineage, found.collect::<Option<_>>()?))
}

type Raw = (usize, u8, u64, Vec<(String, String, String)>, Vec<String>);

fn read_found(part: Value) -> Option<Found> {
    let (count, was_free, lost, entries, progress) = Raw::from_redis_value(part).ok()?;
    let entries = entries.into_iter().map(|(id, line, only)| {
        let only = Some(only).filter(|only| !only.is_empty());
        Some(Recorded { entry: EntryId::parse(&id)?, line: line.into(), only })
    });
    let progress = progress.chunks(2).filter_map(|pair| match pair {
        [field, value] => Some((field.clone(), value.parse().ok())),
        _ => None,
    });
    Some(Found {
        count,
        was_free: was_free == 1,
        lost,
        entries: entries.collect::<Option<_>>()?,
        progress: progress.collect(),
    })
}
