//! `auth-service`: reads the configuration, says what is wrong with it in one line, or serves.

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use signalbox_auth::app;
use signalbox_shared::{
    config::{Flags, Loaded},
    telemetry,
};

/// Signalbox's auth service: issues and validates room tokens.
#[derive(Parser)]
#[command(name = "auth-service", version)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let Cli { flags } = Cli::parse();
    match Loaded::load(&flags, &Loaded::environment()) {
        Err(error) => fail(2, &error),
        Ok(loaded) if flags.check_config => {
            // A closed pipe is the reader's affair.
            let _ = write!(std::io::stdout(), "{}", loaded.describe());
            ExitCode::SUCCESS
        }
        Ok(loaded) => run(loaded),
    }
}

fn run(loaded: Loaded) -> ExitCode {
    telemetry::init(&loaded.settings.log.filter, loaded.settings.log.format);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match actix_web::rt::System::new().block_on(app::serve(loaded)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.exit_code(), &error),
    }
}

/// One line for the person who started it.
fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    let line = error.to_string().replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "auth-service: {line}");
    ExitCode::from(code)
}
