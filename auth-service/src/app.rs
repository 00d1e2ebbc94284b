//! The standalone process: settings in, a server until SIGTERM or SIGINT.

use std::sync::Arc;

use actix_web::{App, HttpServer, middleware::from_fn, web};
use signalbox_access::{Control, Log, RedisLog};
use signalbox_config::{self as config, Loaded, Secrets, Settings};
use signalbox_http::{
    Gate, HEAD_DEADLINE, KEEP_ALIVE, ListenError, gate, health, listener, metrics_response, not_found,
    resource, stop_signal,
};
use signalbox_protocol::{clock, problem::Problem};
use signalbox_rooms::feed::{FEED_BACKLOG, FeedSender};
use signalbox_rooms::{
    clerk::{Clerk, Rooms},
    taken_back::TakenBack,
};
use signalbox_token::TicketShelf;
use signalbox_turn::IceBook;
use tokio::sync::broadcast;

use crate::{
    AuthParts, AuthState, BadState, configure, feed,
    keys::{KeysError, SigningKeys},
    link::SharedLink,
    store::{AuthStore, RedisStore, StoreError},
    usage::UsageReader,
    webhooks::{Source, Webhooks, WebhooksError},
};

/// Why the process does not start, or ends: one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing to sign with.
    #[error(
        "AUTH_SECRET is not set, and neither is auth.keys_dir: nothing can be signed; make a key with: signalbox keys new --dir D, or a secret with: openssl rand -base64 48"
    )]
    NoSecret,
    /// The folder of keys will not do.
    #[error("auth.keys_dir: {0}")]
    Keys(#[from] KeysError),
    /// The address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store will not do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's address will not do.
    #[error("REDIS_URL is not usable: {0}")]
    Feed(#[from] signalbox_redis::StartError),
    /// What is told over HTTP cannot be.
    #[error(transparent)]
    Webhooks(#[from] WebhooksError),
    /// The service cannot be put together.
    #[error(transparent)]
    State(#[from] BadState),
    /// The runtime.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl StartError {
    /// The exit code: 2 for a configuration to be mended, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSecret
            | Self::Webhooks(WebhooksError::NoSecret(_))
            | Self::Keys(_)
            | Self::State(BadState::Providers(_))
            | Self::Feed(_)
            | Self::Store(StoreError::BadUrl(_)) => 2,
            _ => 1,
        }
    }
}

/// Serves until told to stop.
///
/// # Errors
/// [`StartError`], for the operator.
pub async fn serve(loaded: Loaded) -> Result<(), StartError> {
    let Loaded { settings, secrets, .. } = loaded;
    let keys = signing_keys(&settings, &secrets)?;
    let guests = settings.auth.guests.unwrap_or(false);
    if secrets.api_keys.is_empty() && !guests {
        tracing::warn!("nobody can get a token: set SIGNALBOX_API_KEYS, or turn guests on");
    }
    let listener = listener(settings.server.listen)?;
    let shared = secrets.redis_url.as_ref().map(|url| SharedLink::open(url.expose(), &settings.redis));
    let (feed, store) = match &secrets.redis_url {
        Some(url) => {
            let store = open_store(url.expose(), &settings.redis).await?;
            (feed::over_redis(url.expose(), &settings.redis)?, Some(Arc::new(store)))
        }
        None => (alone(), None),
    };
    tokio::spawn(keys.clone().follow());
    let control = follow_rules(&settings, &secrets)?;
    let ice = IceBook::new(&settings, &secrets.turn);
    let rooms = match &secrets.redis_url {
        Some(url) => Some(clerk(url.expose(), &settings, &control)?),
        None => None,
    };
    let source = shared.clone().map_or(Source::Feed, Source::Redis);
    let webhooks = Webhooks::start(&settings, &secrets.webhooks, source, &feed)?;
    let parts = AuthParts {
        keys,
        api_keys: secrets.api_keys,
        user_secret: secrets.user,
        guests,
        feed,
        control,
        ice,
        rooms,
        webhooks: webhooks.clone(),
        usage: shared.map_or(UsageReader::None, UsageReader::Redis),
        store: store.clone().map_or_else(|| AuthStore::memory(TicketShelf::default()), AuthStore::Redis),
    };
    let state = web::Data::new(AuthState::new(&settings, parts)?);
    let gate_rules = web::Data::new(Gate::new(&settings.server));
    let (stopping, told_to_stop) = (state.clone(), stop_signal()?);
    let app = move || {
        let (state, store) = (state.clone(), store.clone());
        App::new()
            .app_data(gate_rules.clone())
            .wrap(from_fn(gate))
            .configure(configure(state.clone()))
            .configure(operations(state, store))
            .default_service(web::to(not_found))
    };
    let mut server = HttpServer::new(app)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_DEADLINE)
        .shutdown_timeout(settings.timing.drain.0.as_secs().max(1))
        .shutdown_signal(async move {
            told_to_stop.await;
            tracing::info!("stopping");
            stopping.stop();
        });
    if settings.server.workers > 0 {
        server = server.workers(settings.server.workers);
    }
    tracing::info!(listen = %settings.server.listen, "the auth service is ready");
    server.listen(listener)?.run().await?;
    if let Some(webhooks) = webhooks {
        webhooks.stop().await;
    }
    Ok(())
}

/// The folder where one is set, and with it tokens by a shared secret only if that is set too; else the shared secret.
fn signing_keys(settings: &Settings, secrets: &Secrets) -> Result<Arc<SigningKeys>, StartError> {
    let (secret, previous) = (secrets.auth.as_ref(), secrets.auth_previous.as_ref());
    match (&settings.auth.keys_dir, secret) {
        (Some(folder), _) => {
            let secrets = secret.into_iter().chain(previous);
            Ok(SigningKeys::in_folder(folder.clone(), &settings.auth, secrets, clock::now_s())?)
        }
        (None, Some(secret)) => Ok(SigningKeys::shared(secret, previous)),
        (None, None) => Err(StartError::NoSecret),
    }
}

/// What was taken back: shared through Redis where there is one, else known to this process alone.
fn follow_rules(settings: &Settings, secrets: &Secrets) -> Result<Arc<Control>, StartError> {
    let log = match &secrets.redis_url {
        Some(url) => Log::Redis(RedisLog::later(url.expose(), &settings.redis)?),
        None => Log::Memory(Arc::default()),
    };
    let control = Control::new(log, settings.limits.rules as usize);
    tokio::spawn(Control::follow(&control));
    Ok(control)
}

/// Changes rooms in Redis. Whoever is removed does not come back with what it holds.
fn clerk(url: &str, settings: &Settings, control: &Arc<Control>) -> std::io::Result<Arc<dyn Rooms>> {
    let (control, life_ms) = (control.clone(), settings.longest_grant_ms());
    let runtime = tokio::runtime::Handle::current();
    let keep_away = move |who: TakenBack| {
        let control = control.clone();
        runtime.spawn(async move { control.take_grant_back(&who.token, life_ms, "room").await });
    };
    Ok(Arc::new(Clerk::later(url, settings, Arc::new(keep_away))?))
}

/// A server that does not answer yet is waited for by readiness; one that will not do is refused now.
async fn open_store(url: &str, settings: &config::Redis) -> Result<RedisStore, StoreError> {
    let store = RedisStore::open(url, settings)?;
    match store.ready().await {
        Err(error @ StoreError::Unreachable(_)) => {
            tracing::warn!(%error, "starting without Redis; not ready until it answers");
            Ok(store)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(store),
    }
}

/// A feed on which nothing happens: without Redis this process hears of no room.
fn alone() -> FeedSender {
    broadcast::Sender::new(FEED_BACKLOG)
}

/// Health and metrics of the process.
fn operations(
    state: web::Data<AuthState>,
    store: Option<Arc<RedisStore>>,
) -> impl FnOnce(&mut web::ServiceConfig) {
    let counted = state.clone();
    move |config| {
        config.configure(health(move || ready(state.clone(), store.clone()))).service(
            resource("/metrics", "GET").route(web::get().to(move || {
                let families = counted.metrics();
                async move { metrics_response(&families) }
            })),
        );
    }
}

async fn ready(state: web::Data<AuthState>, store: Option<Arc<RedisStore>>) -> Result<(), Problem> {
    if state.stopping() {
        return Err(Problem::new(503, "draining", "this process stops"));
    }
    state.knows_the_rules()?;
    match store {
        Some(store) => {
            store.ready().await.map_err(|error| Problem::new(503, "unavailable", error.to_string()))
        }
        None => Ok(()),
    }
}
