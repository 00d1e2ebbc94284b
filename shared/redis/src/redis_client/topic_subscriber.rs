//! One topic of every partition, heard wherever the partition is: a connection of its own to each master.
//!
//! A healthy connection proves nothing: it may be to a server that nobody publishes to any more. So each is proven now and then, and after
//! every gap the listener is told which partitions had one, because the last message before it has no successor that would show it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    jitter::with_jitter,
    redis_address::RedisAddress,
    redis_client::{
        topic_listener::{TopicListener, TopicProbe},
        topic_subscription::TopicSubscription,
    },
    redis_error::RedisStartError,
    redis_topology::RedisTopology,
};

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait before another attempt; doubled up to `redis.reconnect`.
const FIRST_RESUBSCRIBE_WAIT: Duration = Duration::from_millis(50);

/// See the module.
pub struct TopicSubscriber<L> {
    topology: Arc<RedisTopology>,
    listener: Arc<L>,
    probe: TopicProbe,
    probe_interval: Duration,
}

impl<L: TopicListener> TopicSubscriber<L> {
    /// Listens to all topics of `listener`, proving each connection `every` so often.
    pub fn new(topology: Arc<RedisTopology>, listener: L, proof: TopicProbe, every: Duration) -> Arc<Self> {
        Arc::new(Self { topology, listener: Arc::new(listener), probe: proof, probe_interval: every })
    }

    /// Subscribes everywhere; returns when every connection is proven. It goes on until the listener is not there any more.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once what waiting does not mend, the rest after 10 s.
    pub async fn subscribe_all(self: Arc<Self>) -> Result<(), RedisStartError> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            let shards = self.topology.current_map().masters_with_partitions();
            let connecting = shards.into_iter().map(async |(address, partitions)| {
                let wanted = partitions.into_iter().collect();
                Ok((address.clone(), self.open_subscription(&address, &wanted).await?))
            });
            match try_join_all(connecting).await {
                Ok(subscriptions) => {
                    tokio::spawn(self.follow_topology(subscriptions.into_iter().collect()));
                    return Ok(());
                }
                Err::<_, RedisStartError>(error) if error.needs_operator() || Instant::now() > end => {
                    return Err(error);
                }
                Err(_) => sleep(with_jitter(Duration::from_millis(200))).await,
            }
        }
    }

    /// A connection on which all that is wanted is heard.
    async fn open_subscription(
        &self,
        address: &RedisAddress,
        wanted: &BTreeSet<usize>,
    ) -> Result<TopicSubscription, RedisStartError> {
        let mut subscription =
            TopicSubscription::open_for_listener(&self.topology, address, &self.listener).await?;
        let fresh = subscription.subscribe_missing(&self.topology, &*self.listener, wanted).await?;
        if fresh.len() < wanted.len() {
            return Err(RedisStartError::NoAnswer("some topics are elsewhere".to_owned()));
        }
        subscription.probe_connection(&*self.listener, &self.probe, self.topology.target().deadline).await?;
        Ok(subscription)
    }

    /// Has one task for each master, and tells it what to listen to.
    async fn follow_topology(self: Arc<Self>, mut first: HashMap<RedisAddress, TopicSubscription>) {
        let mut maps = self.topology.watch_map();
        let mut tasks: HashMap<RedisAddress, watch::Sender<BTreeSet<usize>>> = HashMap::new();
        while self.listener.is_active() {
            let mut shards: HashMap<RedisAddress, BTreeSet<usize>> = maps
                .borrow_and_update()
                .masters_with_partitions()
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
                tokio::spawn(self.clone().listen_to_master(address.clone(), wishes, subscription));
                tasks.insert(address, wanted);
            }
            // None of the maps to come changes what was established: what is left has no task.
            first.clear();
            // Looks up now and then, to end when nobody listens.
            if let Ok(Err(_)) = timeout(self.probe_interval, maps.changed()).await {
                return;
            }
        }
    }

    /// Listens to one master until it is none any more.
    async fn listen_to_master(
        self: Arc<Self>,
        address: RedisAddress,
        mut wishes: watch::Receiver<BTreeSet<usize>>,
        mut subscription: Option<TopicSubscription>,
    ) {
        let longest = self.topology.target().max_reconnect_wait;
        let mut wait = FIRST_RESUBSCRIBE_WAIT;
        while self.listener.is_active() && wishes.has_changed().is_ok() {
            let wanted = wishes.borrow_and_update().clone();
            if subscription.is_none() {
                subscription =
                    TopicSubscription::open_for_listener(&self.topology, &address, &self.listener).await.ok();
            }
            let outcome = match &mut subscription {
                Some(subscription) => self.listen_until_change(subscription, &mut wishes, &wanted).await,
                None => Err(RedisStartError::NoAnswer("no connection".to_owned())),
            };
            match outcome {
                Ok(()) => wait = FIRST_RESUBSCRIBE_WAIT,
                Err(reason) => {
                    if subscription.take().is_some() {
                        tracing::warn!(event = "topics_lost", redis = %address, %reason, "subscribing again");
                    }
                    self.topology.request_refresh();
                    // A change of what is wanted may be why.
                    let _ = timeout(with_jitter(wait), wishes.changed()).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// Subscribes to what is missing, then listens until something changes. An error ends the connection.
    async fn listen_until_change(
        &self,
        subscription: &mut TopicSubscription,
        wishes: &mut watch::Receiver<BTreeSet<usize>>,
        wanted: &BTreeSet<usize>,
    ) -> Result<(), RedisStartError> {
        let (listener, deadline) = (&*self.listener, self.topology.target().deadline);
        let fresh = subscription.subscribe_missing(&self.topology, listener, wanted).await?;
        if !fresh.is_empty() {
            subscription.probe_connection(listener, &self.probe, deadline).await?;
            tracing::info!(
                event = "topics_back",
                partitions = fresh.len(),
                "subscribed again; peers catch up"
            );
            listener.on_gap(&fresh);
        }
        // Each for itself, so that all the nodes of a deployment do not probe in step.
        let quiet = tokio::select! {
            _ = wishes.changed() => false,
            () = subscription.wait_for_change() => false,
            () = sleep(with_jitter(self.probe_interval)) => true,
        };
        if subscription.is_broken() {
            return Err(RedisStartError::NoAnswer("the connection is broken".to_owned()));
        }
        if subscription.drop_removed_topics(listener) {
            self.topology.request_refresh();
            // What was taken is elsewhere now, or comes back here: the map says so in a moment.
            let _ = timeout(with_jitter(FIRST_RESUBSCRIBE_WAIT), wishes.changed()).await;
        }
        if quiet { subscription.probe_connection(listener, &self.probe, deadline).await } else { Ok(()) }
    }
}
