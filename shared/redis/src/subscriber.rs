//! One topic of every partition, heard wherever the partition is: a connection of its own to each master.
//!
//! A healthy connection proves nothing: it may be to a server that nobody publishes to any more. So each is proven now and then, and after
//! every gap the listener is told which partitions had one, because the last message before it has no successor that would show it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    error::StartError, jittered, link::Link, subscription::Subscription, target::Address, topology::Topology,
};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first wait before another attempt; doubled up to `redis.reconnect`.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Who listens.
pub trait Listener: Send + Sync + 'static {
    /// The topic of a partition.
    fn topic(&self, partition: usize) -> String;
    /// A message on one of the topics; it must not begin with ` probe`. Must not block.
    fn heard(&self, message: &[u8]);
    /// These topics are heard again after a gap. Must not block.
    fn heard_again(&self, partitions: &[usize]);
    /// Whether anybody is still interested.
    fn is_there(&self) -> bool;
}

/// How a connection proves that it hears what is published.
#[derive(Clone)]
pub enum Proof {
    /// A probe, published where everything is published, must come back.
    Publish(Weak<Link>),
    /// The server says that it is a master: for those who may not publish.
    Ask,
}

/// See the module.
pub struct Subscriber<L> {
    topology: Arc<Topology>,
    listener: Arc<L>,
    proof: Proof,
    every: Duration,
}

impl<L: Listener> Subscriber<L> {
    /// Listens to all topics of `listener`, proving each connection `every` so often.
    pub fn new(topology: Arc<Topology>, listener: L, proof: Proof, every: Duration) -> Arc<Self> {
        Arc::new(Self { topology, listener: Arc::new(listener), proof, every })
    }

    /// Subscribes everywhere; returns when every connection is proven. It goes on until the listener is not there any more.
    ///
    /// # Errors
    /// [`StartError`]: at once what waiting does not mend, the rest after 10 s.
    pub async fn start(self: Arc<Self>) -> Result<(), StartError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let shards = self.topology.map().shards();
            let connecting = shards.into_iter().map(async |(address, partitions)| {
                let wanted = partitions.into_iter().collect();
                Ok((address.clone(), self.establish(&address, &wanted).await?))
            });
            match try_join_all(connecting).await {
                Ok(subscriptions) => {
                    tokio::spawn(self.follow(subscriptions.into_iter().collect()));
                    return Ok(());
                }
                Err::<_, StartError>(error) if error.is_final() || Instant::now() > end => return Err(error),
                Err(_) => sleep(jittered(Duration::from_millis(200))).await,
            }
        }
    }

    /// A connection on which all that is wanted is heard.
    async fn establish(
        &self,
        address: &Address,
        wanted: &BTreeSet<usize>,
    ) -> Result<Subscription, StartError> {
        let mut subscription = Subscription::open(&self.topology, address, &self.listener).await?;
        let fresh = subscription.subscribe(&self.topology, &*self.listener, wanted).await?;
        if fresh.len() < wanted.len() {
            return Err(StartError::NoAnswer("some topics are elsewhere".to_owned()));
        }
        subscription.prove(&*self.listener, &self.proof, self.topology.target().deadline).await?;
        Ok(subscription)
    }

    /// Has one task for each master, and tells it what to listen to.
    async fn follow(self: Arc<Self>, mut first: HashMap<Address, Subscription>) {
        let mut maps = self.topology.watch();
        let mut tasks: HashMap<Address, watch::Sender<BTreeSet<usize>>> = HashMap::new();
        while self.listener.is_there() {
            let mut shards: HashMap<Address, BTreeSet<usize>> = maps
                .borrow_and_update()
                .shards()
                .into_iter()
                .map(|(address, partitions)| (address, partitions.into_iter().collect()))
                .collect();
            // Dropping the sender ends the task.
            tasks.retain(|address, wanted| match shards.remove(address) {
                Some(partitions) => {
                    wanted.send_if_modified(|known| {
                        let other = *known != partitions;
                        *known = partitions;
                        other
                    });
                    true
                }
                None => false,
            });
            for (address, partitions) in shards {
                let (wanted, wishes) = watch::channel(partitions);
                let subscription = first.remove(&address);
                tokio::spawn(self.clone().listen(address.clone(), wishes, subscription));
                tasks.insert(address, wanted);
            }
            // None of the maps to come changes what was established: what is left has no task.
            first.clear();
            // Looks up now and then, to end when nobody listens.
            if let Ok(Err(_)) = timeout(self.every, maps.changed()).await {
                return;
            }
        }
    }

    /// Listens to one master until it is none any more.
    async fn listen(
        self: Arc<Self>,
        address: Address,
        mut wishes: watch::Receiver<BTreeSet<usize>>,
        mut subscription: Option<Subscription>,
    ) {
        let longest = self.topology.target().reconnect;
        let mut wait = FIRST_WAIT;
        while self.listener.is_there() && wishes.has_changed().is_ok() {
            let wanted = wishes.borrow_and_update().clone();
            if subscription.is_none() {
                subscription = Subscription::open(&self.topology, &address, &self.listener).await.ok();
            }
            let outcome = match &mut subscription {
                Some(subscription) => self.attend(subscription, &mut wishes, &wanted).await,
                None => Err(StartError::NoAnswer("no connection".to_owned())),
            };
            match outcome {
                Ok(()) => wait = FIRST_WAIT,
                Err(reason) => {
                    if subscription.take().is_some() {
                        tracing::warn!(event = "topics_lost", redis = %address, %reason, "subscribing again");
                    }
                    self.topology.refresh();
                    // A change of what is wanted may be why.
                    let _ = timeout(jittered(wait), wishes.changed()).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// Subscribes to what is missing, then listens until something changes. An error ends the connection.
    async fn attend(
        &self,
        subscription: &mut Subscription,
        wishes: &mut watch::Receiver<BTreeSet<usize>>,
        wanted: &BTreeSet<usize>,
    ) -> Result<(), StartError> {
        let (listener, deadline) = (&*self.listener, self.topology.target().deadline);
        let fresh = subscription.subscribe(&self.topology, listener, wanted).await?;
        if !fresh.is_empty() {
            subscription.prove(listener, &self.proof, deadline).await?;
            tracing::info!(
                event = "topics_back",
                partitions = fresh.len(),
                "subscribed again; peers catch up"
            );
            listener.heard_again(&fresh);
        }
        // Each for itself, so that all the nodes of a deployment do not probe in step.
        let quiet = tokio::select! {
            _ = wishes.changed() => false,
            () = subscription.something() => false,
            () = sleep(jittered(self.every)) => true,
        };
        if subscription.is_broken() {
            return Err(StartError::NoAnswer("the connection is broken".to_owned()));
        }
        if subscription.forget_taken(listener) {
            self.topology.refresh();
            // What was taken is elsewhere now, or comes back here: the map says so in a moment.
            let _ = timeout(jittered(FIRST_WAIT), wishes.changed()).await;
        }
        if quiet { subscription.prove(listener, &self.proof, deadline).await } else { Ok(()) }
    }
}
