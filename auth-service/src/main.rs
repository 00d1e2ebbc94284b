//! `auth-service`: issues and validates room tokens.

use std::process::ExitCode;

use clap::Parser;
use signalbox_auth::app;
use signalbox_config::Flags;
use signalbox_http::{Failure, process};

/// Signalbox's auth service: issues and validates room tokens.
#[derive(Parser)]
#[command(name = "auth-service", version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    process("auth-service", &Cli::parse().flags, |loaded| async {
        app::serve(loaded).await.map_err(|error| Failure::new(error.exit_code(), error))
    })
}
