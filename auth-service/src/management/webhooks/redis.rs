//! Events and dead letters in Redis: one lease, one stream, one hash and one stream of dead letters
//! for each partition.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use redis::{FromRedisValue as _, Value};
use signalbox_protocol::id::random_hex;
use signalbox_redis::{
    KeyCommand, RedisClient, RedisCommand, RedisScript, RedisUnavailable, ScriptCall, redis_keys,
};

use super::{
    contract::{DeadLetter, PartitionEvents, PartitionQuery, PollResults, RecordedEvent, StoredDeadLetter},
    delivery_schedule::PendingWrites,
    event::StreamEntryId,
};

/// A script that a full server executes: it deletes, or its writes are bounded.
const fn webhook_script(lua: &'static str) -> RedisScript {
    RedisScript::new(lua).with_flags("allow-oom")
}

static POLL_PARTITIONS: RedisScript = webhook_script(include_str!("lua/poll_partitions.lua"));
static WRITE_OUTCOMES: RedisScript = webhook_script(include_str!("lua/write_outcomes.lua"));
static PUT_EVENTS: RedisScript = webhook_script(include_str!("lua/put_events.lua"));
static RELEASE_LEASES: RedisScript = webhook_script(include_str!("lua/release_leases.lua"));

/// The most entries of one partition in one reply.
const READ_PAGE_SIZE: usize = 256;
/// The most partitions in one script, so that it does not block the server for long.
const PARTITIONS_PER_SCRIPT: usize = 32;

/// The bounds of the stored events and dead letters, and the lease.
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
    pub(super) client: Arc<RedisClient>,
    lease_holder: String,
    limits: RetentionLimits,
}

impl RedisWebhookStore {
    /// A store over the client of the process. Announces the scripts; does not wait for Redis.
    pub(super) fn new(client: Arc<RedisClient>, limits: RetentionLimits) -> Self {
        client.load_scripts(&[&POLL_PARTITIONS, &WRITE_OUTCOMES, &PUT_EVENTS, &RELEASE_LEASES]);
        Self { client, lease_holder: random_hex(), limits }
    }

    pub(super) async fn poll(&self, queries: &[PartitionQuery]) -> Result<PollResults, RedisUnavailable> {
        let chunk_len = if self.client.is_cluster() { 1 } else { PARTITIONS_PER_SCRIPT };
        let polls = queries.chunks(chunk_len).map(|chunk| self.poll_partitions(chunk));
        Ok(try_join_all(polls).await?.into_iter().flatten().collect())
    }

    async fn poll_partitions(&self, queries: &[PartitionQuery]) -> Result<PollResults, RedisUnavailable> {
        let Some(first) = queries.first() else { return Ok(vec![]) };
        let mut call = ScriptCall::in_partition(first.partition);
        call.add_arg(&self.lease_holder).add_arg(self.limits.lease_ms).add_arg(READ_PAGE_SIZE);
        for query in queries {
            let p = query.partition;
            call.add_key(redis_keys::webhook_lease_key(p))
                .add_key(redis_keys::webhook_queue_key(p))
                .add_key(redis_keys::webhook_state_key(p));
            call.add_arg(query.after.map_or("-".to_owned(), |after| after.to_string()));
            call.add_arg(u8::from(query.is_new));
        }
        let reply = self.client.run_script(&POLL_PARTITIONS, &call).await?;
        let (replication_id, found) = parse_poll(reply).ok_or(RedisUnavailable)?;
        let results = queries.iter().zip(found).map(|(query, found)| (*query, replication_id.clone(), found));
        Ok(results.collect())
    }

    pub(super) async fn write_outcomes(
        &self,
        p: usize,
        writes: &PendingWrites,
        endpoints: &[String],
    ) -> Result<Option<u64>, RedisUnavailable> {
        let mut call = ScriptCall::in_partition(p);
        call.add_key(redis_keys::webhook_lease_key(p)).add_key(redis_keys::webhook_queue_key(p));
        call.add_key(redis_keys::webhook_state_key(p)).add_key(redis_keys::webhook_dead_key(p));
        call.add_arg(&self.lease_holder).add_arg(self.limits.event_life_ms);
        call.add_arg(self.limits.max_dead_letters).add_arg(self.limits.dead_letter_life_ms);
        call.add_list(&writes.dead_letters, |call, dead| {
            call.add_arg(&dead.endpoint_id).add_arg(dead.cause.as_str()).add_arg(dead.attempts);
            call.add_arg(&dead.last_failure).add_arg(&*dead.line);
        });
        call.add_arg(writes.progress.len());
        for ((entry, endpoint), attempts) in &writes.progress {
            call.add_arg(format!("{entry} {endpoint}"));
            call.add_arg(attempts.map_or("d".to_owned(), |attempts| attempts.to_string()));
        }
        call.add_arg(writes.finished_entries.len() * endpoints.len());
        for entry in &writes.finished_entries {
            endpoints.iter().for_each(|endpoint| _ = call.add_arg(format!("{entry} {endpoint}")));
        }
        call.add_arg(writes.finished_entries.len());
        writes.finished_entries.iter().for_each(|entry| _ = call.add_arg(entry.to_string()));
        let reply = self.client.run_script(&WRITE_OUTCOMES, &call).await?;
        let dropped = i64::from_redis_value(reply).map_err(|_| RedisUnavailable)?;
        Ok(u64::try_from(dropped).ok())
    }

    pub(super) async fn restore_events(
        &self,
        p: usize,
        events: &[RecordedEvent],
    ) -> Result<(), RedisUnavailable> {
        for chunk in events.chunks(READ_PAGE_SIZE) {
            let records = chunk
                .iter()
                .map(|event| (format!("x{}", event.entry), &event.line, event.only_endpoint.clone()));
            self.put_events(p, records).await?;
        }
        Ok(())
    }

    async fn put_events<'a>(
        &self,
        p: usize,
        events: impl Iterator<Item = (String, &'a Arc<str>, Option<String>)>,
    ) -> Result<usize, RedisUnavailable> {
        let mut call = ScriptCall::in_partition(p);
        call.add_key(redis_keys::webhook_queue_key(p)).add_key(redis_keys::webhook_dead_key(p));
        call.add_arg(self.limits.max_events).add_arg(self.limits.event_life_ms);
        for (id, line, only) in events {
            call.add_arg(id).add_arg(&**line).add_arg(only.unwrap_or_default());
        }
        let reply = self.client.run_script(&PUT_EVENTS, &call).await?;
        usize::from_redis_value(reply).map_err(|_| RedisUnavailable)
    }

    pub(super) async fn release_leases(&self, partitions: &[usize]) {
        let chunk_len = if self.client.is_cluster() { 1 } else { partitions.len().max(1) };
        let releases = partitions.chunks(chunk_len).map(|chunk| async move {
            let mut call = ScriptCall::in_partition(chunk[0]);
            chunk.iter().for_each(|p| _ = call.add_key(redis_keys::webhook_lease_key(*p)));
            call.add_arg(&self.lease_holder);
            // If this fails, the leases expire.
            let _ = self.client.run_script(&RELEASE_LEASES, &call).await;
        });
        join_all(releases).await;
    }

    pub(super) async fn list_dead_letters(
        &self,
        partition: usize,
        after: Option<StreamEntryId>,
        limit: usize,
    ) -> Result<Vec<StoredDeadLetter>, RedisUnavailable> {
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        let list = KeyCommand::new(RedisCommand::XRange, redis_keys::webhook_dead_key(partition));
        let list = list.arg(from).arg("+").arg("COUNT").arg(limit);
        let reply = self.client.run_command(&list).await?;
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
        for chunk in letters.chunks(READ_PAGE_SIZE) {
            let records = chunk.iter().map(|letter| {
                (letter.entry_id.to_string(), &letter.letter.line, Some(letter.letter.endpoint_id.clone()))
            });
            count += self.put_events(partition, records).await?;
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
    let replication_id = String::from_redis_value(parts.next()?).ok()?.into();
    let found = parts.map(|part| match part {
        Value::Int(_) => Some(None),
        part => parse_partition(part).map(Some),
    });
    Some((replication_id, found.collect::<Option<_>>()?))
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
