//! The signaling service: `/ws/signal` for peers, with rooms in Redis or, without it, in this process.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use signalbox_http::{Failure, process};
use signalbox_shared::{
    config::{ConfigError, Flags, Loaded},
    token::Verifier,
};
use signalbox_signal::{
    app::configure_standalone,
    connection,
    handle::HandleKeys,
    node::{Signal, StoreChoice},
};

/// Brings WebRTC peers together: carries SDP, ICE candidates and presence, never media.
#[derive(Parser)]
#[command(name = "signal-service", version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    process("signal-service", &Cli::parse().flags, |loaded| async {
        run(loaded).await.map_err(|error| Failure::new(if error.is::<ConfigError>() { 2 } else { 1 }, error))
    })
}

async fn run(loaded: Loaded) -> anyhow::Result<()> {
    let secrets = &loaded.secrets;
    let auth = secrets.auth.as_ref().ok_or_else(|| {
        let problem = "is not set; give this service the auth-service's, made with: openssl rand -base64 48";
        ConfigError::value("AUTH_SECRET", problem)
    })?;
    let verifier = Verifier::hs256(std::iter::once(auth).chain(&secrets.auth_previous));
    let handles = HandleKeys::new(
        secrets.session.iter().chain(&secrets.session_previous),
        std::iter::once(auth).chain(&secrets.auth_previous),
    );
    let listener = signalbox_http::listener(loaded.settings.server.listen)?;
    let choice =
        secrets.redis_url.as_ref().map_or(StoreChoice::Memory(None), |url| StoreChoice::Redis(url.expose()));
    if matches!(choice, StoreChoice::Memory(_)) {
        tracing::warn!(
            event = "no_redis",
            "no --redis: rooms live in this process and this must be the only node"
        );
    }
    let signal = Signal::start(loaded.settings.clone(), verifier, handles, choice)?;
    let routes = signal.clone();
    let server = connection::serve(listener, &signal, move || configure_standalone(routes.clone()))?;
    let handle = server.handle();
    let (stopping, told_to_stop): (Arc<Signal>, _) = (signal.clone(), signalbox_http::stop_signal()?);
    tracing::info!(event = "listening", address = %loaded.settings.server.listen);
    actix_rt::spawn(async move {
        told_to_stop.await;
        stopping.drain().await;
        handle.stop(true).await;
    });
    server.await?;
    tracing::info!(event = "stopped");
    Ok(())
}
