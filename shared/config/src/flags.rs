//! The flags that all binaries share.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// The flags that every binary accepts; their comments are the text of `--help`.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Address and port to listen on, like 127.0.0.1:8080
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// The shared store, like redis://host:6379/0; without it, the state stays in the process. If
    /// the URL has a password, set REDIS_URL instead, because other users of the machine can read a
    /// command line
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print the settings in force, without secrets, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Threads that serve clients; 0 is one per core
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Give tokens to callers without an API key (unsafe on a public address)
    #[arg(long)]
    pub guests: bool,
}
