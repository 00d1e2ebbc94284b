//! `signalbox keys`

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

/// Keys in a folder, each a private JWK. What a key does follows from the clock: publishing, signing, retiring, over.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make the first key, and the folder; it signs at once
    New {
        #[command(flatten)]
        folder: KeyFolderArgs,
        /// Its algorithm
        #[arg(long, value_name = "ALG", default_value = "EdDSA")]
        alg: AlgorithmArg,
        /// Do nothing where there is a key already
        #[arg(long)]
        if_none: bool,
    },
    /// Make the next key, which signs as soon as every node knows it, and remove those that are over
    Rotate {
        #[command(flatten)]
        folder: KeyFolderArgs,
        /// Its algorithm; the newest key's unless given
        #[arg(long, value_name = "ALG")]
        alg: Option<AlgorithmArg>,
        /// It signs at once: for a key that has leaked, whose file is to be removed afterwards
        #[arg(long)]
        now: bool,
    },
    /// Show every key and its state
    List {
        #[command(flatten)]
        folder: KeyFolderArgs,
    },
}

/// Where the keys are.
#[derive(Args)]
pub(crate) struct KeyFolderArgs {
    /// The folder; auth.keys_dir unless given
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
}

/// As the standards name them.
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

/// Does it. The times of a rotation are those of the settings: they must be the ones that the services run with.
pub(super) fn run_keys(command: &KeysCommand, auth: &AuthSettings) -> ExitCode {
    let (KeysCommand::New { folder, .. } | KeysCommand::Rotate { folder, .. } | KeysCommand::List { folder }) =
        command;
    let Some(path) = folder.dir.as_ref().or(auth.keys_dir.as_ref()) else {
        return report_failure(2, &"name the folder of the keys with --dir, or set auth.keys_dir");
    };
    if !matches!(command, KeysCommand::New { .. }) && !path.exists() {
        let (path, new) = (path.display(), "make it, and the first key, with: signalbox keys new --dir");
        return report_failure(1, &format!("there is no folder {path}; {new} {path}"));
    }
    let (times, now_s) = (KeyTiming::new(auth), clock::now_s());
    let done = match command {
        KeysCommand::New { alg, if_none, .. } => {
            match operations::create_first_key(path, (*alg).into(), now_s) {
                Err(KeyOperationError::NotEmpty) if *if_none => Ok("There is a key already.\n".to_owned()),
                made => made.map(|kid| format!("{kid} signs from now on.\n")),
            }
        }
        KeysCommand::Rotate { alg, now, .. } => {
            operations::rotate_keys(path, alg.map(Into::into), times, now_s, *now).map(|rotated| {
                let gone: String =
                    rotated.removed.iter().map(|kid| format!("{kid} was over and is removed.\n")).collect();
                format!("{} signs from {} on.\n{gone}", rotated.kid, format_time(rotated.signs_from))
            })
        }
        KeysCommand::List { .. } => {
            operations::list_keys(path, times, now_s).map(|keys| format_table(&keys)).map_err(Into::into)
        }
    };
    match done {
        Ok(text) => {
            print_text(&text);
            ExitCode::SUCCESS
        }
        Err(error) => report_failure(1, &error),
    }
}

/// RFC 3339, UTC.
fn format_time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn format_table(keys: &[KeyListing]) -> String {
    let when = |seconds: Option<u64>| seconds.map_or("-".to_owned(), format_time);
    let mut text = format!("{:<43}  {:<5}  {:<10}  {:<20}  UNTIL\n", "KID", "ALG", "STATE", "SINCE");
    for KeyListing { kid, algorithm, status: place } in keys {
        let (alg, state) = (algorithm.as_str(), place.state.as_str());
        let (since, until) = (when(place.since_s), when(place.until_s));
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
        let place =
            KeyStatus { state: KeyState::Publishing, since_s: None, until_s: Some(0), published: true };
        let text = format_table(&[KeyListing {
            kid: "k".repeat(43),
            algorithm: KeyAlgorithm::ES256,
            status: place,
        }]);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line.split_whitespace().skip(1).collect::<Vec<_>>(),
            ["ES256", "publishing", "-", "1970-01-01T00:00:00Z"]
        );
    }
}
