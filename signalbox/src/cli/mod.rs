//! The commands of an operator.
//!
//! Owns: what stands on a command line, and how the answer looks. Must not: have rules of its own; the services' crates have them.

mod api;
mod control;
mod keys;
mod webhooks;

use std::{fmt::Display, io::Write as _, process::ExitCode};

use clap::Subcommand;
use signalbox_config::{Flags, Loaded};

use api::Call;

/// What can be done besides serving.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// The private keys that sign tokens
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Take back a token, everything of a user or a room until now, everything until now, or an API key
    Revoke(Call<control::Revoke>),
    /// Ban a user for a time
    Ban(Call<control::Ban>),
    /// Lift a ban
    Unban(Call<control::Unban>),
    /// Refuse clients of an address or range for a time
    Deny(Call<control::Deny>),
    /// Lift a refusal
    Allow(Call<control::Allow>),
    /// Say something to whoever is connected
    Notice(Call<control::Notice>),
    /// Send everybody away, until it is ended
    Shutdown(Call<control::Shutdown>),
    /// Change limits on every node without a restart
    Limits(Call<control::Limits>),
    /// Show the rules in force, or lift one
    Rules(Call<control::Rules>),
    /// What webhooks could not be told, and telling it again
    Webhooks(Call<webhooks::Webhooks>),
}

/// Does it.
pub(crate) fn run(command: &Command, flags: &Flags) -> ExitCode {
    match command {
        Command::Keys(command) => match Loaded::load(flags, &Loaded::environment()) {
            Ok(loaded) => keys::run(command, &loaded.settings.auth),
            Err(error) => failed(2, &error),
        },
        Command::Revoke(call) => call.run(),
        Command::Ban(call) => call.run(),
        Command::Unban(call) => call.run(),
        Command::Deny(call) => call.run(),
        Command::Allow(call) => call.run(),
        Command::Notice(call) => call.run(),
        Command::Shutdown(call) => call.run(),
        Command::Limits(call) => call.run(),
        Command::Rules(call) => call.run(),
        Command::Webhooks(call) => call.run(),
    }
}

fn failed(code: u8, error: &dyn Display) -> ExitCode {
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "signalbox: {error}");
    ExitCode::from(code)
}
