//! The life of a process from its flags to its exit code, the same for all three binaries.

use std::{fmt::Display, io::Write as _, process::ExitCode, thread};

use actix_web::rt::System;
use mimalloc::MiMalloc;
use signalbox_config::{CommonFlags, LoadedConfig, logging};

use crate::{
    open_files::raise_file_limit,
    reload::{ConfigReloads, ReloadSignal, SecretCheck},
};

/// With the allocator of glibc, the threads of a process wait for each other's heaps, because they
/// free and enlarge what other threads have allocated.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
///
/// `check` names the secrets that the service lacks. `--check-config` reports all of them, and a
/// reload is refused if there is one.
pub fn run_process<F>(
    name: &str,
    flags: &CommonFlags,
    check: SecretCheck,
    serve: impl FnOnce(LoadedConfig, ConfigReloads) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), ProcessError>>,
{
    let system = System::new();
    // First of all: until the process listens for SIGHUP, the signal would end it.
    let signal = system.block_on(async { ReloadSignal::listen() });
    let env = LoadedConfig::read_environment();
    let result = match (signal, LoadedConfig::load(flags, &env)) {
        (Err(error), _) => Err(vec![ProcessError::new(1, error)]),
        (_, Err(error)) => Err(vec![ProcessError::new(2, error)]),
        (_, Ok(loaded)) if flags.check_config => {
            print_text(&loaded.describe());
            let missing = check(&loaded);
            if missing.is_empty() {
                Ok(())
            } else {
                Err(missing.into_iter().map(|text| ProcessError::new(2, text)).collect())
            }
        }
        (Ok(signal), Ok(loaded)) => {
            let started = start_logging(&loaded);
            raise_file_limit();
            let reloads = ConfigReloads::new((flags.clone(), env), loaded.clone(), check, signal);
            let served = started.and_then(|()| system.block_on(serve(loaded, reloads)));
            served.map_err(|error| vec![error])
        }
    };
    // Not dropped: the drop waits for every look-up of a name and every read of a file that still
    // hangs, and the end of the process does not.
    std::mem::forget(system);
    logging::flush_lines();
    let Err(errors) = result else { return ExitCode::SUCCESS };
    for error in &errors {
        logging::write_last_line(format!("{name}: {}", error.message));
    }
    ExitCode::from(errors.first().map_or(1, |error| error.exit_code))
}

fn start_logging(loaded: &LoadedConfig) -> Result<(), ProcessError> {
    let log = &loaded.settings.log;
    logging::init_logging(&log.filter, log.format, log.buffer.0)
        .map_err(|error| ProcessError::new(1, format!("the log has no thread: {error}")))?;
    for warning in &loaded.warnings {
        tracing::warn!(event = "unsafe_setting", "{warning}");
    }
    Ok(())
}

/// Writes a text to standard output.
pub fn print_text(text: &str) {
    // The reader may have closed the pipe; that is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes a text to standard output and does not wait for its reader.
pub fn print_notice(text: String) {
    // Without a thread there is no notice, and the process serves all the same.
    let _ = thread::Builder::new().spawn(move || print_text(&text));
}
