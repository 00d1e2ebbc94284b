//! Who was sent away has no way back. The table is measures × ways; a cell that is missing does not compile.

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::{Request, Response},
    net::eventually,
};

all_of!(
    /// What was done about somebody who is connected.
    Measure { GrantRevoked, UserRevoked, RoomRevoked, AllRevoked, Kicked, BannedFromRoom, Banned, ShutDown }
);

all_of!(
    /// How it may try to come back.
    Way { Token, TicketMadeBefore, TicketMadeAfter, Refresh, Resume, Takeover, FreshToken }
);

/// What is said; none where it may.
fn expected(measure: Measure, way: Way) -> Option<(u16, &'static str)> {
    match (measure, way) {
        (Measure::ShutDown, _) => Some((503, "shut_down")),
        (Measure::Banned | Measure::BannedFromRoom, _) => Some((403, "banned")),
        // Who was only sent away may be given another token.
        (
            Measure::GrantRevoked
            | Measure::UserRevoked
            | Measure::RoomRevoked
            | Measure::AllRevoked
            | Measure::Kicked,
            Way::FreshToken,
        ) => None,
        (
            Measure::GrantRevoked
            | Measure::UserRevoked
            | Measure::RoomRevoked
            | Measure::AllRevoked
            | Measure::Kicked,
            Way::Token
            | Way::TicketMadeBefore
            | Way::TicketMadeAfter
            | Way::Refresh
            | Way::Resume
            | Way::Takeover,
        ) => Some((401, "token_revoked")),
    }
}

/// What somebody holds who was in a room.
struct Held {
    user: String,
    room: String,
    token: String,
    refresh: String,
    ticket: String,
    handle: String,
}

async fn post(cluster: &TestCluster, path: &str, proof: Option<String>, body: &Value) -> Response {
    let request = Request::post(path, body);
    let request = proof.map_or(request.clone(), |proof| request.header("Authorization", proof));
    request.send(cluster.auth_address()).await
}

async fn apply(cluster: &TestCluster, measure: Measure, held: &Held, peer: &str) {
    let (user, room) = (&held.user, &held.room);
    match measure {
        Measure::GrantRevoked => cluster.take_back("/api/revocations", json!({ "token": held.token })).await,
        Measure::UserRevoked => cluster.take_back("/api/revocations", json!({ "user": user })).await,
        Measure::RoomRevoked => cluster.take_back("/api/revocations", json!({ "room": room })).await,
        Measure::AllRevoked => cluster.take_back("/api/revocations", json!({ "all": true })).await,
        Measure::Banned => cluster.take_back("/api/bans", json!({ "user": user, "for": 600 })).await,
        Measure::BannedFromRoom => {
            cluster.take_back("/api/bans", json!({ "user": user, "room": room, "for": 600 })).await
        }
        Measure::ShutDown => cluster.take_back("/api/shutdown", json!({})).await,
        Measure::Kicked => {
            let path = format!("/api/rooms/{room}/participants/{peer}");
            let answer = cluster.api("DELETE", &path, &Value::Null).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            Value::Null
        }
    };
}

async fn try_way(cluster: &TestCluster, way: Way, held: &Held) -> Response {
    let upgrade = async |query: String| {
        Request::upgrade(format!("/ws/signal?{query}")).send(cluster.next_node().address).await
    };
    match way {
        Way::Token => upgrade(format!("token={}", held.token)).await,
        Way::TicketMadeBefore => upgrade(format!("token={}", held.ticket)).await,
        Way::TicketMadeAfter => {
            post(cluster, "/auth/ticket", Some(format!("Bearer {}", held.token)), &json!({})).await
        }
        Way::Refresh => post(cluster, "/auth/refresh", None, &json!({ "refreshToken": held.refresh })).await,
        Way::Resume => upgrade(format!("resume={}&since=0", held.handle)).await,
        Way::Takeover => upgrade(format!("resume={}", held.handle)).await,
        Way::FreshToken => {
            let wish = json!({ "room": held.room, "user": held.user });
            post(cluster, "/auth/token", Some(cluster.basic()), &wish).await
        }
    }
}

async fn who_was_sent_away_has_no_way_back(store: Store) {
    let cluster = &TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "30s")]).await;
    let mut wrong = Vec::new();
    for measure in Measure::ALL {
        let (user, room) = (format!("u-{measure:?}"), format!("r-{measure:?}"));
        let wish = json!({ "room": room, "user": user, "refresh": true });
        let issued = post(cluster, "/auth/token", Some(cluster.basic()), &wish).await.json();
        let text = |name: &str| issued[name].as_str().unwrap().to_owned();
        let token = text("token");
        let ticket = post(cluster, "/auth/ticket", Some(format!("Bearer {token}")), &json!({})).await.json();
        let node = cluster.next_node();
        let link = signalbox_tests::peer::Link::open(node.address, &token).await;
        let peer = link.into_peer().await;
        let handle = peer.joined["resume"].as_str().unwrap().to_owned();
        let ticket = ticket["ticket"].as_str().unwrap().to_owned();
        let held = Held { user, room, token, refresh: text("refreshToken"), ticket, handle };
        apply(cluster, *measure, &held, peer.id()).await;
        peer.closed().await;
        // The other node may be a look behind the one that has closed the socket.
        for node in &cluster.nodes {
            eventually("each node knows", async || {
                let target = format!("/ws/validate?token={}", held.token);
                (Request::get(target).send(node.address).await.status != 200).then_some(())
            })
            .await;
        }
        for way in Way::ALL {
            let answer = try_way(cluster, *way, &held).await;
            let told = match answer.status {
                101 | 200 => None,
                bad => Some((bad, answer.json()["code"].as_str().unwrap_or_default().to_owned())),
            };
            let should = expected(*measure, *way).map(|(status, code)| (status, code.to_owned()));
            if told != should {
                wrong.push(format!("{measure:?} × {way:?}: {told:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn who_was_sent_away_has_no_way_back_in_memory() {
    who_was_sent_away_has_no_way_back(Store::Memory).await;
}

#[tokio::test]
async fn who_was_sent_away_has_no_way_back_over_redis() {
    who_was_sent_away_has_no_way_back(Store::Redis(2)).await;
}
