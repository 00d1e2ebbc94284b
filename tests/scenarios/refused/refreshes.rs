//! Refresh tokens. The table is kinds of family × defects.

use std::time::Duration;

use serde_json::{Value, json};
use signalbox_protocol::{clock, id::random_hex};
use signalbox_redis::redis_keys;
use signalbox_tests::{
    cluster::{Store, TestCluster, random_secret},
    http::{Request, Response},
    net::eventually,
    peer::Link,
    token::Forgery,
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind};

use super::{Expected, defects::SPARE_KEY, judge, product, told};

all_of!(
    /// What a family brings.
    Family { OfRoomTokens, OfUserTokens }
);

all_of!(
    /// What may be wrong with a refresh token.
    Defect {
        // Its form.
        Missing, NotAText, Empty, Unknown, Bare, Truncated, TooLong, OtherAlphabet, InCapitals, WithAnotherPrefix,
        // Its use.
        Guessed, Reused, ReusedAfterItsGrace, NewestOfAReused, Over,
        // What it brings.
        OfARevokedGrant, OfARevokedUser, OfARevokedRoom, OfARevokedKey, OfABannedUser, OfAUserBannedFromTheRoom, OfAKickedPeer,
    }
);

fn expected(defect: Defect) -> Expected {
    use Defect::*;
    Some(match defect {
        Missing | NotAText => (400, "bad_request"),
        Empty | Unknown | Bare | Truncated | TooLong | OtherAlphabet | InCapitals | WithAnotherPrefix => {
            (401, "refresh_invalid")
        }
        Guessed | Reused | ReusedAfterItsGrace | NewestOfAReused => (401, "refresh_reused"),
        Over => (401, "refresh_expired"),
        OfARevokedGrant | OfARevokedUser | OfARevokedRoom | OfARevokedKey | OfAKickedPeer => {
            (401, "token_revoked")
        }
        OfABannedUser | OfAUserBannedFromTheRoom => (403, "banned"),
    })
}

/// Whether a family can have it.
fn applies(family: Family, defect: Defect) -> bool {
    use Defect::*;
    match defect {
        OfARevokedRoom | OfARevokedKey | OfAUserBannedFromTheRoom | OfAKickedPeer => {
            family == Family::OfRoomTokens
        }
        _ => true,
    }
}

/// How long a token may be shown again: phones lose answers.
const GRACE: Duration = Duration::from_secs(10);

/// What was given.
struct Given {
    token: String,
    refresh: String,
}

fn given(answer: &Response) -> Given {
    answer.assert_status(200);
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    Given { token: text("token"), refresh: text("refreshToken") }
}

/// A cluster whose application signs tokens of its users, with an API key to spare.
struct Issuer {
    cluster: TestCluster,
    user_secret: String,
    spare: String,
}

impl Issuer {
    async fn start(store: Store) -> Self {
        let (own, spare, user_secret) = (random_hex(), random_hex(), random_secret());
        let env = [
            ("SIGNALBOX_API_KEYS", format!("backend:{own},{SPARE_KEY}:{spare}")),
            ("SIGNALBOX_USER_SECRET", user_secret.clone()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let mut cluster = TestCluster::start_with(store, &[], &env).await;
        cluster.api_secret = own;
        Self { cluster, user_secret, spare }
    }

    async fn post(&self, path: &str, proof: Option<String>, body: &Value) -> Response {
        let request = Request::post(path, body);
        let request = proof.map_or(request.clone(), |proof| request.header("Authorization", proof));
        request.send(self.cluster.auth_address()).await
    }

    /// Begins a family.
    async fn begin(&self, family: Family, user: &str, room: &str) -> Given {
        let answer = match family {
            Family::OfRoomTokens => {
                let wish = json!({ "room": room, "user": user, "refresh": true });
                self.post("/auth/token", Some(self.cluster.basic()), &wish).await
            }
            Family::OfUserTokens => {
                let mut own = Forgery::good(room, user).typ(Some("JWT"));
                own.claims =
                    json!({ "iss": "app", "aud": "signalbox", "sub": user, "exp": clock::now_s() + 60 });
                let wish = json!({ "token": own.sign(&self.user_secret), "refresh": true });
                self.post("/auth/exchange", None, &wish).await
            }
        };
        given(&answer)
    }

    /// A family on the word of the key that is taken back later.
    async fn begin_with_spare(&self) -> Given {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let basic = format!("Basic {}", STANDARD.encode(format!("{SPARE_KEY}:{}", self.spare)));
        let wish = json!({ "room": "r", "user": "u", "refresh": true });
        given(&self.post("/auth/token", Some(basic), &wish).await)
    }

    async fn refresh(&self, token: &str) -> Response {
        self.post("/auth/refresh", None, &json!({ "refreshToken": token })).await
    }

    /// Makes a family look as it will after this time. In memory that time has to pass.
    async fn age(&self, refresh: &str, field: &str, by: Duration) {
        let by = by + Duration::from_millis(100);
        let Some(redis) = &self.cluster.redis else { return tokio::time::sleep(by).await };
        let token = OpaqueToken::parse(OpaqueTokenKind::Refresh, refresh).unwrap();
        let family: String = token.expose()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut command = redis::cmd("HINCRBY");
        command
            .arg(redis_keys::refresh_family_key(&family))
            .arg(field)
            .arg(-i64::try_from(by.as_millis()).unwrap());
        command.query_async::<i64>(&mut redis.connect().await).await.unwrap();
    }

    /// Makes it, and shows what has the defect.
    async fn show(&self, family: Family, defect: Defect) -> (Response, String) {
        let user = format!("{family:?}-{defect:?}");
        let room = if defect == Defect::OfARevokedRoom { "revoked" } else { "r" };
        let first = match defect {
            Defect::OfARevokedKey => self.begin_with_spare().await,
            _ => self.begin(family, &user, room).await,
        };
        let body = match self.text(&first, &user, defect).await {
            None if defect == Defect::Missing => json!({}),
            None => json!({ "refreshToken": 7 }),
            Some(text) => json!({ "refreshToken": text }),
        };
        (self.post("/auth/refresh", None, &body).await, first.token)
    }

    /// The text that is shown; none where there is none.
    async fn text(&self, first: &Given, user: &str, defect: Defect) -> Option<String> {
        let refresh = &*first.refresh;
        Some(match defect {
            Defect::Missing | Defect::NotAText => return None,
            Defect::Empty => String::new(),
            Defect::Unknown => OpaqueToken::random().to_text(OpaqueTokenKind::Refresh),
            Defect::Bare => "sbr_".to_owned(),
            Defect::Truncated => refresh[..46].to_owned(),
            Defect::TooLong => format!("{refresh}A"),
            Defect::OtherAlphabet => format!("{}+", &refresh[..46]),
            Defect::InCapitals => refresh.replace("sbr_", "SBR_"),
            Defect::WithAnotherPrefix => refresh.replace("sbr_", "sbt_"),
            Defect::Guessed => {
                let mut bytes = *OpaqueToken::parse(OpaqueTokenKind::Refresh, refresh).unwrap().expose();
                bytes[31] ^= 1;
                OpaqueToken::from_bytes(bytes).to_text(OpaqueTokenKind::Refresh)
            }
            Defect::Reused | Defect::NewestOfAReused | Defect::ReusedAfterItsGrace => {
                return Some(self.reused(first, defect).await);
            }
            Defect::Over => {
                self.age(refresh, "till", Duration::from_secs(7 * 24 * 60 * 60)).await;
                refresh.to_owned()
            }
            _ => {
                self.take_back(first, user, defect).await;
                refresh.to_owned()
            }
        })
    }

    async fn reused(&self, first: &Given, defect: Defect) -> String {
        let second = given(&self.refresh(&first.refresh).await);
        // The answer was lost: it is given again, the same.
        let again = given(&self.refresh(&first.refresh).await);
        assert!(second.refresh == again.refresh, "the same successor");
        if defect == Defect::ReusedAfterItsGrace {
            self.age(&first.refresh, "at", GRACE).await;
            return first.refresh.clone();
        }
        let third = given(&self.refresh(&again.refresh).await);
        if defect == Defect::NewestOfAReused {
            self.refresh(&first.refresh).await.assert_problem(401, "refresh_reused");
            return third.refresh;
        }
        first.refresh.clone()
    }

    /// Takes back what the family brings, or shuts its user out.
    async fn take_back(&self, first: &Given, user: &str, defect: Defect) {
        let revoke = async |what| self.cluster.take_back("/api/revocations", what).await;
        match defect {
            Defect::OfARevokedGrant => revoke(json!({ "token": first.token })).await,
            Defect::OfARevokedUser => revoke(json!({ "user": user })).await,
            Defect::OfARevokedRoom => revoke(json!({ "room": "revoked" })).await,
            Defect::OfARevokedKey => revoke(json!({ "key": SPARE_KEY })).await,
            Defect::OfABannedUser => {
                self.cluster.take_back("/api/bans", json!({ "user": user, "for": 600 })).await
            }
            Defect::OfAUserBannedFromTheRoom => {
                self.cluster.take_back("/api/bans", json!({ "user": user, "room": "r", "for": 600 })).await
            }
            Defect::OfAKickedPeer => {
                let peer = Link::open(self.cluster.next_node().address, &first.token).await.into_peer().await;
                let path = format!("/api/rooms/r/participants/{}", peer.id());
                self.cluster.api("DELETE", &path, &Value::Null).await.assert_status(200);
                peer.closed().await;
                Value::Null
            }
            other => unreachable!("{other:?} takes nothing back"),
        };
    }

    /// Whoever holds an access token of the family is out, too.
    async fn assert_revoked(&self, family: Family, token: &str) {
        let request = match family {
            Family::OfRoomTokens => Request::get(format!("/ws/validate?token={token}")),
            Family::OfUserTokens => {
                let join = Request::post("/api/rooms/r/join", &json!({}));
                join.header("Authorization", format!("Bearer {token}"))
            }
        };
        let nodes = self.cluster.nodes.iter().map(|node| node.address);
        let doors: Vec<_> = match family {
            Family::OfRoomTokens => nodes.collect(),
            Family::OfUserTokens => vec![self.cluster.auth_address()],
        };
        for door in doors {
            eventually("it is known that the family is dead", async || {
                (told(&request.send(door).await).1 == "token_revoked").then_some(())
            })
            .await;
        }
    }
}

async fn no_bad_refresh_token_brings_another(store: Store) {
    let issuer = Issuer::start(store).await;
    // In memory a token is over after a minute, the least that can be set; the conformance suite of the stores has a clock.
    let possible = |(family, defect): &(Family, Defect)| {
        applies(*family, *defect) && (*defect != Defect::Over || store != Store::Memory)
    };
    let rows: Vec<_> = product(Family::ALL, Defect::ALL).filter(possible).collect();
    let issuer = &issuer;
    let asked = rows.iter().map(async |(family, defect)| {
        let (answer, token) = issuer.show(*family, *defect).await;
        if expected(*defect) == Some((401, "refresh_reused")) {
            issuer.assert_revoked(*family, &token).await;
        }
        judge(&(family, defect), expected(*defect), None, &answer).err()
    });
    // All at once: in memory two of them wait for ten seconds.
    let wrong: Vec<_> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows.len(), if store == Store::Memory { 22 + 18 - 2 } else { 22 + 18 }, "rows");
    issuer.cluster.audit().await;
}

#[tokio::test]
async fn no_bad_refresh_token_brings_another_in_memory() {
    no_bad_refresh_token_brings_another(Store::Memory).await;
}

#[tokio::test]
async fn no_bad_refresh_token_brings_another_over_redis() {
    no_bad_refresh_token_brings_another(Store::Redis(2)).await;
}
