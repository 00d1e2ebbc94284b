//! Tests of the service over its HTTP API.

mod access_rules;
mod configuration_doc;
mod cors;
mod deployments;
mod events;
mod exchange;
mod ice;
mod invites;
mod jwks;
mod key_files;
mod openapi;
mod outage;
mod principals;
mod private_network;
mod provenance;
mod refresh;
mod room_limits;
mod room_names;
mod rooms;
mod store_memory;
mod tickets;
mod token;
mod validate;
mod webhooks;

use actix_web::{
    App,
    http::header,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use signalbox_access::{AccessControl, RuleLimits, RuleLog};
use signalbox_config::{ApiKeySettings, ApiKeys, EndpointSecrets, LiveValue, ServiceSettings};
use signalbox_http::RequestGate;
use signalbox_protocol::id::{CallerId, random_hex};
use signalbox_rooms::{
    feed::FeedSender,
    room::RoomPolicy,
    room_service::RemoteRoomService,
    store::{RoomStore, StoreLimits},
};
use signalbox_token::{MemoryTicketStore, SecretBytes, SharedSecret, scope::Scope};
use signalbox_turn::IceDirectory;

use crate::{
    AuthParts, AuthState,
    auth::{
        credential_store::{CredentialStore, contract::CredentialLimits},
        keys::SigningKeys,
    },
    configure,
    context::store_memory::memory_level_reader,
    management::{
        usage_reader::UsageReader,
        webhooks::{WebhookEventSource, WebhookLauncher, WebhookService},
    },
};

/// A service with one application, whose API key is `backend`.
struct TestService {
    state: web::Data<AuthState>,
    token_secret: SharedSecret,
    api_secret: String,
    feed: FeedSender,
}

fn random_secret() -> SharedSecret {
    SharedSecret::new(SecretBytes::new(format!("{}{}", random_hex(), random_hex()))).unwrap()
}

impl TestService {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with_guests() -> Self {
        Self::with(|_| {}, |parts| parts.guests_allowed = true)
    }

    fn with(change: impl FnOnce(&mut ServiceSettings), parts: impl FnOnce(&mut AuthParts)) -> Self {
        let (token_secret, api_secret) = (random_secret(), random_hex());
        let mut settings = ServiceSettings::default();
        let table = ApiKeySettings { scopes: Some(Scope::ALL.to_vec()), ..ApiKeySettings::default() };
        settings.api_keys.insert(CallerId::parse("backend").unwrap(), table);
        change(&mut settings);
        let feed = FeedSender::new(8);
        // For tests that configure TURN servers.
        let turn = [random_secret()];
        let mut all = AuthParts {
            keys: SigningKeys::from_secret(&token_secret, None),
            api_keys: ApiKeys::parse(&format!("backend:{api_secret}")).unwrap(),
            user_secret: None,
            guests_allowed: false,
            store: CredentialStore::in_memory(
                MemoryTicketStore::default(),
                CredentialLimits::new(&settings.limits),
            ),
            feed: feed.clone(),
            access: AccessControl::new(
                RuleLog::Memory(std::sync::Arc::default()),
                RuleLimits::with_rules(100),
            ),
            ice: IceDirectory::new(&settings, &turn),
            rooms: Some(std::sync::Arc::new(memory_rooms(&settings))),
            webhooks: no_webhooks(&feed),
            gate: RequestGate::new(&settings.server),
            usage: UsageReader::None,
            memory_level: memory_level_reader(None),
        };
        parts(&mut all);
        if all.guests_allowed {
            settings.auth.guests.get_or_insert(true);
        }
        let state = web::Data::new(AuthState::new(&settings, all).unwrap());
        Self { state, token_secret, api_secret, feed }
    }

    /// The same deployment after a restart with another configuration: the stores, the access rules,
    /// the rooms and the secrets are the same.
    fn restarted(
        &self,
        change: impl FnOnce(&mut ServiceSettings),
        parts: impl FnOnce(&mut AuthParts),
    ) -> Self {
        let mut service = Self::with(change, |all| {
            all.keys = SigningKeys::from_secret(&self.token_secret, None);
            all.api_keys = ApiKeys::parse(&format!("backend:{}", self.api_secret)).unwrap();
            all.store = self.state.tokens.store.clone();
            all.access = self.state.context.access.clone();
            all.rooms = self.state.management.rooms.clone();
            parts(all);
        });
        service.token_secret = self.token_secret.clone();
        service.api_secret.clone_from(&self.api_secret);
        service
    }

    fn basic_header(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("backend:{}", self.api_secret)))
    }

    async fn call(&self, request: TestRequest) -> (u16, Value) {
        let app = init_service(App::new().configure(configure(self.state.clone()))).await;
        let response = call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&read_body(response).await).unwrap_or_default())
    }

    /// The `Retry-After` of the answer.
    async fn retry_after(&self, request: TestRequest) -> Option<String> {
        let app = init_service(App::new().configure(configure(self.state.clone()))).await;
        let response = call_service(&app, request.to_request()).await;
        response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
    }

    /// Requests a token with the API key of the backend.
    async fn request_token(&self, body: &str) -> (u16, Value) {
        self.call(token_request(body).insert_header((header::AUTHORIZATION, self.basic_header()))).await
    }

    /// Requests a token without an API key.
    async fn request_token_as_guest(&self, body: &str) -> (u16, Value) {
        self.call(token_request(body)).await
    }

    async fn validate(&self, token: &str) -> (u16, Value) {
        let request = TestRequest::get().uri("/auth/validate");
        self.call(request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")))).await
    }

    fn counter_value(&self, metric: &str, label: &str) -> f64 {
        let families = self.state.metrics();
        let family = families.iter().find(|family| family.name() == metric);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let labelled = metrics.iter().find(|m| m.get_label().iter().any(|pair| pair.value() == label));
        labelled.map_or(0.0, |metric| metric.get_counter().get_value())
    }
}

fn no_webhooks(feed: &FeedSender) -> LiveValue<WebhookService> {
    let (settings, secrets) = (ServiceSettings::default(), EndpointSecrets::default());
    WebhookLauncher::start(&settings, &secrets, WebhookEventSource::Feed, feed).unwrap().running()
}

/// Rooms in this process.
fn memory_rooms(settings: &ServiceSettings) -> RemoteRoomService {
    let limits = StoreLimits::new(settings);
    RemoteRoomService::new(
        RoomStore::in_memory(limits, None),
        RoomPolicy::new(settings),
        std::sync::Arc::new(|_, _| {}),
    )
}

fn token_request(body: &str) -> TestRequest {
    let json = (header::CONTENT_TYPE, "application/json");
    TestRequest::post().uri("/auth/token").insert_header(json).set_payload(body.to_owned())
}

async fn call_as_backend(service: &TestService, request: TestRequest) -> (u16, Value) {
    service.call(request.insert_header((header::AUTHORIZATION, service.basic_header()))).await
}

fn member_text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or_else(|| panic!("{member}: {answer}"))
}
