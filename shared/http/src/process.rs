//! A binary from its flags to its exit code: the same for all three.

use std::{fmt::Display, io::Write as _, process::ExitCode};

use actix_web::rt::System;
use signalbox_config::{CommonFlags, LoadedConfig, logging};

/// Why a process does not start, or ends: an exit code (2 for a configuration to be mended, 1 for the rest) and one line.
#[derive(Debug)]
pub struct ProcessError {
    exit_code: u8,
    message: String,
}

impl ProcessError {
    /// A failure that is said in one line.
    pub fn new(exit_code: u8, error: impl Display) -> Self {
        // `{:#}` is the whole chain of an `anyhow::Error`.
        Self { exit_code, message: format!("{error:#}").replace('\n', " ") }
    }
}

/// Reads the configuration, says what is wrong with it, prints it if that was asked for, or serves until the end.
pub fn run_process<F>(name: &str, flags: &CommonFlags, serve: impl FnOnce(LoadedConfig) -> F) -> ExitCode
where
    F: Future<Output = Result<(), ProcessError>>,
{
    let ended = match LoadedConfig::load(flags, &LoadedConfig::read_environment()) {
        Err(error) => Err(ProcessError::new(2, error)),
        Ok(loaded) if flags.check_config => {
            print_text(&loaded.describe());
            Ok(())
        }
        Ok(loaded) => {
            logging::init_logging(&loaded.settings.log.filter, loaded.settings.log.format);
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
            let _ = writeln!(std::io::stderr(), "{name}: {}", failure.message);
            ExitCode::from(failure.exit_code)
        }
    }
}

/// Says something to the person who started the process.
pub fn print_text(text: &str) {
    // A closed pipe is the reader's affair.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
