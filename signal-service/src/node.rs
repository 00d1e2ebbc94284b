//! One signaling node: the parts that all its workers share, and its start.
//!
//! Owns: the construction of store, registry and admission. Must not: know HTTP or a socket. Next:
//! `app` for the routes, `connection` for the sockets, `drain` for the stop.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_access::{AccessControl, RedisRuleLog, RuleLog};
use signalbox_config::ServiceSettings;
use signalbox_protocol::{MessageLimits, id::NodeId, problem::Problem};
use signalbox_redis::{RedisClient, RedisStartError};
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::usage::MemoryUsageStore;
use signalbox_token::MemoryTicketStore;
use signalbox_turn::IceDirectory;

use crate::{
    access_enforcer,
    admission::AdmissionControl,
    maintenance,
    node_context::NodeContext,
    node_metrics::NodeMetrics,
    registry::RoomRegistry,
    resume_handle::HandleKeys,
    ticket_store::TicketStore,
    token_keys::TokenKeys,
    usage_meter::{self, UsageMeter},
};
use signalbox_rooms::{
    removal::{RemovalHook, RemovedPeer},
    store::{self, RedisRoomStore, RoomStore, StoreEvents},
};

/// A signaling node. Built once, outside the app factory, so that all workers share its rooms.
pub struct SignalNode {
    /// The settings in force.
    pub settings: ServiceSettings,
    /// Who is let in.
    pub admission: Arc<AdmissionControl>,
    /// The rooms it serves.
    pub registry: Arc<RoomRegistry>,
    pub(crate) handle_keys: Arc<HandleKeys>,
    pub(crate) message_limits: MessageLimits,
    /// What was taken back.
    pub access_control: Arc<AccessControl>,
    pub(crate) ice_directory: IceDirectory,
    pub(crate) empty_metadata: Arc<RawValue>,
    /// What is counted for `/api/usage`, if anything is.
    pub(crate) usage_meter: Option<Arc<UsageMeter>>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The shared store cannot be used.
    #[error(transparent)]
    Store(#[from] RedisStartError),
    /// Two metrics have one name: a fault of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Where a node keeps its rooms.
pub enum StoreConfig {
    /// In this process; operators hear of them through this.
    Memory(Option<FeedSender>),
    /// In Redis, through the client of the process.
    Redis(Arc<RedisClient>),
}

impl SignalNode {
    /// Starts a node: connects the store and, where it is shared, listens for other nodes.
    ///
    /// # Errors
    /// [`NodeError`], one line for the operator.
    pub fn start(
        settings: ServiceSettings,
        keys: TokenKeys,
        handles: HandleKeys,
        ice: IceDirectory,
        choice: StoreConfig,
    ) -> Result<Arc<Self>, NodeError> {
        let node = NodeId::random();
        let bounds = store::StoreLimits::new(&settings);
        let max_rules = settings.limits.rules as usize;
        let (store, tickets, control) = match choice {
            StoreConfig::Memory(feed) => {
                let control = AccessControl::new(RuleLog::Memory(Arc::default()), max_rules);
                tokio::spawn(AccessControl::follow_log(&control));
                let tickets = TicketStore::Memory(MemoryTicketStore::default());
                (RoomStore::in_memory(bounds, feed), tickets, control)
            }
            StoreConfig::Redis(client) => {
                let store = RedisRoomStore::new(client.clone(), bounds);
                let control =
                    AccessControl::new(RuleLog::Redis(RedisRuleLog::new(client.clone())), max_rules);
                client.wait_until_ready()?;
                client.spawn(AccessControl::follow_log(&control));
                (RoomStore::Redis(store), TicketStore::Redis(client), control)
            }
        };
        let registry = Arc::new(RoomRegistry::new(NodeContext::new(
            node.clone(),
            store,
            &settings,
            NodeMetrics::new()?,
        )));
        if let RoomStore::Redis(redis) = &registry.context().store {
            let arrivals: Arc<dyn StoreEvents> = registry.clone();
            redis.subscribe_topics(&node, Arc::downgrade(&arrivals))?;
        }
        registry.context().set_removal_hook(build_removal_hook(&control, &settings));
        maintenance::start_maintenance(&registry, &settings.timing);
        let counts = !settings.usage.kept.0.is_zero();
        let meter = counts.then(|| UsageMeter::new(settings.usage.pairs as usize));
        meter.iter().for_each(|meter| usage_meter::start_usage_flush(meter, &registry));
        let handles = Arc::new(handles);
        let door = AdmissionControl::new(
            keys,
            tickets,
            handles.clone(),
            control.clone(),
            registry.clone(),
            &settings,
        );
        access_enforcer::start_access_enforcer(&registry, &door, &control);
        door.token_keys().start_fetching(&registry.context().metrics);
        tracing::info!(event = "node_started", node = %node);
        Ok(Arc::new(Self {
            admission: door,
            registry,
            handle_keys: handles,
            message_limits: build_message_limits(&settings),
            access_control: control,
            ice_directory: ice,
            empty_metadata: RawValue::from_string("{}".to_owned()).unwrap_or_default().into(),
            usage_meter: meter,
            settings,
        }))
    }

    /// Whether new peers may come: the store answers, there are keys to check tokens with, and the
    /// node does not stop.
    ///
    /// # Errors
    /// 503 `draining` or `unavailable`.
    pub fn check_ready(&self) -> Result<(), Problem> {
        if self.admission.is_draining() {
            Err(Problem::new(503, "draining", "this node is stopping"))
        } else if !self.registry.context().store.is_ready() {
            Err(Problem::new(503, "unavailable", "Redis does not answer"))
        } else if !self.access_control.is_current() {
            Err(Problem::new(503, "unavailable", "this node does not know yet what was taken back"))
        } else {
            self.admission.token_keys().check_ready()
        }
    }

    /// The usage counted in this process, where no other keeps it.
    pub fn usage_book(&self) -> Option<Arc<MemoryUsageStore>> {
        self.registry.context().store.usage_book()
    }

    /// Everything it counts.
    pub fn gather_metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        let metrics = &self.registry.context().metrics;
        metrics.set_access_rules(&self.access_control);
        if let Some(age_s) = self.admission.token_keys().key_set_age_s() {
            metrics.jwks_age_seconds.set(age_s);
        }
        metrics.gather_families()
    }
}

/// Whoever is removed does not come back with what it holds: its grant is taken back, for as long
/// as something of it may be good.
fn build_removal_hook(control: &Arc<AccessControl>, settings: &ServiceSettings) -> RemovalHook {
    let (control, life_ms) = (control.clone(), settings.max_grant_life_ms());
    let runtime = tokio::runtime::Handle::current();
    Arc::new(move |who: RemovedPeer| {
        let control = control.clone();
        runtime.spawn(async move { control.revoke_grant(&who.token, life_ms, "room").await });
    })
}

fn build_message_limits(settings: &ServiceSettings) -> MessageLimits {
    let limits = &settings.limits;
    MessageLimits {
        sdp: limits.sdp.0,
        candidate: limits.candidate.0,
        data: limits.data.0,
        metadata: limits.metadata.0,
    }
}
