//! Signalbox in one process: tokens, signaling and the call page on one port.
//!
//! Owns: the embedded mode, which on a loopback address needs no settings at all. Must not: have rules of its own; it puts the
//! two services together. Next: `signalbox_auth` and `signalbox_signal`.

mod pages;

use std::{process::ExitCode, sync::Arc};

use actix_web::web;
use clap::Parser;
use signalbox_auth::{
    AuthParts, AuthState,
    store::{AuthStore, RedisStore},
};
use signalbox_http::{
    Failure, Gate, health, listener, metrics_response, not_found, process, resource, say, stop_signal,
};
use signalbox_shared::{
    config::{ConfigError, Flags, Loaded},
    feed::{FEED_BACKLOG, FeedSender},
    id::random_hex,
    token::{Secret, SharedSecret, TicketShelf, Verifier},
};
use signalbox_signal::{
    app, connection,
    handle::HandleKeys,
    node::{Signal, StoreChoice},
};

/// Signalbox: self-hosted WebRTC signaling. Without arguments: a working call page on http://127.0.0.1:8080
#[derive(Parser)]
#[command(name = "signalbox", version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    process("signalbox", &Cli::parse().flags, |loaded| async {
        serve(loaded)
            .await
            .map_err(|error| Failure::new(if error.is::<ConfigError>() { 2 } else { 1 }, error))
    })
}

async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { settings, secrets, .. } = loaded;
    let address = settings.server.listen;
    let secret = match &secrets.auth {
        Some(secret) => secret.clone(),
        None if address.ip().is_loopback() => own_secret()?,
        None => {
            let problem = "is not set, and only on a loopback address is one made up; make one with: openssl rand -base64 48";
            return Err(ConfigError::value("AUTH_SECRET", problem).into());
        }
    };
    let guests = settings.auth.guests.unwrap_or(address.ip().is_loopback());
    let listener = listener(address)?;
    let bound = listener.local_addr()?;

    let tickets = TicketShelf::default();
    let (feed, choice, store) = match &secrets.redis_url {
        Some(url) => (
            signalbox_auth::feed::over_redis(url.expose(), &settings.redis)?,
            StoreChoice::Redis(url.expose()),
            AuthStore::Redis(Arc::new(RedisStore::open(url.expose(), &settings.redis)?)),
        ),
        None => {
            let feed = FeedSender::new(FEED_BACKLOG);
            (feed.clone(), StoreChoice::Memory(Some(feed)), AuthStore::memory(tickets))
        }
    };
    let verifier = Verifier::hs256(std::iter::once(&secret).chain(&secrets.auth_previous));
    let handles = HandleKeys::new(
        secrets.session.iter().chain(&secrets.session_previous),
        std::iter::once(&secret).chain(&secrets.auth_previous),
    );
    let signal = Signal::start(settings.clone(), verifier, handles, choice)?;
    let parts = AuthParts {
        secret,
        previous: secrets.auth_previous.clone(),
        api_keys: secrets.api_keys.clone(),
        user_secret: secrets.user.clone(),
        guests,
        feed,
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

/// A random signing key that lives as long as the process.
fn own_secret() -> anyhow::Result<SharedSecret> {
    tracing::info!(
        event = "own_secret",
        "no AUTH_SECRET: tokens are signed with a random key until this process ends"
    );
    Ok(SharedSecret::new(Secret::new(format!("{}{}", random_hex(), random_hex())))?)
}
