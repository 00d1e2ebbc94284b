//! The signaling service: `/ws/signal` for peers. Its rooms are in Redis, or without Redis in the
//! memory of this process.

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use signalbox_access::RuleProof;
use signalbox_config::{CommonFlags, ConfigError, LoadedConfig};
use signalbox_http::{ConfigReloads, HttpClient, ProcessError, RequestGate, run_process};
use signalbox_redis::RedisClient;
use signalbox_signal::{
    app::configure_standalone,
    connection,
    drain::drain_node,
    node::{SignalNode, StoreConfig},
    resume_handle::HandleKeys,
    token_keys::{KeySource, TokenKeys},
};
use signalbox_token::TokenVerifier;
use signalbox_turn::IceDirectory;

/// Forwards SDP, ICE candidates and presence between WebRTC peers; it never carries media.
#[derive(Parser)]
#[command(name = "signal-service", version)]
struct Cli {
    #[command(flatten)]
    flags: CommonFlags,
}

fn main() -> ExitCode {
    run_process("signal-service", &Cli::parse().flags, check_secrets, |loaded, reloads| async {
        run_service(loaded, reloads)
            .await
            .map_err(|error| ProcessError::new(if error.is::<ConfigError>() { 2 } else { 1 }, error))
    })
}

/// The secrets that the service lacks, as its start would report them.
fn check_secrets(loaded: &LoadedConfig) -> Vec<String> {
    build_token_keys(loaded).err().map(|error| format!("{error:#}")).into_iter().collect()
}

async fn run_service(loaded: LoadedConfig, reloads: ConfigReloads) -> anyhow::Result<()> {
    let secrets = &loaded.secrets;
    let keys = build_token_keys(&loaded)?;
    let handles = HandleKeys::new(
        secrets.handle_key.iter().chain(&secrets.handle_key_previous),
        secrets.auth.iter().chain(&secrets.auth_previous),
    );
    let ice = IceDirectory::new(&loaded.settings, &secrets.turn_secrets);
    let listener =
        signalbox_http::open_listener(loaded.settings.server.listen, loaded.settings.limits.socket_buffer.0)?;
    let metrics = signalbox_http::open_metrics_listener(&loaded.settings)?;
    let store = match &secrets.redis_url {
        Some(url) => {
            let proof = RuleProof::Verifier(keys.verifier().clone());
            StoreConfig::Redis(RedisClient::start(url.expose(), &loaded.settings.redis)?, proof)
        }
        None => {
            tracing::warn!(
                event = "no_redis",
                "--redis is not set: rooms are kept in this process, so it must be the only node"
            );
            StoreConfig::Memory(None)
        }
    };
    let gate = RequestGate::new(&loaded.settings.server);
    let signal = SignalNode::start(loaded.settings.clone(), keys, handles, ice, gate, store)?;
    let reloaded = signal.clone();
    actix_rt::spawn(reloads.run(async move |reload| {
        reloaded.reload(reload);
        Ok(())
    }));
    if let Some(listener) = metrics {
        let node = signal.clone();
        signalbox_http::serve_metrics(listener, move || node.gather_metrics())?;
    }
    let routes = signal.clone();
    let server = connection::serve(listener, &signal, move || configure_standalone(routes.clone()))?;
    let handle = server.handle();
    let (draining_node, stop_signal): (Arc<SignalNode>, _) = (signal.clone(), signalbox_http::stop_signal()?);
    tracing::info!(event = "listening", address = %loaded.settings.server.listen);
    actix_rt::spawn(async move {
        stop_signal.await;
        drain_node(&draining_node).await;
        handle.stop(true).await;
    });
    server.await?;
    tracing::info!(event = "stopped");
    Ok(())
}

/// The keys that verify tokens: the published keys if their source is set, and the shared secret if
/// there is one.
fn build_token_keys(loaded: &LoadedConfig) -> anyhow::Result<TokenKeys> {
    let (auth, secrets) = (&loaded.settings.auth, &loaded.secrets);
    let url = auth.jwks_url.clone().map(KeySource::Url);
    let source = url.or_else(|| auth.jwks_file.clone().map(KeySource::File));
    let shared = secrets.auth.iter().chain(&secrets.auth_previous);
    match (source, &secrets.auth) {
        (None, None) => {
            let problem = "is not set, and neither is auth.jwks_url: set auth.jwks_url to the public keys of the auth service, or give this service the same secret, created with: openssl rand -base64 48";
            Err(ConfigError::invalid_setting("AUTH_SECRET", problem).into())
        }
        (Some(_), None) if secrets.handle_key.is_none() => {
            let problem = "is not set, and without AUTH_SECRET no other key can seal resume handles; give every node the same key, created with: openssl rand -base64 48";
            Err(ConfigError::invalid_setting("SIGNALBOX_SESSION_KEY", problem).into())
        }
        (None, Some(_)) => Ok(TokenVerifier::from_secrets(shared).into()),
        (Some(source), _) => {
            let http_client = HttpClient::from_settings(&loaded.settings.http_client)?;
            let verifier = TokenVerifier::with_published_keys(shared);
            Ok(TokenKeys::from_source(verifier, source, http_client, auth.jwks_ttl.0))
        }
    }
}
