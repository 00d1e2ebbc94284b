//! Applies a changed configuration to the running process when it receives SIGHUP.
//!
//! Owns: the order of a reload. The whole new configuration is read and checked first; if anything
//! in it is wrong, the process keeps the old one. Must not: end the process, or know what a setting
//! changes in a service. Next: `shared/config/src/reload.rs` has the list of the settings that can
//! change.

use std::io;

use signalbox_config::{CommonFlags, ConfigReload, EnvVars, LoadedConfig};

/// Checks that a service has the secrets that it needs: one text for each that is missing.
pub type SecretCheck = fn(&LoadedConfig) -> Vec<String>;

/// The reloads of one process.
pub struct ConfigReloads {
    flags: CommonFlags,
    env: EnvVars,
    running: LoadedConfig,
    check: SecretCheck,
    signal: ReloadSignal,
}

impl ConfigReloads {
    pub(crate) fn new(
        (flags, env): (CommonFlags, EnvVars),
        running: LoadedConfig,
        check: SecretCheck,
        signal: ReloadSignal,
    ) -> Self {
        Self { flags, env, running, check, signal }
    }

    /// Handles each signal until the process ends. `apply` puts a checked configuration in force; if
    /// it fails, it has changed nothing.
    pub async fn run(mut self, mut apply: impl AsyncFnMut(&ConfigReload) -> Result<(), String>) {
        loop {
            self.signal.recv().await;
            match self.reload(&mut apply).await {
                Ok(reload) => self.finish(reload),
                Err(problem) => {
                    tracing::error!(event = "reload_refused", "{problem}; the running configuration stays");
                }
            }
        }
    }

    async fn reload(
        &self,
        apply: &mut impl AsyncFnMut(&ConfigReload) -> Result<(), String>,
    ) -> Result<ConfigReload, String> {
        let (flags, env, check) = (self.flags.clone(), self.env.clone(), self.check);
        let read = move || {
            let next = LoadedConfig::load(&flags, &env).map_err(|error| error.to_string())?;
            check(&next).into_iter().next().map_or(Ok(next), Err)
        };
        // Files may be slow.
        let next = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())??;
        let reload = self.running.reload(&next).map_err(|error| error.to_string())?;
        if !reload.changed.is_empty() {
            apply(&reload).await?;
        }
        Ok(reload)
    }

    fn finish(&mut self, reload: ConfigReload) {
        let ConfigReload { config, changed, waiting } = reload;
        tracing::info!(event = "configuration_reloaded", changed = changed.join(", "));
        if !waiting.is_empty() {
            tracing::warn!(event = "restart_needed", "needs a restart: {}", waiting.join(", "));
        }
        let overridden = config.overridden_settings();
        if !overridden.is_empty() {
            tracing::info!(
                event = "settings_overridden",
                "the file does not decide {}",
                overridden.join(", ")
            );
        }
        for warning in config.warnings.iter().filter(|warning| !self.running.warnings.contains(warning)) {
            tracing::warn!(event = "unsafe_setting", "{warning}");
        }
        self.running = config;
    }
}

/// The signal to reload. While this value exists, the signal does not end the process.
pub(crate) struct ReloadSignal {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl ReloadSignal {
    /// Listens for SIGHUP. Call inside a runtime, before anything that takes time.
    ///
    /// # Errors
    /// If the process cannot listen for the signal.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        Ok(Self {
            #[cfg(unix)]
            signal,
        })
    }

    /// Waits for the next signal; for ever on a platform without it.
    async fn recv(&mut self) {
        #[cfg(unix)]
        let received = self.signal.recv().await.is_some();
        #[cfg(not(unix))]
        let received = false;
        if !received {
            std::future::pending::<()>().await;
        }
    }
}
