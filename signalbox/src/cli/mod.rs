//! The commands for operators.
//!
//! Owns: the arguments of the commands, and what they print. Must not: contain rules; those are in
//! the crates of the services. Next: `keys` and `pages` work on files, the other commands call the
//! API of a running service (`api`).

mod access;
mod api;
mod keys;
mod webhooks;

use std::{fmt::Display, io::Write as _, path::PathBuf, process::ExitCode};

use clap::Subcommand;
use signalbox_config::{CommonFlags, LoadedConfig};

use api::ApiCall;

use crate::pages::write_pages;

/// A command; without one, the binary serves.
#[derive(Subcommand)]
pub(crate) enum CliCommand {
    /// Make, rotate and list the private keys that sign tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Revoke a token, a grant, an API key, or everything that was issued until now
    Revoke(ApiCall<access::RevokeArgs>),
    /// Ban a user for a time
    Ban(ApiCall<access::BanArgs>),
    /// Lift the ban of a user
    Unban(ApiCall<access::UnbanArgs>),
    /// Refuse clients of an address or range for a time
    Deny(ApiCall<access::DenyArgs>),
    /// Lift the denial of an address or range
    Allow(ApiCall<access::AllowArgs>),
    /// Send a notice to connected peers
    Notice(ApiCall<access::NoticeArgs>),
    /// Disconnect all clients and admit none, until the shutdown ends
    Shutdown(ApiCall<access::ShutdownArgs>),
    /// Change limits on every node without a restart
    Limits(ApiCall<access::LimitsArgs>),
    /// List the access rules in force, or lift one
    Rules(ApiCall<access::RulesArgs>),
    /// List the dead letters of webhooks, or send them again
    Webhooks(ApiCall<webhooks::WebhooksArgs>),
    /// Write the pages and the client into a folder, for a web server in front of the services
    Pages {
        /// The folder; it is created if it does not exist
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

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
        CliCommand::Pages { folder } => match write_pages(folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report_failure(1, &format!("cannot write into {}: {error}", folder.display())),
        },
    }
}

fn report_failure(code: u8, error: &dyn Display) -> ExitCode {
    // If standard error is closed, the message is lost.
    let _ = writeln!(std::io::stderr(), "signalbox: {error}");
    ExitCode::from(code)
}
