//! Powers over rooms, peers and mailboxes.

use std::collections::BTreeMap;

use redis::cmd;
use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_redis::redis_keys::{self, partition_of_room};
use signalbox_tests::{SDP, http::Request, net::eventually, token::TokenBuilder};

use super::{
    Power,
    stage::{Attempt, claims, text},
};

impl Power {
    pub(super) async fn attempt_to_read_or_forge(self, attempt: &Attempt<'_>) -> bool {
        let (alice, bob) = (attempt.join("alice").await, attempt.join("bob").await);
        let key = redis_keys::room_key(&attempt.room);
        match self {
            Self::ListRooms => {
                let due = redis_keys::due_key(partition_of_room(&attempt.room));
                let names: Vec<String> = attempt.must(cmd("ZRANGE").arg(due).arg(0).arg(-1)).await;
                return names.iter().any(|name| *name == attempt.room.as_str());
            }
            Self::ReadRoom => {
                let fields: BTreeMap<String, Vec<u8>> = attempt.must(cmd("HGETALL").arg(key)).await;
                let record = String::from_utf8_lossy(&fields[&format!("p:{}", alice.id())]);
                return record.contains(r#""user":"alice""#);
            }
            _ => {}
        }
        let bob_id = bob.id().to_owned();
        let bob = bob.disconnect().await;
        alice.next_of_type("peer-detached").await;
        if self == Self::ForgeEvent {
            let carol = attempt.join("carol").await;
            attempt.forge_entry(&bob_id, "carol", "ghost").await;
            let bob = bob.resume_on(attempt.stage.other_node()).await;
            let is_ghost =
                |frame: &Value| frame["type"] == "peer-joined" && frame.to_string().contains("ghost");
            bob.next_where("the forged event", is_ghost).await;
            carol.leave().await;
            return true;
        }
        if self == Self::ReadWaitingDescription {
            alice.send_acked(json!({"type": "offer", "to": bob_id, "sdp": SDP})).await;
            return attempt.last_entry(&bob_id).await.fields.concat().contains("v=0");
        }
        alice.send_acked(json!({"type": "message", "to": bob_id, "data": "genuine"})).await;
        attempt.forge_entry(&bob_id, "genuine", "forged").await;
        let bob = bob.resume_on(attempt.stage.other_node()).await;
        let (first, second) = (bob.next_message().await, bob.next_message().await);
        assert_eq!(first.data, Some(json!("genuine")));
        second.data == Some(json!("forged")) && second.from == alice.id()
    }

    pub(super) async fn attempt_on_peer(self, attempt: &Attempt<'_>) -> bool {
        let (alice, bob) = (attempt.join("alice").await, attempt.join("bob").await);
        let record = format!("p:{}", alice.id());
        match self {
            Self::RemovePeer => {
                let mut delete = cmd("HDEL");
                delete.arg(redis_keys::room_key(&attempt.room));
                delete.arg(format!("p:{}", bob.id())).arg(format!("o:{}", bob.id()));
                attempt.must::<()>(&delete).await;
                attempt.write_fields(&[("x", String::new())]).await;
                attempt.participants().await.iter().all(|peer| peer["userId"] != "bob")
            }
            Self::AddPeer => {
                let ghost = random_hex();
                let member = attempt.field(&record).await.replace("alice", "ceo");
                let owner = attempt.field(&format!("o:{}", alice.id())).await;
                let fields = [(&*format!("p:{ghost}"), member), (&*format!("o:{ghost}"), owner)];
                attempt.write_fields(&fields).await;
                attempt.participants().await.iter().any(|peer| peer["userId"] == "ceo")
            }
            _ => {
                let mut member: Value = serde_json::from_str(&attempt.field(&record).await).unwrap();
                member["role"] = "host".into();
                member["permissions"] = json!(["publish", "message", "moderate", "admit", "end"]);
                let alice = alice.disconnect().await;
                bob.next_of_type("peer-detached").await;
                attempt.write_fields(&[(&record, member.to_string())]).await;
                let alice = alice.resume_on(attempt.stage.other_node()).await;
                alice.send_acked(json!({"type": "kick", "peer": bob.id()})).await;
                bob.wait_closed().await.code == 4513
            }
        }
    }

    pub(super) async fn attempt_on_room(self, attempt: &Attempt<'_>) -> bool {
        let stage = attempt.stage;
        attempt.create_room().await;
        match self {
            Self::ChangeRoomSettings => {
                attempt.change_settings(|settings| settings["name"] = "forged".into()).await;
                let shown = stage.api("GET", &attempt.room_path(""), Value::Null).await;
                shown.assert_status(200).json()["name"] == "forged"
            }
            Self::LiftSanctionOfRoom => {
                let mallory = attempt.join("mallory").await;
                let path = attempt.room_path(&format!("/participants/{}", mallory.id()));
                stage.api("DELETE", &path, Value::Null).await.assert_status(200);
                let token = attempt.token("mallory").await;
                assert!(!stage.joins(&token).await, "a removed user returns");
                let key = redis_keys::room_key(&attempt.room);
                attempt.must::<()>(cmd("HDEL").arg(&key).arg("san")).await;
                attempt.write_fields(&[("x", String::new())]).await;
                eventually("the user returns", async || stage.joins(&token).await.then_some(true)).await
            }
            Self::RevivePassOfEarlierRoom => {
                let old = attempt.token("mallory").await;
                stage.api("DELETE", &attempt.room_path(""), Value::Null).await.assert_status(204);
                attempt.create_room().await;
                assert!(!stage.joins(&old).await, "a token of an earlier room");
                let creation = claims(&old)["creation"].clone();
                attempt.change_settings(|settings| settings["making"] = creation.clone()).await;
                eventually("the old token joins", async || stage.joins(&old).await.then_some(true)).await
            }
            Self::DestroyRoom => {
                attempt.must::<()>(cmd("DEL").arg(redis_keys::room_key(&attempt.room))).await;
                stage.api("GET", &attempt.room_path(""), Value::Null).await.status == 404
            }
            _ => {
                let mut provided = TokenBuilder::valid("r", "mallory").typ(Some("JWT"));
                provided.claims =
                    json!({"iss": "app", "aud": "signalbox", "sub": "mallory", "exp": clock::now_s() + 60});
                let exchange = json!({"token": provided.sign(&stage.user_secret)});
                let user = stage.post("/auth/exchange", exchange).await;
                let id = user.json()["user"].clone();
                let own = json!({"kind": "user", "id": id});
                attempt.change_settings(|settings| settings["createdBy"] = own.clone()).await;
                let bearer = format!("Bearer {}", text(&user, "token"));
                let join =
                    Request::post(attempt.room_path("/join"), &json!({})).header("Authorization", bearer);
                let joined = join.send(stage.cluster.auth_address).await;
                claims(&text(joined.assert_status(200), "token"))["role"] == "host"
            }
        }
    }
}
