//! Invites. The table is callers × defects: what else somebody shows makes no bad invite good.

use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::{Request, Response},
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

use super::{Expected, assert_rows, defects::SPARE_KEY, judge, until};

all_of!(
    /// Who shows it.
    Caller { Nobody, WithAWrongKey, WithAKey }
);

all_of!(
    /// What may be wrong with an invite.
    Defect {
        // Its form.
        NotAText, Empty, Unknown, Bare, Truncated, TooLong, OtherAlphabet, InCapitals, WithAnotherPrefix, WithoutItsRoom, ForAnotherRoom,
        ForNoRoom,
        // Its use.
        UsedUp, Over,
        // What was taken back.
        TakenBack, OfARevokedKey, OfADeletedRoom,
    }
);

fn expected(defect: Defect) -> Expected {
    use Defect::*;
    Some(match defect {
        NotAText => (400, "bad_request"),
        Empty | Unknown | Bare | Truncated | TooLong | OtherAlphabet | InCapitals | WithAnotherPrefix
        | WithoutItsRoom | ForAnotherRoom | ForNoRoom => (401, "invite_invalid"),
        UsedUp => (401, "invite_used_up"),
        Over => (401, "invite_expired"),
        TakenBack | OfARevokedKey | OfADeletedRoom => (401, "invite_invalid"),
    })
}

fn basic(id: &str, secret: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

async fn made(cluster: &TestCluster, proof: String, room: &str, wish: Value) -> (String, String) {
    let asked = Request::post(format!("/api/rooms/{room}/invites"), &wish).header("Authorization", proof);
    let answer = asked.send(cluster.auth_address()).await.assert_status(201).json();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("code"), text("invite"))
}

async fn come(cluster: &TestCluster, code: &Value, proof: Option<String>) -> Response {
    let request = Request::post("/auth/token", &json!({ "invite": code }));
    let request = proof.map_or(request.clone(), |proof| request.header("Authorization", proof));
    request.send(cluster.auth_address()).await
}

/// The code with the defect.
async fn make(cluster: &TestCluster, spare: &str, defect: Defect) -> Value {
    let own = async |room: &str, wish| made(cluster, cluster.basic(), room, wish).await;
    let (code, _) = own("r", json!({ "maxUses": 9 })).await;
    let (secret, room) = code.split_once('.').unwrap();
    json!(match defect {
        Defect::NotAText => return json!(7),
        Defect::Empty => String::new(),
        Defect::Unknown => format!("{}.{room}", OpaqueToken::random().to_text(OpaqueTokenKind::Invite)),
        Defect::Bare => format!("sbi_.{room}"),
        Defect::Truncated => format!("{}.{room}", &secret[..46]),
        Defect::TooLong => format!("{secret}A.{room}"),
        Defect::OtherAlphabet => format!("{}+.{room}", &secret[..46]),
        Defect::InCapitals => code.replace("sbi_", "SBI_"),
        Defect::WithAnotherPrefix => code.replace("sbi_", "sbt_"),
        Defect::WithoutItsRoom => secret.to_owned(),
        Defect::ForAnotherRoom => format!("{secret}.other"),
        Defect::ForNoRoom => format!("{secret}.a b"),
        Defect::UsedUp => {
            let (code, _) = own("r", json!({})).await;
            come(cluster, &json!(code), None).await.assert_status(200);
            code
        }
        Defect::Over => own("r", json!({ "expiresIn": 1 })).await.0,
        Defect::TakenBack => {
            let (code, name) = own("r", json!({})).await;
            let path = format!("/api/rooms/r/invites/{name}");
            cluster.api("DELETE", &path, &Value::Null).await.assert_status(204);
            code
        }
        Defect::OfARevokedKey => {
            let (code, _) = made(cluster, basic(SPARE_KEY, spare), "r", json!({})).await;
            cluster.take_back("/api/revocations", json!({ "key": SPARE_KEY })).await;
            code
        }
        Defect::OfADeletedRoom => {
            cluster.api("POST", "/api/rooms", &json!({ "id": "gone" })).await.assert_status(201);
            let (code, _) = own("gone", json!({})).await;
            cluster.api("DELETE", "/api/rooms/gone", &Value::Null).await.assert_status(204);
            code
        }
    })
}

async fn no_bad_invite_lets_anybody_in(store: Store) {
    let (own, spare) = (random_hex(), random_hex());
    let env = [("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{own},{SPARE_KEY}:{spare}"))];
    let mut cluster = TestCluster::start_with(store, &[], &env).await;
    cluster.api_secret = own;
    let cluster = &cluster;
    let mut codes = Vec::new();
    for defect in Defect::ALL {
        codes.push((*defect, make(cluster, &spare, *defect).await));
    }
    until(clock::now_s() + 2).await;
    let rows = Caller::ALL.iter().flat_map(|caller| codes.iter().map(move |code| (*caller, code)));
    let count = assert_rows(rows, async |(caller, (defect, code))| {
        let proof = match caller {
            Caller::Nobody => None,
            Caller::WithAWrongKey => Some(basic("backend", "wrong")),
            Caller::WithAKey => Some(cluster.basic()),
        };
        let answer = come(cluster, code, proof).await;
        judge(&(caller, defect), expected(*defect), code.as_str(), &answer)
    })
    .await;
    assert_eq!(count, 3 * 17, "rows");
    cluster.audit().await;
}

#[tokio::test]
async fn no_bad_invite_lets_anybody_in_in_memory() {
    no_bad_invite_lets_anybody_in(Store::Memory).await;
}

#[tokio::test]
async fn no_bad_invite_lets_anybody_in_over_redis() {
    no_bad_invite_lets_anybody_in(Store::Redis(2)).await;
}

on_each_store! {
    /// Whoever is invited has no name before, so that it is the address, or everybody, that is shut out.
    async fn who_is_shut_out_keeps_the_use_of_an_invite(cluster) {
        let (code, _) = made(cluster, cluster.basic(), "r", json!({})).await;
        cluster.take_back("/api/denials", json!({ "cidr": "127.0.0.0/8", "for": 600 })).await;
        come(cluster, &json!(code), None).await.assert_problem(403, "address_denied");
        cluster.lift("deny:127.0.0.0/8").await;
        cluster.take_back("/api/shutdown", json!({})).await;
        come(cluster, &json!(code), None).await.assert_problem(503, "shut_down");
        cluster.lift("shutdown").await;
        come(cluster, &json!(code), None).await.assert_status(200);
        come(cluster, &json!(code), None).await.assert_problem(401, "invite_used_up");
    }
}
