//! Asking a running service, as its operator.
//!
//! Owns: where it is, the API key, how answers and refusals look. Must not: take a secret from the command line, where others can read it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Map, Value};
use signalbox_http::{Answer, Ask as Client, HeaderName, HeaderValue, Patience, say};
use signalbox_shared::config::Loaded;

use super::failed;

/// How long an answer may take, and how long it may be.
const PATIENCE: Patience = Patience { deadline: Duration::from_secs(10), most_bytes: 4 * 1024 * 1024 };

/// Where the service is. The API key is taken from SIGNALBOX_API_KEY, or the file that SIGNALBOX_API_KEY_FILE names, as id:secret.
#[derive(Args)]
pub(crate) struct Server {
    /// The auth service, or the all-in-one process
    #[arg(
        long,
        value_name = "URL",
        env = "SIGNALBOX_URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    url: String,
    /// A PEM file with the authorities that may vouch for it; the public ones unless given
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
}

/// A command that is one request, and where it is sent.
#[derive(Args)]
pub(crate) struct Call<C: Args> {
    #[command(flatten)]
    pub(super) command: C,
    #[command(flatten, next_help_heading = "Where the service is")]
    server: Server,
}

/// What a command asks for.
pub(crate) trait Ask {
    /// # Errors
    /// Why it cannot be asked, for the operator.
    fn request(&self) -> Result<Request, String>;
}

impl<C: Args + Ask> Call<C> {
    /// Does it.
    pub(super) fn run(&self) -> ExitCode {
        run(self.command.request(), &self.server)
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl Request {
    pub(super) fn post(path: &str, body: Value) -> Self {
        Self { method: "POST", path: path.to_owned(), body: Some(body) }
    }

    pub(super) fn get(path: String) -> Self {
        Self { method: "GET", path, body: None }
    }

    /// Lifts the rule of a key.
    pub(super) fn lift(key: &str) -> Self {
        Self { method: "DELETE", path: format!("/api/rules/{}", percent(key)), body: None }
    }
}

/// The members of a body; what is absent is not sent.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let given = members.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// A path that has a query, and more parameters, those that are there.
pub(super) fn query<const N: usize>(path: &str, parameters: [(&str, Option<&String>); N]) -> String {
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.fold(path.to_owned(), |path, (name, value)| format!("{path}&{name}={}", percent(value)))
}

/// A part of a path (RFC 3986): everything but the unreserved characters is escaped.
pub(super) fn percent(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Sends it and prints the answer. 0: done. 1: not done. 2: something is to be mended here.
fn run(request: Result<Request, String>, server: &Server) -> ExitCode {
    let (request, authorization) = match request.and_then(|request| Ok((request, authorization()?))) {
        Ok(both) => both,
        Err(problem) => return failed(2, &problem),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(send(&request, server, authorization)),
        Err(error) => return failed(1, &error),
    };
    match outcome {
        Ok(answer) => tell(&answer),
        Err(problem) => failed(1, &problem),
    }
}

async fn send(request: &Request, server: &Server, authorization: HeaderValue) -> Result<Answer, String> {
    let authorities = server.ca_file.as_ref().map(std::fs::read).transpose();
    let authorities = authorities.map_err(|error| format!("--ca-file: {error}"))?;
    let ask = Client::new(authorities.as_deref()).map_err(|error| error.to_string())?;
    let url = format!("{}{}", server.url.trim_end_matches('/'), request.path);
    let headers = [(HeaderName::from_static("authorization"), authorization)];
    let body = request.body.as_ref().map(|body| body.to_string().into());
    ask.json(request.method, &url, &headers, body, PATIENCE).await.map_err(|error| error.to_string())
}

fn authorization() -> Result<HeaderValue, String> {
    let env = Loaded::environment();
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let key = match (given("SIGNALBOX_API_KEY"), given("SIGNALBOX_API_KEY_FILE")) {
        (Some(key), None) => key.clone(),
        (None, Some(path)) => {
            std::fs::read_to_string(path).map_err(|error| format!("SIGNALBOX_API_KEY_FILE: {error}"))?
        }
        (Some(_), Some(_)) => return Err("SIGNALBOX_API_KEY and SIGNALBOX_API_KEY_FILE: give one".to_owned()),
        (None, None) => {
            return Err(
                "SIGNALBOX_API_KEY or SIGNALBOX_API_KEY_FILE must hold an API key as id:secret".to_owned()
            );
        }
    };
    if !key.trim().contains(':') {
        return Err("SIGNALBOX_API_KEY must be id:secret".to_owned());
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(key.trim())))
        .map_err(|_| "SIGNALBOX_API_KEY must be id:secret".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// JSON as it came for what was done, a line for what was not.
fn tell(answer: &Answer) -> ExitCode {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() {
        say(&format!("{}\n", serde_json::to_string_pretty(&body).unwrap_or_default()));
        return ExitCode::SUCCESS;
    }
    let part = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let problem = format!("{} {}: {}", answer.status.as_u16(), part("code"), part("detail"));
    failed(1, &problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_a_path_whatever_it_holds() {
        assert_eq!(Request::lift("ban:*:a@b+c").path, "/api/rules/ban%3A%2A%3Aa%40b%2Bc");
        assert_eq!(Request::lift("deny:10.0.0.0/8").path, "/api/rules/deny%3A10.0.0.0%2F8");
    }
}
