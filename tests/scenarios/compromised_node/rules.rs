//! Powers over access rules, topics, webhooks and usage.

use std::{process::Command, time::Duration};

use futures_util::StreamExt as _;
use redis::{Value as RedisValue, cmd};
use serde_json::{Value, json};
use signalbox_protocol::{
    clock,
    id::{RoomId, random_hex},
};
use signalbox_redis::redis_keys::{self, partition_of_room};
use signalbox_tests::net::{eventually, eventually_within, within};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{
    Power,
    stage::{Attempt, MAX_RULES, rule},
};

/// Today by UTC, as in the key of the usage.
fn today() -> String {
    let printed = Command::new("date").args(["-u", "+%F"]).output().unwrap();
    String::from_utf8(printed.stdout).unwrap().trim().to_owned()
}

fn feed_line(room: &RoomId, id: &str) -> String {
    json!({"id": id, "event": "room-opened", "at": clock::now_ms(), "room": room.as_str(), "node": random_hex()})
        .to_string()
}

impl Power {
    pub(super) async fn attempt_to_report(self, attempt: &Attempt<'_>) -> bool {
        let (stage, partition) = (attempt.stage, partition_of_room(&attempt.room));
        let id = random_hex();
        let line = feed_line(&attempt.room, &id);
        match self {
            Self::PublishToNode => {
                let alice = attempt.join("alice").await;
                attempt.resync(alice.id()).await == 1
            }
            Self::PublishToFeed => {
                let address = stage.cluster.auth_address;
                let mut request = format!("ws://{address}/ws/events").into_client_request().unwrap();
                request.headers_mut().insert("Authorization", stage.cluster.basic_auth().parse().unwrap());
                let stream = TcpStream::connect(address).await.unwrap();
                let mut feed = client_async(request, stream).await.unwrap().0;
                let topic = redis_keys::feed_topic(&attempt.room);
                attempt.must::<u64>(cmd("SPUBLISH").arg(topic).arg(line)).await;
                within("the forged event", async {
                    while let Some(Ok(message)) = feed.next().await {
                        if matches!(&message, Message::Text(text) if text.contains(&id)) {
                            return true;
                        }
                    }
                    false
                })
                .await
            }
            Self::ForgeWebhookEvent => {
                let queue = redis_keys::webhook_queue_key(partition);
                attempt.must::<String>(cmd("XADD").arg(&queue).arg("*").arg("d").arg(line)).await;
                attempt.must::<()>(cmd("PEXPIRE").arg(&queue).arg(60_000)).await;
                eventually_within(Duration::from_secs(20), "the webhook is sent", async || {
                    stage.receiver.accepted_events().iter().any(|event| event.id == id).then_some(true)
                })
                .await
            }
            _ => {
                let key = redis_keys::usage_key(&today());
                let pair = format!("backend {}", attempt.room);
                let mut set = cmd("HSET");
                set.arg(&key).arg(format!("j:{pair}")).arg(4242).arg(format!("m:{pair}")).arg(1);
                attempt.must::<()>(&set).await;
                attempt.must::<()>(cmd("PEXPIRE").arg(&key).arg(60_000)).await;
                let path = format!("/api/usage?room={}", attempt.room);
                stage.api("GET", &path, Value::Null).await.json()["days"][0]["joins"] == 4242
            }
        }
    }

    pub(super) async fn attempt_on_rules(self, attempt: &Attempt<'_>) -> bool {
        let stage = attempt.stage;
        let (rules, ban) = (redis_keys::RULES_KEY, format!("ban:*:{self:?}").to_lowercase());
        let banned = format!("{self:?}").to_lowercase();
        match self {
            Self::RevokeGrant => {
                let token = attempt.token("alice").await;
                attempt.revoke_grant(&token).await;
                true
            }
            Self::WriteRule => {
                let command = cmd("HSET").arg(rules).arg(ban).arg(rule(false)).take();
                attempt.run::<RedisValue>(&command).await.is_some()
            }
            Self::DeleteRule => attempt.run::<RedisValue>(cmd("HDEL").arg(rules).arg(ban)).await.is_some(),
            Self::DeleteAllRules => attempt.run::<RedisValue>(cmd("DEL").arg(rules)).await.is_some(),
            Self::LiftRuleByNodeRule => {
                let token = attempt.token(&banned).await;
                stage.post("/api/bans", json!({"user": banned, "for": 600})).await;
                eventually("the ban is in force", async || (!attempt.is_valid(&token).await).then_some(()))
                    .await;
                attempt.write_node_rules(&[(ban, rule(true))]).await;
                attempt.wait_for_rules().await;
                attempt.is_valid(&token).await
            }
            Self::BanByNodeRule => {
                let token = attempt.token(&banned).await;
                attempt.write_node_rules(&[(ban, rule(false))]).await;
                attempt.wait_for_rules().await;
                !attempt.is_valid(&token).await
            }
            Self::SendNotice => {
                let alice = attempt.join("alice").await;
                let number: u64 =
                    attempt.must(cmd("HINCRBY").arg(redis_keys::NODE_RULES_KEY).arg(":n").arg(1)).await;
                let notice = json!({"to": "all", "code": "notice", "message": "forged"}).to_string();
                let mut add = cmd("XADD");
                add.arg(redis_keys::NODE_RULE_LOG_KEY).arg(format!("{number}-0"));
                attempt.must::<String>(add.arg("t").arg(clock::now_ms()).arg("w").arg(notice)).await;
                attempt.wait_for_rules().await;
                alice.ping().await;
                alice.take_unread().await.iter().any(|frame| frame["type"] == "notice")
            }
            _ => {
                let grants = (0..3 * MAX_RULES).map(|_| (format!("token:{}", random_hex()), rule(false)));
                attempt.write_node_rules(&grants.collect::<Vec<_>>()).await;
                let metric = "signalbox_rules{kind=\"token\"}";
                let held = eventually("the rules are read", async || {
                    let held = stage.other_node().metric(metric).await as usize;
                    (held > MAX_RULES / 2).then_some(held)
                })
                .await;
                // The operator still has a place.
                stage.post("/api/bans", json!({"user": banned, "for": 600})).await;
                // The rules of nodes, and those of the auth service.
                assert!(held >= MAX_RULES, "{held}");
                held > 2 * MAX_RULES
            }
        }
    }
}
