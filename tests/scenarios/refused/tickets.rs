//! Tickets. The table is nodes × places × defects; where a ticket is shown at the wrong door is in `kinds`.

use serde_json::json;
use signalbox_protocol::clock;
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::Request,
    net::eventually,
    peer::Link,
    token::Forgery,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, parse_ticket_digest};

use super::{
    Expected, assert_rows,
    defects::{REVOKED, SPARE_KEY},
    judge,
    places::{Place, Service},
    until,
};

all_of!(
    /// What may be wrong with a ticket.
    Defect {
        // Its form.
        Unknown, Bare, Truncated, TooLong, OtherAlphabet, InCapitals, WithoutItsPrefix, WithAnotherPrefix, Twice,
        // Its use.
        Replayed, Over,
        // The token it stands for.
        OfAnEndedToken, OfARevokedGrant, OfARevokedUser, OfARevokedRoom, OfARevokedKey, OfABannedUser, OfAUserBannedFromTheRoom, OfAKickedPeer,
    }
);

/// Where a ticket is taken.
const PLACES: &[Place] = &[Place::Query, Place::Subprotocol, Place::ValidateQuery, Place::ValidateBearer];

fn expected(defect: Defect) -> Expected {
    use Defect::*;
    Some(match defect {
        Unknown | Bare | Truncated | TooLong | OtherAlphabet | Over => (401, "ticket_invalid"),
        // No ticket, so it must be a token.
        InCapitals | WithoutItsPrefix | WithAnotherPrefix => (401, "token_malformed"),
        Twice => (400, "token_twice"),
        Replayed => (401, "ticket_used"),
        OfAnEndedToken => (401, "token_expired"),
        OfARevokedGrant | OfARevokedUser | OfARevokedRoom | OfARevokedKey | OfAKickedPeer => {
            (401, "token_revoked")
        }
        OfABannedUser | OfAUserBannedFromTheRoom => (403, "banned"),
    })
}

async fn ticket_for(cluster: &TestCluster, token: &str) -> String {
    let asked = Request::post("/auth/ticket", &json!({})).header("Authorization", format!("Bearer {token}"));
    asked.send(cluster.auth_address()).await.assert_status(200).json()["ticket"].as_str().unwrap().to_owned()
}

/// When the one token that ends has ended.
const LIFE_S: u64 = 2;

/// Makes the ticket; whatever is to be taken back is taken back when all are made.
async fn make(cluster: &TestCluster, defect: Defect) -> String {
    let good = Forgery::good("r", "alice");
    let of = async |token: Forgery| ticket_for(cluster, &token.sign(&cluster.secret)).await;
    let unknown = OpaqueToken::random().to_text(OpaqueTokenKind::Ticket);
    match defect {
        Defect::Unknown => unknown,
        Defect::Bare => "sbt_".to_owned(),
        Defect::Truncated => of(good).await[..46].to_owned(),
        Defect::TooLong => format!("{}A", of(good).await),
        Defect::OtherAlphabet => format!("{}*", &of(good).await[..46]),
        Defect::InCapitals => of(good).await.replace("sbt_", "SBT_"),
        Defect::WithoutItsPrefix => of(good).await.replace("sbt_", ""),
        Defect::WithAnotherPrefix => of(good).await.replace("sbt_", "sbr_"),
        Defect::Twice => of(good).await,
        Defect::Replayed => {
            let ticket = of(good.claim("sub", "early")).await;
            Link::open(cluster.next_node().address, &ticket).await.into_peer().await.leave().await;
            ticket
        }
        Defect::Over => {
            let ticket = of(good).await;
            let mut redis = cluster.redis.as_ref().unwrap().connect().await;
            let key = redis_keys::ticket_key(&parse_ticket_digest(&ticket).unwrap());
            redis::cmd("PEXPIRE").arg(key).arg(0).query_async::<()>(&mut redis).await.unwrap();
            ticket
        }
        Defect::OfAnEndedToken => of(good.claim("exp", clock::now_s() + LIFE_S)).await,
        Defect::OfARevokedGrant => of(good.claim("jti", format!("{REVOKED}.1"))).await,
        Defect::OfARevokedUser => of(good.claim("sub", "revoked")).await,
        Defect::OfARevokedRoom => of(good.claim("room", "revoked")).await,
        Defect::OfARevokedKey => of(good.claim("caller", SPARE_KEY)).await,
        Defect::OfABannedUser => of(good.claim("sub", "banned")).await,
        Defect::OfAUserBannedFromTheRoom => of(good.claim("sub", "banned-here")).await,
        Defect::OfAKickedPeer => {
            let token = cluster.issue(&json!({ "room": "r", "user": "kicked" })).await;
            let ticket = ticket_for(cluster, &token).await;
            let peer = Link::open(cluster.next_node().address, &token).await.into_peer().await;
            let path = format!("/api/rooms/r/participants/{}", peer.id());
            cluster.api("DELETE", &path, &serde_json::Value::Null).await.assert_status(200);
            peer.closed().await;
            ticket
        }
    }
}

async fn take_back(cluster: &TestCluster) {
    for what in [
        json!({ "grant": REVOKED }),
        json!({ "user": "revoked" }),
        json!({ "room": "revoked" }),
        json!({ "key": SPARE_KEY, "issued": true }),
    ] {
        cluster.take_back("/api/revocations", what).await;
    }
    cluster.take_back("/api/bans", json!({ "user": "banned-here", "room": "r", "for": 600 })).await;
    cluster.take_back("/api/bans", json!({ "user": "banned", "for": 600 })).await;
}

fn validate(ticket: &str) -> Request {
    Request::get(format!("/ws/validate?token={ticket}"))
}

/// Neither a question nor a refusal uses a ticket; the first connection does.
async fn assert_opens_once(cluster: &TestCluster, ticket: &str) {
    for node in &cluster.nodes {
        for _ in 0..3 {
            eventually("it is good", async || {
                (validate(ticket).send(node.address).await.status == 200).then_some(())
            })
            .await;
        }
    }
    let node = cluster.nodes.last().unwrap();
    Link::open(node.address, ticket).await.into_peer().await.leave().await;
    for node in &cluster.nodes {
        validate(ticket).send(node.address).await.assert_problem(401, "ticket_used");
    }
}

async fn no_bad_ticket_opens_a_connection(store: Store) {
    let cluster = TestCluster::start(store, &[]).await;
    // In memory a ticket is over after its thirty seconds and not before; the shelf has a test of its own.
    let applies = |defect: &Defect| *defect != Defect::Over || store != Store::Memory;
    let mut tickets = Vec::new();
    for defect in Defect::ALL.iter().filter(|defect| applies(defect)) {
        tickets.push((*defect, make(&cluster, *defect).await));
    }
    let good = ticket_for(&cluster, &cluster.forge("r", "alice")).await;
    let ended = clock::now_s() + LIFE_S;
    take_back(&cluster).await;
    let banned = tickets.iter().find(|(defect, _)| *defect == Defect::OfABannedUser).unwrap().1.clone();
    for node in &cluster.nodes {
        eventually("the node knows", async || {
            (validate(&banned).send(node.address).await.status == 403).then_some(())
        })
        .await;
    }
    until(ended).await;
    let mut count = 0;
    for node in &cluster.nodes {
        let service = Service { node: node.address, auth: cluster.auth_address() };
        let rows = PLACES.iter().flat_map(|place| tickets.iter().map(move |ticket| (*place, ticket)));
        count += assert_rows(rows, async |(place, (defect, ticket))| {
            let answer = place.show(service, Some(ticket), *defect == Defect::Twice).await;
            judge(&(place, defect), expected(*defect), Some(ticket), &answer)
        })
        .await;
    }
    let rows = if store == Store::Memory { 4 * 18 } else { 2 * 4 * 19 };
    assert_eq!(count, rows, "rows");
    assert_opens_once(&cluster, &good).await;
    cluster.lift("ban:*:banned").await;
    assert_opens_once(&cluster, &banned).await;
    cluster.audit().await;
}

#[tokio::test]
async fn no_bad_ticket_opens_a_connection_in_memory() {
    no_bad_ticket_opens_a_connection(Store::Memory).await;
}

#[tokio::test]
async fn no_bad_ticket_opens_a_connection_over_redis() {
    no_bad_ticket_opens_a_connection(Store::Redis(2)).await;
}
