//! Resume handles. The table is nodes × locations × defects, for a resume and a takeover.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster, random_secret},
    handle_forge::{HANDLE_INFO, HandleForge},
    http::Request,
    net::eventually,
    peer::{TestConnection, TestPeer},
    token::TokenBuilder,
};

use super::{
    ExpectedRefusal, assert_rows, check_answer, matches_expected, status_and_code,
    token_defect::{REVOKED, SPARE_KEY},
};

all_of!(
    /// A place in a request that holds a handle.
    HandleLocation { Resume, ResumeInSubprotocol, Takeover, TakeoverInSubprotocol, ValidateResume, ValidateTakeover, ValidateHeader }
);

all_of!(
    /// A defect of a handle.
    HandleDefect {
        // Its form and seal.
        Malformed, Unsealed, HalfSeal, Altered, Oversized, SealedByForeignKey, SealedByTokenSecret, RoomToken, Repeated, WithToken,
        // Its generation.
        Replaced, ReplacedTwice, TakenOver,
        // Its peer has left.
        TokenExpired, TokenExpiredWhileAttached, Left, TimedOut,
        // Its room has ended.
        RoomEnded, RoomEndedAndLocked, RoomDeleted,
        // It is revoked, or its user is banned or removed.
        GrantRevoked, UserRevoked, RoomRevoked, KeyRevoked, Banned, BannedFromRoom, RemovedByApplication, RemovedByModerator, RemovedByRole,
    }
);

fn expected(defect: HandleDefect) -> ExpectedRefusal {
    use HandleDefect::*;
    Some(match defect {
        Malformed | Unsealed | HalfSeal | Altered | Oversized | SealedByForeignKey | SealedByTokenSecret
        | RoomToken => (401, "resume_invalid"),
        Repeated | WithToken => (400, "bad_request"),
        Replaced | ReplacedTwice => (401, "resume_replaced"),
        TakenOver | Left | TimedOut | RoomEnded | RoomEndedAndLocked | RoomDeleted => (401, "resume_expired"),
        TokenExpired | TokenExpiredWhileAttached => (401, "token_expired"),
        GrantRevoked | UserRevoked | RoomRevoked | KeyRevoked | RemovedByApplication | RemovedByModerator
        | RemovedByRole => (401, "token_revoked"),
        Banned | BannedFromRoom => (403, "banned"),
    })
}

impl HandleLocation {
    fn request(self, handle: &str, defect: HandleDefect) -> Request {
        let since = match self {
            Self::Resume | Self::ResumeInSubprotocol | Self::ValidateResume => "since=0",
            Self::Takeover | Self::TakeoverInSubprotocol | Self::ValidateTakeover | Self::ValidateHeader => {
                ""
            }
        };
        let repeated =
            if defect == HandleDefect::Repeated { format!("&resume={handle}") } else { String::new() };
        let extra_token = if defect == HandleDefect::WithToken { "&token=t" } else { "" };
        match self {
            Self::Resume | Self::Takeover => {
                Request::upgrade(format!("/ws/signal?resume={handle}&{since}{repeated}{extra_token}"))
            }
            Self::ValidateResume | Self::ValidateTakeover => {
                Request::get(format!("/ws/validate?resume={handle}&{since}{repeated}{extra_token}"))
            }
            Self::ValidateHeader => Request::get(format!("/ws/validate?{repeated}{extra_token}"))
                .header("Authorization", format!("Resume {handle}")),
            Self::ResumeInSubprotocol | Self::TakeoverInSubprotocol => {
                let offered = format!("signalbox.v1, resume.{handle}");
                Request::upgrade(format!("/ws/signal?{since}{repeated}{extra_token}"))
                    .header("Sec-WebSocket-Protocol", offered)
            }
        }
    }
}

/// The lifetime of an expiring token, in seconds.
const LIFE_S: u64 = 2;

/// Longer than [`LIFE_S`], so that the token expires before the window.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "3s");

/// A handle of this peer and its token, sealed with another secret.
fn sealed_with(secret: &str, peer: &TestPeer, token: &str) -> String {
    let record = json!({"p": peer.id(), "e": 1, "g": 1, "b": 1, "l": "0".repeat(40)});
    HandleForge::new(secret, HANDLE_INFO).seal_with_token(&record, token)
}

/// The handle with one byte of its sealed content altered.
fn with_altered_byte(handle: &str) -> String {
    let (salt, sealed) = handle.split_once('.').unwrap();
    let mut sealed = URL_SAFE_NO_PAD.decode(sealed).unwrap();
    sealed[60] ^= 1;
    format!("{salt}.{}", URL_SAFE_NO_PAD.encode(sealed))
}

/// The name of the room and of the user for a defect.
fn defect_name(defect: HandleDefect) -> String {
    format!("{defect:?}")
}

/// Joins for the defect, and returns the peer and its token.
async fn join_for_defect(cluster: &TestCluster, defect: HandleDefect) -> (TestPeer, String) {
    let valid = TokenBuilder::valid(&defect_name(defect), &defect_name(defect));
    let token = match defect {
        HandleDefect::TokenExpired | HandleDefect::TokenExpiredWhileAttached => {
            valid.claim("exp", clock::now_s() + LIFE_S)
        }
        HandleDefect::GrantRevoked => valid.claim("jti", format!("{REVOKED}.3")),
        HandleDefect::KeyRevoked => valid.claim("caller", SPARE_KEY),
        HandleDefect::RemovedByRole => valid.claim("role", "speaker"),
        _ => valid,
    };
    let (node, token) = (cluster.next_node().address, token.sign(&cluster.secret));
    (TestConnection::open(node, &token).await.into_peer().await, token)
}

/// Resumes, on another node if the cluster has two.
async fn resume_elsewhere(cluster: &TestCluster, peer: TestPeer) -> TestPeer {
    let back = peer.disconnect().await.resume_on(cluster.next_node()).await;
    back.ping().await;
    back
}

/// The handle with the defect, and the peer that stays in the room.
async fn make_handle(cluster: &TestCluster, defect: HandleDefect) -> (String, Option<TestPeer>) {
    let (peer, token) = join_for_defect(cluster, defect).await;
    let handle = peer.joined["resume"].as_str().unwrap().to_owned();
    let (text, remaining_peer) = match defect {
        HandleDefect::Malformed => ("H".to_owned(), peer),
        HandleDefect::Unsealed => (format!("{}.", handle.split_once('.').unwrap().0), peer),
        HandleDefect::HalfSeal => (handle[..handle.len() - 20].to_owned(), peer),
        HandleDefect::Altered => (with_altered_byte(&handle), peer),
        HandleDefect::Oversized => (format!("{}{handle}", "e".repeat(14 * 1024)), peer),
        HandleDefect::SealedByForeignKey => (sealed_with(&random_secret(), &peer, &token), peer),
        HandleDefect::SealedByTokenSecret => (sealed_with(&cluster.secret, &peer, &token), peer),
        HandleDefect::RoomToken => (cluster.sign_token("r", "alice"), peer),
        HandleDefect::Replaced => (handle, resume_elsewhere(cluster, peer).await),
        HandleDefect::ReplacedTwice => {
            (handle, resume_elsewhere(cluster, resume_elsewhere(cluster, peer).await).await)
        }
        HandleDefect::TakenOver => {
            let address = cluster.next_node().address;
            (handle, peer.disconnect().await.take_over(address).await.unwrap().into_peer().await)
        }
        HandleDefect::TokenExpired | HandleDefect::TimedOut => {
            peer.disconnect().await;
            return (handle, None);
        }
        _ => {
            let remaining_peer = end_peer(cluster, defect, peer).await;
            return (handle, remaining_peer);
        }
    };
    (text, Some(remaining_peer))
}

/// Ends the peer according to the defect. Returns the peer if it stays in the room.
async fn end_peer(cluster: &TestCluster, defect: HandleDefect, peer: TestPeer) -> Option<TestPeer> {
    let room = defect_name(defect);
    let api = async |method, path: String, body: Value| {
        let answer = cluster.api(method, &format!("/api/rooms/{room}{path}"), &body).await;
        assert!(matches!(answer.status, 200 | 204), "{defect:?}: {}", answer.text);
    };
    match defect {
        HandleDefect::Left => {
            peer.leave().await;
            return None;
        }
        HandleDefect::RoomEnded => api("POST", "/end".to_owned(), Value::Null).await,
        HandleDefect::RoomEndedAndLocked => api("POST", "/end".to_owned(), json!({ "lock": true })).await,
        HandleDefect::RoomDeleted => api("DELETE", String::new(), Value::Null).await,
        HandleDefect::RemovedByApplication => {
            api("DELETE", format!("/participants/{}", peer.id()), Value::Null).await
        }
        HandleDefect::RemovedByRole => {
            api("DELETE", "/participants?role=speaker".to_owned(), Value::Null).await;
        }
        HandleDefect::RemovedByModerator => {
            let host = cluster.room(&room).join_with(json!({ "user": "host", "role": "host" })).await;
            host.send_acked(json!({ "type": "kick", "peer": peer.id() })).await;
            host.leave().await;
        }
        HandleDefect::GrantRevoked => revoke(cluster, json!({ "grant": REVOKED })).await,
        HandleDefect::UserRevoked => revoke(cluster, json!({ "user": room })).await,
        HandleDefect::RoomRevoked => revoke(cluster, json!({ "room": room })).await,
        HandleDefect::KeyRevoked => revoke(cluster, json!({ "key": SPARE_KEY, "issued": true })).await,
        HandleDefect::Banned => ban(cluster, json!({ "user": room, "for": 600 })).await,
        HandleDefect::BannedFromRoom => ban(cluster, json!({ "user": room, "room": room, "for": 600 })).await,
        HandleDefect::TokenExpiredWhileAttached => {}
        // The peer itself has no defect.
        _ => return Some(peer),
    }
    peer.wait_closed().await;
    None
}

async fn revoke(cluster: &TestCluster, body: Value) {
    cluster.add_rule("/api/revocations", body).await;
}

async fn ban(cluster: &TestCluster, body: Value) {
    cluster.add_rule("/api/bans", body).await;
}

/// Waits until each node gives the expected answer: a node may learn of an access rule or of a new
/// handle later than another node.
async fn wait_until_known(cluster: &TestCluster, handles: &[(HandleDefect, String)]) {
    for node in &cluster.nodes {
        for (defect, handle) in handles {
            eventually(&format!("each node knows {defect:?}"), async || {
                let answer =
                    HandleLocation::ValidateTakeover.request(handle, *defect).send(node.address).await;
                // A node may learn that the peer has left before it learns the rule.
                matches_expected(expected(*defect), &status_and_code(&answer)).then_some(())
            })
            .await;
        }
    }
}

async fn no_invalid_handle_resumes_a_peer(store: StoreKind) {
    let cluster = TestCluster::start(store, &[WINDOW]).await;
    let (mut handles, mut remaining_peers) = (Vec::new(), Vec::new());
    let expires_with_token = |defect: &HandleDefect| {
        matches!(defect, HandleDefect::TokenExpired | HandleDefect::TokenExpiredWhileAttached)
    };
    for defect in HandleDefect::ALL.iter().rev().filter(|defect| !expires_with_token(defect)) {
        let (handle, peer) = make_handle(&cluster, *defect).await;
        handles.push((*defect, handle));
        remaining_peers.extend(peer);
    }
    wait_until_known(&cluster, &handles).await;
    // Only these handles must be checked before their window ends, so they are made last.
    for defect in HandleDefect::ALL.iter().filter(|defect| expires_with_token(defect)) {
        handles.insert(0, (*defect, make_handle(&cluster, *defect).await.0));
    }
    wait_until_known(&cluster, &handles[..2]).await;
    let rows = handles.iter().flat_map(|handle| {
        let targets = cluster
            .nodes
            .iter()
            .flat_map(|node| HandleLocation::ALL.iter().map(move |location| (node.address, *location)));
        targets.map(move |(address, location)| (address, location, handle))
    });
    let count = assert_rows(rows, async |(address, location, (defect, handle))| {
        let answer = location.request(handle, *defect).send(address).await;
        check_answer(&(location, defect), expected(*defect), Some(handle), &answer)
    })
    .await;
    assert_eq!(count, HandleLocation::ALL.len() * HandleDefect::ALL.len() * cluster.nodes.len(), "rows");
    assert_eq!(HandleDefect::ALL.len(), 29, "defects");
    for peer in remaining_peers {
        // The other peers are not affected.
        peer.ping().await;
        peer.leave().await;
    }
    cluster.nodes.iter().for_each(signalbox_tests::process::Process::assert_running);
    cluster.assert_clean_logs();
}

#[tokio::test]
async fn no_invalid_handle_resumes_a_peer_in_memory() {
    no_invalid_handle_resumes_a_peer(StoreKind::Memory).await;
}

#[tokio::test]
async fn no_invalid_handle_resumes_a_peer_over_redis() {
    no_invalid_handle_resumes_a_peer(StoreKind::Redis(2)).await;
}
