//! One signaling node: the parts that its workers share, and its start.
//!
//! Owns: the construction of store, registry and admission. Must not: know HTTP or a socket. Next:
//! `app` for the routes, `connection` for the sockets, `drain` for the stop of the node.

use std::sync::Arc;

use signalbox_access::{AccessControl, GrantRevocation, RedisRuleLog, RuleLimits, RuleLog, RuleProof};
use signalbox_config::{ConfigReload, LiveValue, LoadedConfig, ServiceSettings};
use signalbox_http::RequestGate;
use signalbox_protocol::{
    id::{NodeId, RoomId},
    problem::Problem,
};
use signalbox_redis::{RedisClient, RedisStartError};
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::usage::MemoryUsageStore;
use signalbox_token::MemoryTicketStore;
use signalbox_turn::IceDirectory;

use crate::{
    access_enforcer,
    admission::AdmissionControl,
    effective_limits::EffectiveLimits,
    maintenance,
    node_context::NodeContext,
    node_metrics::{self, NodeMetrics},
    registry::RoomRegistry,
    resume_handle::HandleKeys,
    ticket_store::TicketStore,
    timeline_writer::TimelineWriter,
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
    pub settings: LiveValue<ServiceSettings>,
    /// The admission control of new connections.
    pub admission: Arc<AdmissionControl>,
    /// The rooms with peers on this node.
    pub registry: Arc<RoomRegistry>,
    pub(crate) handle_keys: Arc<HandleKeys>,
    /// The access rules.
    pub access_control: Arc<AccessControl>,
    pub(crate) ice_directory: IceDirectory,
    /// The usage of this node, unless `usage.kept` is zero.
    pub(crate) usage_meter: Option<Arc<UsageMeter>>,
    pub(crate) timeline_writer: TimelineWriter,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Redis cannot be used.
    #[error(transparent)]
    Store(#[from] RedisStartError),
    /// Two metrics have the same name, which is a fault of the program.
    #[error("the metrics could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The place where a node keeps its rooms.
pub enum StoreConfig {
    /// The memory of this process; the sender takes the events of the feed.
    Memory(Option<FeedSender>),
    /// Redis, through the client of the process, and how the process proves access rules there.
    Redis(Arc<RedisClient>, RuleProof),
}

impl SignalNode {
    /// Starts a node: connects the store, and with Redis subscribes to the topics of the node.
    ///
    /// # Errors
    /// [`NodeError`], one line for the operator.
    pub fn start(
        settings: ServiceSettings,
        token_keys: TokenKeys,
        handle_keys: HandleKeys,
        ice_directory: IceDirectory,
        gate: RequestGate,
        store_config: StoreConfig,
    ) -> Result<Arc<Self>, NodeError> {
        let node_id = NodeId::random();
        let limits = store::StoreLimits::new(&settings);
        let rule_limits = RuleLimits::new(&settings.limits);
        let (store, tickets, access_control) = match store_config {
            StoreConfig::Memory(feed) => {
                let access_control = AccessControl::new(RuleLog::Memory(Arc::default()), rule_limits);
                tokio::spawn(AccessControl::follow_log(&access_control));
                let tickets = TicketStore::Memory(MemoryTicketStore::default());
                (RoomStore::in_memory(limits, feed), tickets, access_control)
            }
            StoreConfig::Redis(client, proof) => {
                let store = RedisRoomStore::new(client.clone(), limits);
                let access_control =
                    AccessControl::new(RuleLog::Redis(RedisRuleLog::new(client.clone(), proof)), rule_limits);
                client.wait_until_ready()?;
                client.spawn(AccessControl::follow_log(&access_control));
                (RoomStore::Redis(store), TicketStore::Redis(client), access_control)
            }
        };
        let registry = Arc::new(RoomRegistry::new(NodeContext::new(
            node_id.clone(),
            store,
            &settings,
            NodeMetrics::new()?,
        )));
        if let RoomStore::Redis(redis) = &registry.context().store {
            let store_events: Arc<dyn StoreEvents> = registry.clone();
            redis.subscribe_topics(&node_id, Arc::downgrade(&store_events))?;
        }
        registry.context().set_removal_hook(build_removal_hook(&access_control, &settings));
        maintenance::start_maintenance(&registry, &settings.timing);
        let counts_usage = !settings.usage.kept.0.is_zero();
        let usage_meter = counts_usage.then(|| UsageMeter::new(settings.usage.pairs as usize));
        usage_meter.iter().for_each(|meter| usage_meter::start_usage_flush(meter, &registry));
        let timeline_writer = TimelineWriter::start(&registry);
        let handle_keys = Arc::new(handle_keys);
        let admission = AdmissionControl::new(
            token_keys,
            tickets,
            handle_keys.clone(),
            access_control.clone(),
            registry.clone(),
            gate,
            &settings,
        );
        access_enforcer::start_access_enforcer(&registry, &admission, &access_control);
        admission.token_keys().start_fetching(&registry.context().metrics);
        tokio::spawn(fetch_keys_of_rules(admission.clone(), access_control.clone()));
        tracing::info!(event = "node_started", node = %node_id);
        bound_connections(&registry.context().limits, signalbox_http::file_limit());
        Ok(Arc::new(Self {
            admission,
            registry,
            handle_keys,
            access_control,
            ice_directory,
            usage_meter,
            timeline_writer,
            settings: LiveValue::new(settings),
        }))
    }

    /// Puts a new configuration in force. Open connections keep the sizes that their first frame
    /// named; the other limits apply to them within a second.
    pub fn reload(&self, reload: &ConfigReload) {
        let LoadedConfig { settings, secrets, .. } = &reload.config;
        let context = self.registry.context();
        self.admission.gate().reload(&settings.server);
        self.ice_directory.reload(settings, &secrets.turn_secrets);
        context.limits.reload(settings);
        context.store.set_limits(context.limits.store_limits());
        self.settings.replace(settings.clone());
    }

    /// Whether the node can admit peers: it does not drain, the store answers, the access rules are
    /// current, and there are keys that verify tokens.
    ///
    /// # Errors
    /// 503 `draining` or `unavailable`.
    pub fn check_ready(&self) -> Result<(), Problem> {
        if self.admission.is_draining() {
            return Err(Problem::new(503, "draining", "this node is draining; connect to another node"));
        }
        self.registry.context().store.check_ready().map_err(|error| error.to_problem())?;
        if !self.access_control.is_current() {
            let detail = "this node has not loaded the access rules yet; try again later";
            return Err(Problem::new(503, "unavailable", detail));
        }
        self.admission.token_keys().check_ready()
    }

    /// The usage of this process, if its store is the memory of the process.
    pub fn usage_book(&self) -> Option<Arc<MemoryUsageStore>> {
        self.registry.context().store.usage_book()
    }

    /// All metrics of the node.
    pub fn gather_metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        let metrics = &self.registry.context().metrics;
        metrics.set_access_rules(&self.access_control);
        metrics.set_connection_limit(self.registry.context().limits.connections());
        metrics.set_socket_bytes(self.registry.context().socket_budget.used_bytes());
        metrics.set_store_memory_level(self.registry.context().store.memory_level());
        if let Some(age_s) = self.admission.token_keys().key_set_age_s() {
            metrics.jwks_age_seconds.set(age_s);
        }
        let mut families = metrics.gather_families();
        families.extend(node_metrics::redis_refusals(&self.registry.context().store.refusal_counts()));
        families
    }
}

/// A node without a free file could not even refuse a client: the client would wait in vain, and the
/// edge would not try the next node.
fn bound_connections(limits: &EffectiveLimits, file_limit: Option<u64>) {
    let (wanted, most) = (limits.connections(), signalbox_http::connections_within(file_limit));
    limits.set_max_connections(most);
    if limits.connections() < wanted {
        tracing::warn!(
            event = "few_open_files",
            open_files = file_limit,
            connections = most,
            wanted,
            "this process may open too few files for limits.connections, so it admits fewer connections; raise the limit (LimitNOFILE= of systemd, ulimit -n, SIGNALBOX_NOFILE of docker-compose.yml), or lower limits.connections"
        );
    }
}

/// Fetches the published keys when a rule is not authentic: its key may be new.
async fn fetch_keys_of_rules(admission: Arc<AdmissionControl>, access_control: Arc<AccessControl>) {
    loop {
        access_control.wait_for_rejected_rules().await;
        if admission.token_keys().refresh_keys().await {
            access_control.request_audit();
        }
    }
}

/// A hook that revokes the grant of a removed peer, so that the peer cannot return with its token,
/// ticket or handle, also when its room has ended. The revocation lasts as long as any credential of
/// the grant may be valid.
fn build_removal_hook(access_control: &Arc<AccessControl>, settings: &ServiceSettings) -> RemovalHook {
    let (access_control, longest_ms) = (access_control.clone(), settings.max_grant_life_ms());
    let runtime = tokio::runtime::Handle::current();
    Arc::new(move |room: &RoomId, removed: RemovedPeer| {
        let access_control = access_control.clone();
        let revocation = GrantRevocation {
            life_ms: removed.grant_life_ms(access_control.now_ms(), longest_ms),
            charged_to: removed.root.to_string().into(),
            room: room.clone(),
            token: removed.token,
        };
        runtime.spawn(async move { access_control.revoke_grant(revocation).await });
    })
}
