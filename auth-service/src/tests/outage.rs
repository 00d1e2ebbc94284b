//! A store that cannot be asked is never reported as a missing credential, room or rule. The rows are
//! the operations of the API document, so a new operation cannot be forgotten.

use std::{sync::Arc, time::Duration};

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use signalbox_access::{AccessControl, RedisRuleLog, RuleLimits, RuleLog, RuleProof};
use signalbox_config::{EndpointSecrets, ProviderSettings, RedisSettings, ServiceSettings, units::TimeSpan};
use signalbox_protocol::clock;
use signalbox_redis::RedisClient;
use signalbox_rooms::{
    room::RoomPolicy,
    room_service::RemoteRoomService,
    store::{RedisRoomStore, RoomStore, StoreLimits},
};
use signalbox_tests::{
    net::{eventually, free_address},
    redis_security::RedisSecurity,
    redis_server::RedisServer,
};
use signalbox_token::SharedSecret;

use super::{
    TestService, call_as_backend, member_text, random_secret,
    room_limits::{concrete_path, expectation},
    token_request,
};
use crate::{
    AuthParts,
    auth::credential_store::{CredentialStore, RedisCredentialStore, contract::CredentialLimits},
    management::{
        usage_reader::UsageReader,
        webhooks::{WebhookEventSource, WebhookLauncher},
    },
};

/// Why the store gives no answer.
#[derive(Debug, Clone, Copy)]
enum StoreFailure {
    /// The process ended.
    Killed,
    /// The process keeps its connections and does not answer.
    Paused,
    /// It refuses every command.
    NoPermission,
    /// It follows a master that it cannot reach, and has no data of its own to show.
    StaleReplica,
    /// The process ended, and then the service was started again.
    NeverReached,
}

impl StoreFailure {
    const ALL: [Self; 5] =
        [Self::Killed, Self::Paused, Self::NoPermission, Self::StaleReplica, Self::NeverReached];

    async fn apply(self, redis: &mut RedisServer) {
        match self {
            Self::Killed | Self::NeverReached => redis.kill(),
            Self::Paused => redis.pause(),
            Self::NoPermission => redis.run_text::<()>("ACL SETUSER default -@all").await,
            Self::StaleReplica => {
                redis.run_text::<()>("CONFIG SET replica-serve-stale-data no").await;
                redis.run_text::<()>(&format!("REPLICAOF 127.0.0.1 {}", free_address().port())).await;
            }
        }
    }
}

fn add_provider(settings: &mut ServiceSettings) {
    settings.auth.providers.push(ProviderSettings::application());
}

/// Puts the whole state of a service into Redis.
fn keep_state_in(client: Arc<RedisClient>, user_secret: SharedSecret) -> impl FnOnce(&mut AuthParts) {
    move |parts| {
        let settings = ServiceSettings::default();
        let (keys, limits) = (parts.keys.clone(), RuleLimits::with_rules(100));
        let places = CredentialLimits::new(&settings.limits);
        let log = RedisRuleLog::new(client.clone(), RuleProof::Signer(keys.clone()));
        parts.access = AccessControl::new(RuleLog::Redis(log), limits);
        parts.store =
            CredentialStore::Redis(Arc::new(RedisCredentialStore::new(client.clone(), keys, places)));
        let rooms = RoomStore::Redis(RedisRoomStore::new(client.clone(), StoreLimits::new(&settings)));
        let policy = RoomPolicy::new(&settings);
        parts.rooms = Some(Arc::new(RemoteRoomService::new(rooms, policy, Arc::new(|_, _| {}))));
        let source = WebhookEventSource::Redis(client.clone());
        let launcher =
            WebhookLauncher::start(&settings, &EndpointSecrets::default(), source, &parts.feed).unwrap();
        parts.webhooks = launcher.running();
        parts.usage = UsageReader::Redis(client);
        parts.user_secret = Some(user_secret);
    }
}

fn start_client(redis: &RedisServer) -> Arc<RedisClient> {
    let short = RedisSettings { deadline: TimeSpan::millis(100), ..RedisSettings::default() };
    RedisClient::start(&format!("redis://{}", redis.address), &short).unwrap()
}

/// A service whose whole state is in this Redis.
async fn service_over(redis: &RedisServer) -> (TestService, SharedSecret) {
    let client = start_client(redis);
    client.wait_for_servers(Duration::from_secs(5)).await.unwrap();
    let user_secret = random_secret();
    let service = TestService::with(add_provider, keep_state_in(client, user_secret.clone()));
    tokio::spawn(AccessControl::follow_log(&service.state.context.access));
    (service, user_secret)
}

/// Whether an answer says that there is nothing: an empty list, or nothing done.
fn says_nothing(answer: &Value) -> bool {
    let mut members = answer.as_object().into_iter().flatten();
    members.any(|(name, value)| {
        // ICE servers come from the configuration.
        value.as_array().is_some_and(|list| list.is_empty() && name != "iceServers")
            || name == "replayed" && value == &json!(0)
    })
}

/// The credentials of one row; each was issued while the store answered.
struct RowCredentials {
    user_token: String,
    room_token: String,
    refresh_token: String,
    invite: String,
}

impl RowCredentials {
    async fn issue(service: &TestService, user_key: &EncodingKey) -> Self {
        let body = json!({ "room": "r", "user": "u", "refresh": true }).to_string();
        let issued = eventually("a token is issued", async || {
            let (status, answer) = service.request_token(&body).await;
            (status == 200).then_some(answer)
        })
        .await;
        let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "v", "exp": clock::now_s() + 300 });
        let own = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, user_key).unwrap();
        let exchange = token_request(&json!({ "token": own }).to_string()).uri("/auth/exchange");
        let (status, user) = service.call(exchange).await;
        assert_eq!(status, 200, "{user}");
        call_as_backend(service, TestRequest::post().uri("/api/rooms").set_json(json!({ "id": "r" }))).await;
        let invites = TestRequest::post().uri("/api/rooms/r/invites").set_json(json!({}));
        let (_, invite) = call_as_backend(service, invites).await;
        Self {
            user_token: member_text(&user, "token").to_owned(),
            room_token: member_text(&issued, "token").to_owned(),
            refresh_token: member_text(&issued, "refreshToken").to_owned(),
            invite: member_text(&invite, "code").to_owned(),
        }
    }

    /// The `Authorization` header and the body of an operation that takes no API key.
    fn of(&self, operation: &str, user_key: &EncodingKey) -> (Option<String>, Value) {
        let bearer = |token: &str| Some(format!("Bearer {token}"));
        match operation {
            "POST /api/rooms/{room}/join" => (bearer(&self.user_token), json!({})),
            "POST /auth/ticket" | "GET /auth/validate" | "GET /auth/ice" => {
                (bearer(&self.room_token), Value::Null)
            }
            "POST /auth/validate" => (None, json!({ "token": self.room_token })),
            "POST /auth/refresh" => (None, json!({ "refreshToken": self.refresh_token })),
            "POST /auth/exchange" => {
                let exp = clock::now_s() + 300;
                let claims = json!({ "iss": "app", "aud": "signalbox", "sub": "w", "exp": exp });
                let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, user_key).unwrap();
                (None, json!({ "token": token, "refresh": true }))
            }
            other => panic!("{other} takes no API key and has no row here"),
        }
    }
}

/// The operations that need no store.
const NEEDS_NO_STORE: [&str; 2] = ["GET /.well-known/jwks.json", "GET /api/openapi.json"];

/// Method and path of each operation of the document that needs the store.
async fn operations_with_store() -> Vec<(String, String)> {
    let document = super::openapi::fetch_document().await;
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
    });
    operations.filter(|(method, path)| !NEEDS_NO_STORE.contains(&&*format!("{method} {path}"))).collect()
}

fn operation_request(method: &str, path: &str, body: Value) -> TestRequest {
    // This operation selects participants by its query.
    let is_selection = method == "DELETE" && path.ends_with("/participants");
    let query = if is_selection { "?user=u" } else { "" };
    let uri = concrete_path(path, "r").replace("{user}", "u") + query;
    let request = TestRequest::with_uri(&uri).method(Method::from_bytes(method.as_bytes()).unwrap());
    if body.is_null() {
        return request;
    }
    let length = (header::CONTENT_LENGTH, body.to_string().len());
    request.set_json(body).insert_header(length)
}

#[actix_web::test]
async fn store_that_cannot_be_asked_is_never_reported_as_something_missing() {
    let operations = operations_with_store().await;
    let (mut rows, mut wrong) = (0, Vec::new());
    for failure in StoreFailure::ALL {
        let mut redis = RedisServer::start(free_address(), &RedisSecurity::none(), &[]).await;
        let (mut service, user_secret) = service_over(&redis).await;
        let user_key = EncodingKey::from_secret(user_secret.expose());
        let credentials = RowCredentials::issue(&service, &user_key).await;
        failure.apply(&mut redis).await;
        if matches!(failure, StoreFailure::NeverReached) {
            service = service.restarted(add_provider, keep_state_in(start_client(&redis), user_secret));
        }
        let mut requests: Vec<(String, TestRequest)> = Vec::new();
        for (method, path) in &operations {
            let operation = format!("{method} {path}");
            let (expected, body) = expectation(&operation, "r").expect("room_limits.rs has every operation");
            let (proof, body) = match expected {
                super::room_limits::Expectation::TakesNoKey => credentials.of(&operation, &user_key),
                _ => (Some(service.basic_header()), body),
            };
            let mut request = operation_request(method, path, body);
            if let Some(proof) = proof {
                request = request.insert_header((header::AUTHORIZATION, proof));
            }
            requests.push((operation, request));
        }
        let invited = token_request(&json!({ "invite": credentials.invite }).to_string());
        requests.push(("POST /auth/token with an invite".to_owned(), invited));
        for (operation, request) in requests {
            let (status, answer) = service.call(request).await;
            let is_right = match status {
                200..300 => !says_nothing(&answer),
                503 => answer["code"] == "unavailable",
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{failure:?}: {operation}: {status} {answer}"));
            }
            rows += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows > 120, "{rows}");
}

/// What such a process keeps by itself, so that it knows what is missing: rules and invites.
const KEPT_IN_MEMORY: [&str; 4] =
    ["/api/limits", "/api/shutdown", "/api/rules/{key}", "/api/rooms/{room}/invites/{invite}"];

#[actix_web::test]
async fn process_without_redis_never_says_that_there_is_nothing() {
    let mut wrong = Vec::new();
    let mut operations = operations_with_store().await;
    operations.push(("GET".to_owned(), "/ws/events".to_owned()));
    for (method, path) in operations {
        let operation = format!("{method} {path}");
        let body = match &*operation {
            "GET /ws/events" => Value::Null,
            "POST /api/webhooks/replay" => json!({ "all": true }),
            _ => match expectation(&operation, "r").expect("room_limits.rs has every operation") {
                (super::room_limits::Expectation::TakesNoKey, _) => continue,
                (_, body) => body,
            },
        };
        let service = TestService::with(|_| {}, |parts| parts.rooms = None);
        let ban = TestRequest::post().uri("/api/bans").set_json(json!({ "user": "other", "for": 60 }));
        assert_eq!(call_as_backend(&service, ban).await.0, 200);
        let invite = TestRequest::post().uri("/api/rooms/r/invites").set_json(json!({}));
        assert_eq!(call_as_backend(&service, invite).await.0, 201);
        let (status, answer) = call_as_backend(&service, operation_request(&method, &path, body)).await;
        let is_right = match status {
            200..300 => !says_nothing(&answer),
            404 => KEPT_IN_MEMORY.contains(&&*path),
            503 => answer["code"] == "unavailable",
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{operation}: {status} {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
