//! The commands of an operator.
//!
//! Owns: what stands on a command line, and how the answer looks. Must not: have rules of its own; the services' crates have them.

mod keys;

use std::{fmt::Display, io::Write as _, process::ExitCode};

use clap::Subcommand;
use signalbox_shared::config::{Flags, Loaded};

/// What can be done besides serving.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// The private keys that sign tokens
    #[command(subcommand)]
    Keys(keys::Keys),
}

/// Does it.
pub(crate) fn run(command: &Command, flags: &Flags) -> ExitCode {
    let loaded = match Loaded::load(flags, &Loaded::environment()) {
        Ok(loaded) => loaded,
        Err(error) => return failed(2, &error),
    };
    match command {
        Command::Keys(command) => keys::run(command, &loaded.settings.auth),
    }
}

fn failed(code: u8, error: &dyn Display) -> ExitCode {
    // Standard error may be closed; there is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "signalbox: {error}");
    ExitCode::from(code)
}
