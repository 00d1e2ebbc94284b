//! Invites. The table is API keys × defects: an API key does not make an invalid invite valid.

use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::{Request, Response},
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

use super::{ExpectedRefusal, assert_rows, check_answer, sleep_until, token_defect::SPARE_KEY};

all_of!(
    /// The API key that is sent with the invite.
    ApiKeyUse { Absent, Wrong, Valid }
);

all_of!(
    /// A defect of an invite.
    InviteDefect {
        // Its form.
        NotAString, Empty, Unknown, PrefixOnly, Truncated, TooLong, OtherAlphabet, UpperCase, OtherPrefix, WithoutRoom, ForOtherRoom,
        ForInvalidRoom,
        // Its use.
        UsedUp, Expired,
        // It is deleted or revoked.
        Deleted, RevokedKey, DeletedRoom,
    }
);

fn expected(defect: InviteDefect) -> ExpectedRefusal {
    use InviteDefect::*;
    Some(match defect {
        NotAString => (400, "bad_request"),
        Empty | Unknown | PrefixOnly | Truncated | TooLong | OtherAlphabet | UpperCase | OtherPrefix
        | WithoutRoom | ForOtherRoom | ForInvalidRoom => (401, "invite_invalid"),
        UsedUp => (401, "invite_used_up"),
        Expired => (401, "invite_expired"),
        Deleted | RevokedKey | DeletedRoom => (401, "invite_invalid"),
    })
}

fn basic(id: &str, secret: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

async fn create_invite(
    cluster: &TestCluster,
    authorization: String,
    room: &str,
    settings: Value,
) -> (String, String) {
    let request =
        Request::post(format!("/api/rooms/{room}/invites"), &settings).header("Authorization", authorization);
    let answer = request.send(cluster.auth_address()).await.assert_status(201).json();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("code"), text("invite"))
}

async fn use_invite(cluster: &TestCluster, code: &Value, authorization: Option<String>) -> Response {
    let request = Request::post("/auth/token", &json!({ "invite": code }));
    let request = authorization.map_or(request.clone(), |value| request.header("Authorization", value));
    request.send(cluster.auth_address()).await
}

/// The invite code with the defect.
async fn make_code(cluster: &TestCluster, spare_secret: &str, defect: InviteDefect) -> Value {
    let create =
        async |room: &str, settings| create_invite(cluster, cluster.basic_auth(), room, settings).await;
    let (code, _) = create("r", json!({ "maxUses": 9 })).await;
    let (secret, room) = code.split_once('.').unwrap();
    json!(match defect {
        InviteDefect::NotAString => return json!(7),
        InviteDefect::Empty => String::new(),
        InviteDefect::Unknown => format!("{}.{room}", OpaqueToken::random().to_text(OpaqueTokenKind::Invite)),
        InviteDefect::PrefixOnly => format!("sbi_.{room}"),
        InviteDefect::Truncated => format!("{}.{room}", &secret[..46]),
        InviteDefect::TooLong => format!("{secret}A.{room}"),
        InviteDefect::OtherAlphabet => format!("{}+.{room}", &secret[..46]),
        InviteDefect::UpperCase => code.replace("sbi_", "SBI_"),
        InviteDefect::OtherPrefix => code.replace("sbi_", "sbt_"),
        InviteDefect::WithoutRoom => secret.to_owned(),
        InviteDefect::ForOtherRoom => format!("{secret}.other"),
        InviteDefect::ForInvalidRoom => format!("{secret}.a b"),
        InviteDefect::UsedUp => {
            let (code, _) = create("r", json!({})).await;
            use_invite(cluster, &json!(code), None).await.assert_status(200);
            code
        }
        InviteDefect::Expired => create("r", json!({ "expiresIn": 1 })).await.0,
        InviteDefect::Deleted => {
            let (code, invite_id) = create("r", json!({})).await;
            let path = format!("/api/rooms/r/invites/{invite_id}");
            cluster.api("DELETE", &path, &Value::Null).await.assert_status(204);
            code
        }
        InviteDefect::RevokedKey => {
            let (code, _) = create_invite(cluster, basic(SPARE_KEY, spare_secret), "r", json!({})).await;
            cluster.add_rule("/api/revocations", json!({ "key": SPARE_KEY })).await;
            code
        }
        InviteDefect::DeletedRoom => {
            cluster.api("POST", "/api/rooms", &json!({ "id": "gone" })).await.assert_status(201);
            let (code, _) = create("gone", json!({})).await;
            cluster.api("DELETE", "/api/rooms/gone", &Value::Null).await.assert_status(204);
            code
        }
    })
}

async fn no_invalid_invite_is_accepted(store: StoreKind) {
    let (own_secret, spare_secret) = (random_hex(), random_hex());
    let env = [("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{own_secret},{SPARE_KEY}:{spare_secret}"))];
    let mut cluster = TestCluster::start_with(store, &[], &env).await;
    cluster.api_secret = own_secret;
    let cluster = &cluster;
    let mut codes = Vec::new();
    for defect in InviteDefect::ALL {
        codes.push((*defect, make_code(cluster, &spare_secret, *defect).await));
    }
    sleep_until(clock::now_s() + 2).await;
    let rows = ApiKeyUse::ALL.iter().flat_map(|api_key| codes.iter().map(move |code| (*api_key, code)));
    let count = assert_rows(rows, async |(api_key, (defect, code))| {
        let authorization = match api_key {
            ApiKeyUse::Absent => None,
            ApiKeyUse::Wrong => Some(basic("backend", "wrong")),
            ApiKeyUse::Valid => Some(cluster.basic_auth()),
        };
        let answer = use_invite(cluster, code, authorization).await;
        check_answer(&(api_key, defect), expected(*defect), code.as_str(), &answer)
    })
    .await;
    assert_eq!(count, 3 * 17, "rows");
    cluster.audit().await;
}

#[tokio::test]
async fn no_invalid_invite_is_accepted_in_memory() {
    no_invalid_invite_is_accepted(StoreKind::Memory).await;
}

#[tokio::test]
async fn no_invalid_invite_is_accepted_over_redis() {
    no_invalid_invite_is_accepted(StoreKind::Redis(2)).await;
}

on_each_store! {
    /// A guest has no user name yet, so only a denied address or a shutdown can refuse the guest.
    async fn a_refused_guest_does_not_use_the_invite(cluster) {
        let (code, _) = create_invite(cluster, cluster.basic_auth(), "r", json!({})).await;
        cluster.add_rule("/api/denials", json!({ "cidr": "127.0.0.0/8", "for": 600 })).await;
        use_invite(cluster, &json!(code), None).await.assert_problem(403, "address_denied");
        cluster.lift_rule("deny:127.0.0.0/8").await;
        cluster.add_rule("/api/shutdown", json!({})).await;
        use_invite(cluster, &json!(code), None).await.assert_problem(503, "shut_down");
        cluster.lift_rule("shutdown").await;
        use_invite(cluster, &json!(code), None).await.assert_status(200);
        use_invite(cluster, &json!(code), None).await.assert_problem(401, "invite_used_up");
    }
}
