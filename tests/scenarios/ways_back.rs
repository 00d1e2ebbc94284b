//! Who was sent away has no way back. The table is measures × ways; a cell that is missing does not compile.

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::{Request, Response},
    net::eventually,
    process::Process,
    token::Forgery,
};
use signalbox_token::TokenKind;

use crate::refused::{Expected, defects, holds, told};

all_of!(
    /// What was done about somebody who is connected.
    Measure {
        GrantRevoked, UserRevoked, RoomRevoked, AllRevoked, Kicked, KickedByAnother, SentOutWithItsRole, BannedFromRoom, Banned, RoomEnded,
        AddressDenied, ShutDown,
    }
);

all_of!(
    /// How it may try to come back. Whatever is made anew is made after the token that the auth service gives, in a second that nothing was
    /// taken back in.
    Way {
        Token, TicketMadeBefore, TicketMadeAfter, Refresh, Resume, Takeover, AskWithToken, AskWithHandle, AskTheAuthService,
        FreshToken, FreshTokenOfTheApplication, FreshUserToken,
    }
);

/// What is said; none where it may.
fn expected(measure: Measure, way: Way) -> Expected {
    use Way::*;
    let is_fresh = matches!(way, FreshToken | FreshTokenOfTheApplication | FreshUserToken);
    let by_handle = match way {
        Resume | Takeover | AskWithHandle => true,
        Token
        | TicketMadeBefore
        | TicketMadeAfter
        | Refresh
        | AskWithToken
        | AskTheAuthService
        | FreshToken
        | FreshTokenOfTheApplication
        | FreshUserToken => false,
    };
    match measure {
        Measure::ShutDown => Some((503, "shut_down")),
        Measure::AddressDenied => Some((403, "address_denied")),
        Measure::Banned | Measure::BannedFromRoom => Some((403, "banned")),
        // Who was only sent away may be given another token.
        Measure::GrantRevoked
        | Measure::UserRevoked
        | Measure::RoomRevoked
        | Measure::AllRevoked
        | Measure::Kicked
        | Measure::KickedByAnother
        | Measure::SentOutWithItsRole => (!is_fresh).then_some((401, "token_revoked")),
        // Nothing was done about anybody in it.
        Measure::RoomEnded => by_handle.then_some((401, "resume_expired")),
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
    let at_room = async |method, path: String| {
        let path = format!("/api/rooms/{room}/{path}");
        cluster.api(method, &path, &Value::Null).await.assert_status(200).json()
    };
    match measure {
        Measure::GrantRevoked => cluster.take_back("/api/revocations", json!({ "token": held.token })).await,
        Measure::UserRevoked => cluster.take_back("/api/revocations", json!({ "user": user })).await,
        Measure::RoomRevoked => cluster.take_back("/api/revocations", json!({ "room": room })).await,
        Measure::AllRevoked => cluster.take_back("/api/revocations", json!({ "all": true })).await,
        Measure::Banned => cluster.take_back("/api/bans", json!({ "user": user, "for": 600 })).await,
        Measure::BannedFromRoom => {
            cluster.take_back("/api/bans", json!({ "user": user, "room": room, "for": 600 })).await
        }
        Measure::AddressDenied => {
            cluster.take_back("/api/denials", json!({ "cidr": "127.0.0.0/8", "for": 600 })).await
        }
        Measure::ShutDown => cluster.take_back("/api/shutdown", json!({})).await,
        Measure::Kicked => at_room("DELETE", format!("participants/{peer}")).await,
        Measure::SentOutWithItsRole => at_room("DELETE", "participants?role=guest".to_owned()).await,
        Measure::RoomEnded => at_room("POST", "end".to_owned()).await,
        Measure::KickedByAnother => {
            let host = cluster.room(room).join_as(json!({ "user": "host", "role": "host" })).await;
            host.must(json!({ "type": "kick", "peer": peer })).await;
            host.leave().await;
            Value::Null
        }
    };
}

async fn try_way(cluster: &TestCluster, way: Way, held: &Held) -> Response {
    let upgrade = async |query: String| {
        Request::upgrade(format!("/ws/signal?{query}")).send(cluster.next_node().address).await
    };
    let ask = async |query: String| {
        Request::get(format!("/ws/validate?{query}")).send(cluster.next_node().address).await
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
        Way::AskWithToken => ask(format!("token={}", held.token)).await,
        Way::AskWithHandle => ask(format!("resume={}", held.handle)).await,
        Way::AskTheAuthService => {
            post(cluster, "/auth/validate", None, &json!({ "token": held.token })).await
        }
        Way::FreshTokenOfTheApplication => {
            upgrade(format!("token={}", cluster.forge(&held.room, &held.user))).await
        }
        Way::FreshUserToken => {
            let token = defects::good(TokenKind::User).claim("sub", &*held.user).sign(&cluster.secret);
            let path = format!("/api/rooms/{}/join", held.room);
            post(cluster, &path, Some(format!("Bearer {token}")), &json!({})).await
        }
        Way::FreshToken => {
            let wish = json!({ "room": held.room, "user": held.user });
            post(cluster, "/auth/token", Some(cluster.basic()), &wish).await
        }
    }
}

async fn who_was_sent_away_has_no_way_back(store: Store) {
    let cluster = &TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "30s")]).await;
    let (mut wrong, mut rows) = (Vec::new(), 0);
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
        until_known(cluster, *measure, &held).await;
        for way in Way::ALL {
            let told = told(&try_way(cluster, *way, &held).await);
            if !holds(expected(*measure, *way), &told) {
                wrong.push(format!("{measure:?} × {way:?}: {told:?}"));
            }
            rows += 1;
        }
        if *measure == Measure::AddressDenied {
            cluster.lift("deny:127.0.0.0/8").await;
            for node in &cluster.nodes {
                let asked = Request::get(format!("/ws/validate?token={}", held.token));
                eventually("the address is let in again", async || {
                    (asked.send(node.address).await.status == 200).then_some(())
                })
                .await;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows, 12 * 12, "rows");
}

/// The other node may be a look behind the one that has closed the socket.
async fn until_known(cluster: &TestCluster, measure: Measure, held: &Held) {
    let questions = [
        (Way::AskWithToken, format!("token={}", held.token)),
        (Way::AskWithHandle, format!("resume={}", held.handle)),
    ];
    for node in &cluster.nodes {
        for (way, query) in &questions {
            eventually(&format!("each node knows of {measure:?}"), async || {
                let asked = Request::get(format!("/ws/validate?{query}")).send(node.address).await;
                holds(expected(measure, *way), &told(&asked)).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn who_was_sent_away_has_no_way_back_in_memory() {
    who_was_sent_away_has_no_way_back(Store::Memory).await;
}

#[tokio::test]
async fn who_was_sent_away_has_no_way_back_over_redis() {
    who_was_sent_away_has_no_way_back(Store::Redis(2)).await;
}

/// What is made from something older says that it was made now: were it made by a process that has not heard yet, no rule would take it back.
#[tokio::test]
async fn what_was_revoked_at_one_auth_service_brings_nothing_new_at_another() {
    let cluster = TestCluster::start(Store::Redis(1), &[]).await;
    let other = Process::start("auth-service", cluster.env()).await;
    for n in 0..10 {
        let user = format!("u{n}");
        let wish = json!({ "room": "r", "user": user, "refresh": true });
        let issued = post(&cluster, "/auth/token", Some(cluster.basic()), &wish).await.json();
        let good =
            Forgery::good("r", &user).typ(Some(TokenKind::User.typ())).claim("aud", TokenKind::User.aud());
        let bearer = format!("Bearer {}", good.sign(&cluster.secret));
        cluster.take_back("/api/revocations", json!({ "user": user })).await;
        let join =
            Request::post("/api/rooms/r/join", &json!({ "refresh": true })).header("Authorization", bearer);
        let refresh = Request::post("/auth/refresh", &json!({ "refreshToken": issued["refreshToken"] }));
        // The second finds what the first has looked for.
        for request in if n % 2 == 0 { [join, refresh] } else { [refresh, join] } {
            request.send(other.address).await.assert_problem(401, "token_revoked");
        }
    }
    cluster.audit().await;
}
