//! `signalbox webhooks dead`, `signalbox webhooks replay`: each one call of the API.

use clap::{Args, Subcommand};
use serde_json::json;

use super::api::{Request, Server, percent};

#[derive(Subcommand)]
pub(crate) enum Webhooks {
    /// List what was given up
    Dead(Dead),
    /// Tell it again, to the endpoint that did not take it
    Replay(Replay),
}

#[derive(Args)]
pub(crate) struct Dead {
    /// How many at most; 1 to 500
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Where the answer before ended: its `next`
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    server: Server,
}

#[derive(Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    server: Server,
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

impl Webhooks {
    pub(super) fn request(&self) -> Request {
        match self {
            Self::Dead(Dead { limit, cursor, .. }) => {
                let cursor = cursor.as_ref().map(|cursor| format!("&cursor={}", percent(cursor)));
                let path = format!("/api/webhooks/dead?limit={limit}{}", cursor.unwrap_or_default());
                Request { method: "GET", path, body: None }
            }
            Self::Replay(Replay { which, .. }) => {
                let body = match which {
                    Which { id: Some(id), .. } => json!({ "id": id }),
                    Which { room: Some(room), .. } => json!({ "room": room }),
                    Which { .. } => json!({ "all": true }),
                };
                Request::post("/api/webhooks/replay", body)
            }
        }
    }

    pub(super) fn server(&self) -> &Server {
        match self {
            Self::Dead(command) => &command.server,
            Self::Replay(command) => &command.server,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Webhooks,
    }

    fn request(line: &str) -> Option<Request> {
        Line::try_parse_from(line.split(' ')).ok().map(|line| line.command.request())
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
