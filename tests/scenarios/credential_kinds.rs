//! Each kind of credential is accepted only at its own endpoints. The table is kinds × endpoints; a
//! missing cell does not compile.

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{StoreKind, TestCluster},
    http::{Request, Response},
};
use signalbox_token::TokenKind;

use crate::refusals::{
    ExpectedRefusal, StatusAndCode, assert_rows, check_answer, matches_expected, token_defect,
    token_location::{self, ServiceAddresses, TokenLocation, TokenReader},
};

all_of!(
    /// A kind of credential.
    CredentialKind { Room, User, Management, Ticket, Refresh, Invite, Handle, ApiKey }
);

all_of!(
    /// An endpoint that reads another credential than a token.
    OtherEndpoint { Resume, Takeover, ValidateHandle, RefreshPost, InvitePost, TokenPost, ManagementPost, Exchange, Events }
);

/// An endpoint that reads a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Token(TokenLocation),
    Other(OtherEndpoint),
}

impl CredentialKind {
    fn token_kind(self) -> Option<TokenKind> {
        match self {
            Self::Room => Some(TokenKind::Room),
            Self::User => Some(TokenKind::User),
            Self::Management => Some(TokenKind::Management),
            Self::Ticket | Self::Refresh | Self::Invite | Self::Handle | Self::ApiKey => None,
        }
    }
}

/// The expected refusal, or none where the endpoint accepts the kind.
fn expected(kind: CredentialKind, endpoint: Endpoint) -> ExpectedRefusal {
    let unless = |accepted: CredentialKind, code| (kind != accepted).then_some((401, code));
    match endpoint {
        Endpoint::Token(place) => at_token(kind, place),
        Endpoint::Other(endpoint) => match endpoint {
            OtherEndpoint::Resume | OtherEndpoint::Takeover | OtherEndpoint::ValidateHandle => {
                unless(CredentialKind::Handle, "resume_invalid")
            }
            OtherEndpoint::RefreshPost => unless(CredentialKind::Refresh, "refresh_invalid"),
            OtherEndpoint::InvitePost => unless(CredentialKind::Invite, "invite_invalid"),
            // This endpoint accepts tokens of identity providers and of the application only.
            OtherEndpoint::Exchange => Some((401, "exchange_refused")),
            // These endpoints accept only an API key, as Basic authentication.
            OtherEndpoint::TokenPost | OtherEndpoint::ManagementPost | OtherEndpoint::Events => {
                Some((401, "caller_unknown"))
            }
        },
    }
}

fn at_token(kind: CredentialKind, place: TokenLocation) -> ExpectedRefusal {
    let reader = place.reader();
    match kind.token_kind() {
        Some(kind) if place.accepts(kind) => None,
        None if kind == CredentialKind::Ticket && reader == TokenReader::Node => None,
        _ if reader == TokenReader::Frame => Some((0, "bad_token")),
        Some(_) => Some((401, "token_wrong_type")),
        None => Some((401, "token_malformed")),
    }
}

/// Creates an unused credential.
async fn create(cluster: &TestCluster, kind: CredentialKind) -> String {
    let signed = |kind| {
        let good = token_defect::valid_token(kind);
        // The subject of a management token is an API key.
        let good = if kind == TokenKind::Management { good } else { good.claim("sub", "u") };
        good.sign(&cluster.secret)
    };
    let request_credential = async |path: &str, body: Value, member: &str| {
        let answer = cluster.api("POST", path, &body).await.json();
        answer[member].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    match kind {
        CredentialKind::Room => cluster.sign_token("r", "u"),
        CredentialKind::User => signed(TokenKind::User),
        CredentialKind::Management => signed(TokenKind::Management),
        CredentialKind::Ticket => {
            let bearer = format!("Bearer {}", cluster.sign_token("r", "u"));
            let request = Request::post("/auth/ticket", &json!({})).header("Authorization", bearer);
            request.send(cluster.auth_address()).await.json()["ticket"].as_str().unwrap().to_owned()
        }
        CredentialKind::Refresh => {
            request_credential(
                "/auth/token",
                json!({"room": "r", "user": "u", "refresh": true}),
                "refreshToken",
            )
            .await
        }
        CredentialKind::Invite => {
            request_credential("/api/rooms/r/invites", json!({"role": "guest"}), "code").await
        }
        CredentialKind::Handle => {
            let peer = cluster.room("other").join("u").await;
            peer.disconnect().await.handle
        }
        CredentialKind::ApiKey => format!("backend:{}", cluster.api_secret),
    }
}

async fn present(service: ServiceAddresses, endpoint: OtherEndpoint, credential: &str) -> Response {
    let bearer = |request: Request| request.header("Authorization", format!("Bearer {credential}"));
    let token_request = json!({ "room": "r", "user": "u" });
    let (request, at_node) = match endpoint {
        OtherEndpoint::Resume => (Request::upgrade(format!("/ws/signal?resume={credential}&since=0")), true),
        OtherEndpoint::Takeover => (Request::upgrade(format!("/ws/signal?resume={credential}")), true),
        OtherEndpoint::ValidateHandle => (Request::get(format!("/ws/validate?resume={credential}")), true),
        OtherEndpoint::RefreshPost => {
            (Request::post("/auth/refresh", &json!({ "refreshToken": credential })), false)
        }
        OtherEndpoint::InvitePost => (Request::post("/auth/token", &json!({ "invite": credential })), false),
        OtherEndpoint::TokenPost => (bearer(Request::post("/auth/token", &token_request)), false),
        OtherEndpoint::ManagementPost => (bearer(Request::post("/auth/management", &json!({}))), false),
        OtherEndpoint::Exchange => (Request::post("/auth/exchange", &json!({ "token": credential })), false),
        OtherEndpoint::Events => (bearer(Request::upgrade("/ws/events")), false),
    };
    request.send(if at_node { service.node } else { service.auth }).await
}

async fn assert_each_kind_only_where_it_belongs(store: StoreKind) {
    let cluster = &TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
    let token_endpoints = TokenLocation::ALL.iter().map(|place| Endpoint::Token(*place));
    let other_endpoints = OtherEndpoint::ALL.iter().map(|other| Endpoint::Other(*other));
    let endpoints: Vec<_> = token_endpoints.chain(other_endpoints).collect();
    let service = ServiceAddresses { node: cluster.next_node().address, auth: cluster.auth_address() };
    let mut count = 0;
    for kind in CredentialKind::ALL {
        let peer = cluster.room("r").join("u").await;
        // A refusal does not use up the credential, so one credential serves all refusals.
        let shared = create(cluster, *kind).await;
        let rows =
            endpoints.iter().copied().filter(|endpoint| *endpoint != Endpoint::Token(TokenLocation::Refresh));
        count += assert_rows(rows, async |endpoint| {
            let accepted = expected(*kind, endpoint).is_none();
            let credential = if accepted { create(cluster, *kind).await } else { shared.clone() };
            let answer = match endpoint {
                Endpoint::Token(place) => place.send_token(service, Some(&credential), false).await,
                Endpoint::Other(other) => present(service, other, &credential).await,
            };
            check_answer(&(kind, endpoint), expected(*kind, endpoint), Some(&credential), &answer)
        })
        .await;
        let answer: StatusAndCode = token_location::send_refresh(&peer, Some(&shared), false).await;
        let endpoint = Endpoint::Token(TokenLocation::Refresh);
        let refusal = expected(*kind, endpoint);
        assert!(
            answer.1.is_empty() || matches_expected(refusal, &answer),
            "{kind:?} × {endpoint:?}: {answer:?}"
        );
        assert_eq!(answer.1.is_empty(), refusal.is_none(), "{kind:?} × {endpoint:?}: {answer:?}");
        count += 1;
        peer.leave().await;
    }
    assert_eq!(count, 8 * (46 + 9), "rows");
}

#[tokio::test]
async fn each_credential_kind_is_accepted_only_where_it_belongs_in_memory() {
    assert_each_kind_only_where_it_belongs(StoreKind::Memory).await;
}

#[tokio::test]
async fn each_credential_kind_is_accepted_only_where_it_belongs_over_redis() {
    assert_each_kind_only_where_it_belongs(StoreKind::Redis(2)).await;
}
