//! `auth-service`: issues and validates room tokens.

use std::process::ExitCode;

use clap::Parser;
use signalbox_auth::app::{self, check_secrets};
use signalbox_config::CommonFlags;
use signalbox_http::{ProcessError, run_process};

/// Signalbox's auth service: issues and validates room tokens.
#[derive(Parser)]
#[command(name = "auth-service", version)]
struct Cli {
    #[command(flatten)]
    flags: CommonFlags,
}

fn main() -> ExitCode {
    run_process("auth-service", &Cli::parse().flags, check_secrets, |loaded, reloads| async {
        app::serve(loaded, reloads).await.map_err(|error| ProcessError::new(error.exit_code(), error))
    })
}
