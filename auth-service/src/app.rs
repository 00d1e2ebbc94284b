//! The standalone process: settings in, a server until SIGTERM or SIGINT.

use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpServer, middleware::from_fn, web};
use prometheus::proto::MetricFamily;
use signalbox_access::{AccessControl, GrantRevocation, RedisRuleLog, RuleLimits, RuleLog, RuleProof};
use signalbox_config::{LoadedConfig, SecretSettings, ServiceSettings};
use signalbox_http::{
    ConfigReloads, KEEP_ALIVE, ListenError, REQUEST_HEAD_DEADLINE, RequestGate, configure_health,
    counter_family, guard_request, not_found, open_listener, open_metrics_listener, serve_metrics,
    stop_signal,
};
use signalbox_protocol::{clock, id::RoomId, problem::Problem};
use signalbox_redis::{RedisClient, RedisStartError};
use signalbox_rooms::{
    feed::{FEED_BACKLOG, FeedSender},
    removal::RemovedPeer,
    room::RoomPolicy,
    room_service::{RemoteRoomService, RoomService},
    store::{RedisRoomStore, RoomStore, StoreLimits},
};
use signalbox_token::MemoryTicketStore;
use signalbox_turn::IceDirectory;
use tokio::sync::broadcast;

use crate::{
    AuthParts, AuthState, AuthStateError,
    auth::{
        credential_store::{CredentialStore, RedisCredentialStore, contract::CredentialLimits},
        keys::{KeysError, SigningKeys},
        providers::TokenExchange,
    },
    configure,
    context::store_memory::memory_level_reader,
    management::{
        feed_subscription,
        usage_reader::UsageReader,
        webhooks::{WebhookEventSource, WebhookLauncher, WebhookStartError, endpoint_targets},
    },
};

/// Why the process does not start, or ends: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum AuthStartError {
    /// Neither a shared secret nor a folder of keys is configured.
    #[error(
        "AUTH_SECRET is not set and auth.keys_dir is not set, so no token can be signed; make a key with: signalbox keys new --dir D, or a secret with: openssl rand -base64 48"
    )]
    NoSigningSecret,
    /// The folder of keys cannot be used.
    #[error("auth.keys_dir: {0}")]
    Keys(#[from] KeysError),
    /// The address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The URL of Redis, or the certificates, cannot be used.
    #[error("REDIS_URL is not usable: {0}")]
    RedisUrl(RedisStartError),
    /// The server cannot be used.
    #[error(transparent)]
    Redis(RedisStartError),
    /// The webhooks cannot start.
    #[error(transparent)]
    Webhooks(#[from] WebhookStartError),
    /// The service cannot be built.
    #[error(transparent)]
    State(#[from] AuthStateError),
    /// The HTTP server or the signal handler failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl AuthStartError {
    /// The exit code: 2 if the operator must change the configuration, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSigningSecret
            | Self::Webhooks(WebhookStartError::NoSigningSecret(_))
            | Self::Keys(_)
            | Self::State(AuthStateError::Providers(_))
            | Self::RedisUrl(_) => 2,
            _ => 1,
        }
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`AuthStartError`], for the operator.
pub async fn serve(loaded: LoadedConfig, reloads: ConfigReloads) -> Result<(), AuthStartError> {
    let LoadedConfig { settings, secrets, .. } = loaded;
    let keys = load_signing_keys(&settings, &secrets)?;
    let guests = settings.auth.guests.unwrap_or(false);
    let gate = RequestGate::new(&settings.server);
    if secrets.api_keys.is_empty() && !guests {
        tracing::warn!(
            "no caller can get a token: there are no API keys, and guests are off; set SIGNALBOX_API_KEYS, or turn guests on"
        );
    }
    let listener = open_listener(settings.server.listen, settings.limits.socket_buffer.0)?;
    let metrics_listener = open_metrics_listener(&settings)?;
    let redis = start_redis(&settings, &secrets)?;
    let feed = redis.as_ref().map_or_else(silent_feed, feed_subscription::subscribe_feed);
    let limits = CredentialLimits::new(&settings.limits);
    let store = redis.clone().map_or_else(
        || CredentialStore::in_memory(MemoryTicketStore::default(), limits),
        |client| CredentialStore::Redis(Arc::new(RedisCredentialStore::new(client, keys.clone(), limits))),
    );
    tokio::spawn(keys.clone().watch_folder());
    let control = start_access_control(&settings, redis.clone(), keys.clone());
    let ice = IceDirectory::new(&settings, &secrets.turn_secrets);
    let rooms = redis.clone().map(|client| Arc::new(remote_rooms(client, &settings, &control)));
    let source = redis.clone().map_or(WebhookEventSource::Feed, WebhookEventSource::Redis);
    let webhooks = WebhookLauncher::start(&settings, &secrets.webhooks, source, &feed)?;
    if let Some(client) = &redis {
        wait_for_redis(client, settings.redis.deadline.0).await?;
    }
    let parts = AuthParts {
        keys,
        api_keys: secrets.api_keys,
        user_secret: secrets.user_secret,
        guests_allowed: guests,
        feed,
        access: control,
        ice,
        rooms: rooms.clone().map(|rooms| rooms as Arc<dyn RoomService>),
        webhooks: webhooks.running(),
        gate: gate.clone(),
        usage: redis.clone().map_or(UsageReader::None, UsageReader::Redis),
        store,
        memory_level: memory_level_reader(redis.clone()),
    };
    let state = web::Data::new(AuthState::new(&settings, parts)?);
    if let Some(listener) = metrics_listener {
        let (state, redis) = (state.clone(), redis.clone());
        serve_metrics(listener, move || [state.metrics(), redis_refusals(redis.as_deref())].concat())?;
    }
    let gate_rules = web::Data::new(gate);
    let (webhooks, reloaded) = (Arc::new(webhooks), (state.clone(), rooms));
    let reloaded_webhooks = webhooks.clone();
    actix_web::rt::spawn(reloads.run(async move |reload| {
        let (state, rooms) = &reloaded;
        let settings = &reload.config.settings;
        reloaded_webhooks.reload(reload).await.map_err(|error| error.to_string())?;
        state.reload(reload, settings.auth.guests.unwrap_or(false)).map_err(|error| error.to_string())?;
        rooms.iter().for_each(|rooms| rooms.reload(settings));
        Ok(())
    }));
    let (stopping_state, stop_signal) = (state.clone(), stop_signal()?);
    let app = move || {
        let (state, redis) = (state.clone(), redis.clone());
        App::new()
            .app_data(gate_rules.clone())
            .wrap(from_fn(guard_request))
            .configure(configure(state.clone()))
            .configure(configure_health(move || check_ready(state.clone(), redis.clone())))
            .default_service(web::to(not_found))
    };
    let mut server = HttpServer::new(app)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_DEADLINE)
        .shutdown_timeout(settings.timing.drain.0.as_secs().max(1))
        .shutdown_signal(async move {
            stop_signal.await;
            tracing::info!("stopping");
            stopping_state.stop();
        });
    if settings.server.workers > 0 {
        server = server.workers(settings.server.workers);
    }
    tracing::info!(listen = %settings.server.listen, "the auth service is ready");
    server.listen(listener)?.run().await?;
    webhooks.stop().await;
    Ok(())
}

/// The secrets that the service lacks, as its start would report them.
pub fn check_secrets(loaded: &LoadedConfig) -> Vec<String> {
    let LoadedConfig { settings, secrets, .. } = loaded;
    let keys = load_signing_keys(settings, secrets).map(drop).map_err(|error| error.to_string());
    keys.err().into_iter().chain(missing_api_secrets(loaded)).collect()
}

/// The secrets of providers and webhook endpoints that are not set.
pub fn missing_api_secrets(loaded: &LoadedConfig) -> Vec<String> {
    let LoadedConfig { settings, secrets, .. } = loaded;
    let providers = TokenExchange::new(settings, secrets.user_secret.as_ref()).map(drop);
    let webhooks = endpoint_targets(&settings.webhooks, &secrets.webhooks).map(drop);
    let providers = providers.map_err(|error| error.to_string()).err();
    providers.into_iter().chain(webhooks.map_err(|error| error.to_string()).err()).collect()
}

/// The keys of the folder, if one is configured; else the shared secret. With a folder, tokens of a
/// shared secret are valid only if the secret is configured too.
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

/// The client of this process, if it has Redis. Does not wait for Redis.
fn start_redis(
    settings: &ServiceSettings,
    secrets: &SecretSettings,
) -> Result<Option<Arc<RedisClient>>, AuthStartError> {
    let Some(url) = &secrets.redis_url else { return Ok(None) };
    RedisClient::start(url.expose(), &settings.redis).map(Some).map_err(AuthStartError::RedisUrl)
}

/// Refuses a server that an operator must change. Without an answer the process starts, and it is
/// not ready until Redis answers.
async fn wait_for_redis(client: &RedisClient, deadline: Duration) -> Result<(), AuthStartError> {
    match client.wait_for_servers(deadline).await {
        Err(error) if error.needs_operator() => Err(AuthStartError::Redis(error)),
        _ => Ok(()),
    }
}

/// The access rules: shared through Redis, or in the memory of this process.
fn start_access_control(
    settings: &ServiceSettings,
    redis: Option<Arc<RedisClient>>,
    keys: Arc<SigningKeys>,
) -> Arc<AccessControl> {
    let log = redis.map_or_else(
        || RuleLog::Memory(Arc::default()),
        |client| RuleLog::Redis(RedisRuleLog::new(client, RuleProof::Signer(keys))),
    );
    let control = AccessControl::new(log, RuleLimits::new(&settings.limits));
    tokio::spawn(AccessControl::follow_log(&control));
    control
}

/// Changes rooms in Redis. The grant of a removed peer is revoked, so that the peer cannot return.
fn remote_rooms(
    client: Arc<RedisClient>,
    settings: &ServiceSettings,
    control: &Arc<AccessControl>,
) -> RemoteRoomService {
    let (control, longest_ms) = (control.clone(), settings.max_grant_life_ms());
    let runtime = tokio::runtime::Handle::current();
    let revoke_grant = move |room: &RoomId, removed: RemovedPeer| {
        let control = control.clone();
        let revocation = GrantRevocation {
            life_ms: removed.grant_life_ms(control.now_ms(), longest_ms),
            charged_to: removed.root.to_string().into(),
            room: room.clone(),
            token: removed.token,
        };
        runtime.spawn(async move { control.revoke_grant(revocation).await });
    };
    let store = RoomStore::Redis(RedisRoomStore::new(client, StoreLimits::new(settings)));
    RemoteRoomService::new(store, RoomPolicy::new(settings), Arc::new(revoke_grant))
}

/// A feed without events: without Redis this process learns of no room.
fn silent_feed() -> FeedSender {
    broadcast::Sender::new(FEED_BACKLOG)
}

/// What Redis has refused to this process, by its code.
fn redis_refusals(redis: Option<&RedisClient>) -> Vec<MetricFamily> {
    let help = "Requests and checks that Redis has refused, by its code";
    let counts = redis.map(RedisClient::refusal_counts).unwrap_or_default();
    counter_family("signalbox_redis_refusals_total", help, "code", counts)
}

async fn check_ready(state: web::Data<AuthState>, redis: Option<Arc<RedisClient>>) -> Result<(), Problem> {
    if state.context.is_stopping() {
        return Err(Problem::new(503, "draining", "this process is stopping"));
    }
    state.context.check_rules_loaded()?;
    let Some(client) = redis else { return Ok(()) };
    client.check_ready().map_err(|error| error.to_problem())
}
