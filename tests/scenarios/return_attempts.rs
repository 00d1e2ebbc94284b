//! A peer that was removed or refused cannot return. The table is sanctions × return attempts; a
//! missing cell does not compile.

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::{Request, Response},
    net::eventually,
    process::Process,
    token::TokenBuilder,
};
use signalbox_token::TokenKind;

use crate::refusals::{ExpectedRefusal, matches_expected, status_and_code, token_defect};

all_of!(
    /// An action against a connected peer.
    PeerSanction {
        GrantRevoked, UserRevoked, RoomRevoked, AllRevoked, RemovedByApplication, RemovedByModerator, RemovedByRole,
        BannedFromRoom, BannedEverywhere, RoomEnded, AddressDenied, ShutDown,
    }
);

all_of!(
    /// An attempt to return. Each new token is issued in a later second than the revocation.
    ReturnAttempt {
        Token, EarlierTicket, NewTicket, Refresh, Resume, Takeover, ValidateToken, ValidateHandle, ValidateAtAuthService,
        NewToken, NewTokenSignedByApplication, NewUserToken,
    }
);

/// The expected refusal; none if the attempt is allowed.
fn expected(sanction: PeerSanction, attempt: ReturnAttempt) -> ExpectedRefusal {
    use ReturnAttempt::*;
    let is_fresh = matches!(attempt, NewToken | NewTokenSignedByApplication | NewUserToken);
    let by_handle = match attempt {
        Resume | Takeover | ValidateHandle => true,
        Token
        | EarlierTicket
        | NewTicket
        | Refresh
        | ValidateToken
        | ValidateAtAuthService
        | NewToken
        | NewTokenSignedByApplication
        | NewUserToken => false,
    };
    match sanction {
        PeerSanction::ShutDown => Some((503, "shut_down")),
        PeerSanction::AddressDenied => Some((403, "address_denied")),
        PeerSanction::BannedEverywhere | PeerSanction::BannedFromRoom => Some((403, "banned")),
        // A new token is allowed: only the earlier credentials are revoked.
        PeerSanction::GrantRevoked
        | PeerSanction::UserRevoked
        | PeerSanction::RoomRevoked
        | PeerSanction::AllRevoked
        | PeerSanction::RemovedByApplication
        | PeerSanction::RemovedByModerator
        | PeerSanction::RemovedByRole => (!is_fresh).then_some((401, "token_revoked")),
        // The end of a room revokes no credential, but its peers have left.
        PeerSanction::RoomEnded => by_handle.then_some((401, "resume_expired")),
    }
}

/// All credentials of a peer.
struct PeerCredentials {
    user: String,
    room: String,
    token: String,
    refresh: String,
    ticket: String,
    handle: String,
}

async fn post(cluster: &TestCluster, path: &str, authorization: Option<String>, body: &Value) -> Response {
    let request = Request::post(path, body);
    let request = authorization.map_or(request.clone(), |value| request.header("Authorization", value));
    request.send(cluster.auth_address()).await
}

async fn apply_sanction(
    cluster: &TestCluster,
    sanction: PeerSanction,
    credentials: &PeerCredentials,
    peer: &str,
) {
    let (user, room) = (&credentials.user, &credentials.room);
    let at_room = async |method, path: String| {
        let path = format!("/api/rooms/{room}/{path}");
        cluster.api(method, &path, &Value::Null).await.assert_status(200).json()
    };
    match sanction {
        PeerSanction::GrantRevoked => {
            cluster.add_rule("/api/revocations", json!({ "token": credentials.token })).await
        }
        PeerSanction::UserRevoked => cluster.add_rule("/api/revocations", json!({ "user": user })).await,
        PeerSanction::RoomRevoked => cluster.add_rule("/api/revocations", json!({ "room": room })).await,
        PeerSanction::AllRevoked => cluster.add_rule("/api/revocations", json!({ "all": true })).await,
        PeerSanction::BannedEverywhere => {
            cluster.add_rule("/api/bans", json!({ "user": user, "for": 600 })).await
        }
        PeerSanction::BannedFromRoom => {
            cluster.add_rule("/api/bans", json!({ "user": user, "room": room, "for": 600 })).await
        }
        PeerSanction::AddressDenied => {
            cluster.add_rule("/api/denials", json!({ "cidr": "127.0.0.0/8", "for": 600 })).await
        }
        PeerSanction::ShutDown => cluster.add_rule("/api/shutdown", json!({})).await,
        PeerSanction::RemovedByApplication => at_room("DELETE", format!("participants/{peer}")).await,
        PeerSanction::RemovedByRole => at_room("DELETE", "participants?role=guest".to_owned()).await,
        PeerSanction::RoomEnded => at_room("POST", "end".to_owned()).await,
        PeerSanction::RemovedByModerator => {
            let host = cluster.room(room).join_with(json!({ "user": "host", "role": "host" })).await;
            host.send_acked(json!({ "type": "kick", "peer": peer })).await;
            host.leave().await;
            Value::Null
        }
    };
}

async fn send_attempt(
    cluster: &TestCluster,
    attempt: ReturnAttempt,
    credentials: &PeerCredentials,
) -> Response {
    let upgrade = async |query: String| {
        Request::upgrade(format!("/ws/signal?{query}")).send(cluster.next_node().address).await
    };
    let validate = async |query: String| {
        Request::get(format!("/ws/validate?{query}")).send(cluster.next_node().address).await
    };
    match attempt {
        ReturnAttempt::Token => upgrade(format!("token={}", credentials.token)).await,
        ReturnAttempt::EarlierTicket => upgrade(format!("token={}", credentials.ticket)).await,
        ReturnAttempt::NewTicket => {
            post(cluster, "/auth/ticket", Some(format!("Bearer {}", credentials.token)), &json!({})).await
        }
        ReturnAttempt::Refresh => {
            post(cluster, "/auth/refresh", None, &json!({ "refreshToken": credentials.refresh })).await
        }
        ReturnAttempt::Resume => upgrade(format!("resume={}&since=0", credentials.handle)).await,
        ReturnAttempt::Takeover => upgrade(format!("resume={}", credentials.handle)).await,
        ReturnAttempt::ValidateToken => validate(format!("token={}", credentials.token)).await,
        ReturnAttempt::ValidateHandle => validate(format!("resume={}", credentials.handle)).await,
        ReturnAttempt::ValidateAtAuthService => {
            post(cluster, "/auth/validate", None, &json!({ "token": credentials.token })).await
        }
        ReturnAttempt::NewTokenSignedByApplication => {
            upgrade(format!("token={}", cluster.sign_token(&credentials.room, &credentials.user))).await
        }
        ReturnAttempt::NewUserToken => {
            let token = token_defect::valid_token(TokenKind::User)
                .claim("sub", &*credentials.user)
                .sign(&cluster.secret);
            let path = format!("/api/rooms/{}/join", credentials.room);
            post(cluster, &path, Some(format!("Bearer {token}")), &json!({})).await
        }
        ReturnAttempt::NewToken => {
            let token_request = json!({ "room": credentials.room, "user": credentials.user });
            post(cluster, "/auth/token", Some(cluster.basic_auth()), &token_request).await
        }
    }
}

async fn a_removed_or_refused_peer_cannot_return(store: StoreKind) {
    let cluster = &TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "30s")]).await;
    let (mut failures, mut rows) = (Vec::new(), 0);
    for sanction in PeerSanction::ALL {
        let (user, room) = (format!("u-{sanction:?}"), format!("r-{sanction:?}"));
        let token_request = json!({ "room": room, "user": user, "refresh": true });
        let issued = post(cluster, "/auth/token", Some(cluster.basic_auth()), &token_request).await.json();
        let text = |name: &str| issued[name].as_str().unwrap().to_owned();
        let token = text("token");
        let ticket = post(cluster, "/auth/ticket", Some(format!("Bearer {token}")), &json!({})).await.json();
        let node = cluster.next_node();
        let link = signalbox_tests::peer::TestConnection::open(node.address, &token).await;
        let peer = link.into_peer().await;
        let handle = peer.joined["resume"].as_str().unwrap().to_owned();
        let ticket = ticket["ticket"].as_str().unwrap().to_owned();
        let credentials =
            PeerCredentials { user, room, token, refresh: text("refreshToken"), ticket, handle };
        apply_sanction(cluster, *sanction, &credentials, peer.id()).await;
        peer.wait_closed().await;
        wait_until_known(cluster, *sanction, &credentials).await;
        for attempt in ReturnAttempt::ALL {
            let actual = status_and_code(&send_attempt(cluster, *attempt, &credentials).await);
            if !matches_expected(expected(*sanction, *attempt), &actual) {
                failures.push(format!("{sanction:?} × {attempt:?}: {actual:?}"));
            }
            rows += 1;
        }
        if *sanction == PeerSanction::AddressDenied {
            cluster.lift_rule("deny:127.0.0.0/8").await;
            for node in &cluster.nodes {
                let request = Request::get(format!("/ws/validate?token={}", credentials.token));
                eventually("the address is allowed again", async || {
                    (request.send(node.address).await.status == 200).then_some(())
                })
                .await;
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(rows, 12 * 12, "rows");
}

/// Waits until each node knows the sanction; one node may learn of the sanction later than another.
async fn wait_until_known(cluster: &TestCluster, sanction: PeerSanction, credentials: &PeerCredentials) {
    let requests = [
        (ReturnAttempt::ValidateToken, format!("token={}", credentials.token)),
        (ReturnAttempt::ValidateHandle, format!("resume={}", credentials.handle)),
    ];
    for node in &cluster.nodes {
        for (attempt, query) in &requests {
            eventually(&format!("each node knows of {sanction:?}"), async || {
                let answer = Request::get(format!("/ws/validate?{query}")).send(node.address).await;
                matches_expected(expected(sanction, *attempt), &status_and_code(&answer)).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_removed_or_refused_peer_cannot_return_in_memory() {
    a_removed_or_refused_peer_cannot_return(StoreKind::Memory).await;
}

#[tokio::test]
async fn a_removed_or_refused_peer_cannot_return_over_redis() {
    a_removed_or_refused_peer_cannot_return(StoreKind::Redis(2)).await;
}

/// A token that is derived from an older credential has a new issue time. So an auth service must
/// know each earlier revocation, or no rule would refuse the derived token.
#[tokio::test]
async fn a_revocation_at_one_auth_service_applies_at_another() {
    let cluster = TestCluster::start(StoreKind::Redis(1), &[]).await;
    let other_service = Process::start("auth-service", cluster.env()).await;
    for n in 0..10 {
        let user = format!("u{n}");
        let token_request = json!({ "room": "r", "user": user, "refresh": true });
        let issued = post(&cluster, "/auth/token", Some(cluster.basic_auth()), &token_request).await.json();
        let user_token = TokenBuilder::valid("r", &user)
            .typ(Some(TokenKind::User.typ()))
            .claim("aud", TokenKind::User.aud());
        let bearer = format!("Bearer {}", user_token.sign(&cluster.secret));
        cluster.add_rule("/api/revocations", json!({ "user": user })).await;
        let join =
            Request::post("/api/rooms/r/join", &json!({ "refresh": true })).header("Authorization", bearer);
        let refresh = Request::post("/auth/refresh", &json!({ "refreshToken": issued["refreshToken"] }));
        // The first request loads the rules, so both orders are tested.
        for request in if n % 2 == 0 { [join, refresh] } else { [refresh, join] } {
            request.send(other_service.address).await.assert_problem(401, "token_revoked");
        }
    }
    cluster.audit().await;
}
