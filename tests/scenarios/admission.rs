//! Who is let in. The table is places × defects; a cell that is missing does not compile.

use jsonwebtoken::Algorithm;
use serde_json::json;
use signalbox_tests::{
    cluster::{Settings, Store, TestCluster, random_secret},
    http::{Request, Response},
    process::Process,
    token::Forgery,
};

/// An enum that knows all its values.
macro_rules! all_of {
    ($(#[$doc:meta])* $name:ident { $($value:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $name { $($value),* }
        impl $name {
            const ALL: &[Self] = &[$(Self::$value),*];
        }
    };
}

all_of!(
    /// Where a token may stand.
    Place { Query, Subprotocol, ValidateQuery, ValidateBearer }
);

all_of!(
    /// What may be wrong with it.
    Defect {
        Missing, Empty, Malformed, TwoParts, Oversized, ClaimMissing, BadRoomName, Expired, NotYetValid, WrongKey, Tampered, ForeignKid,
        WrongAlgHs384, WrongAlgHs512, AlgRs256, AlgNone, WrongAudience, WrongIssuer, WrongType, TypJwt, TypMissing, TokenTwice,
    }
);

/// What the server must say.
fn expected(place: Place, defect: Defect) -> (u16, &'static str) {
    use Defect::*;
    use Place::*;
    match (place, defect) {
        (Query | Subprotocol | ValidateQuery | ValidateBearer, Missing | Empty) => (401, "token_missing"),
        (
            Query | Subprotocol | ValidateQuery | ValidateBearer,
            Malformed | TwoParts | Oversized | ClaimMissing | BadRoomName,
        ) => (401, "token_malformed"),
        (Query | Subprotocol | ValidateQuery | ValidateBearer, Expired) => (401, "token_expired"),
        (Query | Subprotocol | ValidateQuery | ValidateBearer, NotYetValid) => (401, "token_not_yet_valid"),
        (Query | Subprotocol | ValidateQuery | ValidateBearer, WrongKey | Tampered | ForeignKid) => {
            (401, "token_bad_signature")
        }
        (
            Query | Subprotocol | ValidateQuery | ValidateBearer,
            WrongAlgHs384 | WrongAlgHs512 | AlgRs256 | AlgNone,
        ) => (401, "token_wrong_algorithm"),
        (Query | Subprotocol | ValidateQuery | ValidateBearer, WrongAudience) => {
            (401, "token_wrong_audience")
        }
        (Query | Subprotocol | ValidateQuery | ValidateBearer, WrongIssuer) => (401, "token_wrong_issuer"),
        (Query | Subprotocol | ValidateQuery | ValidateBearer, WrongType | TypJwt | TypMissing) => {
            (401, "token_wrong_type")
        }
        (Query | Subprotocol | ValidateQuery | ValidateBearer, TokenTwice) => (400, "token_twice"),
    }
}

/// The token with the defect; none where there is to be none.
fn token(defect: Defect, secret: &str) -> Option<String> {
    let good = Forgery::good("r", "alice");
    let far = 4_000_000_000_u64;
    let header = |alg: &str| json!({"alg": alg, "typ": "signalbox-room+jwt"});
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
        Defect::AlgNone => good.assemble(&header("none"), ""),
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
        (Place::ValidateBearer, false) => {
            let request = Request::get("/ws/validate");
            token.map_or(request.clone(), |token| request.header("Authorization", format!("Bearer {token}")))
        }
        (Place::ValidateBearer, true) => {
            Request::get(query("/ws/validate")).header("Authorization", format!("Bearer {}", token.unwrap()))
        }
    }
}

fn assert_tells_nothing(answer: &Response, token: Option<&str>) {
    assert!(!answer.text.contains("eyJ"), "{}", answer.text);
    let told = token.is_some_and(|token| !token.is_empty() && answer.text.contains(token));
    assert!(!told, "the answer repeats the token: {}", answer.text);
}

on_each_store! {
    async fn every_bad_token_in_every_place_gets_its_own_answer_and_no_upgrade(cluster) {
        let node = &cluster.nodes[0];
        for (place, defect) in Place::ALL.iter().flat_map(|place| Defect::ALL.iter().map(move |defect| (*place, *defect))) {
            let token = token(defect, &cluster.secret);
            let answer = request(place, token.as_deref(), defect == Defect::TokenTwice).send(node.address).await;
            let (status, code) = expected(place, defect);
            assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{place:?} × {defect:?}");
            answer.assert_problem(status, code);
            assert_tells_nothing(&answer, token.as_deref());
        }
        assert_eq!(node.metric("signalbox_joins_total").await, 0.0, "nobody got in");
    }

    async fn a_good_token_is_good_in_every_place(cluster) {
        let node = &cluster.nodes[0];
        let issued = cluster.issue(&json!({"room": "r", "user": "alice"})).await;
        for token in [issued, cluster.forge("r", "made-by-an-app")] {
            for place in Place::ALL {
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
