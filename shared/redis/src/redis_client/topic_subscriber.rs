//! The subscription to one topic of each partition, with one connection to each master.
//!
//! A healthy connection does not prove that messages arrive: the server may no longer be the master
//! that others publish to. So each connection is probed at intervals. After each gap the listener
//! gets the partitions: the last message before a gap has no successor that would show its loss.
//!
//! Owns: which master is subscribed to which topics. Must not: read a message. Next:
//! `topic_subscription` for the connection to one server.

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

use super::{
    RedisClient,
    topic_listener::{TopicListener, TopicProbe},
    topic_subscription::TopicSubscription,
};
use crate::{
    client_state::ClientState, jitter::with_jitter, redis_address::RedisAddress,
    redis_error::RedisStartError, shard_map::ShardMap,
};

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait before another attempt. It doubles up to `redis.reconnect`.
const FIRST_RESUBSCRIBE_WAIT: Duration = Duration::from_millis(50);

/// The partitions of each master.
type MasterPartitions = HashMap<RedisAddress, BTreeSet<usize>>;

/// See the module.
pub(super) struct TopicSubscriber<L> {
    state: Arc<ClientState>,
    /// Publishes the probes. A subscription does not keep its client alive.
    client: Weak<RedisClient>,
    listener: Arc<L>,
    probe: TopicProbe,
    probe_interval: Duration,
}

impl<L: TopicListener> TopicSubscriber<L> {
    /// A subscriber to all topics of `listener`. Each connection is probed every `probe_interval`.
    pub(super) fn new(
        client: &Arc<RedisClient>,
        listener: L,
        probe: TopicProbe,
        probe_interval: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: client.state.clone(),
            client: Arc::downgrade(client),
            listener: Arc::new(listener),
            probe,
            probe_interval,
        })
    }

    /// Subscribes to all topics. Returns when every connection has answered a probe. The
    /// subscription goes on until the listener is not active.
    ///
    /// # Errors
    /// [`RedisStartError`]: at once if an operator must change something, otherwise after 10 s.
    pub(super) async fn subscribe_all(self: Arc<Self>) -> Result<(), RedisStartError> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            match self.open_subscriptions().await {
                Ok(subscriptions) => {
                    tokio::spawn(self.follow_topology(subscriptions));
                    return Ok(());
                }
                Err(error) if error.needs_operator() || Instant::now() > end => return Err(error),
                Err(_) => sleep(with_jitter(Duration::from_millis(200))).await,
            }
        }
    }

    async fn open_subscriptions(&self) -> Result<HashMap<RedisAddress, TopicSubscription>, RedisStartError> {
        let map = self.state.topology.current_map();
        if !map.is_complete() {
            return Err(RedisStartError::NoAnswer("the masters are not known yet".to_owned()));
        }
        let opening = map.masters_with_partitions().into_iter().map(async |(address, partitions)| {
            let wanted = partitions.into_iter().collect();
            let subscription = self.open_subscription(&address, &wanted).await?;
            Ok((address, subscription))
        });
        Ok(try_join_all(opening).await?.into_iter().collect())
    }

    /// A connection that is subscribed to all wanted topics and has answered a probe.
    async fn open_subscription(
        &self,
        address: &RedisAddress,
        wanted: &BTreeSet<usize>,
    ) -> Result<TopicSubscription, RedisStartError> {
        let mut subscription =
            TopicSubscription::open_for_listener(&self.state, address, &self.listener).await?;
        let fresh = subscription.subscribe_missing(&self.state, &*self.listener, wanted).await?;
        if fresh.len() < wanted.len() {
            return Err(RedisStartError::NoAnswer("some topics are on another server".to_owned()));
        }
        self.probe_subscription(&mut subscription).await?;
        Ok(subscription)
    }

    async fn probe_subscription(&self, subscription: &mut TopicSubscription) -> Result<(), RedisStartError> {
        let deadline = self.state.target().deadline;
        // Without a client the process ends.
        let Some(client) = self.client.upgrade() else { return Ok(()) };
        subscription.check_server(&self.state, &client).await?;
        match self.probe {
            TopicProbe::AskRole => Ok(()),
            TopicProbe::PublishProbe => subscription.publish_probe(&client, &*self.listener, deadline).await,
        }
    }

    fn partitions_of_masters(maps: &mut watch::Receiver<Arc<ShardMap>>) -> MasterPartitions {
        let masters = maps.borrow_and_update().masters_with_partitions();
        masters.into_iter().map(|(address, partitions)| (address, partitions.into_iter().collect())).collect()
    }

    /// Runs one task for each master, and gives it the partitions to subscribe to.
    async fn follow_topology(self: Arc<Self>, mut opened: HashMap<RedisAddress, TopicSubscription>) {
        let mut maps = self.state.topology.watch_map();
        let mut tasks: HashMap<RedisAddress, watch::Sender<BTreeSet<usize>>> = HashMap::new();
        while self.listener.is_active() {
            let mut masters = Self::partitions_of_masters(&mut maps);
            // A task ends when its sender is dropped.
            tasks.retain(|address, wanted| match masters.remove(address) {
                Some(partitions) => {
                    wanted.send_if_modified(|known| {
                        let has_changed = *known != partitions;
                        *known = partitions;
                        has_changed
                    });
                    true
                }
                None => false,
            });
            for (address, partitions) in masters {
                let (sender, wanted) = watch::channel(partitions);
                let subscription = opened.remove(&address);
                tokio::spawn(self.clone().listen_to_master(address.clone(), wanted, subscription));
                tasks.insert(address, sender);
            }
            // A server that was opened and is no master now has no task.
            opened.clear();
            // The timeout ends this task soon after the listener stops being active.
            if let Ok(Err(_)) = timeout(self.probe_interval, maps.changed()).await {
                return;
            }
        }
    }

    /// Listens to one master until it is a master no longer.
    async fn listen_to_master(
        self: Arc<Self>,
        address: RedisAddress,
        mut partitions: watch::Receiver<BTreeSet<usize>>,
        mut subscription: Option<TopicSubscription>,
    ) {
        let topology = &self.state.topology;
        let mut wait = FIRST_RESUBSCRIBE_WAIT;
        while self.listener.is_active() && partitions.has_changed().is_ok() {
            let wanted = partitions.borrow_and_update().clone();
            if subscription.is_none() {
                let opened =
                    TopicSubscription::open_for_listener(&self.state, &address, &self.listener).await;
                subscription = opened.ok();
            }
            let outcome = match &mut subscription {
                Some(subscription) => self.listen_until_change(subscription, &mut partitions, &wanted).await,
                None => Err(RedisStartError::NoAnswer("no connection".to_owned())),
            };
            match outcome {
                Ok(()) => wait = FIRST_RESUBSCRIBE_WAIT,
                Err(reason) => {
                    if subscription.take().is_some() {
                        tracing::warn!(event = "topics_lost", redis = %address, %reason, "subscribing again");
                    }
                    topology.request_refresh();
                    // The reason may be that the partitions have changed.
                    let _ = timeout(with_jitter(wait), partitions.changed()).await;
                    wait = (wait * 2).min(self.state.target().max_reconnect_wait);
                }
            }
        }
    }

    /// Subscribes to the missing topics, then listens until something changes. After an error the
    /// connection is not used again.
    async fn listen_until_change(
        &self,
        subscription: &mut TopicSubscription,
        partitions: &mut watch::Receiver<BTreeSet<usize>>,
        wanted: &BTreeSet<usize>,
    ) -> Result<(), RedisStartError> {
        let (listener, topology) = (&*self.listener, &self.state.topology);
        let fresh = subscription.subscribe_missing(&self.state, listener, wanted).await?;
        if !fresh.is_empty() {
            self.probe_subscription(subscription).await?;
            let count = fresh.len();
            tracing::info!(event = "topics_back", partitions = count, "subscribed again; peers catch up");
            listener.on_gap(&fresh);
        }
        // With jitter, so that the nodes of a deployment do not probe at the same moment.
        let is_quiet = tokio::select! {
            _ = partitions.changed() => false,
            () = subscription.wait_for_change() => false,
            () = sleep(with_jitter(self.probe_interval)) => true,
        };
        if subscription.is_broken() {
            return Err(RedisStartError::NoAnswer("the connection is broken".to_owned()));
        }
        if subscription.drop_removed_topics(self.state.names(), listener) {
            topology.request_refresh();
            // A removed topic is on another server now, or returns to this one. The next map shows
            // it.
            let _ = timeout(with_jitter(FIRST_RESUBSCRIBE_WAIT), partitions.changed()).await;
        }
        if is_quiet { self.probe_subscription(subscription).await } else { Ok(()) }
    }
}
