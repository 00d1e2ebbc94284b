//! `signalbox webhooks dead` and `signalbox webhooks replay`. Each sends one request to the API.

use clap::{Args, Subcommand};
use serde_json::json;

use super::api::{ApiCommand, ApiRequest, append_query};

#[derive(Args)]
pub(crate) struct WebhooksArgs {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// List the dead letters: events that were given up
    Dead(ListDeadArgs),
    /// Send dead letters again, each to the endpoint that did not accept it
    Replay(ReplayArgs),
}

#[derive(Args)]
struct ListDeadArgs {
    /// The most events to list; 1 to 500
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// The `next` of the previous answer
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
struct ReplayArgs {
    #[command(flatten)]
    selection: ReplaySelectionArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct ReplaySelectionArgs {
    /// Send the event with this id
    #[arg(long)]
    id: Option<String>,
    /// Send the events of this room
    #[arg(long)]
    room: Option<String>,
    /// Send all dead letters
    #[arg(long)]
    all: bool,
}

impl ApiCommand for WebhooksArgs {
    fn to_request(&self) -> Result<ApiRequest, String> {
        Ok(match &self.command {
            WebhooksCommand::Dead(ListDeadArgs { limit, cursor }) => {
                let path = format!("/api/webhooks/dead?limit={limit}");
                ApiRequest::get(append_query(&path, [("cursor", cursor.as_ref())]))
            }
            WebhooksCommand::Replay(ReplayArgs { selection }) => {
                let body = match selection {
                    ReplaySelectionArgs { id: Some(id), .. } => json!({ "id": id }),
                    ReplaySelectionArgs { room: Some(room), .. } => json!({ "room": room }),
                    ReplaySelectionArgs { .. } => json!({ "all": true }),
                };
                ApiRequest::post("/api/webhooks/replay", body)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct TestLine {
        #[command(flatten)]
        command: WebhooksArgs,
    }

    fn parse_request(line: &str) -> Option<ApiRequest> {
        TestLine::try_parse_from(line.split(' ')).ok()?.command.to_request().ok()
    }

    #[test]
    fn every_webhooks_command_makes_one_request() {
        let dead = parse_request("webhooks dead --limit 5 --cursor 3.1-2").unwrap();
        assert_eq!((dead.method, &*dead.path), ("GET", "/api/webhooks/dead?limit=5&cursor=3.1-2"));
        for (line, body) in [
            ("webhooks replay --id evt_1", json!({"id": "evt_1"})),
            ("webhooks replay --room r", json!({"room": "r"})),
            ("webhooks replay --all", json!({"all": true})),
        ] {
            assert_eq!(parse_request(line).unwrap().body, Some(body));
        }
        for line in ["webhooks replay", "webhooks replay --all --room r", "webhooks"] {
            assert!(parse_request(line).is_none(), "{line}");
        }
    }
}
