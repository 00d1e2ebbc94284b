//! Signalbox in one process: tokens, signaling and the call page on one port.
//!
//! Owns: the embedded mode, which on a loopback address needs no settings at all. Must not: have rules of its own; it puts the
//! two services together. Next: `signalbox_auth` and `signalbox_signal`.

mod pages;

use std::{io::Write as _, process::ExitCode, sync::Arc};

use actix_web::web;
use clap::Parser;
use signalbox_auth::{AuthParts, AuthState};
use signalbox_http::{Gate, health, listener, metrics_response, not_found, resource, stop_signal};
use signalbox_shared::{
    config::{Flags, Loaded},
    feed::{FEED_BACKLOG, FeedSender},
    id::random_hex,
    telemetry,
    token::{Secret, SharedSecret, Verifier},
};
use signalbox_signal::{
    app, connection,
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
    let Cli { flags } = Cli::parse();
    match Loaded::load(&flags, &Loaded::environment()) {
        Err(error) => fail(2, &error),
        Ok(loaded) if flags.check_config => say(&loaded.describe()),
        Ok(loaded) => run(loaded),
    }
}

fn run(loaded: Loaded) -> ExitCode {
    telemetry::init(&loaded.settings.log.filter, loaded.settings.log.format);
    for warning in &loaded.warnings {
        tracing::warn!(event = "unsafe_setting", "{warning}");
    }
    match actix_rt::System::new().block_on(serve(loaded)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("{error:#}")),
    }
}

async fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { settings, secrets, .. } = loaded;
    let address = settings.server.listen;
    let secret = match &secrets.auth {
        Some(secret) => secret.clone(),
        None if address.ip().is_loopback() => own_secret()?,
        None => anyhow::bail!(
            "AUTH_SECRET is not set, and only on a loopback address is one made up; make one with: openssl rand -base64 48"
        ),
    };
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
    let verifier = Verifier::hs256(std::iter::once(&secret).chain(&secrets.auth_previous));
    let signal = Signal::start(settings.clone(), verifier, choice)?;
    let parts = AuthParts {
        secret,
        previous: secrets.auth_previous.clone(),
        api_keys: secrets.api_keys.clone(),
        guests,
        feed,
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
    say(&format!("Signalbox is at http://{bound}/ (open it in two tabs; stop with Ctrl-C)\n"));
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

fn say(text: &str) -> ExitCode {
    // A closed pipe is the reader's affair.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// One line for the person who started it.
fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    let line = error.to_string().replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "signalbox: {line}");
    ExitCode::from(code)
}
