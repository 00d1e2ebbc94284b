//! The standalone process: settings in, a server until SIGTERM or SIGINT.

use std::sync::Arc;

use actix_web::{App, HttpServer, middleware::from_fn, web};
use signalbox_access::{AccessControl, RedisRuleLog, RuleLog};
use signalbox_config as config;
use signalbox_config::{LoadedConfig, SecretSettings, ServiceSettings};
use signalbox_http::{
    KEEP_ALIVE, ListenError, REQUEST_HEAD_DEADLINE, RequestGate, configure_health, guard_request,
    metrics_response, not_found, open_listener, resource, stop_signal,
};
use signalbox_protocol::{clock, problem::Problem};
use signalbox_rooms::{
    feed::{FEED_BACKLOG, FeedSender},
    removal::RemovedPeer,
    room_service::{RemoteRoomService, RoomService},
};
use signalbox_token::MemoryTicketStore;
use signalbox_turn::IceDirectory;
use tokio::sync::broadcast;

use crate::{
    AuthParts, AuthState, AuthStateError,
    auth::{
        credential_store::{CredentialStore, RedisCredentialStore, RedisSetupError},
        keys::{KeysError, SigningKeys},
    },
    configure,
    management::{
        feed_subscription,
        redis_client::LazyRedisClient,
        usage_reader::UsageReader,
        webhooks::{WebhookEventSource, WebhookService, WebhookStartError},
    },
};

/// Why the process does not start, or ends: one line.
#[derive(Debug, thiserror::Error)]
pub enum AuthStartError {
    /// Nothing to sign with.
    #[error(
        "AUTH_SECRET is not set, and neither is auth.keys_dir: nothing can be signed; make a key with: signalbox keys new --dir D, or a secret with: openssl rand -base64 48"
    )]
    NoSigningSecret,
    /// The folder of keys will not do.
    #[error("auth.keys_dir: {0}")]
    Keys(#[from] KeysError),
    /// The address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The store will not do.
    #[error(transparent)]
    Store(#[from] RedisSetupError),
    /// The store's address will not do.
    #[error("REDIS_URL is not usable: {0}")]
    Redis(#[from] signalbox_redis::RedisStartError),
    /// What is told over HTTP cannot be.
    #[error(transparent)]
    Webhooks(#[from] WebhookStartError),
    /// The service cannot be put together.
    #[error(transparent)]
    State(#[from] AuthStateError),
    /// The runtime.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl AuthStartError {
    /// The exit code: 2 for a configuration to be mended, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSigningSecret
            | Self::Webhooks(WebhookStartError::NoSigningSecret(_))
            | Self::Keys(_)
            | Self::State(AuthStateError::Providers(_))
            | Self::Redis(_)
            | Self::Store(RedisSetupError::BadUrl(_)) => 2,
            _ => 1,
        }
    }
}

/// Serves until told to stop.
///
/// # Errors
/// [`AuthStartError`], for the operator.
pub async fn serve(loaded: LoadedConfig) -> Result<(), AuthStartError> {
    let LoadedConfig { settings, secrets, .. } = loaded;
    let keys = load_signing_keys(&settings, &secrets)?;
    let guests = settings.auth.guests.unwrap_or(false);
    if secrets.api_keys.is_empty() && !guests {
        tracing::warn!("nobody can get a token: set SIGNALBOX_API_KEYS, or turn guests on");
    }
    let listener = open_listener(settings.server.listen)?;
    let shared = secrets
        .redis_url
        .as_ref()
        .map(|url| LazyRedisClient::connect_in_background(url.expose(), &settings.redis));
    let (feed, store) = match &secrets.redis_url {
        Some(url) => {
            let store = open_store(url.expose(), &settings.redis).await?;
            (feed_subscription::subscribe_feed(url.expose(), &settings.redis)?, Some(Arc::new(store)))
        }
        None => (silent_feed(), None),
    };
    tokio::spawn(keys.clone().watch_folder());
    let control = start_access_control(&settings, &secrets)?;
    let ice = IceDirectory::new(&settings, &secrets.turn_secrets);
    let rooms = match &secrets.redis_url {
        Some(url) => Some(remote_rooms(url.expose(), &settings, &control)?),
        None => None,
    };
    let source = shared.clone().map_or(WebhookEventSource::Feed, WebhookEventSource::Redis);
    let webhooks = WebhookService::start(&settings, &secrets.webhooks, source, &feed)?;
    let parts = AuthParts {
        keys,
        api_keys: secrets.api_keys,
        user_secret: secrets.user_secret,
        guests_allowed: guests,
        feed,
        access: control,
        ice,
        rooms,
        webhooks: webhooks.clone(),
        usage: shared.map_or(UsageReader::None, UsageReader::Redis),
        store: store
            .clone()
            .map_or_else(|| CredentialStore::in_memory(MemoryTicketStore::default()), CredentialStore::Redis),
    };
    let state = web::Data::new(AuthState::new(&settings, parts)?);
    let gate_rules = web::Data::new(RequestGate::new(&settings.server));
    let (stopping, told_to_stop) = (state.clone(), stop_signal()?);
    let app = move || {
        let (state, store) = (state.clone(), store.clone());
        App::new()
            .app_data(gate_rules.clone())
            .wrap(from_fn(guard_request))
            .configure(configure(state.clone()))
            .configure(health_and_metrics(state, store))
            .default_service(web::to(not_found))
    };
    let mut server = HttpServer::new(app)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_DEADLINE)
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
fn load_signing_keys(
    settings: &ServiceSettings,
    secrets: &SecretSettings,
) -> Result<Arc<SigningKeys>, AuthStartError> {
    let (secret, previous) = (secrets.auth.as_ref(), secrets.auth_previous.as_ref());
    match (&settings.auth.keys_dir, secret) {
        (Some(folder), _) => {
            let secrets = secret.into_iter().chain(previous);
            Ok(SigningKeys::from_folder(folder.clone(), &settings.auth, secrets, clock::now_s())?)
        }
        (None, Some(secret)) => Ok(SigningKeys::from_secret(secret, previous)),
        (None, None) => Err(AuthStartError::NoSigningSecret),
    }
}

/// What was taken back: shared through Redis where there is one, else known to this process alone.
fn start_access_control(
    settings: &ServiceSettings,
    secrets: &SecretSettings,
) -> Result<Arc<AccessControl>, AuthStartError> {
    let log = match &secrets.redis_url {
        Some(url) => RuleLog::Redis(RedisRuleLog::connect_in_background(url.expose(), &settings.redis)?),
        None => RuleLog::Memory(Arc::default()),
    };
    let control = AccessControl::new(log, settings.limits.rules as usize);
    tokio::spawn(AccessControl::follow_log(&control));
    Ok(control)
}

/// Changes rooms in Redis. Whoever is removed does not come back with what it holds.
fn remote_rooms(
    url: &str,
    settings: &ServiceSettings,
    control: &Arc<AccessControl>,
) -> std::io::Result<Arc<dyn RoomService>> {
    let (control, life_ms) = (control.clone(), settings.max_grant_life_ms());
    let runtime = tokio::runtime::Handle::current();
    let keep_away = move |who: RemovedPeer| {
        let control = control.clone();
        runtime.spawn(async move { control.revoke_grant(&who.token, life_ms, "room").await });
    };
    Ok(Arc::new(RemoteRoomService::connect_in_background(url, settings, Arc::new(keep_away))?))
}

/// A server that does not answer yet is waited for by readiness; one that will not do is refused now.
async fn open_store(
    url: &str,
    settings: &config::RedisSettings,
) -> Result<RedisCredentialStore, RedisSetupError> {
    let store = RedisCredentialStore::open(url, settings)?;
    match store.check_ready().await {
        Err(error @ RedisSetupError::Unreachable(_)) => {
            tracing::warn!(%error, "starting without Redis; not ready until it answers");
            Ok(store)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(store),
    }
}

/// A feed on which nothing happens: without Redis this process hears of no room.
fn silent_feed() -> FeedSender {
    broadcast::Sender::new(FEED_BACKLOG)
}

/// Health and metrics of the process.
fn health_and_metrics(
    state: web::Data<AuthState>,
    store: Option<Arc<RedisCredentialStore>>,
) -> impl FnOnce(&mut web::ServiceConfig) {
    let counted = state.clone();
    move |config| {
        config.configure(configure_health(move || check_ready(state.clone(), store.clone()))).service(
            resource("/metrics", "GET").route(web::get().to(move || {
                let families = counted.metrics();
                async move { metrics_response(&families) }
            })),
        );
    }
}

async fn check_ready(
    state: web::Data<AuthState>,
    store: Option<Arc<RedisCredentialStore>>,
) -> Result<(), Problem> {
    if state.context.is_stopping() {
        return Err(Problem::new(503, "draining", "this process stops"));
    }
    state.context.check_rules_loaded()?;
    match store {
        Some(store) => {
            store.check_ready().await.map_err(|error| Problem::new(503, "unavailable", error.to_string()))
        }
        None => Ok(()),
    }
}
