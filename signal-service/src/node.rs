//! One signaling node: what all its workers share, its start and its stop.
//!
//! Owns: putting store, registry and door together. Must not: know HTTP or a socket. Next: `app` for its routes, `connection` for
//! its sockets.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_access::{Control, Log, RedisLog};
use signalbox_config::Settings;
use signalbox_http::{Gate, Proxies};
use signalbox_protocol::{Bounds, WireLimits, id::NodeId, problem::Problem};
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::usage::UsageBook;
use signalbox_token::{TicketShelf, TokenError};
use signalbox_turn::IceBook;

use crate::{
    door::{Door, Wish},
    handle::HandleKeys,
    keeper,
    keys::TokenKeys,
    metrics::Metrics,
    registry::Registry,
    sweep,
    tickets::Tickets,
    usage::{self, Meter},
};
use signalbox_rooms::{
    room::{Input, Outcome},
    store::{self, Arrivals, RedisStore, StartError, Store, Unavailable},
    taken_back::{OnTakenBack, TakenBack},
};

/// A signaling node. Built once, outside the app factory, so that all workers share its rooms.
pub struct Signal {
    /// The settings in force.
    pub settings: Settings,
    /// Who is let in.
    pub door: Arc<Door>,
    /// The rooms it serves.
    pub registry: Arc<Registry>,
    pub(crate) handles: Arc<HandleKeys>,
    pub(crate) bounds: Bounds,
    wire_limits: WireLimits,
    /// What was taken back.
    pub control: Arc<Control>,
    pub(crate) proxies: Proxies,
    pub(crate) ice: IceBook,
    pub(crate) empty_metadata: Arc<RawValue>,
    /// What is counted for `/api/usage`, if anything is.
    pub(crate) meter: Option<Arc<Meter>>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The shared store cannot be used.
    #[error(transparent)]
    Store(#[from] StartError),
    /// Two metrics have one name: a fault of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Where a node keeps its rooms.
pub enum StoreChoice<'a> {
    /// In this process; operators hear of them through this.
    Memory(Option<FeedSender>),
    /// In Redis, at this URL.
    Redis(&'a str),
}

impl Signal {
    /// Starts a node: connects the store and, where it is shared, listens for other nodes.
    ///
    /// # Errors
    /// [`NodeError`], one line for the operator.
    pub fn start(
        settings: Settings,
        keys: TokenKeys,
        handles: HandleKeys,
        ice: IceBook,
        choice: StoreChoice<'_>,
    ) -> Result<Arc<Self>, NodeError> {
        let node = NodeId::random();
        let bounds = store::Bounds::new(&settings);
        let store = match choice {
            StoreChoice::Memory(feed) => Store::memory(bounds, feed),
            StoreChoice::Redis(url) => Store::Redis(RedisStore::connect_with(
                url,
                &settings.redis,
                bounds,
                signalbox_access::scripts(),
            )?),
        };
        let tickets = match &store {
            Store::Memory(_) => Tickets::Here(TicketShelf::default()),
            Store::Redis(redis) => Tickets::Shared(redis.shared_link().0),
        };
        let control = follow_rules(&store, settings.limits.rules as usize);
        let registry = Arc::new(Registry::new(node.clone(), store, &settings, Metrics::new()?));
        if let Store::Redis(redis) = &registry.hub().store {
            let arrivals: Arc<dyn Arrivals> = registry.clone();
            redis.listen(&node, Arc::downgrade(&arrivals))?;
        }
        registry.on_taken_back(keep_away(&control, &settings));
        keeper::start(&registry, &settings.timing);
        let counts = !settings.usage.kept.0.is_zero();
        let meter = counts.then(|| Meter::new(settings.usage.pairs as usize));
        meter.iter().for_each(|meter| usage::start(meter, &registry));
        let gate = Gate::new(&settings.server);
        let handles = Arc::new(handles);
        let door = Door::new(keys, tickets, handles.clone(), gate.allowed_hosts().to_vec(), &settings);
        sweep::start(&registry, &door, &control);
        door.keys().start(&registry.hub().metrics);
        tracing::info!(event = "node_started", node = %node);
        Ok(Arc::new(Self {
            door,
            registry,
            handles,
            bounds: wire_bounds(&settings),
            wire_limits: wire_limits(&settings),
            control,
            proxies: Proxies::new(&settings.server),
            ice,
            empty_metadata: RawValue::from_string("{}".to_owned()).unwrap_or_default().into(),
            meter,
            settings,
        }))
    }

    /// Whether new peers may come: the store answers, there are keys to check tokens with, and the node does not stop.
    ///
    /// # Errors
    /// 503 `draining` or `unavailable`.
    pub fn ready(&self) -> Result<(), Problem> {
        if self.door.is_draining() {
            Err(Problem::new(503, "draining", "this node is stopping"))
        } else if !self.registry.hub().store.is_ready() {
            Err(Problem::new(503, "unavailable", "Redis does not answer"))
        } else if !self.control.is_current() {
            Err(Problem::new(503, "unavailable", "this node does not know yet what was taken back"))
        } else {
            self.door.keys().ready()
        }
    }

    /// The usage counted in this process, where no other keeps it.
    pub fn usage_book(&self) -> Option<Arc<UsageBook>> {
        self.registry.hub().store.usage_book()
    }

    /// The limits that a client is told.
    pub(crate) fn wire_limits(&self) -> WireLimits {
        let limits = &self.registry.hub().limits;
        let (burst, rate_per_second) = limits.pace();
        let (room_peers, backlog) = (limits.room_peers(), limits.backlog());
        WireLimits { room_peers, burst, rate_per_second, backlog, ..self.wire_limits }
    }

    /// Everything it counts.
    pub fn metrics(&self) -> Vec<prometheus::proto::MetricFamily> {
        let metrics = &self.registry.hub().metrics;
        metrics.rules_are(&self.control);
        if let Some(age_s) = self.door.keys().age_s() {
            metrics.jwks_age.set(age_s);
        }
        metrics.gather()
    }

    /// What the room and the store say to a wish, before the `101`. Nothing is changed: a race may still be lost after it.
    ///
    /// # Errors
    /// 503 `unavailable`, 401 `resume_expired`, `resume_replaced` or `token_expired`.
    pub async fn consult(&self, wish: &Wish) -> Result<(), Problem> {
        let away = |Unavailable| {
            Problem::new(
                503,
                "unavailable",
                "the store does not answer; keep the token or handle and try again",
            )
        };
        if !self.registry.hub().store.is_open(wish.room()) {
            return Err(away(Unavailable));
        }
        let input = match wish {
            Wish::Join { .. } => return Ok(()),
            Wish::Resume { handle, .. } => Input::Attach(Box::new(self.claim(handle))),
            Wish::Replace { handle, peer } => {
                Input::Replace { old: Box::new(self.claim(handle)), peer: peer.clone(), mailbox: 1 }
            }
        };
        match self.registry.room(wish.room()).consult(input).await.map_err(away)? {
            Outcome::Replaced => {
                let detail = "a newer connection has this peer; do not come back with this handle";
                Err(Problem::new(401, "resume_replaced", detail))
            }
            Outcome::Expired => Err(TokenError::Expired.problem()),
            Outcome::Gone => {
                Err(Problem::new(401, "resume_expired", "the peer has left the room; join anew with a token"))
            }
            _ => Ok(()),
        }
    }
}

/// Whoever is removed does not come back with what it holds: its grant is taken back, for as long as something of it may be good.
fn keep_away(control: &Arc<Control>, settings: &Settings) -> OnTakenBack {
    let (control, life_ms) = (control.clone(), settings.longest_grant_ms());
    let runtime = tokio::runtime::Handle::current();
    Arc::new(move |who: TakenBack| {
        let control = control.clone();
        runtime.spawn(async move { control.take_grant_back(&who.token, life_ms, "room").await });
    })
}

/// What was taken back lives where the rooms live.
fn follow_rules(store: &Store, most: usize) -> Arc<Control> {
    match store {
        Store::Memory(_) => {
            let control = Control::new(Log::Memory(Arc::default()), most);
            tokio::spawn(Control::follow(&control));
            control
        }
        Store::Redis(redis) => {
            let (link, first) = redis.shared_link();
            let control = Control::new(Log::Redis(RedisLog::over(link.clone(), first)), most);
            link.spawn(Control::follow(&control));
            control
        }
    }
}

fn wire_bounds(settings: &Settings) -> Bounds {
    let limits = &settings.limits;
    Bounds {
        sdp: limits.sdp.0,
        candidate: limits.candidate.0,
        data: limits.data.0,
        metadata: limits.metadata.0,
    }
}

fn wire_limits(settings: &Settings) -> WireLimits {
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
