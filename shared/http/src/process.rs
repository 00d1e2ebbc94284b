//! A binary from its flags to its exit code: the same for all three.

use std::{fmt::Display, io::Write as _, process::ExitCode};

use actix_web::rt::System;
use signalbox_config::{Flags, Loaded, telemetry};

/// Why a process does not start, or ends: an exit code (2 for a configuration to be mended, 1 for the rest) and one line.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    line: String,
}

impl Failure {
    /// A failure that is said in one line.
    pub fn new(code: u8, error: impl Display) -> Self {
        // `{:#}` is the whole chain of an `anyhow::Error`.
        Self { code, line: format!("{error:#}").replace('\n', " ") }
    }
}

/// Reads the configuration, says what is wrong with it, prints it if that was asked for, or serves until the end.
pub fn process<F>(name: &str, flags: &Flags, serve: impl FnOnce(Loaded) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    let ended = match Loaded::load(flags, &Loaded::environment()) {
        Err(error) => Err(Failure::new(2, error)),
        Ok(loaded) if flags.check_config => {
            say(&loaded.describe());
            Ok(())
        }
        Ok(loaded) => {
            telemetry::init(&loaded.settings.log.filter, loaded.settings.log.format);
            for warning in &loaded.warnings {
                tracing::warn!(event = "unsafe_setting", "{warning}");
            }
            System::new().block_on(serve(loaded))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Standard error may be closed; there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "{name}: {}", failure.line);
            ExitCode::from(failure.code)
        }
    }
}

/// Says something to the person who started the process.
pub fn say(text: &str) {
    // A closed pipe is the reader's affair.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
