//! Powers over credentials: those that the node sees, and those that it would make.

use redis::{Value as RedisValue, cmd};
use serde_json::json;
use signalbox_protocol::id::random_hex;
use signalbox_redis::redis_keys;
use signalbox_tests::{
    handle_forge::{HANDLE_INFO, HandleForge},
    http::Request,
    peer::TestConnection,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

use super::{Power, stage::Attempt};

impl Power {
    pub(super) async fn attempt_with_credential(self, attempt: &Attempt<'_>) -> bool {
        let stage = attempt.stage;
        let forge = HandleForge::new(&stage.session_key, HANDLE_INFO);
        match self {
            Self::ReadTokenOfTicket => {
                let (_, key) = attempt.ticket().await;
                let token: String = attempt.must(cmd("GET").arg(key)).await;
                stage.joins(&token).await
            }
            Self::UseUpTicket => {
                let (ticket, key) = attempt.ticket().await;
                attempt.must::<()>(cmd("SET").arg(key).arg("used").arg("PX").arg(30_000)).await;
                !stage.joins(&ticket).await
            }
            Self::TakeOverPeerOfSeenToken => {
                let token = attempt.token("alice").await;
                let alice = TestConnection::open(stage.other_node().address, &token).await.into_peer().await;
                let (_, epoch, mailbox_version) = attempt.owner(alice.id()).await;
                let replication_id = attempt.field("lin").await;
                let record =
                    json!({"p": alice.id(), "e": epoch, "g": 1, "b": mailbox_version, "l": replication_id});
                let query = format!("resume={}", forge.seal_with_token(&record, &token));
                let thief = TestConnection::open_with(stage.other_node().address, &query).await.unwrap();
                thief.next().await["type"] == "joined" && alice.wait_closed().await.code == 4512
            }
            Self::MakeToken => {
                let tokens = attempt.forged_tokens().await;
                for token in &tokens {
                    let request = Request::post("/auth/validate", &json!({"token": token}));
                    if request.send(stage.cluster.auth_address).await.status == 200 {
                        return true;
                    }
                }
                let queries: Vec<_> = tokens.iter().map(|token| format!("token={token}")).collect();
                attempt.opens_any(&queries).await
            }
            Self::MakeTicket => {
                let mut queries = Vec::new();
                for token in attempt.forged_tokens().await {
                    let ticket = OpaqueToken::random();
                    let mut set = cmd("SET");
                    set.arg(redis_keys::ticket_key(&ticket.digest())).arg(token).arg("PX").arg(30_000);
                    attempt.must::<()>(&set).await;
                    queries.push(format!("token={}", ticket.to_text(OpaqueTokenKind::Ticket)));
                }
                attempt.opens_any(&queries).await
            }
            _ => {
                let alice = attempt.join("alice").await;
                let (_, epoch, mailbox_version) = attempt.owner(alice.id()).await;
                let replication_id = attempt.field("lin").await;
                let mut queries = Vec::new();
                for peer in [alice.id().to_owned(), random_hex()] {
                    let record =
                        json!({"p": peer, "e": epoch, "g": 1, "b": mailbox_version, "l": replication_id});
                    let mut handles = vec![forge.seal(record.to_string().as_bytes())];
                    let tokens = attempt.forged_tokens().await;
                    handles.extend(tokens.iter().map(|token| forge.seal_with_token(&record, token)));
                    for handle in handles {
                        queries.extend([format!("resume={handle}"), format!("resume={handle}&since=0")]);
                    }
                }
                attempt.opens_any(&queries).await
            }
        }
    }

    pub(super) async fn attempt_on_record(self, attempt: &Attempt<'_>) -> bool {
        let (_, family) = attempt.refresh_family().await;
        attempt.stage.post(&attempt.room_path("/invites"), json!({})).await;
        let invites = redis_keys::invites_key(&attempt.room);
        let made = redis_keys::refresh_family_key(&random_hex());
        let command = match self {
            Self::ReadRefreshFamily => cmd("HGETALL").arg(family).take(),
            Self::MakeRefreshFamily => cmd("HSET").arg(made).arg("sealed").arg("x").take(),
            Self::AlterRefreshFamily => cmd("HSET").arg(family).arg("now").arg("x").take(),
            Self::ReadInvite => cmd("HGETALL").arg(invites).take(),
            _ => cmd("HSET").arg(invites).arg("x").arg("x").take(),
        };
        attempt.run::<RedisValue>(&command).await.is_some()
    }
}
