//! Refresh tokens. The table is kinds of family × defects.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{StoreKind, TestCluster, random_secret},
    http::{Request, Response},
    net::eventually,
    peer::TestConnection,
    token::TokenBuilder,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

use super::{ExpectedRefusal, check_answer, pairs, status_and_code, token_defect::SPARE_KEY};

all_of!(
    /// The kind of access token that a refresh family issues.
    FamilyKind { RoomTokens, UserTokens }
);

all_of!(
    /// A defect of a refresh token.
    RefreshDefect {
        // Its form.
        Missing, NotAString, Empty, Unknown, PrefixOnly, Truncated, TooLong, OtherAlphabet, UpperCase, OtherPrefix,
        // Its use.
        Guessed, Reused, ReusedAfterGrace, NewestOfReusedFamily, Expired,
        // Its access tokens.
        RevokedGrant, RevokedUser, RevokedRoom, RevokedKey, BannedUser, UserBannedFromRoom, RemovedPeer,
    }
);

fn expected(defect: RefreshDefect) -> ExpectedRefusal {
    use RefreshDefect::*;
    Some(match defect {
        Missing | NotAString => (400, "bad_request"),
        Empty | Unknown | PrefixOnly | Truncated | TooLong | OtherAlphabet | UpperCase | OtherPrefix => {
            (401, "refresh_invalid")
        }
        Guessed | Reused | ReusedAfterGrace | NewestOfReusedFamily => (401, "refresh_reused"),
        Expired => (401, "refresh_expired"),
        RevokedGrant | RevokedUser | RevokedRoom | RevokedKey | RemovedPeer => (401, "token_revoked"),
        BannedUser | UserBannedFromRoom => (403, "banned"),
    })
}

/// Whether a refresh token of this family can have the defect.
fn applies(family: FamilyKind, defect: RefreshDefect) -> bool {
    use RefreshDefect::*;
    match defect {
        RevokedRoom | RevokedKey | UserBannedFromRoom | RemovedPeer => family == FamilyKind::RoomTokens,
        _ => true,
    }
}

/// The time in which a used token may be used again, because a client may not receive the answer.
const GRACE: Duration = Duration::from_secs(10);

/// The tokens of an answer.
struct IssuedTokens {
    token: String,
    refresh: String,
}

fn parse_tokens(answer: &Response) -> IssuedTokens {
    answer.assert_status(200);
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    IssuedTokens { token: text("token"), refresh: text("refreshToken") }
}

/// A cluster whose application signs tokens of its users, and a second API key.
struct IssuerCluster {
    cluster: TestCluster,
    user_secret: String,
    spare_secret: String,
}

impl IssuerCluster {
    async fn start(store: StoreKind) -> Self {
        let (own_secret, spare_secret, user_secret) = (random_hex(), random_hex(), random_secret());
        let env = [
            ("SIGNALBOX_API_KEYS", format!("backend:{own_secret},{SPARE_KEY}:{spare_secret}")),
            ("SIGNALBOX_USER_SECRET", user_secret.clone()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let mut cluster = TestCluster::start_with(store, &[], &env).await;
        cluster.api_secret = own_secret;
        Self { cluster, user_secret, spare_secret }
    }

    async fn post(&self, path: &str, authorization: Option<String>, body: &Value) -> Response {
        let request = Request::post(path, body);
        let request = authorization.map_or(request.clone(), |value| request.header("Authorization", value));
        request.send(self.cluster.auth_address()).await
    }

    /// Starts a refresh family.
    async fn start_family(&self, family: FamilyKind, user: &str, room: &str) -> IssuedTokens {
        let answer = match family {
            FamilyKind::RoomTokens => {
                let token_request = json!({ "room": room, "user": user, "refresh": true });
                self.post("/auth/token", Some(self.cluster.basic_auth()), &token_request).await
            }
            FamilyKind::UserTokens => {
                let mut provider_token = TokenBuilder::valid(room, user).typ(Some("JWT"));
                provider_token.claims =
                    json!({ "iss": "app", "aud": "signalbox", "sub": user, "exp": clock::now_s() + 60 });
                let token_request =
                    json!({ "token": provider_token.sign(&self.user_secret), "refresh": true });
                self.post("/auth/exchange", None, &token_request).await
            }
        };
        parse_tokens(&answer)
    }

    /// Starts a family with the API key that is revoked later.
    async fn start_family_with_spare_key(&self) -> IssuedTokens {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let basic = format!("Basic {}", STANDARD.encode(format!("{SPARE_KEY}:{}", self.spare_secret)));
        let token_request = json!({ "room": "r", "user": "u", "refresh": true });
        parse_tokens(&self.post("/auth/token", Some(basic), &token_request).await)
    }

    async fn refresh(&self, token: &str) -> Response {
        self.post("/auth/refresh", None, &json!({ "refreshToken": token })).await
    }

    /// Makes a family older. With the memory store the time must really pass.
    async fn age(&self, refresh: &str, field: &str, duration: Duration) {
        let duration = duration + Duration::from_millis(100);
        let Some(redis) = &self.cluster.redis else { return tokio::time::sleep(duration).await };
        let token = OpaqueToken::parse(OpaqueTokenKind::Refresh, refresh).unwrap();
        let family: String = token.expose()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut command = redis::cmd("HINCRBY");
        command
            .arg(redis_keys::refresh_family_key(&family))
            .arg(field)
            .arg(-i64::try_from(duration.as_millis()).unwrap());
        command.query_async::<i64>(&mut redis.connect().await).await.unwrap();
    }

    /// Starts a family and sends a refresh token with the defect.
    async fn send_defect(&self, family: FamilyKind, defect: RefreshDefect) -> (Response, String) {
        let user = format!("{family:?}-{defect:?}");
        let room = if defect == RefreshDefect::RevokedRoom { "revoked" } else { "r" };
        let first = match defect {
            RefreshDefect::RevokedKey => self.start_family_with_spare_key().await,
            _ => self.start_family(family, &user, room).await,
        };
        let body = match self.make_refresh_token(&first, &user, defect).await {
            None if defect == RefreshDefect::Missing => json!({}),
            None => json!({ "refreshToken": 7 }),
            Some(text) => json!({ "refreshToken": text }),
        };
        (self.post("/auth/refresh", None, &body).await, first.token)
    }

    /// The refresh token with the defect; none if the member is missing or not a string.
    async fn make_refresh_token(
        &self,
        first: &IssuedTokens,
        user: &str,
        defect: RefreshDefect,
    ) -> Option<String> {
        let refresh = &*first.refresh;
        Some(match defect {
            RefreshDefect::Missing | RefreshDefect::NotAString => return None,
            RefreshDefect::Empty => String::new(),
            RefreshDefect::Unknown => OpaqueToken::random().to_text(OpaqueTokenKind::Refresh),
            RefreshDefect::PrefixOnly => "sbr_".to_owned(),
            RefreshDefect::Truncated => refresh[..46].to_owned(),
            RefreshDefect::TooLong => format!("{refresh}A"),
            RefreshDefect::OtherAlphabet => format!("{}+", &refresh[..46]),
            RefreshDefect::UpperCase => refresh.replace("sbr_", "SBR_"),
            RefreshDefect::OtherPrefix => refresh.replace("sbr_", "sbt_"),
            RefreshDefect::Guessed => {
                let mut bytes = *OpaqueToken::parse(OpaqueTokenKind::Refresh, refresh).unwrap().expose();
                bytes[31] ^= 1;
                OpaqueToken::from_bytes(bytes).to_text(OpaqueTokenKind::Refresh)
            }
            RefreshDefect::Reused | RefreshDefect::NewestOfReusedFamily | RefreshDefect::ReusedAfterGrace => {
                return Some(self.reuse(first, defect).await);
            }
            RefreshDefect::Expired => {
                self.age(refresh, "till", Duration::from_secs(7 * 24 * 60 * 60)).await;
                refresh.to_owned()
            }
            _ => {
                self.revoke_family(first, user, defect).await;
                refresh.to_owned()
            }
        })
    }

    async fn reuse(&self, first: &IssuedTokens, defect: RefreshDefect) -> String {
        let second = parse_tokens(&self.refresh(&first.refresh).await);
        // A client that lost the answer gets the same answer again.
        let again = parse_tokens(&self.refresh(&first.refresh).await);
        assert!(second.refresh == again.refresh, "the same successor");
        if defect == RefreshDefect::ReusedAfterGrace {
            self.age(&first.refresh, "at", GRACE).await;
            return first.refresh.clone();
        }
        let third = parse_tokens(&self.refresh(&again.refresh).await);
        if defect == RefreshDefect::NewestOfReusedFamily {
            self.refresh(&first.refresh).await.assert_problem(401, "refresh_reused");
            return third.refresh;
        }
        first.refresh.clone()
    }

    /// Revokes the family, or bans or removes its user.
    async fn revoke_family(&self, first: &IssuedTokens, user: &str, defect: RefreshDefect) {
        let revoke = async |body| self.cluster.add_rule("/api/revocations", body).await;
        match defect {
            RefreshDefect::RevokedGrant => revoke(json!({ "token": first.token })).await,
            RefreshDefect::RevokedUser => revoke(json!({ "user": user })).await,
            RefreshDefect::RevokedRoom => revoke(json!({ "room": "revoked" })).await,
            RefreshDefect::RevokedKey => revoke(json!({ "key": SPARE_KEY })).await,
            RefreshDefect::BannedUser => {
                self.cluster.add_rule("/api/bans", json!({ "user": user, "for": 600 })).await
            }
            RefreshDefect::UserBannedFromRoom => {
                self.cluster.add_rule("/api/bans", json!({ "user": user, "room": "r", "for": 600 })).await
            }
            RefreshDefect::RemovedPeer => {
                let peer = TestConnection::open(self.cluster.next_node().address, &first.token)
                    .await
                    .into_peer()
                    .await;
                let path = format!("/api/rooms/r/participants/{}", peer.id());
                self.cluster.api("DELETE", &path, &Value::Null).await.assert_status(200);
                peer.wait_closed().await;
                Value::Null
            }
            other => unreachable!("{other:?} is not a revocation"),
        };
    }

    /// Checks that the access token of the family is revoked too.
    async fn assert_revoked(&self, family: FamilyKind, token: &str) {
        let request = match family {
            FamilyKind::RoomTokens => Request::get(format!("/ws/validate?token={token}")),
            FamilyKind::UserTokens => {
                let join = Request::post("/api/rooms/r/join", &json!({}));
                join.header("Authorization", format!("Bearer {token}"))
            }
        };
        let nodes = self.cluster.nodes.iter().map(|node| node.address);
        let addresses: Vec<_> = match family {
            FamilyKind::RoomTokens => nodes.collect(),
            FamilyKind::UserTokens => vec![self.cluster.auth_address()],
        };
        for address in addresses {
            eventually("the node knows that the family is revoked", async || {
                (status_and_code(&request.send(address).await).1 == "token_revoked").then_some(())
            })
            .await;
        }
    }
}

async fn no_invalid_refresh_token_is_exchanged(store: StoreKind) {
    let issuer = IssuerCluster::start(store).await;
    // With the memory store a refresh token lives for at least a minute; the conformance suite of
    // the stores covers this defect with a test clock.
    let is_possible = |(family, defect): &(FamilyKind, RefreshDefect)| {
        applies(*family, *defect) && (*defect != RefreshDefect::Expired || store != StoreKind::Memory)
    };
    let rows: Vec<_> = pairs(FamilyKind::ALL, RefreshDefect::ALL).filter(is_possible).collect();
    let issuer = &issuer;
    let checks = rows.iter().map(async |(family, defect)| {
        let (answer, token) = issuer.send_defect(*family, *defect).await;
        if expected(*defect) == Some((401, "refresh_reused")) {
            issuer.assert_revoked(*family, &token).await;
        }
        check_answer(&(family, defect), expected(*defect), None, &answer).err()
    });
    // All rows run at once, because two of them wait for ten seconds with the memory store.
    let failures: Vec<_> = futures_util::future::join_all(checks).await.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(rows.len(), if store == StoreKind::Memory { 22 + 18 - 2 } else { 22 + 18 }, "rows");
    issuer.cluster.audit().await;
}

#[tokio::test]
async fn no_invalid_refresh_token_is_exchanged_in_memory() {
    no_invalid_refresh_token_is_exchanged(StoreKind::Memory).await;
}

#[tokio::test]
async fn no_invalid_refresh_token_is_exchanged_over_redis() {
    no_invalid_refresh_token_is_exchanged(StoreKind::Redis(2)).await;
}
