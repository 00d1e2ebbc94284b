//! The signaling service: `/ws/signal` for peers, with rooms in Redis or, without it, in this process.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use signalbox_config::{ConfigError, Flags, Loaded};
use signalbox_http::{Failure, process};
use signalbox_signal::{
    app::configure_standalone,
    connection,
    handle::HandleKeys,
    keys::{Source, TokenKeys},
    node::{Signal, StoreChoice},
};
use signalbox_token::Verifier;
use signalbox_turn::IceBook;

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
    let keys = token_keys(&loaded)?;
    let handles = HandleKeys::new(
        secrets.session.iter().chain(&secrets.session_previous),
        secrets.auth.iter().chain(&secrets.auth_previous),
    );
    let ice = IceBook::new(&loaded.settings, &secrets.turn);
    let listener = signalbox_http::listener(loaded.settings.server.listen)?;
    let choice =
        secrets.redis_url.as_ref().map_or(StoreChoice::Memory(None), |url| StoreChoice::Redis(url.expose()));
    if matches!(choice, StoreChoice::Memory(_)) {
        tracing::warn!(
            event = "no_redis",
            "no --redis: rooms live in this process and this must be the only node"
        );
    }
    let signal = Signal::start(loaded.settings.clone(), keys, handles, ice, choice)?;
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

/// What tokens are checked with: the published keys where their place is set, and the shared secret where one is given.
fn token_keys(loaded: &Loaded) -> anyhow::Result<TokenKeys> {
    let (auth, secrets) = (&loaded.settings.auth, &loaded.secrets);
    let url = auth.jwks_url.clone().map(Source::Url);
    let source = url.or_else(|| auth.jwks_file.clone().map(Source::File));
    let shared = secrets.auth.iter().chain(&secrets.auth_previous);
    match (source, &secrets.auth) {
        (None, None) => {
            let problem = "is not set, and neither is auth.jwks_url: name the auth service's public keys there, or give this service its secret, made with: openssl rand -base64 48";
            Err(ConfigError::value("AUTH_SECRET", problem).into())
        }
        (Some(_), None) if secrets.session.is_none() => {
            let problem = "is not set, and without AUTH_SECRET nothing else seals handles; give every node the same, made with: openssl rand -base64 48";
            Err(ConfigError::value("SIGNALBOX_SESSION_KEY", problem).into())
        }
        (None, Some(_)) => Ok(Verifier::hs256(shared).into()),
        (Some(source), _) => Ok(TokenKeys::published(Verifier::changing(shared), source, auth.jwks_ttl.0)?),
    }
}
