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
    keys::{KeysError, SigningKeys},
    link::SharedLink,
    store::{AuthStore, RedisStore},
    usage::UsageReader,
    webhooks::{Source, Webhooks},
};
use signalbox_config::{ConfigError, Flags, Loaded, Secrets, Settings};
use signalbox_http::{
    Failure, Gate, health, listener, metrics_response, not_found, process, resource, say, stop_signal,
};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_rooms::feed::{FEED_BACKLOG, FeedSender};
use signalbox_signal::{
    app, connection,
    handle::HandleKeys,
    node::{Signal, StoreChoice},
};
use signalbox_token::{Secret, SharedSecret};
use signalbox_turn::IceBook;

/// Signalbox: self-hosted WebRTC signaling. Without arguments: a working call page on http://127.0.0.1:8080
#[derive(Parser)]
#[command(name = "signalbox", version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// Without one: serve
    #[command(subcommand)]
    command: Option<cli::Command>,
}

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    if let Some(command) = command {
        return cli::run(&command, &flags);
    }
    process("signalbox", &flags, |loaded| async {
        serve(loaded).await.map_err(|error| {
            let to_be_mended = error.is::<ConfigError>() || error.is::<KeysError>();
            Failure::new(if to_be_mended { 2 } else { 1 }, error)
        })
    })
}

async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { settings, secrets, .. } = loaded;
    let address = settings.server.listen;
    let (keys, handles) = keys(&settings, &secrets)?;
    let guests = settings.auth.guests.unwrap_or(address.ip().is_loopback());
    let listener = listener(address)?;
    let bound = listener.local_addr()?;

    let (feed, choice) = match &secrets.redis_url {
        Some(url) => (
            signalbox_auth::feed::over_redis(url.expose(), &settings.redis)?,
            StoreChoice::Redis(url.expose()),
        ),
        None => {
            let feed = FeedSender::new(FEED_BACKLOG);
            (feed.clone(), StoreChoice::Memory(Some(feed)))
        }
    };
    let ice = IceBook::new(&settings, &secrets.turn);
    let signal =
        Signal::start(settings.clone(), keys.verifier().clone().into(), handles, ice.clone(), choice)?;
    actix_rt::spawn(keys.clone().follow());
    let shared = secrets.redis_url.as_ref().map(|url| SharedLink::open(url.expose(), &settings.redis));
    let usage = match (&shared, signal.usage_book()) {
        (Some(shared), _) => UsageReader::Redis(shared.clone()),
        (None, Some(book)) => UsageReader::Book(book),
        (None, None) => UsageReader::None,
    };
    let source = shared.map_or(Source::Feed, Source::Redis);
    let webhooks = Webhooks::start(&settings, &secrets.webhooks, source, &feed)?;
    let store = match &secrets.redis_url {
        Some(url) => AuthStore::Redis(Arc::new(RedisStore::open(url.expose(), &settings.redis)?)),
        None => AuthStore::memory(signal.door.ticket_shelf().unwrap_or_default()),
    };
    let parts = AuthParts {
        keys,
        api_keys: secrets.api_keys.clone(),
        user_secret: secrets.user.clone(),
        guests,
        feed,
        ice,
        control: signal.control.clone(),
        rooms: Some(signal.registry.clone()),
        webhooks: webhooks.clone(),
        usage,
        store,
    };
    let auth = web::Data::new(AuthState::new(&settings, parts)?);

    let (routes_signal, routes_auth) = (signal.clone(), auth.clone());
    let server =
        connection::serve(listener, &signal, move || routes(routes_signal.clone(), routes_auth.clone()))?;
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
    say(&format!("Signalbox is at http://{bound}/ ({hint}; stop with Ctrl-C)\n"));
    Ok(server.await?)
}

/// All routes on one port.
fn routes(signal: Arc<Signal>, auth: web::Data<AuthState>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let gate = Gate::new(&signal.settings.server);
        let ready = signal.clone();
        let (counted_signal, counted_auth) = (signal.clone(), auth.clone());
        let metrics = move || {
            let families = [counted_signal.metrics(), counted_auth.metrics()].concat();
            std::future::ready(metrics_response(&families))
        };
        config
            .app_data(web::Data::new(gate))
            .configure(health(move || std::future::ready(ready.ready())))
            .service(resource("/metrics", "GET").route(web::get().to(metrics)))
            .configure(signalbox_auth::configure(auth))
            .configure(app::configure(signal))
            .configure(pages::configure)
            .default_service(web::to(not_found));
    }
}

/// What signs tokens, and what seals handles. On a loopback address both are made up where nothing is set.
fn keys(settings: &Settings, secrets: &Secrets) -> anyhow::Result<(Arc<SigningKeys>, HandleKeys)> {
    let (auth, loopback) = (&settings.auth, settings.server.listen.ip().is_loopback());
    if auth.jwks_url.is_some() || auth.jwks_file.is_some() {
        let problem =
            "is for a signal-service of its own; this process signs tokens itself: set auth.keys_dir";
        return Err(ConfigError::value("auth.jwks_url or auth.jwks_file", problem).into());
    }
    let missing = |name: &str| {
        let problem = "is not set, and only on a loopback address is one made up; make one with: openssl rand -base64 48";
        ConfigError::value(name, problem)
    };
    let own = match (&auth.keys_dir, &secrets.auth) {
        // It seals handles and nothing else: the folder signs, and no shared secret was given.
        (Some(_), None) if secrets.session.is_none() && loopback => Some(random_secret()?),
        (Some(_), None) if secrets.session.is_none() => return Err(missing("SIGNALBOX_SESSION_KEY").into()),
        (None, None) if loopback => Some(own_secret()?),
        (None, None) => return Err(missing("AUTH_SECRET").into()),
        _ => None,
    };
    let given = secrets.auth.iter().chain(&secrets.auth_previous);
    let handles = HandleKeys::new(
        secrets.session.iter().chain(&secrets.session_previous),
        own.iter().chain(given.clone()),
    );
    let keys = match (&auth.keys_dir, secrets.auth.as_ref().or(own.as_ref())) {
        (Some(folder), _) => SigningKeys::in_folder(folder.clone(), auth, given, clock::now_s())?,
        (None, Some(secret)) => SigningKeys::shared(secret, secrets.auth_previous.as_ref()),
        (None, None) => return Err(missing("AUTH_SECRET").into()),
    };
    Ok((keys, handles))
}

/// A random signing key that lives as long as the process.
fn own_secret() -> anyhow::Result<SharedSecret> {
    tracing::info!(
        event = "own_secret",
        "no AUTH_SECRET: tokens are signed with a random key until this process ends"
    );
    random_secret()
}

fn random_secret() -> anyhow::Result<SharedSecret> {
    Ok(SharedSecret::new(Secret::new(format!("{}{}", random_hex(), random_hex())))?)
}
