//! Resume handles. The table is nodes × places × defects: who has gone does not come back, by a resume or a takeover.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::{Store, TestCluster, random_secret},
    http::Request,
    net::eventually,
    peer::{Link, TestPeer},
    token::Forgery,
};

use super::{
    Expected, assert_rows,
    defects::{REVOKED, SPARE_KEY},
    holds, judge, told,
};

all_of!(
    /// Where a handle may stand.
    Place { Resume, ResumeInSubprotocol, Takeover, TakeoverInSubprotocol, ValidateResume, ValidateTakeover }
);

all_of!(
    /// What may be wrong with a handle.
    Defect {
        // Its form and seal.
        Malformed, Unsealed, HalfASeal, Altered, Oversized, SealedByAStranger, SealedByTheTokenSecret, AToken, Twice, BesideAToken,
        // Its generation.
        Replaced, ReplacedTwice, TakenOver,
        // Its peer has gone.
        EndOfItsToken, EndOfItsTokenThere, Left, TimedOut,
        // Its room has gone.
        RoomEnded, RoomEndedAndLocked, RoomDeleted,
        // What was taken back.
        GrantRevoked, UserRevoked, RoomRevoked, KeyRevoked, Banned, BannedFromTheRoom, Kicked, KickedByAnother, SentOutWithItsRole,
    }
);

fn expected(defect: Defect) -> Expected {
    use Defect::*;
    Some(match defect {
        Malformed
        | Unsealed
        | HalfASeal
        | Altered
        | Oversized
        | SealedByAStranger
        | SealedByTheTokenSecret
        | AToken => (401, "resume_invalid"),
        Twice | BesideAToken => (400, "bad_request"),
        Replaced | ReplacedTwice => (401, "resume_replaced"),
        TakenOver | Left | TimedOut | RoomEnded | RoomEndedAndLocked | RoomDeleted => (401, "resume_expired"),
        EndOfItsToken | EndOfItsTokenThere => (401, "token_expired"),
        GrantRevoked | UserRevoked | RoomRevoked | KeyRevoked | Kicked | KickedByAnother
        | SentOutWithItsRole => (401, "token_revoked"),
        Banned | BannedFromTheRoom => (403, "banned"),
    })
}

impl Place {
    fn request(self, handle: &str, defect: Defect) -> Request {
        let since = match self {
            Self::Resume | Self::ResumeInSubprotocol | Self::ValidateResume => "since=0",
            Self::Takeover | Self::TakeoverInSubprotocol | Self::ValidateTakeover => "",
        };
        let twice = if defect == Defect::Twice { format!("&resume={handle}") } else { String::new() };
        let beside = if defect == Defect::BesideAToken { "&token=t" } else { "" };
        match self {
            Self::Resume | Self::Takeover => {
                Request::upgrade(format!("/ws/signal?resume={handle}&{since}{twice}{beside}"))
            }
            Self::ValidateResume | Self::ValidateTakeover => {
                Request::get(format!("/ws/validate?resume={handle}&{since}{twice}{beside}"))
            }
            Self::ResumeInSubprotocol | Self::TakeoverInSubprotocol => {
                let offered = format!("signalbox.v1, resume.{handle}");
                Request::upgrade(format!("/ws/signal?{since}{twice}{beside}"))
                    .header("Sec-WebSocket-Protocol", offered)
            }
        }
    }
}

/// The life of a token that ends.
const LIFE_S: u64 = 2;

/// Longer than that, so that it is the token that has ended.
const WINDOW: (&str, &str) = ("TIMING__RESUME_WINDOW", "3s");

/// A handle with another seal.
fn sealed(handle: &str, secret: &str) -> String {
    let (body, _) = handle.split_once('.').unwrap();
    let key = EncodingKey::from_secret(secret.as_bytes());
    format!("{body}.{}", jsonwebtoken::crypto::sign(body.as_bytes(), &key, Algorithm::HS256).unwrap())
}

/// A handle that says another role under the same seal.
fn altered(handle: &str) -> String {
    let (body, seal) = handle.split_once('.').unwrap();
    let said = String::from_utf8(URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    assert!(said.contains("guest"), "the role is in it");
    format!("{}.{seal}", URL_SAFE_NO_PAD.encode(said.replace("guest", "owner")))
}

/// The room of a defect, and its user.
fn name(defect: Defect) -> String {
    format!("{defect:?}")
}

async fn enter(cluster: &TestCluster, defect: Defect) -> TestPeer {
    let good = Forgery::good(&name(defect), &name(defect));
    let token = match defect {
        Defect::EndOfItsToken | Defect::EndOfItsTokenThere => good.claim("exp", clock::now_s() + LIFE_S),
        Defect::GrantRevoked => good.claim("jti", format!("{REVOKED}.3")),
        Defect::KeyRevoked => good.claim("caller", SPARE_KEY),
        Defect::SentOutWithItsRole => good.claim("role", "speaker"),
        _ => good,
    };
    let node = cluster.next_node().address;
    Link::open(node, &token.sign(&cluster.secret)).await.into_peer().await
}

/// Comes back, on another node where there is one.
async fn come_back(cluster: &TestCluster, peer: TestPeer) -> TestPeer {
    let back = peer.lose().await.resume_on(cluster.next_node()).await;
    back.ping().await;
    back
}

/// The handle with the defect, and who is still there.
async fn make(cluster: &TestCluster, defect: Defect) -> (String, Option<TestPeer>) {
    let peer = enter(cluster, defect).await;
    let handle = peer.joined["resume"].as_str().unwrap().to_owned();
    let (text, kept) = match defect {
        Defect::Malformed => ("H".to_owned(), peer),
        Defect::Unsealed => (format!("{}.", handle.split_once('.').unwrap().0), peer),
        Defect::HalfASeal => (handle[..handle.len() - 20].to_owned(), peer),
        Defect::Altered => (altered(&handle), peer),
        Defect::Oversized => (format!("{}{handle}", "e".repeat(8 * 1024)), peer),
        Defect::SealedByAStranger => (sealed(&handle, &random_secret()), peer),
        Defect::SealedByTheTokenSecret => (sealed(&handle, &cluster.secret), peer),
        Defect::AToken => (cluster.forge("r", "alice"), peer),
        Defect::Replaced => (handle, come_back(cluster, peer).await),
        Defect::ReplacedTwice => (handle, come_back(cluster, come_back(cluster, peer).await).await),
        Defect::TakenOver => {
            let address = cluster.next_node().address;
            (handle, peer.lose().await.take_over(address).await.unwrap().into_peer().await)
        }
        Defect::EndOfItsToken | Defect::TimedOut => {
            peer.lose().await;
            return (handle, None);
        }
        _ => {
            let kept = send_out(cluster, defect, peer).await;
            return (handle, kept);
        }
    };
    (text, Some(kept))
}

/// Does whatever sends the peer out, at last; who is still there.
async fn send_out(cluster: &TestCluster, defect: Defect, peer: TestPeer) -> Option<TestPeer> {
    let room = name(defect);
    let api = async |method, path: String, body: Value| {
        let answer = cluster.api(method, &format!("/api/rooms/{room}{path}"), &body).await;
        assert!(matches!(answer.status, 200 | 204), "{defect:?}: {}", answer.text);
    };
    match defect {
        Defect::Left => {
            peer.leave().await;
            return None;
        }
        Defect::RoomEnded => api("POST", "/end".to_owned(), Value::Null).await,
        Defect::RoomEndedAndLocked => api("POST", "/end".to_owned(), json!({ "lock": true })).await,
        Defect::RoomDeleted => api("DELETE", String::new(), Value::Null).await,
        Defect::Kicked => api("DELETE", format!("/participants/{}", peer.id()), Value::Null).await,
        Defect::SentOutWithItsRole => {
            api("DELETE", "/participants?role=speaker".to_owned(), Value::Null).await;
        }
        Defect::KickedByAnother => {
            let host = cluster.room(&room).join_as(json!({ "user": "host", "role": "host" })).await;
            host.must(json!({ "type": "kick", "peer": peer.id() })).await;
            host.leave().await;
        }
        Defect::GrantRevoked => revoke(cluster, json!({ "grant": REVOKED })).await,
        Defect::UserRevoked => revoke(cluster, json!({ "user": room })).await,
        Defect::RoomRevoked => revoke(cluster, json!({ "room": room })).await,
        Defect::KeyRevoked => revoke(cluster, json!({ "key": SPARE_KEY, "issued": true })).await,
        Defect::Banned => ban(cluster, json!({ "user": room, "for": 600 })).await,
        Defect::BannedFromTheRoom => ban(cluster, json!({ "user": room, "room": room, "for": 600 })).await,
        Defect::EndOfItsTokenThere => {}
        // Nothing is wrong with the peer itself.
        _ => return Some(peer),
    }
    peer.closed().await;
    None
}

async fn revoke(cluster: &TestCluster, what: Value) {
    cluster.take_back("/api/revocations", what).await;
}

async fn ban(cluster: &TestCluster, whom: Value) {
    cluster.take_back("/api/bans", whom).await;
}

/// A node may be a look behind the one that has closed a socket, or a room behind the client that has spoken in it.
async fn until_known(cluster: &TestCluster, handles: &[(Defect, String)]) {
    for node in &cluster.nodes {
        for (defect, handle) in handles {
            eventually(&format!("{defect:?} is known"), async || {
                let asked = Place::ValidateTakeover.request(handle, *defect).send(node.address).await;
                // Before it hears of the rule it may hear that the peer has left.
                holds(expected(*defect), &told(&asked)).then_some(())
            })
            .await;
        }
    }
}

async fn who_has_gone_does_not_come_back(store: Store) {
    let cluster = TestCluster::start(store, &[WINDOW]).await;
    let (mut handles, mut there) = (Vec::new(), Vec::new());
    let is_late = |defect: &Defect| matches!(defect, Defect::EndOfItsToken | Defect::EndOfItsTokenThere);
    for defect in Defect::ALL.iter().rev().filter(|defect| !is_late(defect)) {
        let (handle, peer) = make(&cluster, *defect).await;
        handles.push((*defect, handle));
        there.extend(peer);
    }
    until_known(&cluster, &handles).await;
    // Theirs are the only windows that are not to be over.
    for defect in Defect::ALL.iter().filter(|defect| is_late(defect)) {
        handles.insert(0, (*defect, make(&cluster, *defect).await.0));
    }
    until_known(&cluster, &handles[..2]).await;
    let rows = handles.iter().flat_map(|handle| {
        let doors =
            cluster.nodes.iter().flat_map(|node| Place::ALL.iter().map(move |place| (node.address, *place)));
        doors.map(move |(door, place)| (door, place, handle))
    });
    let count = assert_rows(rows, async |(door, place, (defect, handle))| {
        let answer = place.request(handle, *defect).send(door).await;
        judge(&(place, defect), expected(*defect), Some(handle), &answer)
    })
    .await;
    assert_eq!(count, 6 * Defect::ALL.len() * cluster.nodes.len(), "rows");
    assert_eq!(Defect::ALL.len(), 29, "defects");
    for peer in there {
        // Nobody who is there has noticed.
        peer.ping().await;
        peer.leave().await;
    }
    cluster.nodes.iter().for_each(signalbox_tests::process::Process::assert_running);
    cluster.assert_clean_logs();
}

#[tokio::test]
async fn who_has_gone_does_not_come_back_in_memory() {
    who_has_gone_does_not_come_back(Store::Memory).await;
}

#[tokio::test]
async fn who_has_gone_does_not_come_back_over_redis() {
    who_has_gone_does_not_come_back(Store::Redis(2)).await;
}
