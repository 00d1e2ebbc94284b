//! Tickets. The table is nodes × locations × defects. `credential_kinds` tests other locations.

use serde_json::json;
use signalbox_protocol::clock;
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::Request,
    net::eventually,
    peer::TestConnection,
    token::TokenBuilder,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, parse_ticket_digest};

use super::{
    ExpectedRefusal, assert_rows, check_answer, sleep_until,
    token_defect::{REVOKED, SPARE_KEY},
    token_location::{ServiceAddresses, TokenLocation},
};

all_of!(
    /// A defect of a ticket.
    TicketDefect {
        // Its form.
        Unknown, PrefixOnly, Truncated, TooLong, OtherAlphabet, UpperCase, WithoutPrefix, OtherPrefix, Repeated,
        // Its use.
        Used, Expired,
        // The token of the ticket.
        ExpiredToken, RevokedGrant, RevokedUser, RevokedRoom, RevokedKey, BannedUser,
        UserBannedFromRoom, RemovedPeer,
    }
);

/// The locations that accept a ticket.
const TICKET_LOCATIONS: &[TokenLocation] = &[
    TokenLocation::Query,
    TokenLocation::Subprotocol,
    TokenLocation::ValidateQuery,
    TokenLocation::ValidateBearer,
];

fn expected(defect: TicketDefect) -> ExpectedRefusal {
    use TicketDefect::*;
    Some(match defect {
        Unknown | PrefixOnly | Truncated | TooLong | OtherAlphabet | Expired => (401, "ticket_invalid"),
        // A text without the ticket prefix is read as a token.
        UpperCase | WithoutPrefix | OtherPrefix => (401, "token_malformed"),
        Repeated => (400, "token_twice"),
        Used => (401, "ticket_used"),
        ExpiredToken => (401, "token_expired"),
        RevokedGrant | RevokedUser | RevokedRoom | RevokedKey | RemovedPeer => (401, "token_revoked"),
        BannedUser | UserBannedFromRoom => (403, "banned"),
    })
}

async fn issue_ticket(cluster: &TestCluster, token: &str) -> String {
    let request =
        Request::post("/auth/ticket", &json!({})).header("Authorization", format!("Bearer {token}"));
    request.send(cluster.auth_address()).await.assert_status(200).json()["ticket"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The lifetime of the expiring token, in seconds.
const LIFE_S: u64 = 2;

/// Makes a ticket. The access rules are added after all tickets are made.
async fn make_ticket(cluster: &TestCluster, defect: TicketDefect) -> String {
    let valid = TokenBuilder::valid("r", "alice");
    let issue = async |token: TokenBuilder| issue_ticket(cluster, &token.sign(&cluster.secret)).await;
    let unknown = OpaqueToken::random().to_text(OpaqueTokenKind::Ticket);
    match defect {
        TicketDefect::Unknown => unknown,
        TicketDefect::PrefixOnly => "sbt_".to_owned(),
        TicketDefect::Truncated => issue(valid).await[..46].to_owned(),
        TicketDefect::TooLong => format!("{}A", issue(valid).await),
        TicketDefect::OtherAlphabet => format!("{}*", &issue(valid).await[..46]),
        TicketDefect::UpperCase => issue(valid).await.replace("sbt_", "SBT_"),
        TicketDefect::WithoutPrefix => issue(valid).await.replace("sbt_", ""),
        TicketDefect::OtherPrefix => issue(valid).await.replace("sbt_", "sbr_"),
        TicketDefect::Repeated => issue(valid).await,
        TicketDefect::Used => {
            let ticket = issue(valid.claim("sub", "early")).await;
            TestConnection::open(cluster.next_node().address, &ticket).await.into_peer().await.leave().await;
            ticket
        }
        TicketDefect::Expired => {
            let ticket = issue(valid).await;
            let mut redis = cluster.redis.as_ref().unwrap().connect().await;
            let key = redis_keys::ticket_key(&parse_ticket_digest(&ticket).unwrap());
            redis::cmd("PEXPIRE").arg(key).arg(0).query_async::<()>(&mut redis).await.unwrap();
            ticket
        }
        TicketDefect::ExpiredToken => issue(valid.claim("exp", clock::now_s() + LIFE_S)).await,
        TicketDefect::RevokedGrant => issue(valid.claim("jti", format!("{REVOKED}.1"))).await,
        TicketDefect::RevokedUser => issue(valid.claim("sub", "revoked")).await,
        TicketDefect::RevokedRoom => issue(valid.claim("room", "revoked")).await,
        TicketDefect::RevokedKey => issue(valid.claim("caller", SPARE_KEY)).await,
        TicketDefect::BannedUser => issue(valid.claim("sub", "banned")).await,
        TicketDefect::UserBannedFromRoom => issue(valid.claim("sub", "banned-here")).await,
        TicketDefect::RemovedPeer => {
            let token = cluster.issue(&json!({ "room": "r", "user": "kicked" })).await;
            let ticket = issue_ticket(cluster, &token).await;
            let peer = TestConnection::open(cluster.next_node().address, &token).await.into_peer().await;
            let path = format!("/api/rooms/r/participants/{}", peer.id());
            cluster.api("DELETE", &path, &serde_json::Value::Null).await.assert_status(200);
            peer.wait_closed().await;
            ticket
        }
    }
}

async fn add_access_rules(cluster: &TestCluster) {
    for body in [
        json!({ "grant": REVOKED }),
        json!({ "user": "revoked" }),
        json!({ "room": "revoked" }),
        json!({ "key": SPARE_KEY, "issued": true }),
    ] {
        cluster.add_rule("/api/revocations", body).await;
    }
    cluster.add_rule("/api/bans", json!({ "user": "banned-here", "room": "r", "for": 600 })).await;
    cluster.add_rule("/api/bans", json!({ "user": "banned", "for": 600 })).await;
}

fn validate_request(ticket: &str) -> Request {
    Request::get(format!("/ws/validate?token={ticket}"))
}

/// Checks that validation and refusals do not use the ticket, and that the first connection does.
async fn assert_opens_once(cluster: &TestCluster, ticket: &str) {
    for node in &cluster.nodes {
        for _ in 0..3 {
            eventually("the ticket is valid", async || {
                (validate_request(ticket).send(node.address).await.status == 200).then_some(())
            })
            .await;
        }
    }
    let node = cluster.nodes.last().unwrap();
    TestConnection::open(node.address, ticket).await.into_peer().await.leave().await;
    for node in &cluster.nodes {
        validate_request(ticket).send(node.address).await.assert_problem(401, "ticket_used");
    }
}

async fn no_invalid_ticket_opens_a_connection(store: StoreKind) {
    let cluster = TestCluster::start(store, &[]).await;
    // With the memory store a ticket always lives for thirty seconds; a unit test covers its
    // expiry.
    let applies = |defect: &TicketDefect| *defect != TicketDefect::Expired || store != StoreKind::Memory;
    let mut tickets = Vec::new();
    for defect in TicketDefect::ALL.iter().filter(|defect| applies(defect)) {
        tickets.push((*defect, make_ticket(&cluster, *defect).await));
    }
    let valid = issue_ticket(&cluster, &cluster.sign_token("r", "alice")).await;
    let expiry_s = clock::now_s() + LIFE_S;
    add_access_rules(&cluster).await;
    let banned = tickets.iter().find(|(defect, _)| *defect == TicketDefect::BannedUser).unwrap().1.clone();
    for node in &cluster.nodes {
        eventually("the node knows the last rule", async || {
            (validate_request(&banned).send(node.address).await.status == 403).then_some(())
        })
        .await;
    }
    sleep_until(expiry_s).await;
    let mut count = 0;
    for node in &cluster.nodes {
        let service = ServiceAddresses { node: node.address, auth: cluster.auth_address() };
        let rows = TICKET_LOCATIONS
            .iter()
            .flat_map(|location| tickets.iter().map(move |ticket| (*location, ticket)));
        count += assert_rows(rows, async |(location, (defect, ticket))| {
            let answer = location.send_token(service, Some(ticket), *defect == TicketDefect::Repeated).await;
            check_answer(&(location, defect), expected(*defect), Some(ticket), &answer)
        })
        .await;
    }
    let rows = if store == StoreKind::Memory { 4 * 18 } else { 2 * 4 * 19 };
    assert_eq!(count, rows, "rows");
    assert_opens_once(&cluster, &valid).await;
    cluster.lift_rule("ban:*:banned").await;
    assert_opens_once(&cluster, &banned).await;
    cluster.audit().await;
}

#[tokio::test]
async fn no_invalid_ticket_opens_a_connection_in_memory() {
    no_invalid_ticket_opens_a_connection(StoreKind::Memory).await;
}

#[tokio::test]
async fn no_invalid_ticket_opens_a_connection_over_redis() {
    no_invalid_ticket_opens_a_connection(StoreKind::Redis(2)).await;
}
