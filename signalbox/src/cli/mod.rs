//! The commands of an operator.
//!
//! Owns: what stands on a command line, and how the answer looks. Must not: have rules of its own; the services' crates have them.

mod access;
mod api;
mod keys;
mod webhooks;

use std::{fmt::Display, io::Write as _, process::ExitCode};

use clap::Subcommand;
use signalbox_config::{CommonFlags, LoadedConfig};

use api::ApiCall;

/// What can be done besides serving.
#[derive(Subcommand)]
pub(crate) enum CliCommand {
    /// The private keys that sign tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Take back a token, everything of a user or a room until now, everything until now, or an API key
    Revoke(ApiCall<access::RevokeArgs>),
    /// Ban a user for a time
    Ban(ApiCall<access::BanArgs>),
    /// Lift a ban
    Unban(ApiCall<access::UnbanArgs>),
    /// Refuse clients of an address or range for a time
    Deny(ApiCall<access::DenyArgs>),
    /// Lift a refusal
    Allow(ApiCall<access::AllowArgs>),
    /// Say something to whoever is connected
    Notice(ApiCall<access::NoticeArgs>),
    /// Send everybody away, until it is ended
    Shutdown(ApiCall<access::ShutdownArgs>),
    /// Change limits on every node without a restart
    Limits(ApiCall<access::LimitsArgs>),
    /// Show the rules in force, or lift one
    Rules(ApiCall<access::RulesArgs>),
    /// What webhooks could not be told, and telling it again
    Webhooks(ApiCall<webhooks::WebhooksArgs>),
}

/// Does it.
pub(crate) fn run_command(command: &CliCommand, flags: &CommonFlags) -> ExitCode {
    match command {
        CliCommand::Keys(command) => match LoadedConfig::load(flags, &LoadedConfig::read_environment()) {
            Ok(loaded) => keys::run_keys(command, &loaded.settings.auth),
            Err(error) => report_failure(2, &error),
        },
        CliCommand::Revoke(call) => call.execute(),
        CliCommand::Ban(call) => call.execute(),
        CliCommand::Unban(call) => call.execute(),
        CliCommand::Deny(call) => call.execute(),
        CliCommand::Allow(call) => call.execute(),
        CliCommand::Notice(call) => call.execute(),
        CliCommand::Shutdown(call) => call.execute(),
        CliCommand::Limits(call) => call.execute(),
        CliCommand::Rules(call) => call.execute(),
        CliCommand::Webhooks(call) => call.execute(),
    }
}

fn report_failure(code: u8, error: &dyn Display) -> ExitCode {
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "signalbox: {error}");
    ExitCode::from(code)
}
