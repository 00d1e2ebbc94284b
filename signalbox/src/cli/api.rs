//! Asking a running service, as its operator.
//!
//! Owns: where it is, the API key, how answers and refusals look. Must not: take a secret from the command line, where others can read it.

use std::{fmt::Display, path::PathBuf, process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Map, Value};
use signalbox_config::LoadedConfig;
use signalbox_http::{
    ClientResponse, HeaderName, HeaderValue, HttpClient as Client, HttpClientError, RequestLimits,
    StatusCode, print_text,
};

use super::report_failure;

/// How long an answer may take, and how long it may be.
const REQUEST_LIMITS: RequestLimits =
    RequestLimits { deadline: Duration::from_secs(10), max_body_bytes: 4 * 1024 * 1024 };

/// Where the service is.
#[derive(Args)]
pub(crate) struct ServiceAddress {
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

/// Behind the help of each command.
const API_HELP: &str = "\
Environment:
  SIGNALBOX_API_KEY       The API key to ask with, as id:secret
  SIGNALBOX_API_KEY_FILE  Or a file that holds it

The answer is printed as JSON. Exit code 1: the service refused, or did not answer. 2: the command line or the key is to be mended.";

/// A command that is one request, and where it is sent.
#[derive(Args)]
#[command(after_help = API_HELP)]
pub(crate) struct ApiCall<C: Args> {
    #[command(flatten)]
    pub(super) command: C,
    #[command(flatten, next_help_heading = "Where the service is")]
    address: ServiceAddress,
}

/// What a command asks for.
pub(crate) trait ApiCommand {
    /// # Errors
    /// Why it cannot be asked, for the operator.
    fn to_request(&self) -> Result<ApiRequest, String>;
}

impl<C: Args + ApiCommand> ApiCall<C> {
    /// Does it.
    pub(super) fn execute(&self) -> ExitCode {
        send_request(self.command.to_request(), &self.address)
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl ApiRequest {
    pub(super) fn post(path: &str, body: Value) -> Self {
        Self { method: "POST", path: path.to_owned(), body: Some(body) }
    }

    pub(super) fn get(path: String) -> Self {
        Self { method: "GET", path, body: None }
    }

    /// Lifts the rule of a key.
    pub(super) fn lift_rule(key: &str) -> Self {
        Self { method: "DELETE", path: format!("/api/rules/{}", encode_percent(key)), body: None }
    }
}

/// The members of a body; what is absent is not sent.
pub(super) fn json_object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let given = members.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// A path that has a query, and more parameters, those that are there.
pub(super) fn append_query<const N: usize>(path: &str, parameters: [(&str, Option<&String>); N]) -> String {
    let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.fold(path.to_owned(), |path, (name, value)| format!("{path}&{name}={}", encode_percent(value)))
}

/// A part of a path (RFC 3986): everything but the unreserved characters is escaped.
pub(super) fn encode_percent(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Sends it and prints the answer. 0: done. 1: not done. 2: something is to be mended here.
fn send_request(request: Result<ApiRequest, String>, server: &ServiceAddress) -> ExitCode {
    let ready = request.and_then(|request| Ok((request, read_authorization()?, build_client(server)?)));
    let (request, authorization, client) = match ready {
        Ok(all) => all,
        Err(problem) => return report_failure(2, &problem),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report_failure(1, &error),
    };
    let url = format!("{}{}", server.url.trim_end_matches('/'), request.path);
    let headers = [(HeaderName::from_static("authorization"), authorization)];
    let body = request.body.as_ref().map(|body| body.to_string().into());
    match runtime.block_on(client.request_json(request.method, &url, &headers, body, REQUEST_LIMITS)) {
        Ok(answer) => print_response(&answer),
        Err(HttpClientError::InvalidRequest) => report_failure(
            2,
            &format!("{} is no URL of a service; write it like http://127.0.0.1:8080", server.url),
        ),
        Err(error) => {
            let next = "is it running there? --url or SIGNALBOX_URL names another place";
            report_failure(1, &format!("{}: {error}; {next}", server.url))
        }
    }
}

fn build_client(server: &ServiceAddress) -> Result<Client, String> {
    let Some(path) = &server.ca_file else { return Client::new(None).map_err(|error| error.to_string()) };
    let problem = |error: &dyn Display| format!("--ca-file {}: {error}", path.display());
    let authorities = std::fs::read(path).map_err(|error| problem(&error))?;
    Client::new(Some(&authorities)).map_err(|error| problem(&error))
}

fn read_authorization() -> Result<HeaderValue, String> {
    let env = LoadedConfig::read_environment();
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let mut from = "SIGNALBOX_API_KEY".to_owned();
    let key = match (given("SIGNALBOX_API_KEY"), given("SIGNALBOX_API_KEY_FILE")) {
        (Some(key), None) => key.clone(),
        (None, Some(path)) => {
            from = format!("SIGNALBOX_API_KEY_FILE: {path}");
            std::fs::read_to_string(path).map_err(|error| format!("{from}: {error}"))?
        }
        (Some(_), Some(_)) => return Err("SIGNALBOX_API_KEY and SIGNALBOX_API_KEY_FILE: give one".to_owned()),
        (None, None) => {
            let problem = "no API key to ask with: set SIGNALBOX_API_KEY to id:secret, or SIGNALBOX_API_KEY_FILE to a file that holds it";
            return Err(problem.to_owned());
        }
    };
    let unusable = || format!("{from} must hold one API key, as id:secret");
    if !key.trim().contains(':') || key.trim().contains(char::is_whitespace) {
        return Err(unusable());
    }
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(key.trim()))).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

/// JSON as it came for what was done, a line for what was not.
fn print_response(answer: &ClientResponse) -> ExitCode {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == StatusCode::NO_CONTENT {
        return ExitCode::SUCCESS;
    }
    // Whatever else answers there has done nothing.
    if answer.status.is_success() && body.is_object() {
        print_text(&format!("{}\n", serde_json::to_string_pretty(&body).unwrap_or_default()));
        return ExitCode::SUCCESS;
    }
    report_failure(1, &refusal_message(answer.status, &body))
}

/// What was said, and what to do next where that is not said with it.
fn refusal_message(status: StatusCode, body: &Value) -> String {
    let (Some(code), Some(detail)) = (body["code"].as_str(), body["detail"].as_str()) else {
        return format!("{} of something else than Signalbox: is the URL right?", status.as_u16());
    };
    let next = match code {
        "caller_unknown" => "; SIGNALBOX_API_KEY must be one of the service's, with its secret",
        "scope_missing" => "; the operator of the service gives scopes in [api_keys.ID]",
        "address_denied" => {
            "; `signalbox rules --kind deny` shows the range, `signalbox allow RANGE` lifts it"
        }
        "no_such_rule" => "; `signalbox rules` shows what is",
        "host_not_allowed" => "; add the name in the URL to server.allowed_hosts",
        "rule_limit" => "; lift some that are not needed, or raise limits.rules",
        _ => "",
    };
    format!("{} {code}: {detail}{next}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_names_the_next_step_and_an_unknown_server_is_reported() {
        let problem = json!({ "code": "no_such_rule", "detail": "there is no such rule in force" });
        let line = refusal_message(StatusCode::NOT_FOUND, &problem);
        assert_eq!(line, "404 no_such_rule: there is no such rule in force; `signalbox rules` shows what is");
        let page = refusal_message(StatusCode::OK, &Value::Null);
        assert!(page.contains("is the URL right?"), "{page}");
    }

    #[test]
    fn a_rule_key_is_escaped_in_a_path() {
        assert_eq!(ApiRequest::lift_rule("ban:*:a@b+c").path, "/api/rules/ban%3A%2A%3Aa%40b%2Bc");
        assert_eq!(ApiRequest::lift_rule("deny:10.0.0.0/8").path, "/api/rules/deny%3A10.0.0.0%2F8");
    }
}
