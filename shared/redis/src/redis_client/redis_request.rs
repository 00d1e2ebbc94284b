//! One request: sent to the master of its slot, redirected where that says so, and sent again only where it was not executed.

use std::time::Duration;

use redis::{Cmd, RedisResult, Script, Value, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::RedisClient;
use crate::{
    jitter::with_jitter,
    redis_address::RedisAddress,
    redis_error::{RedisStartError, RedisUnavailable},
    reply_outcome::ReplyOutcome,
    shard_map::partition_slot,
};

/// Before a request that was not executed is sent again.
const RETRY_WAIT: Duration = Duration::from_millis(30);

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum RequestFailure {
    /// The outcome is unknown.
    Unavailable,
    /// The server at the address refused it.
    Refused(RedisStartError),
}

/// A request and, if it is a script's, that script.
pub(crate) struct RedisRequest<'a> {
    pub(super) cmd: &'a Cmd,
    pub(super) script: Option<&'a Script>,
}

impl RedisClient {
    pub(super) async fn execute_request(
        &self,
        slot: u16,
        request: RedisRequest<'_>,
    ) -> Result<Value, RedisUnavailable> {
        self.execute_with_redirects(slot, request).await.map_err(|failure| {
            if let RequestFailure::Refused(reason) = failure {
                tracing::debug!(event = "redis_refused", %reason);
            }
            RedisUnavailable
        })
    }

    /// Like [`RedisClient::run_command`], and says what was refused.
    pub(crate) async fn try_run_command(&self, partition: usize, cmd: &Cmd) -> Result<Value, RequestFailure> {
        self.execute_with_redirects(partition_slot(partition), RedisRequest { cmd, script: None }).await
    }

    /// Sends a request until it was executed, refused, or the outcome is unknown.
    async fn execute_with_redirects(
        &self,
        slot: u16,
        request: RedisRequest<'_>,
    ) -> Result<Value, RequestFailure> {
        let end = Instant::now() + self.target().deadline;
        // Where the last answer has sent us, and whether the server there wants to be asked for it.
        let (mut sent_to, mut asking) = (None::<RedisAddress>, false);
        for redirections in 0_u32.. {
            let address = match sent_to.take() {
                Some(address) => address,
                None => self
                    .topology
                    .current_map()
                    .master_of_slot(slot)
                    .ok_or(RequestFailure::Unavailable)?
                    .clone(),
            };
            let shard = self.shard_at(&address);
            let connection = shard.wait_for_connection(end).await.ok_or(RequestFailure::Unavailable)?;
            let answer = match timeout_at(end, send_request(&request, connection.clone(), asking)).await {
                Ok(Ok(answer)) => answer,
                // It may have been executed. Never again, then; and the connection is looked at.
                _ => {
                    shard.request_check();
                    return Err(RequestFailure::Unavailable);
                }
            };
            let outcome = ReplyOutcome::classify_reply(answer, &address);
            if redirections > 4 || matches!(outcome, ReplyOutcome::RetryLater { .. }) {
                if Instant::now() + RETRY_WAIT >= end {
                    return Err(RequestFailure::Unavailable);
                }
                sleep(with_jitter(RETRY_WAIT)).await;
            }
            match outcome {
                // An error within the answer is a script's.
                ReplyOutcome::Done(value) => {
                    return value.extract_error().map_err(|_| RequestFailure::Unavailable);
                }
                ReplyOutcome::Refused(error) => {
                    return Err(RequestFailure::Refused(RedisStartError::from_driver_error(
                        &address,
                        &error.into(),
                    )));
                }
                ReplyOutcome::Moved(moved, to) => {
                    self.topology.record_moved_slot(moved, &to);
                    (sent_to, asking) = (Some(to), false);
                }
                ReplyOutcome::Ask(to) => (sent_to, asking) = (Some(to), true),
                ReplyOutcome::NoScript => {
                    load_script(request.script, connection, end).await.ok_or(RequestFailure::Unavailable)?;
                    sent_to = Some(address);
                }
                ReplyOutcome::RetryLater { ask_other_server: true } => {
                    self.topology.request_refresh();
                    shard.request_check();
                    asking = false;
                }
                // The slot moves, and the server it leaves says where to ask.
                ReplyOutcome::RetryLater { ask_other_server: false } => asking = false,
            }
        }
        Err(RequestFailure::Unavailable)
    }
}

/// Sends it; behind an ASKING where the server wants that, in one piece, so that nothing comes between the two.
async fn send_request(
    request: &RedisRequest<'_>,
    mut connection: MultiplexedConnection,
    asking: bool,
) -> RedisResult<Value> {
    if !asking {
        return connection.send_packed_command(request.cmd).await;
    }
    let mut both = redis::pipe();
    both.add_command(redis::cmd("ASKING")).add_command(request.cmd.clone());
    let mut answers = connection.send_packed_commands(&both, 0, 2).await?.into_iter();
    match (answers.next(), answers.next()) {
        (Some(Value::ServerError(refused)), _) => Ok(Value::ServerError(refused)),
        (_, Some(answer)) => Ok(answer),
        _ => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Loads a script that the server has forgotten (`SCRIPT FLUSH`, a slot that moves to a new server).
async fn load_script(
    script: Option<&Script>,
    mut connection: MultiplexedConnection,
    end: Instant,
) -> Option<()> {
    timeout_at(end, script?.load_async(&mut connection)).await.ok()?.ok()?;
    Some(())
}
