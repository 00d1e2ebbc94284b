//! One signaling node: what all its workers share, its start and its stop.
//!
//! Owns: putting store, registry and door together. Must not: know HTTP or a socket. Next: `app` for its routes, `connection` for
//! its sockets.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_access::{AccessControl, RedisRuleLog, RuleLog};
use signalbox_config::ServiceSettings;
use signalbox_http::{RequestGate, TrustedProxies};
use signalbox_protocol::{MessageLimits, WireLimits, id::NodeId, problem::Problem};
use signalbox_redis::{RedisClient, RedisStartError};
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::usage::MemoryUsageStore;
use signalbox_token::{MemoryTicketStore, TokenError};
use signalbox_turn::IceDirectory;

use crate::{
    access_enforcer,
    admission::{AdmissionControl, ConnectIntent},
    maintenance,
    node_metrics::NodeMetrics,
    registry::RoomRegistry,
    resume_handle::HandleKeys,
    ticket_store::TicketStore,
    token_keys::TokenKeys,
    usage_meter::{self, UsageMeter},
};
use signalbox_rooms::{
    removal::{RemovalHook, RemovedPeer},
    room::{InputOutcome, RoomInput},
    store::{self, RedisRoomStore, RoomStore, StoreEvents, StoreUnavailable},
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
    wire_limits: WireLimits,
    /// What was taken back.
    pub access_control: Arc<AccessControl>,
    pub(crate) trusted_proxies: TrustedProxies,
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
        let registry = Arc::new(RoomRegistry::new(node.clone(), store, &settings, NodeMetrics::new()?));
        if let RoomStore::Redis(redis) = &registry.context().store {
            let arrivals: Arc<dyn StoreEvents> = registry.clone();
            redis.subscribe_topics(&node, Arc::downgrade(&arrivals))?;
        }
        registry.set_removal_hook(build_removal_hook(&control, &settings));
        maintenance::start_maintenance(&registry, &settings.timing);
        let counts = !settings.usage.kept.0.is_zero();
        let meter = counts.then(|| UsageMeter::new(settings.usage.pairs as usize));
        meter.iter().for_each(|meter| usage_meter::start_usage_flush(meter, &registry));
        let gate = RequestGate::new(&settings.server);
        let handles = Arc::new(handles);
        let door =
            AdmissionControl::new(keys, tickets, handles.clone(), gate.allowed_hosts().to_vec(), &settings);
        access_enforcer::start_access_enforcer(&registry, &door, &control);
        door.token_keys().start_fetching(&registry.context().metrics);
        tracing::info!(event = "node_started", node = %node);
        Ok(Arc::new(Self {
            admission: door,
            registry,
            handle_keys: handles,
            message_limits: build_message_limits(&settings),
            wire_limits: configured_wire_limits(&settings),
            access_control: control,
            trusted_proxies: TrustedProxies::new(&settings.server),
            ice_directory: ice,
            empty_metadata: RawValue::from_string("{}".to_owned()).unwrap_or_default().into(),
            usage_meter: meter,
            settings,
        }))
    }

    /// Whether new peers may come: the store answers, there are keys to check tokens with, and the node does not stop.
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

    /// The limits that a client is told.
    pub(crate) fn current_wire_limits(&self) -> WireLimits {
        let limits = &self.registry.context().limits;
        let (burst, rate_per_second) = limits.burst_and_rate();
        let (room_peers, backlog) = (limits.room_peers(), limits.backlog());
        WireLimits { room_peers, burst, rate_per_second, backlog, ..self.wire_limits }
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

    /// What the room and the store say to a wish, before the `101`. Nothing is changed: a race may still be lost after it.
    ///
    /// # Errors
    /// 503 `unavailable`, 401 `resume_expired`, `resume_replaced` or `token_expired`.
    pub async fn check_intent(&self, wish: &ConnectIntent) -> Result<(), Problem> {
        let away = |StoreUnavailable| {
            Problem::new(
                503,
                "unavailable",
                "the store does not answer; keep the token or handle and try again",
            )
        };
        if !self.registry.context().store.is_room_available(wish.room_id()) {
            return Err(away(StoreUnavailable));
        }
        let input = match wish {
            ConnectIntent::Join { .. } => return Ok(()),
            ConnectIntent::Resume { handle, .. } => RoomInput::Attach(Box::new(self.build_claim(handle))),
            ConnectIntent::Replace { handle, peer } => RoomInput::Replace {
                old_peer: Box::new(self.build_claim(handle)),
                new_peer: peer.clone(),
                mailbox_version: 1,
            },
        };
        match self.registry.get_or_create_room(wish.room_id()).preview_outcome(input).await.map_err(away)? {
            InputOutcome::Fenced => {
                let detail = "a newer connection has this peer; do not come back with this handle";
                Err(Problem::new(401, "resume_replaced", detail))
            }
            InputOutcome::TokenExpired => Err(TokenError::Expired.to_problem()),
            InputOutcome::PeerGone => {
                Err(Problem::new(401, "resume_expired", "the peer has left the room; join anew with a token"))
            }
            _ => Ok(()),
        }
    }
}

/// Whoever is removed does not come back with what it holds: its grant is taken back, for as long as something of it may be good.
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

fn configured_wire_limits(settings: &ServiceSettings) -> WireLimits {
    let limits = &settings.limits;
    WireLimits {
        frame_bytes: limits.frame.0 as u64,
        sdp_bytes: limits.sdp.0 as u64,
        candidate_bytes: limits.candidate.0 as u64,
        data_bytes: limits.data.0 as u64,
        metadata_bytes: limits.metadata.0 as u64,
        room_peers: limits.room_peers,
        burst: limits.burst,
        rate_per_second: limits.rate,
        backlog: limits.backlog,
    }
}
