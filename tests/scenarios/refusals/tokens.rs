//! Room, user and management tokens that are signed with the shared secret. The table is locations
//! × defects.

use serde_json::json;
use signalbox_protocol::{clock, id::random_hex};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    net::eventually,
    peer::{TestConnection, TestPeer},
};
use signalbox_token::TokenKind;

use super::{
    ExpectedRefusal, assert_no_leak, assert_rows, check_answer, is_accepted, matches_expected, pairs,
    status_and_code,
    token_defect::{REVOKED, SPARE_KEY, TokenDefect, TokenForge, next_kind, valid_token},
    token_location::{self, ServiceAddresses, TokenLocation, TokenReader},
};

/// The expected refusal of a defect.
fn expected(location: TokenLocation, defect: TokenDefect) -> ExpectedRefusal {
    use TokenDefect::*;
    let kind = location.kind();
    let wrong_type = |kind: TokenKind| (!location.accepts(kind)).then_some((401, "token_wrong_type"));
    let by_defect = match defect {
        Missing | Empty => Some((401, "token_missing")),
        Malformed | TwoParts | Oversized | ClaimMissing | ClaimMalformed | TokenIdMissing | AudienceList
        | LifetimeTooLong | AlgMissing | Critical | OwnKey | KeyUrl | CertificateChain | CertificateUrl
        | UnencodedPayload | CompressedPayload => Some((401, "token_malformed")),
        TokenRepeated => Some((400, "token_twice")),
        Expired => Some((401, "token_expired")),
        NotYetValid | IssuedInTheFuture => Some((401, "token_not_yet_valid")),
        WrongAudience => Some((401, "token_wrong_audience")),
        WrongIssuer => Some((401, "token_wrong_issuer")),
        WrongKey | Tampered | ForeignKid | Unsigned => Some((401, "token_bad_signature")),
        AlgHs384 | AlgHs512 | AlgRs256 | AlgRs384 | AlgRs512 | AlgPs256 | AlgPs384 | AlgPs512 | AlgEs256
        | AlgEs384 | AlgEs512 | AlgEdDsa | AlgLowerCase | AlgEmpty | AlgNone | AlgNoneMixedCase
        | AlgNoneSigned => Some((401, "token_wrong_algorithm")),
        // The location accepts the other kind too, but the claims do not fit that kind.
        WrongType if location.accepts(next_kind(kind)) => Some((401, "token_malformed")),
        WrongType | TypJwt | TypMissing => Some((401, "token_wrong_type")),
        AnotherKind => wrong_type(next_kind(kind)),
        ThirdKind => wrong_type(next_kind(next_kind(kind))),
        GrantRevoked | SiblingRevoked | UserRevoked | RoomRevoked | AllRevoked | KeyRevoked | KeyRemoved => {
            Some((401, "token_revoked"))
        }
        Banned | BannedFromRoom => Some((403, "banned")),
        ScopeMissing => Some((403, "scope_missing")),
    };
    let is_missing_or_repeated = matches!(defect, Missing | Empty | TokenRepeated);
    match location.reader() {
        TokenReader::Node => by_defect,
        // The header is empty or repeated.
        TokenReader::Bearer if is_missing_or_repeated && defect != Missing => Some((401, "token_malformed")),
        TokenReader::User if is_missing_or_repeated => Some((401, "token_missing")),
        TokenReader::Principal if is_missing_or_repeated => Some((401, "caller_unknown")),
        TokenReader::Bearer | TokenReader::User | TokenReader::Principal => by_defect,
        // A missing or repeated member makes the body invalid.
        TokenReader::Body if is_missing_or_repeated && defect != Empty => Some((400, "bad_request")),
        TokenReader::Body if defect == Oversized => Some((413, "body_too_large")),
        TokenReader::Body => by_defect,
        // An open connection has no status and one code; `field` names the token.
        TokenReader::Frame if is_missing_or_repeated => Some((0, "bad_message")),
        TokenReader::Frame if defect == Oversized => Some((0, "too_large")),
        TokenReader::Frame => Some((0, "bad_token")),
    }
}

/// Starts a cluster with a second API key, which the tests revoke.
async fn start_cluster(store: StoreKind) -> TestCluster {
    let (own_secret, spare_secret) = (random_hex(), random_hex());
    let keys = format!("backend:{own_secret},{SPARE_KEY}:{spare_secret}");
    let env = [("SIGNALBOX_API_KEYS".to_owned(), keys)];
    let mut cluster = TestCluster::start_with(store, &[], &env).await;
    cluster.api_secret = own_secret;
    cluster
}

/// Adds the access rules of all defects. Returns the maker of tokens and a peer that joins
/// afterwards.
async fn add_access_rules(cluster: &TestCluster) -> (TokenForge, TestPeer) {
    let revoke = async |body| cluster.add_rule("/api/revocations", body).await;
    revoke(json!({ "all": true })).await;
    // The auth service issues this token in the second after the revocation.
    let token = cluster.issue(&json!({ "room": "r", "user": "alice" })).await;
    let after_revoke_all = clock::now_s();
    for body in [
        json!({ "grant": REVOKED }),
        json!({ "user": "revoked" }),
        json!({ "room": "revoked" }),
        json!({ "key": SPARE_KEY, "issued": true }),
    ] {
        revoke(body).await;
    }
    cluster.add_rule("/api/bans", json!({ "user": "banned", "for": 600 })).await;
    cluster.add_rule("/api/bans", json!({ "user": "banned-here", "room": "r", "for": 600 })).await;
    let forge = TokenForge { secret: cluster.secret.clone(), after_revoke_all };
    let last_rule_token = forge.token(TokenKind::Room, TokenDefect::BannedFromRoom);
    let node = cluster.nodes[0].address;
    eventually("the node knows the last rule", async || {
        let answer =
            TokenLocation::ValidateBearer.request(last_rule_token.as_deref(), false).send(node).await;
        (answer.status == 403).then_some(())
    })
    .await;
    (forge, TestConnection::open(node, &token).await.into_peer().await)
}

async fn each_invalid_token_is_refused_with_its_code_at_each_location(store: StoreKind) {
    let cluster = start_cluster(store).await;
    let service = ServiceAddresses { node: cluster.nodes[0].address, auth: cluster.auth_address() };
    token_location::assert_all_operations_listed(service.auth).await;
    let (forge, member) = add_access_rules(&cluster).await;
    let is_possible = |(location, defect): &(TokenLocation, TokenDefect)| defect.applies(location.kind());
    let rows = pairs(TokenLocation::ALL, TokenDefect::ALL).filter(is_possible);
    let (frames, requests): (Vec<_>, Vec<_>) =
        rows.partition(|(location, _)| *location == TokenLocation::Refresh);
    let mut count = assert_rows(requests, async |(location, defect)| {
        let (token, is_repeated) =
            (forge.token(location.kind(), defect), defect == TokenDefect::TokenRepeated);
        let answer = location.send_token(service, token.as_deref(), is_repeated).await;
        check_answer(&(location, defect), expected(location, defect), token.as_deref(), &answer)
    })
    .await;
    for (location, defect) in frames {
        let (token, is_repeated) =
            (forge.token(location.kind(), defect), defect == TokenDefect::TokenRepeated);
        let actual = token_location::send_refresh(&member, token.as_deref(), is_repeated).await;
        assert!(
            matches_expected(expected(location, defect), &actual),
            "{location:?} × {defect:?}: {actual:?}"
        );
        count += 1;
    }
    assert_eq!(count, 2_594, "rows");
    assert_eq!(cluster.nodes[0].metric("signalbox_joins_total").await, 1.0, "only one peer has joined");
    member.leave().await;
    cluster.audit().await;
}

#[tokio::test]
async fn each_invalid_token_is_refused_with_its_code_at_each_location_in_memory() {
    each_invalid_token_is_refused_with_its_code_at_each_location(StoreKind::Memory).await;
}

#[tokio::test]
async fn each_invalid_token_is_refused_with_its_code_at_each_location_over_redis() {
    each_invalid_token_is_refused_with_its_code_at_each_location(StoreKind::Redis(2)).await;
}

on_each_store! {
    async fn a_valid_token_is_accepted_at_each_location(cluster) {
        let node = &cluster.nodes[0];
        let service = ServiceAddresses { node: node.address, auth: cluster.auth_address() };
        let member = cluster.room("r").join_on(node, "alice").await;
        for location in TokenLocation::ALL {
            let token = valid_token(location.kind()).sign(&cluster.secret);
            if *location == TokenLocation::Refresh {
                assert_eq!(token_location::send_refresh(&member, Some(&token), false).await, (0, String::new()));
                continue;
            }
            let answer = location.send_token(service, Some(&token), false).await;
            assert!(is_accepted(&status_and_code(&answer)), "{location:?}: {}", answer.text);
            if location.reader() == TokenReader::Node {
                let upgrade = matches!(location, TokenLocation::Query | TokenLocation::Subprotocol);
                assert_eq!(answer.status, if upgrade { 101 } else { 200 }, "{location:?}: {}", answer.text);
                let echoed = answer.header("sec-websocket-protocol");
                assert_eq!(echoed, (*location == TokenLocation::Subprotocol).then_some("signalbox.v1"), "{location:?}");
            }
            if !matches!(location, TokenLocation::UserJoinsRoom) {
                assert_no_leak(&answer, Some(&token));
            }
        }
    }
}
