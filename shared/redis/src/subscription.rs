//! The topics of one server, on one connection: subscribed, heard, proven live.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{sync::Notify, time::timeout};

use crate::{
    error::StartError,
    link::Failure,
    outcome::Outcome,
    server,
    subscriber::{Listener, Proof},
    target::Address,
    topology::Topology,
};

/// What a probe begins with; what a listener is sent must not.
const PROBE: &[u8] = b" probe";

/// What a connection has told by itself.
#[derive(Default)]
struct Told {
    /// Topics that the server has taken from us, because their slot has gone.
    taken: Mutex<Vec<Vec<u8>>>,
    broken: AtomicBool,
    something: Notify,
    probed: Notify,
}

pub(crate) struct Subscription {
    address: Address,
    connection: MultiplexedConnection,
    told: Arc<Told>,
    /// The partitions whose topics are heard here.
    heard: BTreeSet<usize>,
    /// The next to be probed.
    turn: usize,
}

impl Subscription {
    pub(crate) async fn open<L: Listener>(
        topology: &Topology,
        address: &Address,
        listener: &Arc<L>,
    ) -> Result<Self, StartError> {
        let told = Arc::new(Told::default());
        let (teller, listener) = (told.clone(), listener.clone());
        // Handled where it is read: no queue in between that could overflow.
        let receive = move |push: PushInfo| -> Result<(), std::convert::Infallible> {
            match (push.kind, push.data.as_slice()) {
                (PushKind::SMessage, [_, Value::BulkString(message)]) if message.starts_with(PROBE) => {
                    teller.probed.notify_one();
                }
                (PushKind::SMessage, [_, Value::BulkString(message)]) => listener.heard(message),
                (PushKind::SUnsubscribe, [Value::BulkString(topic), ..]) => {
                    teller.taken.lock().unwrap_or_else(PoisonError::into_inner).push(topic.clone());
                    teller.something.notify_one();
                }
                (PushKind::Disconnection, _) => {
                    teller.broken.store(true, Ordering::Relaxed);
                    teller.something.notify_one();
                }
                _ => {}
            }
            Ok(())
        };
        let connection = topology
            .target()
            .open_for_pushes(address, receive)
            .await
            .map_err(|error| StartError::explain(address, &error))?;
        Ok(Self { address: address.clone(), connection, told, heard: BTreeSet::new(), turn: 0 })
    }

    /// Subscribes to what is wanted and not heard yet; returns the partitions that were new.
    pub(crate) async fn subscribe<L: Listener>(
        &mut self,
        topology: &Topology,
        listener: &L,
        wanted: &BTreeSet<usize>,
    ) -> Result<Vec<usize>, StartError> {
        self.heard.retain(|partition| wanted.contains(partition));
        let missing: Vec<usize> = wanted.difference(&self.heard).copied().collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        // One command per topic in one round trip: each then has exactly one answer, which one command for all has not.
        let mut pipe = redis::pipe();
        for partition in &missing {
            pipe.cmd("SSUBSCRIBE").arg(listener.topic(*partition));
        }
        let answers = self.connection.send_packed_commands(&pipe, 0, missing.len()).await;
        let answers = answers.map_err(|error| StartError::explain(&self.address, &error))?;
        let mut fresh = Vec::with_capacity(missing.len());
        let mut why = None;
        for (partition, answer) in missing.into_iter().zip(answers) {
            match Outcome::of(answer, &self.address) {
                Outcome::Done(Value::Push { kind: PushKind::SSubscribe, data })
                    if data.first() == Some(&Value::BulkString(listener.topic(partition).into_bytes())) =>
                {
                    self.heard.insert(partition);
                    fresh.push(partition);
                }
                Outcome::Moved(slot, to) => topology.moved(slot, &to),
                Outcome::Refused(error) => why = Some(StartError::explain(&self.address, &error.into())),
                // Something else came between: the answers of this connection are out of step.
                Outcome::Done(_) => why = Some(StartError::NoAnswer("it answered something else".to_owned())),
                _ => topology.refresh(),
            }
        }
        why.map_or(Ok(fresh), Err)
    }

    /// Waits until the server has taken topics away or the connection is broken.
    pub(crate) async fn something(&self) {
        self.told.something.notified().await;
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.told.broken.load(Ordering::Relaxed)
    }

    /// Forgets what the server has taken from us; whether that was anything.
    pub(crate) fn forget_taken<L: Listener>(&mut self, listener: &L) -> bool {
        let taken = std::mem::take(&mut *self.told.taken.lock().unwrap_or_else(PoisonError::into_inner));
        let before = self.heard.len();
        self.heard.retain(|partition| !taken.contains(&listener.topic(*partition).into_bytes()));
        self.heard.len() < before
    }

    /// Whether what is published is heard here.
    pub(crate) async fn prove<L: Listener>(
        &mut self,
        listener: &L,
        proof: &Proof,
        deadline: Duration,
    ) -> Result<(), StartError> {
        let Some(partition) = self.next_to_probe() else { return Ok(()) };
        match proof {
            Proof::Publish(link) => {
                let Some(link) = link.upgrade() else { return Ok(()) };
                let mut publish = redis::cmd("SPUBLISH");
                publish.arg(listener.topic(partition)).arg(PROBE);
                match link.try_call(partition, &publish).await {
                    Ok(_) => {}
                    Err(Failure::Refused(why)) => return Err(why),
                    Err(Failure::Unavailable) => {
                        return Err(StartError::NoAnswer("a probe could not be published".to_owned()));
                    }
                }
                timeout(deadline, self.told.probed.notified())
                    .await
                    .map_err(|_| StartError::NoAnswer("a published probe did not come back".to_owned()))
            }
            Proof::Ask => {
                let info = server::replication().query_async::<String>(&mut self.connection).await;
                match info {
                    Ok(info) if server::is_master(&info) => Ok(()),
                    Ok(_) => Err(StartError::NoAnswer(format!("{} is a replica", self.address))),
                    Err(error) => Err(StartError::explain(&self.address, &error)),
                }
            }
        }
    }

    /// Each time another one, so that all have their turn.
    fn next_to_probe(&mut self) -> Option<usize> {
        let next = self.heard.range(self.turn..).next().or_else(|| self.heard.first()).copied()?;
        self.turn = next + 1;
        Some(next)
    }
}
