//! One request: sent to the master of its slot, redirected where that says so, and sent again only where it was not executed.

use std::time::Duration;

use redis::{Cmd, RedisResult, Script, Value, aio::MultiplexedConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::Link;
use crate::{
    error::{StartError, Unavailable},
    jittered,
    map::slot_of,
    outcome::Outcome,
    target::Address,
};

/// Before a request that was not executed is sent again.
const PAUSE: Duration = Duration::from_millis(30);

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The outcome is unknown.
    Unavailable,
    /// The server at the address refused it.
    Refused(StartError),
}

/// A request and, if it is a script's, that script.
pub(crate) struct Request<'a> {
    pub(super) cmd: &'a Cmd,
    pub(super) script: Option<&'a Script>,
}

impl Link {
    pub(super) async fn answer(&self, slot: u16, request: Request<'_>) -> Result<Value, Unavailable> {
        self.attempts(slot, request).await.map_err(|failure| {
            if let Failure::Refused(reason) = failure {
                tracing::debug!(event = "redis_refused", %reason);
            }
            Unavailable
        })
    }

    /// Like [`Link::call`], and says what was refused.
    pub(crate) async fn try_call(&self, partition: usize, cmd: &Cmd) -> Result<Value, Failure> {
        self.attempts(slot_of(partition), Request { cmd, script: None }).await
    }

    /// Sends a request until it was executed, refused, or the outcome is unknown.
    async fn attempts(&self, slot: u16, request: Request<'_>) -> Result<Value, Failure> {
        let end = Instant::now() + self.target().deadline;
        // Where the last answer has sent us, and whether the server there wants to be asked for it.
        let (mut sent_to, mut asking) = (None::<Address>, false);
        for redirections in 0_u32.. {
            let address = match sent_to.take() {
                Some(address) => address,
                None => self.topology.map().master_of(slot).ok_or(Failure::Unavailable)?.clone(),
            };
            let shard = self.shard(&address);
            let connection = shard.connection(end).await.ok_or(Failure::Unavailable)?;
            let answer = match timeout_at(end, send(&request, connection.clone(), asking)).await {
                Ok(Ok(answer)) => answer,
                // It may have been executed. Never again, then; and the connection is looked at.
                _ => {
                    shard.doubt();
                    return Err(Failure::Unavailable);
                }
            };
            let outcome = Outcome::of(answer, &address);
            if redirections > 4 || matches!(outcome, Outcome::NotNow { .. }) {
                if Instant::now() + PAUSE >= end {
                    return Err(Failure::Unavailable);
                }
                sleep(jittered(PAUSE)).await;
            }
            match outcome {
                // An error within the answer is a script's.
                Outcome::Done(value) => return value.extract_error().map_err(|_| Failure::Unavailable),
                Outcome::Refused(error) => {
                    return Err(Failure::Refused(StartError::explain(&address, &error.into())));
                }
                Outcome::Moved(moved, to) => {
                    self.topology.moved(moved, &to);
                    (sent_to, asking) = (Some(to), false);
                }
                Outcome::Ask(to) => (sent_to, asking) = (Some(to), true),
                Outcome::NoScript => {
                    load(request.script, connection, end).await.ok_or(Failure::Unavailable)?;
                    sent_to = Some(address);
                }
                Outcome::NotNow { elsewhere: true } => {
                    self.topology.refresh();
                    shard.doubt();
                    asking = false;
                }
                // The slot moves, and the server it leaves says where to ask.
                Outcome::NotNow { elsewhere: false } => asking = false,
            }
        }
        Err(Failure::Unavailable)
    }
}

/// Sends it; behind an ASKING where the server wants that, in one piece, so that nothing comes between the two.
async fn send(
    request: &Request<'_>,
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
async fn load(script: Option<&Script>, mut connection: MultiplexedConnection, end: Instant) -> Option<()> {
    timeout_at(end, script?.load_async(&mut connection)).await.ok()?.ok()?;
    Some(())
}
