//! Who is let in. The table is places × defects; a cell that is missing does not compile.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_shared::{clock, token::TokenKind};
use signalbox_tests::{
    cluster::{Settings, Store, TestCluster, random_secret},
    http::{Request, Response},
    peer::{Link, TestPeer},
    process::Process,
    token::Forgery,
};

/// The grant that is taken back.
const REVOKED: &str = "a-grant-that-is-taken-back";

all_of!(
    /// Where a room token may stand.
    Place { Query, Subprotocol, ValidateQuery, ValidateBearer, AuthValidateBearer, AuthValidateBody, Ticket, Ice, Refresh }
);

all_of!(
    /// What may be wrong with it.
    Defect {
        Missing, Empty, Malformed, TwoParts, Oversized, ClaimMissing, BadRoomName, Expired, NotYetValid, WrongKey, Tampered, ForeignKid,
        WrongAlgHs384, WrongAlgHs512, AlgRs256, AlgEs256, AlgEdDsa, AlgNone, Critical, OwnKey, KeyUrl, WrongAudience, WrongIssuer, WrongType,
        UserToken, ManagementToken, TypJwt, TypMissing, TokenIdMissing, MadeInTheFuture, LifeTooLong, Revoked, Banned, BannedFromRoom,
        TokenTwice,
    }
);

/// What the server must say.
fn expected(place: Place, defect: Defect) -> (u16, &'static str) {
    use Defect::*;
    let told = match defect {
        Missing | Empty => (401, "token_missing"),
        Malformed | TwoParts | Oversized | ClaimMissing | BadRoomName | TokenIdMissing | LifeTooLong
        | Critical | OwnKey | KeyUrl => (401, "token_malformed"),
        Expired => (401, "token_expired"),
        NotYetValid | MadeInTheFuture => (401, "token_not_yet_valid"),
        WrongKey | Tampered | ForeignKid => (401, "token_bad_signature"),
        WrongAlgHs384 | WrongAlgHs512 | AlgRs256 | AlgEs256 | AlgEdDsa | AlgNone => {
            (401, "token_wrong_algorithm")
        }
        WrongAudience => (401, "token_wrong_audience"),
        WrongIssuer => (401, "token_wrong_issuer"),
        WrongType | UserToken | ManagementToken | TypJwt | TypMissing => (401, "token_wrong_type"),
        Revoked => (401, "token_revoked"),
        Banned | BannedFromRoom => (403, "banned"),
        TokenTwice => (400, "token_twice"),
    };
    match (place, defect) {
        // A header without a token, or two headers, prove nothing.
        (Place::AuthValidateBearer | Place::Ticket | Place::Ice, Empty | TokenTwice) => {
            (401, "token_malformed")
        }
        (Place::AuthValidateBody, Oversized) => (413, "body_too_large"),
        // A member that is not there, or stands twice, is a fault of the body.
        (Place::AuthValidateBody, Missing | TokenTwice) => (400, "bad_request"),
        // On an open connection it is no status, and has one code; `field` says what it is about.
        (Place::Refresh, Missing | Empty | TokenTwice) => (0, "bad_message"),
        (Place::Refresh, Oversized) => (0, "too_large"),
        (Place::Refresh, _) => (0, "bad_token"),
        _ => told,
    }
}

/// The token with the defect; none where there is to be none.
fn token(defect: Defect, secret: &str) -> Option<String> {
    let good = Forgery::good("r", "alice");
    let far = 4_000_000_000_u64;
    let header = |alg: &str| json!({"alg": alg, "typ": TokenKind::Room.typ()});
    let extended = |name: &str, value: Value| {
        let mut header = header("HS256");
        header[name] = value;
        good.sign_with(&header, secret)
    };
    Some(match defect {
        Defect::Missing => return None,
        Defect::Empty => String::new(),
        Defect::Malformed => "not-a-token".to_owned(),
        Defect::TwoParts => good.sign(secret).rsplit_once('.').unwrap().0.to_owned(),
        Defect::Oversized => good.claim("name", "x".repeat(13 * 1024)).sign(secret),
        Defect::ClaimMissing => good.without("room").sign(secret),
        Defect::BadRoomName => good.claim("room", "a b").sign(secret),
        Defect::Expired => good.claim("exp", 1_700_000_000).claim("nbf", 1).sign(secret),
        Defect::NotYetValid => good.claim("nbf", far).claim("exp", far + 1).sign(secret),
        Defect::WrongKey => good.sign(&random_secret()),
        Defect::Tampered => {
            let (signed, other) = (good.sign(secret), Forgery::good("other", "eve").sign(secret));
            let (mine, theirs): (Vec<_>, Vec<_>) = (signed.split('.').collect(), other.split('.').collect());
            format!("{}.{}.{}", mine[0], theirs[1], mine[2])
        }
        Defect::ForeignKid => good.kid("0123456789ab").sign(secret),
        Defect::WrongAlgHs384 => good.algorithm(Algorithm::HS384).sign(secret),
        Defect::WrongAlgHs512 => good.algorithm(Algorithm::HS512).sign(secret),
        Defect::AlgRs256 => good.assemble(&header("RS256"), "c2lnbmF0dXJl"),
        Defect::AlgEs256 => good.assemble(&header("ES256"), "c2lnbmF0dXJl"),
        Defect::AlgEdDsa => good.assemble(&header("EdDSA"), "c2lnbmF0dXJl"),
        Defect::AlgNone => good.assemble(&header("none"), ""),
        Defect::Critical => extended("crit", json!(["exp"])),
        Defect::OwnKey => extended("jwk", json!({"kty": "oct", "k": "c2VjcmV0"})),
        Defect::KeyUrl => extended("jku", json!("https://keys.example/jwks.json")),
        Defect::UserToken => {
            good.typ(Some(TokenKind::User.typ())).claim("aud", TokenKind::User.aud()).sign(secret)
        }
        Defect::ManagementToken => good
            .typ(Some(TokenKind::Management.typ()))
            .claim("aud", TokenKind::Management.aud())
            .claim("scopes", vec!["tokens"])
            .sign(secret),
        Defect::TokenIdMissing => good.without("jti").sign(secret),
        Defect::MadeInTheFuture => good.claim("iat", clock::now_s() + 600).sign(secret),
        Defect::LifeTooLong => good.claim("exp", clock::now_s() + 25 * 60 * 60).sign(secret),
        Defect::Revoked => good.claim("jti", REVOKED).sign(secret),
        Defect::Banned => good.claim("sub", "banned").sign(secret),
        Defect::BannedFromRoom => good.claim("sub", "banned-here").sign(secret),
        Defect::WrongAudience => good.claim("aud", "signalbox-management").sign(secret),
        Defect::WrongIssuer => good.claim("iss", "somebody").sign(secret),
        Defect::WrongType => good.typ(Some("signalbox-management+jwt")).sign(secret),
        Defect::TypJwt => good.typ(Some("JWT")).sign(secret),
        Defect::TypMissing => good.typ(None).sign(secret),
        Defect::TokenTwice => good.sign(secret),
    })
}

fn request(place: Place, token: Option<&str>, twice: bool) -> Request {
    let query = |path: &str| token.map_or_else(|| path.to_owned(), |token| format!("{path}?token={token}"));
    let protocols = |token: Option<&str>| {
        token.map_or_else(|| "signalbox.v1".to_owned(), |token| format!("signalbox.v1, token.{token}"))
    };
    let bearer = |request: Request| {
        let header = |request: Request, token| request.header("Authorization", format!("Bearer {token}"));
        let once = token.map_or(request.clone(), |token| header(request.clone(), token));
        if twice { header(once, token.unwrap()) } else { once }
    };
    match (place, twice) {
        (Place::Query, false) => Request::upgrade(query("/ws/signal")),
        (Place::Query, true) => {
            Request::upgrade(query("/ws/signal")).header("Sec-WebSocket-Protocol", protocols(token))
        }
        (Place::Subprotocol, false) => {
            Request::upgrade("/ws/signal").header("Sec-WebSocket-Protocol", protocols(token))
        }
        (Place::Subprotocol, true) => Request::upgrade("/ws/signal")
            .header("Sec-WebSocket-Protocol", protocols(token))
            .header("Sec-WebSocket-Protocol", format!("token.{}", token.unwrap())),
        (Place::ValidateQuery, false) => Request::get(query("/ws/validate")),
        (Place::ValidateQuery, true) => {
            Request::get(format!("{}&token={}", query("/ws/validate"), token.unwrap()))
        }
        (Place::ValidateBearer, false) => bearer(Request::get("/ws/validate")),
        (Place::ValidateBearer, true) => {
            Request::get(query("/ws/validate")).header("Authorization", format!("Bearer {}", token.unwrap()))
        }
        (Place::AuthValidateBearer, _) => bearer(Request::get("/auth/validate")),
        (Place::AuthValidateBody, false) => {
            Request::post("/auth/validate", &token.map_or(json!({}), |token| json!({ "token": token })))
        }
        (Place::AuthValidateBody, true) => {
            let token = token.unwrap();
            Request::post_text("/auth/validate", format!(r#"{{"token":"{token}","token":"{token}"}}"#))
        }
        (Place::Ticket, _) => bearer(Request::post("/auth/ticket", &json!({}))),
        (Place::Ice, _) => bearer(Request::get("/auth/ice")),
        (Place::Refresh, _) => unreachable!("no request"),
    }
}

/// The answer on an open connection, as `(0, code)`.
async fn refresh(peer: &TestPeer, token: Option<&str>, twice: bool) -> (u16, String) {
    let member = token.map_or(String::new(), |token| format!(r#","token":"{token}""#));
    let again = if twice { member.clone() } else { String::new() };
    peer.send_text(&format!(r#"{{"type":"refresh"{member}{again}}}"#)).await;
    let answer = peer.next_of_type("error").await;
    (0, answer["code"].as_str().unwrap().to_owned())
}

fn assert_tells_nothing(answer: &Response, token: Option<&str>) {
    assert!(!answer.text.contains("eyJ"), "{}", answer.text);
    let told = token.is_some_and(|token| !token.is_empty() && answer.text.contains(token));
    assert!(!told, "the answer repeats the token: {}", answer.text);
}

on_each_store! {
    async fn every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade(cluster) {
        let (node, auth) = (&cluster.nodes[0], cluster.auth_address());
        // The connection on which tokens are refreshed; its pace is not what is tested.
        let inside = Link::open(node.address, &cluster.forge("r", "alice")).await.into_peer().await;
        cluster.take_back("/api/revocations", json!({"grant": REVOKED})).await;
        cluster.take_back("/api/bans", json!({"user": "banned", "for": 600})).await;
        cluster.take_back("/api/bans", json!({"user": "banned-here", "room": "r", "for": 600})).await;
        signalbox_tests::net::eventually("the node knows", async || {
            let asked = request(Place::ValidateBearer, token(Defect::BannedFromRoom, &cluster.secret).as_deref(), false);
            (asked.send(node.address).await.status == 403).then_some(())
        })
        .await;
        let (mut rows, mut wrong) = (0, Vec::new());
        for (place, defect) in Place::ALL.iter().flat_map(|place| Defect::ALL.iter().map(move |defect| (*place, *defect))) {
            let (token, twice) = (token(defect, &cluster.secret), defect == Defect::TokenTwice);
            let (status, code) = expected(place, defect);
            rows += 1;
            if place == Place::Refresh {
                let told = refresh(&inside, token.as_deref(), twice).await;
                if told != (status, code.to_owned()) {
                    wrong.push(format!("{place:?} × {defect:?}: {told:?}"));
                }
                continue;
            }
            let at_node = matches!(place, Place::Query | Place::Subprotocol | Place::ValidateQuery | Place::ValidateBearer);
            let answer = request(place, token.as_deref(), twice).send(if at_node { node.address } else { auth }).await;
            let told = (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned());
            if told != (status, code.to_owned()) {
                wrong.push(format!("{place:?} × {defect:?}: {told:?}"));
                continue;
            }
            answer.assert_problem(status, code);
            assert_tells_nothing(&answer, token.as_deref());
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(rows > 300, "{rows}");
        assert_eq!(node.metric("signalbox_joins_total").await, 1.0, "nobody else got in");
    }

    async fn a_good_token_is_good_in_every_place(cluster) {
        let node = &cluster.nodes[0];
        let issued = cluster.issue(&json!({"room": "r", "user": "alice"})).await;
        for token in [issued, cluster.forge("r", "made-by-an-app")] {
            for place in [Place::Query, Place::Subprotocol, Place::ValidateQuery, Place::ValidateBearer].iter() {
                let answer = request(*place, Some(&token), false).send(node.address).await;
                let upgrade = matches!(place, Place::Query | Place::Subprotocol);
                assert_eq!(answer.status, if upgrade { 101 } else { 200 }, "{place:?}: {}", answer.text);
                let echoed = answer.header("sec-websocket-protocol");
                assert_eq!(echoed, (*place == Place::Subprotocol).then_some("signalbox.v1"), "{place:?}");
                assert_tells_nothing(&answer, Some(&token));
            }
        }
    }

    async fn a_web_site_that_is_not_ours_is_refused(cluster, [("SERVER__ALLOWED_ORIGINS", "https://app.example")]) {
        let node = &cluster.nodes[0];
        let target = |path: &str| format!("{path}?token={}", cluster.forge("r", "alice"));
        for (origin, allowed) in [("https://evil.example", false), ("null", false), ("https://app.example.evil", false),
            ("https://app.example", true), (&format!("http://{}", node.address), true)] {
            for (request, good) in [(Request::upgrade(target("/ws/signal")), 101), (Request::get(target("/ws/validate")), 200)] {
                let answer = request.header("Origin", origin).send(node.address).await;
                if allowed {
                    assert_eq!(answer.status, good, "{origin}: {}", answer.text);
                } else {
                    answer.assert_problem(403, "origin_not_allowed");
                    assert_tells_nothing(&answer, None);
                }
            }
        }
    }

    async fn a_name_that_was_pointed_at_loopback_is_refused(cluster) {
        let node = &cluster.nodes[0];
        let target = |path: &str| format!("{path}?token={}", cluster.forge("r", "alice"));
        for request in [Request::upgrade(target("/ws/signal")), Request::get(target("/ws/validate")), Request::get("/health/live")] {
            let answer = request.clone().header("Host", "evil.example").send(node.address).await;
            answer.assert_problem(403, "host_not_allowed");
            let rebound = request.header("Host", "evil.example").header("Origin", "http://evil.example");
            rebound.send(node.address).await.assert_problem(403, "host_not_allowed");
        }
    }

    async fn a_plain_request_is_told_to_upgrade(cluster) {
        let node = &cluster.nodes[0];
        let plain = Request::get(format!("/ws/signal?token={}", cluster.forge("r", "alice"))).send(node.address).await;
        plain.assert_problem(426, "upgrade_required");
        assert_eq!(plain.header("upgrade"), Some("websocket"));
        Request::post("/ws/signal", &json!({})).send(node.address).await.assert_problem(405, "method_not_allowed");
        Request::get("/nowhere").send(node.address).await.assert_problem(404, "not_found");
    }

    async fn an_upgrade_that_is_none_of_rfc_6455_is_refused_and_told_why(cluster) {
        let node = &cluster.nodes[0];
        let target = format!("/ws/signal?token={}", cluster.forge("r", "alice"));
        let base = || Request::get(&target).header("Connection", "Upgrade").header("Upgrade", "websocket");
        let no_key = base().header("Sec-WebSocket-Version", "13").send(node.address).await;
        no_key.assert_problem(400, "bad_request");
        let old = base().header("Sec-WebSocket-Version", "8").header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").send(node.address).await;
        old.assert_problem(426, "upgrade_required");
    }

    async fn subprotocols_without_ours_are_refused(cluster) {
        let node = &cluster.nodes[0];
        let token = cluster.forge("r", "alice");
        for offered in ["chat", "signalbox.v2, chat", &format!("token.{token}")] {
            let answer = Request::upgrade(format!("/ws/signal?token={token}"))
                .header("Sec-WebSocket-Protocol", offered)
                .send(node.address)
                .await;
            answer.assert_problem(400, "bad_request");
            assert_eq!(answer.json()["field"], "Sec-WebSocket-Protocol");
            assert_tells_nothing(&answer, Some(&token));
        }
    }

    async fn a_handle_that_is_not_ours_is_refused_before_the_upgrade(cluster) {
        let node = &cluster.nodes[0];
        for target in ["/ws/signal?resume=H&since=3", "/ws/signal?resume=e30.AAAA", "/ws/validate?resume=H"] {
            Request::upgrade(target).send(node.address).await.assert_problem(401, "resume_invalid");
        }
        let offered = Request::upgrade("/ws/signal").header("Sec-WebSocket-Protocol", "signalbox.v1, resume.H");
        offered.send(node.address).await.assert_problem(401, "resume_invalid");
        let both = format!("/ws/signal?resume=H&token={}", cluster.forge("r", "a"));
        for bad in [&*both, "/ws/signal?resume=H&resume=H", "/ws/signal?resume=H&since=-1", "/ws/signal?resume=H&since=1&since=1"] {
            Request::upgrade(bad).send(node.address).await.assert_problem(400, "bad_request");
        }
    }

    async fn beyond_its_connections_a_node_says_when_to_come_back(cluster, [("LIMITS__CONNECTIONS", "2")]) {
        let node = &cluster.nodes[0];
        let room = cluster.room("r");
        let (first, _second) = (room.join_on(node, "a").await, room.join_on(node, "b").await);
        let knock = || Request::upgrade(format!("/ws/signal?token={}", cluster.forge("r", "c")));
        knock().send(node.address).await.assert_problem(503, "overloaded");
        Request::get(format!("/ws/validate?token={}", cluster.forge("r", "c"))).send(node.address).await.assert_problem(503, "overloaded");
        first.leave().await;
        signalbox_tests::net::eventually("a place is free again", async || (knock().send(node.address).await.status == 101).then_some(())).await;
    }

    async fn guests_get_tokens_only_where_they_are_on(cluster) {
        let answer = Request::post("/auth/token", &json!({"room": "r", "role": "host"})).send(cluster.auth_address()).await;
        if cluster.auth.is_some() {
            answer.assert_problem(401, "guests_off");
        } else {
            assert_eq!((answer.status, answer.json()["role"].as_str()), (200, Some("guest")), "{}", answer.text);
        }
        let wrong = Request::post("/auth/token", &json!({"room": "r", "user": "u"})).header("Authorization", "Basic YmFja2VuZDp3cm9uZw==");
        wrong.send(cluster.auth_address()).await.assert_problem(401, "caller_unknown");
    }
}

/// A rotation: the old secret still verifies, a third one does not.
#[tokio::test]
async fn during_a_rotation_tokens_of_the_previous_secret_are_good() {
    let (old, new) = (random_secret(), random_secret());
    let env = [("AUTH_SECRET", &new), ("AUTH_SECRET_PREVIOUS", &old)]
        .map(|(name, value)| (name.to_owned(), value.clone()));
    let node = Process::start("signalbox", &env).await;
    let knock = async |secret: &str, kid: Option<&str>| {
        let good = Forgery::good("r", "alice");
        let token = kid.map_or(good.clone(), |kid| good.kid(kid)).sign(secret);
        Request::upgrade(format!("/ws/signal?token={token}")).send(node.address).await
    };
    let kid = |secret: &str| {
        use signalbox_shared::token::{Secret, SharedSecret};
        SharedSecret::new(Secret::new(secret)).unwrap().kid()
    };
    for secret in [&old, &new] {
        assert_eq!(knock(secret, None).await.status, 101);
        assert_eq!(knock(secret, Some(&kid(secret))).await.status, 101);
    }
    knock(&random_secret(), None).await.assert_problem(401, "token_bad_signature");
    // The key that is named is the key that is tried.
    knock(&old, Some(&kid(&new))).await.assert_problem(401, "token_bad_signature");
    node.assert_clean_log(&[&old, &new]);
}

/// A token for one room opens no other: its room is in the token, not in the request.
#[tokio::test]
async fn the_room_is_the_tokens() {
    let cluster = TestCluster::start(Store::Memory, NONE).await;
    let answer = Request::get(format!("/ws/validate?room=other&token={}", cluster.forge("r", "alice")))
        .send(cluster.nodes[0].address)
        .await;
    assert_eq!(answer.status, 200);
    let peer = cluster.room("r").join("alice").await;
    assert_eq!(peer.joined["roomId"], "r");
}

const NONE: Settings<'static> = &[];
