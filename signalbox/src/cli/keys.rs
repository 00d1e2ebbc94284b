//! `signalbox keys`: creates, rotates and lists the keys that sign tokens.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use clap::{Args, Subcommand, ValueEnum};
use signalbox_auth::keys::{
    KeyTiming,
    operations::{self, KeyListing, KeyOperationError},
};
use signalbox_config::AuthSettings;
use signalbox_http::print_text;
use signalbox_protocol::clock;
use signalbox_token::KeyAlgorithm;

use super::report_failure;

/// The keys in a folder, each a private JWK. The clock decides the state of a key: publishing,
/// signing, retiring, over.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make the folder and the first key, which signs at once
    New {
        #[command(flatten)]
        folder: KeyFolderArgs,
        /// The algorithm of the key
        #[arg(long, value_name = "ALG", default_value = "EdDSA")]
        alg: AlgorithmArg,
        /// Do nothing if the folder already has a key
        #[arg(long)]
        if_none: bool,
    },
    /// Make the next key, which signs as soon as every node has it, and remove the keys that are
    /// over
    Rotate {
        #[command(flatten)]
        folder: KeyFolderArgs,
        /// The algorithm of the key; without it, the algorithm of the newest key
        #[arg(long, value_name = "ALG")]
        alg: Option<AlgorithmArg>,
        /// The new key signs at once. Use this if a key has leaked, and remove the file of that key
        /// afterwards
        #[arg(long)]
        now: bool,
    },
    /// List every key with its state
    List {
        #[command(flatten)]
        folder: KeyFolderArgs,
    },
}

/// The argument that names the folder.
#[derive(Args)]
pub(crate) struct KeyFolderArgs {
    /// The folder of the keys; without it, auth.keys_dir
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
}

/// The names of the standards (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum AlgorithmArg {
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDSA,
    /// ECDSA with P-256 and SHA-256
    #[value(name = "ES256")]
    Es256,
}

impl From<AlgorithmArg> for KeyAlgorithm {
    fn from(algorithm: AlgorithmArg) -> Self {
        match algorithm {
            AlgorithmArg::EdDSA => Self::EdDSA,
            AlgorithmArg::Es256 => Self::ES256,
        }
    }
}

/// Runs the command. The times of a rotation depend on the settings, so they must be the settings
/// of the services.
pub(super) fn run_keys(command: &KeysCommand, auth: &AuthSettings) -> ExitCode {
    let (KeysCommand::New { folder, .. } | KeysCommand::Rotate { folder, .. } | KeysCommand::List { folder }) =
        command;
    let Some(path) = folder.dir.as_ref().or(auth.keys_dir.as_ref()) else {
        return report_failure(2, &"the folder of the keys is not set; use --dir, or set auth.keys_dir");
    };
    if !matches!(command, KeysCommand::New { .. }) && !path.exists() {
        let (path, next) = (path.display(), "make it and the first key with: signalbox keys new --dir");
        return report_failure(1, &format!("the folder {path} does not exist; {next} {path}"));
    }
    let (timing, now_s) = (KeyTiming::new(auth), clock::now_s());
    let result = match command {
        KeysCommand::New { alg, if_none, .. } => {
            match operations::create_first_key(path, (*alg).into(), now_s) {
                Err(KeyOperationError::NotEmpty) if *if_none => {
                    Ok("The folder already has a key.\n".to_owned())
                }
                created => created.map(|kid| format!("{kid} signs from now on.\n")),
            }
        }
        KeysCommand::Rotate { alg, now, .. } => {
            operations::rotate_keys(path, alg.map(Into::into), timing, now_s, *now).map(|rotated| {
                let removed: String =
                    rotated.removed.iter().map(|kid| format!("{kid} was over and is removed.\n")).collect();
                format!("{} signs from {} on.\n{removed}", rotated.kid, format_time(rotated.signs_from))
            })
        }
        KeysCommand::List { .. } => {
            operations::list_keys(path, timing, now_s).map(|keys| format_table(&keys)).map_err(Into::into)
        }
    };
    match result {
        Ok(text) => {
            print_text(&text);
            ExitCode::SUCCESS
        }
        Err(error) => report_failure(1, &error),
    }
}

/// A time in RFC 3339, UTC.
fn format_time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn format_table(keys: &[KeyListing]) -> String {
    let time = |seconds: Option<u64>| seconds.map_or("-".to_owned(), format_time);
    let mut text = format!("{:<43}  {:<5}  {:<10}  {:<20}  UNTIL\n", "KID", "ALG", "STATE", "SINCE");
    for KeyListing { kid, algorithm, status } in keys {
        let (alg, state) = (algorithm.as_str(), status.state.as_str());
        let (since, until) = (time(status.since_s), time(status.until_s));
        text += &format!("{kid:<43}  {alg:<5}  {state:<10}  {since:<20}  {until}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use signalbox_auth::keys::{KeyState, KeyStatus};

    use super::*;

    #[test]
    fn the_key_table_has_a_line_for_every_key() {
        let status =
            KeyStatus { state: KeyState::Publishing, since_s: None, until_s: Some(0), published: true };
        let text =
            format_table(&[KeyListing { kid: "k".repeat(43), algorithm: KeyAlgorithm::ES256, status }]);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().skip(1).collect::<Vec<_>>(),
            ["ES256", "publishing", "-", "1970-01-01T00:00:00Z"]
        );
    }
}
