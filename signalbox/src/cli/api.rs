//! Sends requests to the API of a running service.
//!
//! Owns: the address of the service, the API key, and how answers and errors are printed. Must not:
//! read a secret from the command line, because other users of the machine can read it.

use std::{fmt::Display, path::PathBuf, process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Map, Value};
use signalbox_config::{LoadedConfig, read_secret};
use signalbox_http::{
    ClientResponse, HeaderName, HeaderValue, HttpClient as Client, HttpClientError, RequestLimits,
    StatusCode, print_text,
};

use super::report_failure;

/// Bounds for the answer.
const REQUEST_LIMITS: RequestLimits =
    RequestLimits { deadline: Duration::from_secs(10), max_body_bytes: 4 * 1024 * 1024 };

/// The arguments that name the service.
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
    /// A PEM file with the certificates of the trusted authorities; without it, the public
    /// authorities
    #[arg(long, value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
}

/// The end of the help of each command.
const API_HELP: &str = "\
Environment:
  SIGNALBOX_API_KEY       The API key, as id:secret
  SIGNALBOX_API_KEY_FILE  The path of a file that holds the API key instead

The answer is printed as JSON. The exit code is 0 on success, 1 if the service refused or did not answer, and 2 if the command line or the key is wrong.";

/// A command that sends one request, and the service to send it to.
#[derive(Args)]
#[command(after_help = API_HELP)]
pub(crate) struct ApiCall<C: Args> {
    #[command(flatten)]
    pub(super) command: C,
    #[command(flatten, next_help_heading = "Service")]
    address: ServiceAddress,
}

/// A command that sends one request.
pub(crate) trait ApiCommand {
    /// # Errors
    /// Why the request cannot be sent, in plain English.
    fn to_request(&self) -> Result<ApiRequest, String>;
}

impl<C: Args + ApiCommand> ApiCall<C> {
    pub(super) fn execute(&self) -> ExitCode {
        send_request(self.command.to_request(), &self.address)
    }
}

/// A request to the API.
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

    /// The request that lifts the access rule with this key.
    pub(super) fn lift_rule(key: &str) -> Self {
        Self { method: "DELETE", path: format!("/api/rules/{}", encode_percent(key)), body: None }
    }
}

/// A JSON object without the members that are null.
pub(super) fn json_object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let present = members.into_iter().filter(|(_, value)| !value.is_null());
    present.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// Appends the parameters that have a value to a path that already has a query.
pub(super) fn append_query<const N: usize>(path: &str, parameters: [(&str, Option<&String>); N]) -> String {
    let present = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    present.fold(path.to_owned(), |path, (name, value)| format!("{path}&{name}={}", encode_percent(value)))
}

/// Percent-encodes all characters that are not unreserved (RFC 3986, section 2.3).
pub(super) fn encode_percent(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// Sends the request and prints the answer; the exit codes are those of [`API_HELP`].
fn send_request(request: Result<ApiRequest, String>, server: &ServiceAddress) -> ExitCode {
    let prepared = request.and_then(|request| Ok((request, read_authorization()?, build_client(server)?)));
    let (request, authorization, client) = match prepared {
        Ok(prepared) => prepared,
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
            &format!("{} is not the URL of a service; write it like http://127.0.0.1:8080", server.url),
        ),
        Err(error) => {
            let next = "check that the service runs there, or name another URL with --url or SIGNALBOX_URL";
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
    let name = "SIGNALBOX_API_KEY";
    let key = read_secret(name, &LoadedConfig::read_environment()).map_err(|error| error.to_string())?;
    let key = key.ok_or(
        "no API key is set; set SIGNALBOX_API_KEY to id:secret, or SIGNALBOX_API_KEY_FILE to the path of a file that holds it",
    )?;
    let unusable = || format!("{name} must contain one API key, as id:secret");
    if !key.contains(':') || key.contains(char::is_whitespace) {
        return Err(unusable());
    }
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(key))).map_err(|_| unusable())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Prints the JSON of an answer, or one line for a refusal.
fn print_response(answer: &ClientResponse) -> ExitCode {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == StatusCode::NO_CONTENT {
        return ExitCode::SUCCESS;
    }
    // An answer without a JSON object is not from Signalbox.
    if answer.status.is_success() && body.is_object() {
        print_text(&format!("{}\n", serde_json::to_string_pretty(&body).unwrap_or_default()));
        return ExitCode::SUCCESS;
    }
    report_failure(1, &refusal_message(answer.status, &body))
}

/// The detail of a refusal, and what to do next if the detail does not say it.
fn refusal_message(status: StatusCode, body: &Value) -> String {
    let (Some(code), Some(detail)) = (body["code"].as_str(), body["detail"].as_str()) else {
        return format!("the answer, with status {}, is not from Signalbox; check the URL", status.as_u16());
    };
    let next = match code {
        "caller_unknown" => "; SIGNALBOX_API_KEY must be an API key of the service, with its secret",
        "scope_missing" => "; the operator of the service can add the scope in [api_keys.ID]",
        "address_denied" => {
            "; `signalbox rules --kind deny` lists the range, `signalbox allow RANGE` lifts the rule"
        }
        "not_found" => {
            "; a signaling node does not have it: --url or SIGNALBOX_URL must name the auth service"
        }
        "no_such_rule" => "; `signalbox rules` lists the rules in force",
        "host_not_allowed" => "; add the name in the URL to server.allowed_hosts",
        "rule_limit" => "; lift rules that are not needed, or raise limits.rules",
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
        assert_eq!(
            line,
            "404 no_such_rule: there is no such rule in force; `signalbox rules` lists the rules in force"
        );
        let page = refusal_message(StatusCode::OK, &Value::Null);
        assert!(page.contains("check the URL"), "{page}");
    }

    #[test]
    fn a_rule_key_is_escaped_in_a_path() {
        assert_eq!(ApiRequest::lift_rule("ban:*:a@b+c").path, "/api/rules/ban%3A%2A%3Aa%40b%2Bc");
        assert_eq!(ApiRequest::lift_rule("deny:10.0.0.0/8").path, "/api/rules/deny%3A10.0.0.0%2F8");
    }
}
