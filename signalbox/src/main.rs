//! Signalbox in one process: tokens, signaling and the call page on one port.
//!
//! Owns: the embedded mode, which on a loopback address needs no settings at all. Must not: have rules of its own; it puts the
//! two services together. Next: `signalbox_auth` and `signalbox_signal`.

mod cli;
mod pages;

use std::{process::ExitCode, sync::Arc};

use actix_web::web;
use clap::Parser;
use signalbox_auth::{
    AuthParts, AuthState,
    credential_store::{CredentialStore, RedisCredentialStore},
    keys::{KeysError, SigningKeys},
    usage_reader::UsageReader,
    webhooks::{WebhookEventSource, WebhookService},
};
use signalbox_config::{CommonFlags, ConfigError, LoadedConfig, SecretSettings, ServiceSettings};
use signalbox_http::{
    ProcessError, RequestGate, configure_health, metrics_response, not_found, open_listener, print_text,
    resource, run_process, stop_signal,
};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_redis::RedisClient;
use signalbox_rooms::feed::{FEED_BACKLOG, FeedSender};
use signalbox_signal::{
    app, connection,
    node::{SignalNode, StoreConfig},
    resume_handle::HandleKeys,
};
use signalbox_token::{SecretBytes, SharedSecret};
use signalbox_turn::IceDirectory;

/// Signalbox: self-hosted WebRTC signaling. Without arguments: a working call page on http://127.0.0.1:8080
#[derive(Parser)]
#[command(name = "signalbox", version)]
struct Cli {
    #[command(flatten)]
    flags: CommonFlags,
    /// Without one: serve
    #[command(subcommand)]
    command: Option<cli::CliCommand>,
}

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    if let Some(command) = command {
        return cli::run_command(&command, &flags);
    }
    run_process("signalbox", &flags, |loaded| async {
        run_services(loaded).await.map_err(|error| {
            let to_be_mended = error.is::<ConfigError>() || error.is::<KeysError>();
            ProcessError::new(if to_be_mended { 2 } else { 1 }, error)
        })
    })
}

async fn run_services(loaded: LoadedConfig) -> anyhow::Result<()> {
    let LoadedConfig { settings, secrets, .. } = loaded;
    let address = settings.server.listen;
    let (keys, handles) = load_keys(&settings, &secrets)?;
    let guests = settings.auth.guests.unwrap_or(address.ip().is_loopback());
    let listener = open_listener(address)?;
    let bound = listener.local_addr()?;

    let redis = match &secrets.redis_url {
        Some(url) => Some(RedisClient::start(url.expose(), &settings.redis)?),
        None => None,
    };
    let (feed, choice) = match &redis {
        Some(client) => (signalbox_auth::feed::subscribe_feed(client), StoreConfig::Redis(client.clone())),
        None => {
            let feed = FeedSender::new(FEED_BACKLOG);
            (feed.clone(), StoreConfig::Memory(Some(feed)))
        }
    };
    let ice = IceDirectory::new(&settings, &secrets.turn_secrets);
    let signal =
        SignalNode::start(settings.clone(), keys.verifier().clone().into(), handles, ice.clone(), choice)?;
    actix_rt::spawn(keys.clone().watch_folder());
    let usage = match (&redis, signal.usage_book()) {
        (Some(client), _) => UsageReader::Redis(client.clone()),
        (None, Some(book)) => UsageReader::Book(book),
        (None, None) => UsageReader::None,
    };
    let source = redis.clone().map_or(WebhookEventSource::Feed, WebhookEventSource::Redis);
    let webhooks = WebhookService::start(&settings, &secrets.webhooks, source, &feed)?;
    let store = match redis {
        Some(client) => CredentialStore::Redis(Arc::new(RedisCredentialStore::new(client))),
        None => CredentialStore::in_memory(signal.admission.ticket_shelf().unwrap_or_default()),
    };
    let parts = AuthParts {
        keys,
        api_keys: secrets.api_keys.clone(),
        user_secret: secrets.user_secret.clone(),
        guests_allowed: guests,
        feed,
        ice,
        access: signal.access_control.clone(),
        rooms: Some(signal.registry.clone()),
        webhooks: webhooks.clone(),
        usage,
        store,
    };
    let auth = web::Data::new(AuthState::new(&settings, parts)?);

    let (routes_signal, routes_auth) = (signal.clone(), auth.clone());
    let server = connection::serve(listener, &signal, move || {
        configure_routes(routes_signal.clone(), routes_auth.clone())
    })?;
    let (handle, told_to_stop) = (server.handle(), stop_signal()?);
    actix_rt::spawn(async move {
        told_to_stop.await;
        auth.stop();
        signal.drain().await;
        // After the nodes' last events.
        if let Some(webhooks) = webhooks {
            webhooks.stop().await;
        }
        handle.stop(true).await;
    });
    let hint = if guests { "open it in two tabs" } else { "guests are off: tokens need an API key" };
    print_text(&format!("Signalbox is at http://{bound}/ ({hint}; stop with Ctrl-C)\n"));
    Ok(server.await?)
}

/// All routes on one port.
fn configure_routes(
    signal: Arc<SignalNode>,
    auth: web::Data<AuthState>,
) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let gate = RequestGate::new(&signal.settings.server);
        let ready = signal.clone();
        let (counted_signal, counted_auth) = (signal.clone(), auth.clone());
        let metrics = move || {
            let families = [counted_signal.gather_metrics(), counted_auth.metrics()].concat();
            std::future::ready(metrics_response(&families))
        };
        config
            .app_data(web::Data::new(gate))
            .configure(configure_health(move || std::future::ready(ready.check_ready())))
            .service(resource("/metrics", "GET").route(web::get().to(metrics)))
            .configure(signalbox_auth::configure(auth))
            .configure(app::configure_signal_routes(signal))
            .configure(pages::configure_pages)
            .default_service(web::to(not_found));
    }
}

/// What signs tokens, and what seals handles. On a loopback address both are made up where nothing is set.
fn load_keys(
    settings: &ServiceSettings,
    secrets: &SecretSettings,
) -> anyhow::Result<(Arc<SigningKeys>, HandleKeys)> {
    let (auth, loopback) = (&settings.auth, settings.server.listen.ip().is_loopback());
    if auth.jwks_url.is_some() || auth.jwks_file.is_some() {
        let problem =
            "is for a signal-service of its own; this process signs tokens itself: set auth.keys_dir";
        return Err(ConfigError::invalid_setting("auth.jwks_url or auth.jwks_file", problem).into());
    }
    let missing = |name: &str| {
        let problem = "is not set, and only on a loopback address is one made up; make one with: openssl rand -base64 48";
        ConfigError::invalid_setting(name, problem)
    };
    let own = match (&auth.keys_dir, &secrets.auth) {
        // It seals handles and nothing else: the folder signs, and no shared secret was given.
        (Some(_), None) if secrets.handle_key.is_none() && loopback => Some(random_secret()?),
        (Some(_), None) if secrets.handle_key.is_none() => {
            return Err(missing("SIGNALBOX_SESSION_KEY").into());
        }
        (None, None) if loopback => Some(temporary_secret()?),
        (None, None) => return Err(missing("AUTH_SECRET").into()),
        _ => None,
    };
    let given = secrets.auth.iter().chain(&secrets.auth_previous);
    let handles = HandleKeys::new(
        secrets.handle_key.iter().chain(&secrets.handle_key_previous),
        own.iter().chain(given.clone()),
    );
    let keys = match (&auth.keys_dir, secrets.auth.as_ref().or(own.as_ref())) {
        (Some(folder), _) => SigningKeys::from_folder(folder.clone(), auth, given, clock::now_s())?,
        (None, Some(secret)) => SigningKeys::from_secret(secret, secrets.auth_previous.as_ref()),
        (None, None) => return Err(missing("AUTH_SECRET").into()),
    };
    Ok((keys, handles))
}

/// A random signing key that lives as long as the process.
fn temporary_secret() -> anyhow::Result<SharedSecret> {
    tracing::info!(
        event = "own_secret",
        "no AUTH_SECRET: tokens are signed with a random key until this process ends"
    );
    random_secret()
}

fn random_secret() -> anyhow::Result<SharedSecret> {
    Ok(SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex())))?)
}
