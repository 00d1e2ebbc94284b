//! The all-in-one binary: tokens, signaling and the pages in one process and on one port. It
//! also has the commands for operators (`cli`).
//!
//! Owns: how the two services are connected in one process; on a loopback address it needs no
//! settings. Must not: contain rules of a service. Next: `signalbox_auth` and `signalbox_signal`.

mod cli;
mod pages;
// The build script uses this module, and its tests run here.
#[cfg(test)]
#[path = "../build/single_file.rs"]
mod single_file;

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use actix_web::web;
use clap::Parser;
use signalbox_access::RuleProof;
use signalbox_auth::{
    AuthParts, AuthState,
    app::missing_api_secrets,
    credential_store::{CredentialStore, RedisCredentialStore, contract::CredentialLimits},
    keys::{KeysError, SigningKeys},
    store_memory::memory_level_reader,
    usage_reader::UsageReader,
    webhooks::{WebhookEventSource, WebhookLauncher},
};
use signalbox_config::{CommonFlags, ConfigError, LoadedConfig, SecretSettings, ServiceSettings};
use signalbox_http::{
    ConfigReloads, ProcessError, RequestGate, configure_health, not_found, open_listener,
    open_metrics_listener, print_notice, run_process, serve_metrics, stop_signal,
};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_redis::RedisClient;
use signalbox_rooms::feed::{FEED_BACKLOG, FeedSender};
use signalbox_signal::{
    app, connection,
    drain::drain_node,
    node::{SignalNode, StoreConfig},
    resume_handle::HandleKeys,
};
use signalbox_token::{SecretBytes, SharedSecret};
use signalbox_turn::IceDirectory;

/// Signalbox: self-hosted WebRTC signaling. Without arguments: a video call at
/// http://127.0.0.1:8080/?room=first-call
#[derive(Parser)]
#[command(name = "signalbox", version)]
struct Cli {
    #[command(flatten)]
    flags: CommonFlags,
    /// A command; without one, the binary serves
    #[command(subcommand)]
    command: Option<cli::CliCommand>,
}

fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    if let Some(command) = command {
        return cli::run_command(&command, &flags);
    }
    run_process("signalbox", &flags, check_secrets, |loaded, reloads| async {
        run_services(loaded, reloads).await.map_err(|error| {
            let is_configuration = error.is::<ConfigError>() || error.is::<KeysError>();
            ProcessError::new(if is_configuration { 2 } else { 1 }, error)
        })
    })
}

/// The secrets that the process lacks, as its start would report them.
fn check_secrets(loaded: &LoadedConfig) -> Vec<String> {
    let keys = load_keys(&loaded.settings, &loaded.secrets).err().map(|error| format!("{error:#}"));
    keys.into_iter().chain(missing_api_secrets(loaded)).collect()
}

/// Whether guests may get tokens.
fn are_guests_allowed(settings: &ServiceSettings) -> bool {
    settings.auth.guests.unwrap_or(settings.server.is_local())
}

async fn run_services(loaded: LoadedConfig, reloads: ConfigReloads) -> anyhow::Result<()> {
    let LoadedConfig { settings, secrets, .. } = loaded;
    let address = settings.server.listen;
    let (keys, handle_keys) = load_keys(&settings, &secrets)?;
    if settings.auth.keys_dir.is_none() && secrets.auth.is_none() {
        tracing::info!(
            event = "own_secret",
            "AUTH_SECRET is not set: a random key signs tokens until this process ends, so a restart interrupts all calls; make a secret with: openssl rand -base64 48"
        );
    }
    let guests_allowed = are_guests_allowed(&settings);
    let gate = RequestGate::new(&settings.server);
    let listener = open_listener(address, settings.limits.socket_buffer.0)?;
    let bound = listener.local_addr()?;
    let metrics_listener = open_metrics_listener(&settings)?;

    let redis = match &secrets.redis_url {
        Some(url) => Some(RedisClient::start(url.expose(), &settings.redis)?),
        None => None,
    };
    let (feed, store_config) = match &redis {
        Some(client) => (
            signalbox_auth::feed_subscription::subscribe_feed(client),
            StoreConfig::Redis(client.clone(), RuleProof::Signer(keys.clone())),
        ),
        None => {
            let feed = FeedSender::new(FEED_BACKLOG);
            (feed.clone(), StoreConfig::Memory(Some(feed)))
        }
    };
    let ice = IceDirectory::new(&settings, &secrets.turn_secrets);
    let signal = SignalNode::start(
        settings.clone(),
        keys.verifier().clone().into(),
        handle_keys,
        ice.clone(),
        gate.clone(),
        store_config,
    )?;
    actix_rt::spawn(keys.clone().watch_folder());
    let usage = match (&redis, signal.usage_book()) {
        (Some(client), _) => UsageReader::Redis(client.clone()),
        (None, Some(book)) => UsageReader::Book(book),
        (None, None) => UsageReader::None,
    };
    let source = redis.clone().map_or(WebhookEventSource::Feed, WebhookEventSource::Redis);
    let webhooks = Arc::new(WebhookLauncher::start(&settings, &secrets.webhooks, source, &feed)?);
    let (memory_level, limits) =
        (memory_level_reader(redis.clone()), CredentialLimits::new(&settings.limits));
    let store = match redis {
        Some(client) => {
            CredentialStore::Redis(Arc::new(RedisCredentialStore::new(client, keys.clone(), limits)))
        }
        None => CredentialStore::in_memory(signal.admission.ticket_shelf().unwrap_or_default(), limits),
    };
    let parts = AuthParts {
        keys,
        api_keys: secrets.api_keys.clone(),
        user_secret: secrets.user_secret.clone(),
        guests_allowed,
        feed,
        ice,
        access: signal.access_control.clone(),
        rooms: Some(signal.registry.clone()),
        webhooks: webhooks.running(),
        gate,
        usage,
        store,
        memory_level,
    };
    let auth = web::Data::new(AuthState::new(&settings, parts)?);

    if let Some(listener) = metrics_listener {
        let (signal, auth) = (signal.clone(), auth.clone());
        serve_metrics(listener, move || [signal.gather_metrics(), auth.metrics()].concat())?;
    }
    let reloaded = (signal.clone(), auth.clone(), webhooks.clone());
    actix_rt::spawn(reloads.run(async move |reload| {
        let (signal, auth, webhooks) = &reloaded;
        webhooks.reload(reload).await.map_err(|error| error.to_string())?;
        let guests_allowed = are_guests_allowed(&reload.config.settings);
        auth.reload(reload, guests_allowed).map_err(|error| error.to_string())?;
        signal.reload(reload);
        Ok(())
    }));
    let (signal_routes, auth_routes) = (signal.clone(), auth.clone());
    let server = connection::serve(listener, &signal, move || {
        configure_routes(signal_routes.clone(), auth_routes.clone())
    })?;
    let (handle, stop) = (server.handle(), stop_signal()?);
    actix_rt::spawn(async move {
        stop.await;
        auth.stop();
        drain_node(&signal).await;
        // The drain may create the last events, so webhooks stop after it.
        webhooks.stop().await;
        handle.stop(true).await;
    });
    print_notice(format!("{}\n", start_text(bound, guests_allowed, settings.server.is_local())));
    Ok(server.await?)
}

/// What a start prints. README.md names the same address.
fn start_text(bound: SocketAddr, guests_allowed: bool, is_local: bool) -> String {
    if guests_allowed && is_local {
        // With a room in the address, two tabs meet. Without one, each tab suggests a room of its own.
        return format!(
            "For a video call, open http://{bound}/?room=first-call in two tabs and join in both. Ctrl-C stops Signalbox."
        );
    }
    let guests = if guests_allowed { "guests may join" } else { "guests are off: tokens need an API key" };
    format!("Signalbox listens on http://{bound}/ ({guests}). Ctrl-C stops it.")
}

/// Registers the routes of both services and of the pages.
fn configure_routes(
    signal: Arc<SignalNode>,
    auth: web::Data<AuthState>,
) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        let gate = signal.admission.gate().clone();
        let ready = signal.clone();
        config
            .app_data(web::Data::new(gate))
            .configure(configure_health(move || std::future::ready(ready.check_ready())))
            .configure(signalbox_auth::configure(auth))
            .configure(app::configure_signal_routes(signal))
            .configure(pages::configure_pages)
            .default_service(web::to(not_found));
    }
}

/// The keys that sign tokens, and the keys that seal resume handles. On a loopback address, missing
/// keys are random.
fn load_keys(
    settings: &ServiceSettings,
    secrets: &SecretSettings,
) -> anyhow::Result<(Arc<SigningKeys>, HandleKeys)> {
    let (auth, loopback) = (&settings.auth, settings.server.listen.ip().is_loopback());
    if auth.jwks_url.is_some() || auth.jwks_file.is_some() {
        let problem = "is only for a separate signal-service, but this process signs its tokens; set auth.keys_dir instead";
        return Err(ConfigError::invalid_setting("auth.jwks_url or auth.jwks_file", problem).into());
    }
    let missing = |name: &str| {
        let problem = "is not set, and only a loopback address works without it; make one with: openssl rand -base64 48";
        ConfigError::invalid_setting(name, problem)
    };
    let random = match (&auth.keys_dir, &secrets.auth) {
        // This secret only seals handles, because the keys of the folder sign tokens.
        (Some(_), None) if secrets.handle_key.is_none() && loopback => Some(random_secret()?),
        (Some(_), None) if secrets.handle_key.is_none() => {
            return Err(missing("SIGNALBOX_SESSION_KEY").into());
        }
        (None, None) if loopback => Some(random_secret()?),
        (None, None) => return Err(missing("AUTH_SECRET").into()),
        _ => None,
    };
    let configured = secrets.auth.iter().chain(&secrets.auth_previous);
    let handle_keys = HandleKeys::new(
        secrets.handle_key.iter().chain(&secrets.handle_key_previous),
        random.iter().chain(configured.clone()),
    );
    let keys = match (&auth.keys_dir, secrets.auth.as_ref().or(random.as_ref())) {
        (Some(folder), _) => SigningKeys::from_folder(folder.clone(), auth, configured, clock::now_s())?,
        (None, Some(secret)) => SigningKeys::from_secret(secret, secrets.auth_previous.as_ref()),
        (None, None) => return Err(missing("AUTH_SECRET").into()),
    };
    Ok((keys, handle_keys))
}

fn random_secret() -> anyhow::Result<SharedSecret> {
    Ok(SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex())))?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_printed_address_names_a_room_and_is_the_one_in_the_readme() {
        let text = start_text(([127, 0, 0, 1], 8080).into(), true, true);
        let address = text.split(' ').find(|word| word.starts_with("http://")).unwrap();
        assert!(address.contains("/?room="), "{text}");
        assert!(include_str!("../../README.md").contains(&format!("<{address}>")), "{address}");
        for (guests_allowed, is_local) in [(true, false), (false, true), (false, false)] {
            let text = start_text(([0, 0, 0, 0], 8080).into(), guests_allowed, is_local);
            assert!(!text.contains("room="), "{text}");
        }
    }

    #[test]
    fn the_arguments_of_all_commands_are_consistent() {
        Cli::command().debug_assert();
    }
}
