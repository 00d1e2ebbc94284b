//! The life of a process from its flags to its exit code, the same for all three binaries.

use std::{fmt::Display, io::Write as _, process::ExitCode};

use actix_web::rt::System;
use signalbox_config::{CommonFlags, LoadedConfig, logging};

/// Why a process does not start, or ends. The exit code is 2 for a wrong configuration and 1 for
/// every other error. The text has one line.
#[derive(Debug)]
pub struct ProcessError {
    exit_code: u8,
    message: String,
}

impl ProcessError {
    /// An error whose text is put into one line.
    pub fn new(exit_code: u8, error: impl Display) -> Self {
        // `{:#}` prints the whole chain of an `anyhow::Error`.
        Self { exit_code, message: format!("{error:#}").replace('\n', " ") }
    }
}

/// Loads the configuration. Then it prints the configuration for `--check-config`, or serves until
/// `serve` ends. An error goes to standard error.
pub fn run_process<F>(name: &str, flags: &CommonFlags, serve: impl FnOnce(LoadedConfig) -> F) -> ExitCode
where
    F: Future<Output = Result<(), ProcessError>>,
{
    let result = match LoadedConfig::load(flags, &LoadedConfig::read_environment()) {
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
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed, and the process has no other output.
            let _ = writeln!(std::io::stderr(), "{name}: {}", error.message);
            ExitCode::from(error.exit_code)
        }
    }
}

/// Writes a text to standard output.
pub fn print_text(text: &str) {
    // The reader may have closed the pipe; that is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
