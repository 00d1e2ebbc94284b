//! `signalbox webhooks dead`, `signalbox webhooks replay`: each one call of the API.

use clap::{Args, Subcommand};
use serde_json::json;

use super::api::{Ask, Request, query};

#[derive(Args)]
pub(crate) struct Webhooks {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// List what was given up
    Dead(Dead),
    /// Tell it again, to the endpoint that did not take it
    Replay(Replay),
}

#[derive(Args)]
struct Dead {
    /// How many at most; 1 to 500
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Where the answer before ended: its `next`
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Args)]
struct Replay {
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The event with this id
    #[arg(long)]
    id: Option<String>,
    /// What happened in a room
    #[arg(long)]
    room: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
}

impl Ask for Webhooks {
    fn request(&self) -> Result<Request, String> {
        Ok(match &self.command {
            WebhooksCommand::Dead(Dead { limit, cursor }) => {
                let path = format!("/api/webhooks/dead?limit={limit}");
                Request::get(query(&path, [("cursor", cursor.as_ref())]))
            }
            WebhooksCommand::Replay(Replay { which }) => {
                let body = match which {
                    Which { id: Some(id), .. } => json!({ "id": id }),
                    Which { room: Some(room), .. } => json!({ "room": room }),
                    Which { .. } => json!({ "all": true }),
                };
                Request::post("/api/webhooks/replay", body)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        command: Webhooks,
    }

    fn request(line: &str) -> Option<Request> {
        Line::try_parse_from(line.split(' ')).ok()?.command.request().ok()
    }

    #[test]
    fn each_command_is_one_request() {
        let dead = request("webhooks dead --limit 5 --cursor 3.1-2").unwrap();
        assert_eq!((dead.method, &*dead.path), ("GET", "/api/webhooks/dead?limit=5&cursor=3.1-2"));
        for (line, body) in [
            ("webhooks replay --id evt_1", json!({"id": "evt_1"})),
            ("webhooks replay --room r", json!({"room": "r"})),
            ("webhooks replay --all", json!({"all": true})),
        ] {
            assert_eq!(request(line).unwrap().body, Some(body));
        }
        for line in ["webhooks replay", "webhooks replay --all --room r", "webhooks"] {
            assert!(request(line).is_none(), "{line}");
        }
    }
}
