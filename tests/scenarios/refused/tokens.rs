//! Room, user and management tokens that are signed with the shared secret. The table is places × defects.

use serde_json::json;
use signalbox_protocol::{clock, id::random_hex};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    net::eventually,
    peer::{Link, TestPeer},
};
use signalbox_token::TokenKind;

use super::{
    Expected, assert_rows, assert_tells_nothing,
    defects::{Defect, Forge, REVOKED, SPARE_KEY, good, next},
    holds, is_past_the_door, judge,
    places::{self, Place, Reader, Service},
    product, told,
};

/// What is said of a defect.
fn expected(place: Place, defect: Defect) -> Expected {
    use Defect::*;
    let kind = place.kind();
    let wrong_type = |kind: TokenKind| (!place.takes(kind)).then_some((401, "token_wrong_type"));
    let said = match defect {
        Missing | Empty => Some((401, "token_missing")),
        Malformed | TwoParts | Oversized | ClaimMissing | ClaimMalformed | TokenIdMissing | AudienceList
        | LifeTooLong | AlgMissing | Critical | OwnKey | KeyUrl | Certificate | CertificateUrl
        | Unencoded | Zipped => Some((401, "token_malformed")),
        TokenTwice => Some((400, "token_twice")),
        Expired => Some((401, "token_expired")),
        NotYetValid | MadeInTheFuture => Some((401, "token_not_yet_valid")),
        WrongAudience => Some((401, "token_wrong_audience")),
        WrongIssuer => Some((401, "token_wrong_issuer")),
        WrongKey | Tampered | ForeignKid | Unsigned => Some((401, "token_bad_signature")),
        AlgHs384 | AlgHs512 | AlgRs256 | AlgRs384 | AlgRs512 | AlgPs256 | AlgPs384 | AlgPs512 | AlgEs256
        | AlgEs384 | AlgEs512 | AlgEdDsa | AlgLowerCase | AlgEmpty | AlgNone | AlgNoneInCapitals
        | AlgNoneSigned => Some((401, "token_wrong_algorithm")),
        // The claims are not those of a kind that the place takes too.
        WrongType if place.takes(next(kind)) => Some((401, "token_malformed")),
        WrongType | TypJwt | TypMissing => Some((401, "token_wrong_type")),
        AnotherKind => wrong_type(next(kind)),
        TheThirdKind => wrong_type(next(next(kind))),
        GrantRevoked | SiblingRevoked | UserRevoked | RoomRevoked | AllRevoked | KeyRevoked | KeyRemoved => {
            Some((401, "token_revoked"))
        }
        Banned | BannedFromRoom => Some((403, "banned")),
        ScopeMissing => Some((403, "scope_missing")),
    };
    let none_or_two = matches!(defect, Missing | Empty | TokenTwice);
    match place.reader() {
        Reader::Node => said,
        // A header without a token, or two headers, prove nothing.
        Reader::Bearer if none_or_two && defect != Missing => Some((401, "token_malformed")),
        Reader::User if none_or_two => Some((401, "token_missing")),
        Reader::Caller if none_or_two => Some((401, "caller_unknown")),
        Reader::Bearer | Reader::User | Reader::Caller => said,
        // A member that is not there, or stands twice, is a fault of the body.
        Reader::Body if none_or_two && defect != Empty => Some((400, "bad_request")),
        Reader::Body if defect == Oversized => Some((413, "body_too_large")),
        Reader::Body => said,
        // On an open connection it is no status, and has one code; `field` says what it is about.
        Reader::Frame if none_or_two => Some((0, "bad_message")),
        Reader::Frame if defect == Oversized => Some((0, "too_large")),
        Reader::Frame => Some((0, "bad_token")),
    }
}

/// A cluster with an API key that can be taken back without the one that asks for it.
async fn cluster(store: Store) -> TestCluster {
    let (own, spare) = (random_hex(), random_hex());
    let keys = format!("backend:{own},{SPARE_KEY}:{spare}");
    let env = [("SIGNALBOX_API_KEYS".to_owned(), keys)];
    let mut cluster = TestCluster::start_with(store, &[], &env).await;
    cluster.api_secret = own;
    cluster
}

/// Takes back whatever a defect is about; what tokens are made with, and somebody who came in afterwards.
async fn take_back(cluster: &TestCluster) -> (Forge, TestPeer) {
    let revoke = async |what| cluster.take_back("/api/revocations", what).await;
    revoke(json!({ "all": true })).await;
    // It is given in the next second.
    let token = cluster.issue(&json!({ "room": "r", "user": "alice" })).await;
    let between = clock::now_s();
    for what in [
        json!({ "grant": REVOKED }),
        json!({ "user": "revoked" }),
        json!({ "room": "revoked" }),
        json!({ "key": SPARE_KEY, "issued": true }),
    ] {
        revoke(what).await;
    }
    cluster.take_back("/api/bans", json!({ "user": "banned", "for": 600 })).await;
    cluster.take_back("/api/bans", json!({ "user": "banned-here", "room": "r", "for": 600 })).await;
    let forge = Forge { secret: cluster.secret.clone(), between };
    let last = forge.token(TokenKind::Room, Defect::BannedFromRoom);
    let node = cluster.nodes[0].address;
    eventually("the node knows", async || {
        let asked = Place::ValidateBearer.request(last.as_deref(), false).send(node).await;
        (asked.status == 403).then_some(())
    })
    .await;
    (forge, Link::open(node, &token).await.into_peer().await)
}

async fn every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade(store: Store) {
    let cluster = cluster(store).await;
    let service = Service { node: cluster.nodes[0].address, auth: cluster.auth_address() };
    places::assert_complete(service.auth).await;
    let (forge, inside) = take_back(&cluster).await;
    let possible = |(place, defect): &(Place, Defect)| defect.applies(place.kind());
    let rows = product(Place::ALL, Defect::ALL).filter(possible);
    let (frames, requests): (Vec<_>, Vec<_>) = rows.partition(|(place, _)| *place == Place::Refresh);
    let mut count = assert_rows(requests, async |(place, defect)| {
        let (token, twice) = (forge.token(place.kind(), defect), defect == Defect::TokenTwice);
        let answer = place.show(service, token.as_deref(), twice).await;
        judge(&(place, defect), expected(place, defect), token.as_deref(), &answer)
    })
    .await;
    for (place, defect) in frames {
        let (token, twice) = (forge.token(place.kind(), defect), defect == Defect::TokenTwice);
        let told = places::refresh(&inside, token.as_deref(), twice).await;
        assert!(holds(expected(place, defect), &told), "{place:?} × {defect:?}: {told:?}");
        count += 1;
    }
    assert_eq!(count, 2_426, "rows");
    assert_eq!(cluster.nodes[0].metric("signalbox_joins_total").await, 1.0, "nobody else got in");
    inside.leave().await;
    cluster.audit().await;
}

#[tokio::test]
async fn every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade_in_memory() {
    every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade(Store::Memory).await;
}

#[tokio::test]
async fn every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade_over_redis() {
    every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade(Store::Redis(2)).await;
}

on_each_store! {
    async fn a_good_token_is_good_in_every_place(cluster) {
        let node = &cluster.nodes[0];
        let service = Service { node: node.address, auth: cluster.auth_address() };
        let inside = cluster.room("r").join_on(node, "alice").await;
        for place in Place::ALL {
            let token = good(place.kind()).sign(&cluster.secret);
            if *place == Place::Refresh {
                assert_eq!(places::refresh(&inside, Some(&token), false).await, (0, String::new()));
                continue;
            }
            let answer = place.show(service, Some(&token), false).await;
            assert!(is_past_the_door(&told(&answer)), "{place:?}: {}", answer.text);
            if place.reader() == Reader::Node {
                let upgrade = matches!(place, Place::Query | Place::Subprotocol);
                assert_eq!(answer.status, if upgrade { 101 } else { 200 }, "{place:?}: {}", answer.text);
                let echoed = answer.header("sec-websocket-protocol");
                assert_eq!(echoed, (*place == Place::Subprotocol).then_some("signalbox.v1"), "{place:?}");
            }
            if !matches!(place, Place::UserJoins) {
                assert_tells_nothing(&answer, Some(&token));
            }
        }
    }
}
