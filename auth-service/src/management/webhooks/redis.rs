//! Events and dead letters in Redis: one lease, one stream, one hash and one stream of dead letters for each partition.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use redis::{FromRedisValue as _, Value};
use signalbox_redis::{RedisUnavailable, redis_keys};

use super::{
    contract::{DeadLetter, PartitionEvents, PartitionQuery, PollResults, RecordedEvent, StoredDeadLetter},
    delivery_schedule::PendingWrites,
    event::StreamEntryId,
};
use crate::management::redis_client::{LazyRedisClient, WebhookScript};

/// Most entries of one partition in one answer.
const READ_PAGE_SIZE: usize = 256;
/// Partitions in one script, so that it holds nobody up for long.
const PARTITIONS_PER_SCRIPT: usize = 32;

/// How long things are kept, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetentionLimits {
    pub(super) lease_ms: u64,
    pub(super) max_events: usize,
    pub(super) event_life_ms: u64,
    pub(super) max_dead_letters: u32,
    pub(super) dead_letter_life_ms: u64,
}

/// See the module.
pub(super) struct RedisWebhookStore {
    pub(super) client: LazyRedisClient,
    pub(super) lease_holder: String,
    pub(super) limits: RetentionLimits,
}

fn to_script_args(values: impl IntoIterator<Item = String>) -> Vec<Vec<u8>> {
    values.into_iter().map(String::into_bytes).collect()
}

impl RedisWebhookStore {
    pub(super) async fn poll(&self, asked: &[PartitionQuery]) -> Result<PollResults, RedisUnavailable> {
        let at_once = if self.client.is_cluster() { 1 } else { PARTITIONS_PER_SCRIPT };
        let parts = asked.chunks(at_once).map(|part| self.poll_partitions(part));
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }

    async fn poll_partitions(&self, asked: &[PartitionQuery]) -> Result<PollResults, RedisUnavailable> {
        let Some(first) = asked.first() else { return Ok(vec![]) };
        let of = |asked: &PartitionQuery| {
            let p = asked.partition;
            [
                redis_keys::webhook_lease_key(p),
                redis_keys::webhook_queue_key(p),
                redis_keys::webhook_state_key(p),
            ]
        };
        let keys: Vec<String> = asked.iter().flat_map(of).collect();
        let mut values =
            vec![self.lease_holder.clone(), self.limits.lease_ms.to_string(), READ_PAGE_SIZE.to_string()];
        for asked in asked {
            values.push(asked.after.map_or("-".to_owned(), |after| after.to_string()));
            values.push(u8::from(asked.is_new).to_string());
        }
        let reply = self
            .client
            .call_script(first.partition, WebhookScript::Poll, &keys, &to_script_args(values))
            .await?;
        let (lineage, found) = parse_poll(reply).ok_or(RedisUnavailable)?;
        let found = asked.iter().zip(found).map(|(asked, found)| (*asked, lineage.clone(), found));
        Ok(found.collect())
    }

    pub(super) async fn write_outcomes(
        &self,
        p: usize,
        effects: &PendingWrites,
        endpoints: &[String],
    ) -> Result<Option<u64>, RedisUnavailable> {
        let keys = [
            redis_keys::webhook_lease_key(p),
            redis_keys::webhook_queue_key(p),
            redis_keys::webhook_state_key(p),
            redis_keys::webhook_dead_key(p),
        ];
        let kept = &self.limits;
        let mut values = vec![
            self.lease_holder.clone(),
            kept.event_life_ms.to_string(),
            kept.max_dead_letters.to_string(),
            kept.dead_letter_life_ms.to_string(),
        ];
        values.push(effects.dead_letters.len().to_string());
        for dead in &effects.dead_letters {
            values.extend([
                dead.endpoint_id.clone(),
                dead.cause.as_str().to_owned(),
                dead.attempts.to_string(),
            ]);
            values.extend([dead.last_failure.clone(), dead.line.to_string()]);
        }
        values.push(effects.progress.len().to_string());
        for ((entry, endpoint), attempts) in &effects.progress {
            values.push(format!("{entry} {endpoint}"));
            values.push(attempts.map_or("d".to_owned(), |attempts| attempts.to_string()));
        }
        values.push((effects.finished_entries.len() * endpoints.len()).to_string());
        let of = |entry: &StreamEntryId| {
            endpoints.iter().map(move |endpoint| format!("{entry} {endpoint}")).collect::<Vec<_>>()
        };
        values.extend(effects.finished_entries.iter().flat_map(of));
        values.push(effects.finished_entries.len().to_string());
        values.extend(effects.finished_entries.iter().map(StreamEntryId::to_string));
        let reply = self.client.call_script(p, WebhookScript::Finish, &keys, &to_script_args(values)).await?;
        let gone = i64::from_redis_value(reply).map_err(|_| RedisUnavailable)?;
        Ok(u64::try_from(gone).ok())
    }

    pub(super) async fn restore_events(
        &self,
        p: usize,
        events: &[RecordedEvent],
    ) -> Result<(), RedisUnavailable> {
        for part in events.chunks(READ_PAGE_SIZE) {
            let own = part
                .iter()
                .map(|event| (format!("x{}", event.entry), &event.line, event.only_endpoint.clone()));
            self.put_events(p, own).await?;
        }
        Ok(())
    }

    async fn put_events<'a>(
        &self,
        p: usize,
        events: impl Iterator<Item = (String, &'a Arc<str>, Option<String>)>,
    ) -> Result<usize, RedisUnavailable> {
        let mut values = vec![self.limits.max_events.to_string(), self.limits.event_life_ms.to_string()];
        for (id, line, only) in events {
            values.extend([id, line.to_string(), only.unwrap_or_default()]);
        }
        let keys = [redis_keys::webhook_queue_key(p), redis_keys::webhook_dead_key(p)];
        let reply = self.client.call_script(p, WebhookScript::Put, &keys, &to_script_args(values)).await?;
        usize::from_redis_value(reply).map_err(|_| RedisUnavailable)
    }

    pub(super) async fn release_leases(&self, partitions: &[usize]) {
        let at_once = if self.client.is_cluster() { 1 } else { partitions.len().max(1) };
        let parts = partitions.chunks(at_once).map(|part| async move {
            let keys: Vec<String> = part.iter().map(|p| redis_keys::webhook_lease_key(*p)).collect();
            // They end by themselves, should this fail.
            let _ = self
                .client
                .call_script(
                    part[0],
                    WebhookScript::Release,
                    &keys,
                    &to_script_args([self.lease_holder.clone()]),
                )
                .await;
        });
        join_all(parts).await;
    }

    pub(super) async fn list_dead_letters(
        &self,
        partition: usize,
        after: Option<StreamEntryId>,
        most: usize,
    ) -> Result<Vec<StoredDeadLetter>, RedisUnavailable> {
        let mut cmd = redis::cmd("XRANGE");
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        cmd.arg(redis_keys::webhook_dead_key(partition)).arg(from).arg("+").arg("COUNT").arg(most);
        let reply = self.client.call(partition, &cmd).await?;
        let found = Vec::<(String, Vec<String>)>::from_redis_value(reply).map_err(|_| RedisUnavailable)?;
        let oldest = self.client.now_ms().saturating_sub(self.limits.dead_letter_life_ms);
        let letters = found.into_iter().filter_map(|(id, fields)| {
            let entry = StreamEntryId::parse(&id).filter(|entry| entry.0 >= oldest)?;
            Some(StoredDeadLetter { partition, entry_id: entry, letter: parse_dead_letter(&fields)? })
        });
        Ok(letters.collect())
    }

    pub(super) async fn replay_dead_letters(
        &self,
        partition: usize,
        letters: &[StoredDeadLetter],
    ) -> Result<usize, RedisUnavailable> {
        let mut count = 0;
        for part in letters.chunks(READ_PAGE_SIZE) {
            let own = part.iter().map(|letter| {
                (letter.entry_id.to_string(), &letter.letter.line, Some(letter.letter.endpoint_id.clone()))
            });
            count += self.put_events(partition, own).await?;
        }
        Ok(count)
    }
}

fn parse_dead_letter(fields: &[String]) -> Option<DeadLetter> {
    let field =
        |name: &str| fields.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1).cloned());
    Some(DeadLetter {
        endpoint_id: field("e")?,
        cause: field("c")?,
        attempts: field("n")?.parse().ok()?,
        last_failure: field("l")?,
        line: field("d")?.into(),
    })
}

fn parse_poll(reply: Value) -> Option<(Arc<str>, Vec<Option<PartitionEvents>>)> {
    let Value::Array(parts) = reply else { return None };
    let mut parts = parts.into_iter();
    let lineage = String::from_redis_value(parts.next()?).ok()?.into();
    let found = parts.map(|part| match part {
        Value::Int(_) => Some(None),
        part => parse_partition(part).map(Some),
    });
    Some((lineage, found.collect::<Option<_>>()?))
}

type RawPartitionEvents = (usize, u8, u64, Vec<(String, String, String)>, Vec<String>);

fn parse_partition(part: Value) -> Option<PartitionEvents> {
    let (count, was_free, lost, entries, progress) = RawPartitionEvents::from_redis_value(part).ok()?;
    let entries = entries.into_iter().map(|(id, line, only)| {
        let only = Some(only).filter(|only| !only.is_empty());
        Some(RecordedEvent { entry: StreamEntryId::parse(&id)?, line: line.into(), only_endpoint: only })
    });
    let progress = progress.chunks(2).filter_map(|pair| match pair {
        [field, value] => Some((field.clone(), value.parse().ok())),
        _ => None,
    });
    Some(PartitionEvents {
        count,
        lease_was_free: was_free == 1,
        lost,
        entries: entries.collect::<Option<_>>()?,
        progress: progress.collect(),
    })
}
