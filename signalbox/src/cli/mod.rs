//! The commands of an operator.
//!
//! Owns: what stands on a command line, and how the answer looks. Must not: have rules of its own; the services' crates have them.

mod api;
mod control;
mod keys;
mod webhooks;

use std::{fmt::Display, io::Write as _, process::ExitCode};

use clap::Subcommand;
use signalbox_shared::config::{Flags, Loaded};

/// What can be done besides serving.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// The private keys that sign tokens
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Take back a token, everything of a user or a room until now, everything until now, or an API key
    Revoke(control::Revoke),
    /// Ban a user for a time
    Ban(control::Ban),
    /// Lift a ban
    Unban(control::Unban),
    /// Refuse clients of an address or range for a time
    Deny(control::Deny),
    /// Lift a refusal
    Allow(control::Allow),
    /// Say something to whoever is connected
    Notice(control::Notice),
    /// Send everybody away, until it is ended
    Shutdown(control::Shutdown),
    /// Change limits on every node without a restart
    Limits(control::Limits),
    /// Show the rules in force, or lift one
    Rules(control::Rules),
    /// What webhooks could not be told, and telling it again
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
}

/// Does it.
pub(crate) fn run(command: &Command, flags: &Flags) -> ExitCode {
    match command {
        Command::Keys(command) => match Loaded::load(flags, &Loaded::environment()) {
            Ok(loaded) => keys::run(command, &loaded.settings.auth),
            Err(error) => failed(2, &error),
        },
        Command::Revoke(command) => api::run(command.request(), &command.server),
        Command::Ban(command) => api::run(Ok(command.request()), &command.server),
        Command::Unban(command) => api::run(Ok(command.request()), &command.server),
        Command::Deny(command) => api::run(Ok(command.request()), &command.server),
        Command::Allow(command) => api::run(Ok(command.request()), &command.server),
        Command::Notice(command) => api::run(Ok(command.request()), &command.server),
        Command::Shutdown(command) => api::run(Ok(command.request()), &command.server),
        Command::Limits(command) => api::run(Ok(command.request()), &command.server),
        Command::Rules(command) => api::run(Ok(command.request()), &command.server),
        Command::Webhooks(command) => api::run(Ok(command.request()), command.server()),
    }
}

fn failed(code: u8, error: &dyn Display) -> ExitCode {
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "signalbox: {error}");
    ExitCode::from(code)
}
