//! Commands and scripts: each is sent to the master of its slot, within one deadline.
//!
//! Owns: the keys and arguments of a script call, the meaning of a reply, and the one rule when a
//! request is sent again: only if the server says that it did not execute it. The rule is the same
//! for the shared connection and for the pool. Must not: send a request again whose outcome is
//! unknown.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, RedisError, RedisResult, ServerError, ServerErrorKind, ToRedisArgs, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::RedisClient;
use crate::{
    jitter::with_jitter,
    redis_address::RedisAddress,
    redis_command::KeyCommand,
    redis_error::{RedisStartError, RedisUnavailable, RequestFailure, missing_permission},
    redis_namespace::RedisNamespace,
    redis_script::{RedisScript, load_scripts},
    redis_shard::{ConnectionKind, RedisShard},
    refusal_log::{Refusal, RefusalCode},
    shard_map::{key_slot, partition_slot},
};

/// Before a request that was not executed is sent again.
const RETRY_WAIT: Duration = Duration::from_millis(30);

/// After this many redirections each further one waits.
const FAST_REDIRECTS: u32 = 4;

/// The keys and arguments of one script call. All keys are in one slot, and every key that the
/// script uses is declared: a script that uses other keys breaks while slots move. The client puts
/// the names of the deployment into keys and topics.
pub struct ScriptCall {
    /// The partition of the keys, or none for keys outside the partitions.
    partition: Option<usize>,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
    /// The indexes of the arguments that are topics, or beginnings of topics.
    topics: Vec<usize>,
    /// The index of the argument that is the replication id of the server.
    replication_id_at: Option<usize>,
}

impl ScriptCall {
    /// A call on keys of a partition.
    pub fn in_partition(partition: usize) -> Self {
        Self::with_partition(Some(partition))
    }

    /// A call on a key that may be outside the partitions.
    pub fn on_key(key: String) -> Self {
        let mut call = Self::with_partition(None);
        call.add_key(key);
        call
    }

    fn with_partition(partition: Option<usize>) -> Self {
        Self {
            partition,
            keys: Vec::with_capacity(6),
            args: Vec::with_capacity(24),
            topics: Vec::new(),
            replication_id_at: None,
        }
    }

    /// Declares a key.
    pub fn add_key(&mut self, key: String) -> &mut Self {
        self.keys.push(key);
        self
    }

    /// Declares a key and adds its index in `KEYS` as an argument.
    pub fn add_key_index(&mut self, key: String) -> &mut Self {
        self.add_key(key);
        self.add_arg(self.keys.len())
    }

    /// Adds an argument.
    pub fn add_arg(&mut self, value: impl ToRedisArgs) -> &mut Self {
        value.write_redis_args(&mut self.args);
        self
    }

    /// Adds a topic, or the beginning of one, as an argument.
    pub fn add_topic(&mut self, topic: String) -> &mut Self {
        self.topics.push(self.args.len());
        self.add_arg(topic)
    }

    /// Adds the replication id of the server, as it is known of the connection on which the call is
    /// sent; empty on a connection of which it is not known.
    pub fn add_replication_id(&mut self) -> &mut Self {
        self.replication_id_at = Some(self.args.len());
        self.add_arg("")
    }

    /// Adds the length of a list, then each item.
    pub fn add_list<T>(&mut self, items: &[T], add_item: impl Fn(&mut Self, &T)) -> &mut Self {
        self.add_arg(items.len());
        items.iter().for_each(|item| add_item(self, item));
        self
    }

    /// The slot of the keys.
    fn slot(&self, names: &RedisNamespace) -> u16 {
        let first_key = || self.keys.first().map_or(0, |key| key_slot(&names.key(key)));
        self.partition.map_or_else(first_key, partition_slot)
    }

    /// The command on a connection to a server with this replication id.
    fn to_command(&self, script: &RedisScript, names: &RedisNamespace, replication_id: &str) -> Cmd {
        let key_bytes: usize = self.keys.iter().map(|key| key.len() + names.prefix().len()).sum();
        let arg_bytes: usize = self.args.iter().map(Vec::len).sum();
        let topic_bytes = self.topics.len() * names.prefix().len();
        let count = self.keys.len() + self.args.len() + 3;
        // 63 bytes are enough for the name of the command, the hash and the number of keys.
        let bytes = key_bytes + arg_bytes + topic_bytes + replication_id.len() + 63;
        let mut cmd = Cmd::with_capacity(count, bytes);
        cmd.arg(script.command()).arg(script.hash()).arg(self.keys.len());
        if names.is_default() {
            cmd.arg(&self.keys);
        } else {
            self.keys.iter().for_each(|key| _ = cmd.arg(names.key(key)));
        }
        for (index, arg) in self.args.iter().enumerate() {
            if self.replication_id_at == Some(index) {
                cmd.arg(replication_id);
            } else if !names.is_default()
                && self.topics.contains(&index)
                && let Ok(topic) = std::str::from_utf8(arg)
            {
                cmd.arg(names.topic(topic));
            } else {
                cmd.arg(arg);
            }
        }
        cmd
    }
}

/// A reply that is a list, read from its front. Any other reply is read as an empty list.
pub struct ReplyReader(std::vec::IntoIter<Value>);

impl ReplyReader {
    /// A reader at the front of a reply.
    pub fn new(reply: Value) -> Self {
        Self(match reply {
            Value::Array(values) | Value::Set(values) => values.into_iter(),
            _ => Vec::new().into_iter(),
        })
    }

    /// The next value.
    pub fn next_value(&mut self) -> Option<Value> {
        self.0.next()
    }

    /// The next value as text.
    pub fn next_text(&mut self) -> Option<String> {
        self.next_value().and_then(value_text)
    }

    /// The next value as a number.
    pub fn next_number(&mut self) -> Option<u64> {
        match self.next_value()? {
            Value::Int(number) => u64::try_from(number).ok(),
            other => value_text(other)?.parse().ok(),
        }
    }
}

/// A text or a number as text.
pub fn value_text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a reply means for the caller. This is the only place that reads redirections.
///
/// Except for `Done` and `Refused` the request was *not* executed, so that sending it again cannot
/// execute it twice.
pub(super) enum ReplyOutcome {
    /// The server has executed the request.
    Done(Value),
    /// The server rejects the request now and later. What a script did before its error is unknown.
    Refused(ServerError),
    /// Another server has the slot.
    Moved(u16, RedisAddress),
    /// Another server has these keys while the slot moves.
    Ask(RedisAddress),
    /// The server has forgotten the script.
    NoScript,
    /// The server cannot execute it now. Says whether another server may be the master.
    RetryLater { ask_other_server: bool },
}

impl ReplyOutcome {
    /// Reads only the reply itself: an error *within* it comes from a script, which has run then.
    pub(super) fn classify_reply(reply: Value, asked: &RedisAddress) -> Self {
        let error = match reply {
            Value::ServerError(error) => error,
            value => return Self::Done(value),
        };
        match error.kind() {
            Some(kind @ (ServerErrorKind::Moved | ServerErrorKind::Ask)) => {
                match parse_redirection(&error, asked) {
                    Some((slot, to)) if kind == ServerErrorKind::Moved => Self::Moved(slot, to),
                    Some((_, to)) => Self::Ask(to),
                    None => Self::RetryLater { ask_other_server: true },
                }
            }
            Some(ServerErrorKind::NoScript) => Self::NoScript,
            Some(ServerErrorKind::TryAgain | ServerErrorKind::BusyLoading) => {
                Self::RetryLater { ask_other_server: false }
            }
            Some(ServerErrorKind::ClusterDown | ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                Self::RetryLater { ask_other_server: true }
            }
            None if error.code() == "BUSY" => Self::RetryLater { ask_other_server: false },
            _ => Self::Refused(error),
        }
    }
}

/// Reads `slot host:port`.
fn parse_redirection(error: &ServerError, asked: &RedisAddress) -> Option<(u16, RedisAddress)> {
    let (slot, to) = error.details()?.split_once(' ')?;
    Some((slot.parse().ok()?, RedisAddress::parse_redirected(to, asked)?))
}

/// What is sent.
enum RequestText<'a> {
    Command(&'a Cmd),
    /// Its command names the replication id of the server that gets it.
    Script(&'static RedisScript, &'a ScriptCall),
}

struct RedisRequest<'a> {
    text: RequestText<'a>,
    connection: ConnectionKind,
}

impl RedisRequest<'_> {
    fn script(&self) -> Option<&'static RedisScript> {
        match self.text {
            RequestText::Command(_) => None,
            RequestText::Script(script, _) => Some(script),
        }
    }
}

impl RedisClient {
    /// Runs a command, after the earlier calls of the same caller.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: it may or may not have been executed, or it was refused.
    pub async fn run_command(&self, command: &KeyCommand) -> Result<Value, RedisUnavailable> {
        let (key, cmd) = command.to_command(self.state.names());
        let request = RedisRequest { text: RequestText::Command(&cmd), connection: ConnectionKind::Shared };
        Ok(self.execute_with_redirects(key_slot(&key), request).await?)
    }

    /// Publishes a message on a topic of `redis_keys`, after the earlier calls of the same caller.
    ///
    /// # Errors
    /// [`RequestFailure`].
    pub async fn publish(&self, topic: &str, message: &[u8]) -> Result<(), RequestFailure> {
        let topic = self.state.names().topic(topic);
        let mut cmd = redis::cmd("SPUBLISH");
        cmd.arg(&topic).arg(message);
        let request = RedisRequest { text: RequestText::Command(&cmd), connection: ConnectionKind::Shared };
        self.execute_with_redirects(key_slot(&topic), request).await.map(drop)
    }

    /// Runs a script, after the earlier calls of the same caller.
    ///
    /// # Errors
    /// [`RedisUnavailable`]: it may or may not have been executed, or it was refused.
    pub async fn run_script(
        &self,
        script: &'static RedisScript,
        call: &ScriptCall,
    ) -> Result<Value, RedisUnavailable> {
        let slot = call.slot(self.state.names());
        let text = RequestText::Script(script, call);
        let request = RedisRequest { text, connection: ConnectionKind::Shared };
        Ok(self.execute_with_redirects(slot, request).await?)
    }

    /// Runs a command on a pooled connection, in no order with other calls.
    ///
    /// # Errors
    /// [`RequestFailure`].
    pub async fn run_pooled_command(&self, command: &KeyCommand) -> Result<Value, RequestFailure> {
        let (key, cmd) = command.to_command(self.state.names());
        let request = RedisRequest { text: RequestText::Command(&cmd), connection: ConnectionKind::Pooled };
        self.execute_with_redirects(key_slot(&key), request).await
    }

    /// Runs a script on a pooled connection, in no order with other calls.
    ///
    /// # Errors
    /// [`RequestFailure`].
    pub async fn run_pooled_script(
        &self,
        script: &'static RedisScript,
        call: &ScriptCall,
    ) -> Result<Value, RequestFailure> {
        let slot = call.slot(self.state.names());
        let text = RequestText::Script(script, call);
        let request = RedisRequest { text, connection: ConnectionKind::Pooled };
        self.execute_with_redirects(slot, request).await
    }

    /// Sends a request until it was executed, was refused, or has an unknown outcome.
    async fn execute_with_redirects(
        &self,
        slot: u16,
        request: RedisRequest<'_>,
    ) -> Result<Value, RequestFailure> {
        let end = Instant::now() + self.state.target().deadline;
        // Where the last reply has redirected to, and whether that server expects an ASKING.
        let mut redirection = None::<(Arc<RedisShard>, bool)>;
        for redirections in 0_u32.. {
            let (shard, asking) = match redirection.take() {
                Some(redirection) => redirection,
                None => (self.shards.shard_of_slot(slot).ok_or(RedisUnavailable)?, false),
            };
            let reply = send_request(&request, self.state.names(), &shard, asking, end).await?;
            if let Value::ServerError(error) = &reply {
                self.record_refusal(&request, &shard, &error.clone().into());
            }
            let outcome = ReplyOutcome::classify_reply(reply, &shard.address);
            if redirections > FAST_REDIRECTS || matches!(outcome, ReplyOutcome::RetryLater { .. }) {
                wait_before_retry(end).await?;
            }
            match outcome {
                // An error within the reply is a script's.
                ReplyOutcome::Done(value) => {
                    let outcome = value.extract_error();
                    if let Err(error) = &outcome {
                        self.record_refusal(&request, &shard, error);
                    }
                    return Ok(outcome.map_err(|_| RedisUnavailable)?);
                }
                ReplyOutcome::Refused(error) => {
                    let reason = RedisStartError::from_driver_error(&shard.address, &error.into());
                    return Err(RequestFailure::Refused(reason));
                }
                ReplyOutcome::Moved(moved, to) => {
                    self.state.topology.record_moved_slot(moved, &to);
                    redirection = Some((self.shards.shard_at(&to), false));
                }
                ReplyOutcome::Ask(to) => redirection = Some((self.shards.shard_at(&to), true)),
                ReplyOutcome::NoScript => {
                    load_forgotten_script(&request, &shard, end).await?;
                    redirection = Some((shard, asking));
                }
                ReplyOutcome::RetryLater { ask_other_server: true } => {
                    self.state.topology.request_refresh();
                    shard.request_check();
                    // The shared connection may already be one to the new master.
                    shard.replace_pooled_connections();
                }
                // The slot moves. The old server names the server to ask.
                ReplyOutcome::RetryLater { ask_other_server: false } => {}
            }
        }
        Err(RedisUnavailable.into())
    }
}

impl RedisClient {
    /// Records an error that refuses a request, and has the server checked: others may be refused too.
    fn record_refusal(&self, request: &RedisRequest<'_>, shard: &RedisShard, error: &RedisError) {
        let Some(mut refusal) = Refusal::from_driver_error(error) else { return };
        let details = error.detail().unwrap_or_default();
        if refusal.code == RefusalCode::NoPerm {
            refusal.missing = request
                .script()
                .and_then(|script| script.permissions_at_error(details))
                .or_else(|| Some(missing_permission(details)));
        }
        self.state.refusals.record(&shard.address, refusal);
        shard.request_check();
    }
}

/// Sends a request once.
async fn send_request(
    request: &RedisRequest<'_>,
    names: &RedisNamespace,
    shard: &RedisShard,
    asking: bool,
    end: Instant,
) -> Result<Value, RequestFailure> {
    let mut connection = shard.connection(request.connection, end).await?;
    let call;
    let cmd = match request.text {
        RequestText::Command(cmd) => cmd,
        RequestText::Script(script, arguments) => {
            call = arguments.to_command(script, names, connection.replication_id());
            &call
        }
    };
    let sending = async {
        if asking {
            send_after_asking(&mut connection, cmd).await
        } else {
            connection.send_packed_command(cmd).await
        }
    };
    match timeout_at(end, sending).await {
        Ok(Ok(reply)) => Ok(reply),
        // The request may have been executed, so it is not sent again. The connection is checked.
        _ => {
            shard.request_check();
            Err(RedisUnavailable.into())
        }
    }
}

/// Sends ASKING and the command in one write, so that no other command comes between the two.
async fn send_after_asking(
    connection: &mut redis::aio::MultiplexedConnection,
    cmd: &Cmd,
) -> RedisResult<Value> {
    let mut both = redis::pipe();
    both.add_command(redis::cmd("ASKING")).add_command(cmd.clone());
    let mut replies = connection.send_packed_commands(&both, 0, 2).await?.into_iter();
    match (replies.next(), replies.next()) {
        (Some(Value::ServerError(refused)), _) => Ok(Value::ServerError(refused)),
        (_, Some(reply)) => Ok(reply),
        _ => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Loads a script that the server has forgotten, after `SCRIPT FLUSH` or when a slot moves to a new
/// server.
async fn load_forgotten_script(
    request: &RedisRequest<'_>,
    shard: &RedisShard,
    end: Instant,
) -> Result<(), RequestFailure> {
    let script = request.script().ok_or(RedisUnavailable)?;
    let connection = shard.connection(request.connection, end).await?;
    let loading = timeout_at(end, load_scripts(&connection, &[script])).await;
    let refused = |error: RedisError| RequestFailure::Refused(shard.explain_error(&error));
    loading.map_err(|_| RedisUnavailable)?.map_err(refused)
}

async fn wait_before_retry(end: Instant) -> Result<(), RequestFailure> {
    if Instant::now() + RETRY_WAIT >= end {
        return Err(RedisUnavailable.into());
    }
    sleep(with_jitter(RETRY_WAIT)).await;
    Ok(())
}
