//! The service as those who call it see it.

mod callers;
mod configuration_doc;
mod cors;
mod deployments;
mod events;
mod exchange;
mod ice;
mod jwks;
mod life;
mod openapi;
mod rooms;
mod taken_back;
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
use signalbox_access::{Control, Log};
use signalbox_config::{ApiKeyTable, ApiKeys, Settings};
use signalbox_protocol::id::{CallerId, random_hex};
use signalbox_rooms::feed::FeedSender;
use signalbox_rooms::{
    clerk::Clerk,
    room::Rules,
    store::{Bounds, Store},
};
use signalbox_token::{Secret, SharedSecret, TicketShelf, scope::Scope};
use signalbox_turn::IceBook;

use crate::{AuthParts, AuthState, configure, keys::SigningKeys, store::AuthStore, usage::UsageReader};

/// What the TURN servers of a test know; used where it has any.
const TURN_SECRET: &str = "north0123456789abcdefghijklmnopqrstuvwxyz";

/// A service with one backend, called `backend`.
struct Service {
    state: web::Data<AuthState>,
    secret: SharedSecret,
    api_secret: String,
    feed: FeedSender,
}

fn random_secret() -> SharedSecret {
    SharedSecret::new(Secret::new(format!("{}{}", random_hex(), random_hex()))).unwrap()
}

impl Service {
    fn new() -> Self {
        Self::with(|_| {}, |_| {})
    }

    fn with_guests() -> Self {
        Self::with(|_| {}, |parts| parts.guests = true)
    }

    fn with(change: impl FnOnce(&mut Settings), parts: impl FnOnce(&mut AuthParts)) -> Self {
        let (secret, api_secret) = (random_secret(), random_hex());
        let mut settings = Settings::default();
        let table = ApiKeyTable { scopes: Some(Scope::ALL.to_vec()), rooms: None };
        settings.api_keys.insert(CallerId::parse("backend").unwrap(), table);
        change(&mut settings);
        let feed = FeedSender::new(8);
        let turn = [SharedSecret::new(Secret::new(TURN_SECRET)).unwrap()];
        let mut all = AuthParts {
            keys: SigningKeys::shared(&secret, None),
            api_keys: ApiKeys::parse(&format!("backend:{api_secret}")).unwrap(),
            user_secret: None,
            guests: false,
            store: AuthStore::memory(TicketShelf::default()),
            feed: feed.clone(),
            control: Control::new(Log::Memory(std::sync::Arc::default()), 100),
            ice: IceBook::new(&settings, &turn),
            rooms: Some(std::sync::Arc::new(clerk(&settings))),
            webhooks: None,
            usage: UsageReader::None,
        };
        parts(&mut all);
        let state = web::Data::new(AuthState::new(&settings, all).unwrap());
        Self { state, secret, api_secret, feed }
    }

    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("backend:{}", self.api_secret)))
    }

    async fn call(&self, request: TestRequest) -> (u16, Value) {
        let app = init_service(App::new().configure(configure(self.state.clone()))).await;
        let response = call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&read_body(response).await).unwrap_or_default())
    }

    /// The backend asks for a token.
    async fn ask(&self, body: &str) -> (u16, Value) {
        self.call(ask(body).insert_header((header::AUTHORIZATION, self.basic()))).await
    }

    /// Somebody without a key asks for a token.
    async fn ask_as_guest(&self, body: &str) -> (u16, Value) {
        self.call(ask(body)).await
    }

    async fn validate(&self, token: &str) -> (u16, Value) {
        let request = TestRequest::get().uri("/auth/validate");
        self.call(request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")))).await
    }

    fn counted(&self, metric: &str, label: &str) -> f64 {
        let families = self.state.metrics();
        let family = families.iter().find(|family| family.name() == metric);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let labelled = metrics.iter().find(|m| m.get_label().iter().any(|pair| pair.value() == label));
        labelled.map_or(0.0, |metric| metric.get_counter().get_value())
    }
}

/// Rooms in this process.
fn clerk(settings: &Settings) -> Clerk {
    let bounds = Bounds::new(settings);
    Clerk::new(Store::memory(bounds, None), Rules::new(settings), std::sync::Arc::new(|_| {}))
}

fn ask(body: &str) -> TestRequest {
    let json = (header::CONTENT_TYPE, "application/json");
    TestRequest::post().uri("/auth/token").insert_header(json).set_payload(body.to_owned())
}
