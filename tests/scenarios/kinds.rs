//! Each kind of proof opens its own places and no other. The table is kinds × places; a cell that is missing does not compile.

use serde_json::{Value, json};
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::{Request, Response},
};
use signalbox_token::TokenKind;

use crate::refusals::{
    ExpectedRefusal, StatusAndCode, assert_rows, check_answer, matches_expected, token_defect,
    token_location::{self, ServiceAddresses, TokenLocation, TokenReader},
};

all_of!(
    /// What somebody may show.
    Kind { Room, User, Management, Ticket, Refresh, Invite, Handle, ApiKey }
);

all_of!(
    /// Where something else than a token is read.
    Elsewhere { Resume, Takeover, ValidateHandle, RefreshPost, InvitePost, TokenPost, ManagementPost, Exchange, Events }
);

/// Where it may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Token(TokenLocation),
    Elsewhere(Elsewhere),
}

impl Kind {
    fn of_token(self) -> Option<TokenKind> {
        match self {
            Self::Room => Some(TokenKind::Room),
            Self::User => Some(TokenKind::User),
            Self::Management => Some(TokenKind::Management),
            Self::Ticket | Self::Refresh | Self::Invite | Self::Handle | Self::ApiKey => None,
        }
    }
}

/// What is said, where a kind does not open a place.
fn expected(kind: Kind, spot: Spot) -> ExpectedRefusal {
    let unless = |good: Kind, code| (kind != good).then_some((401, code));
    match spot {
        Spot::Token(place) => at_token(kind, place),
        Spot::Elsewhere(elsewhere) => match elsewhere {
            Elsewhere::Resume | Elsewhere::Takeover | Elsewhere::ValidateHandle => {
                unless(Kind::Handle, "resume_invalid")
            }
            Elsewhere::RefreshPost => unless(Kind::Refresh, "refresh_invalid"),
            Elsewhere::InvitePost => unless(Kind::Invite, "invite_invalid"),
            // There it is the user's own token; ours is none of theirs.
            Elsewhere::Exchange => Some((401, "exchange_refused")),
            // An API key with its secret, as Basic, and nothing else.
            Elsewhere::TokenPost | Elsewhere::ManagementPost | Elsewhere::Events => {
                Some((401, "caller_unknown"))
            }
        },
    }
}

fn at_token(kind: Kind, place: TokenLocation) -> ExpectedRefusal {
    let reader = place.reader();
    match kind.of_token() {
        Some(kind) if place.accepts(kind) => None,
        None if kind == Kind::Ticket && reader == TokenReader::Node => None,
        _ if reader == TokenReader::Frame => Some((0, "bad_token")),
        Some(_) => Some((401, "token_wrong_type")),
        None => Some((401, "token_malformed")),
    }
}

/// A fresh one of a kind.
async fn make(cluster: &TestCluster, kind: Kind) -> String {
    let signed = |kind| {
        let good = token_defect::valid_token(kind);
        // A management token is that of an API key.
        let good = if kind == TokenKind::Management { good } else { good.claim("sub", "u") };
        good.sign(&cluster.secret)
    };
    let asked = async |path: &str, body: Value, member: &str| {
        let answer = cluster.api("POST", path, &body).await.json();
        answer[member].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    match kind {
        Kind::Room => cluster.forge("r", "u"),
        Kind::User => signed(TokenKind::User),
        Kind::Management => signed(TokenKind::Management),
        Kind::Ticket => {
            let bearer = format!("Bearer {}", cluster.forge("r", "u"));
            let request = Request::post("/auth/ticket", &json!({})).header("Authorization", bearer);
            request.send(cluster.auth_address()).await.json()["ticket"].as_str().unwrap().to_owned()
        }
        Kind::Refresh => {
            asked("/auth/token", json!({"room": "r", "user": "u", "refresh": true}), "refreshToken").await
        }
        Kind::Invite => asked("/api/rooms/r/invites", json!({"role": "guest"}), "code").await,
        Kind::Handle => {
            let peer = cluster.room("other").join("u").await;
            peer.lose().await.handle
        }
        Kind::ApiKey => format!("backend:{}", cluster.api_secret),
    }
}

async fn show(service: ServiceAddresses, elsewhere: Elsewhere, proof: &str) -> Response {
    let bearer = |request: Request| request.header("Authorization", format!("Bearer {proof}"));
    let wish = json!({ "room": "r", "user": "u" });
    let (request, at_node) = match elsewhere {
        Elsewhere::Resume => (Request::upgrade(format!("/ws/signal?resume={proof}&since=0")), true),
        Elsewhere::Takeover => (Request::upgrade(format!("/ws/signal?resume={proof}")), true),
        Elsewhere::ValidateHandle => (Request::get(format!("/ws/validate?resume={proof}")), true),
        Elsewhere::RefreshPost => (Request::post("/auth/refresh", &json!({ "refreshToken": proof })), false),
        Elsewhere::InvitePost => (Request::post("/auth/token", &json!({ "invite": proof })), false),
        Elsewhere::TokenPost => (bearer(Request::post("/auth/token", &wish)), false),
        Elsewhere::ManagementPost => (bearer(Request::post("/auth/management", &json!({}))), false),
        Elsewhere::Exchange => (Request::post("/auth/exchange", &json!({ "token": proof })), false),
        Elsewhere::Events => (bearer(Request::upgrade("/ws/events")), false),
    };
    request.send(if at_node { service.node } else { service.auth }).await
}

async fn each_kind_opens_its_own_places_and_no_other(store: Store) {
    let cluster = &TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
    let spots = TokenLocation::ALL.iter().map(|place| Spot::Token(*place));
    let spots: Vec<_> = spots.chain(Elsewhere::ALL.iter().map(|place| Spot::Elsewhere(*place))).collect();
    let service = ServiceAddresses { node: cluster.next_node().address, auth: cluster.auth_address() };
    let mut count = 0;
    for kind in Kind::ALL {
        let inside = cluster.room("r").join("u").await;
        // Where it is refused it is not used, so that one does for all of these places.
        let shared = make(cluster, *kind).await;
        let rows = spots.iter().copied().filter(|spot| *spot != Spot::Token(TokenLocation::Refresh));
        count += assert_rows(rows, async |spot| {
            let fresh = expected(*kind, spot).is_none();
            let proof = if fresh { make(cluster, *kind).await } else { shared.clone() };
            let answer = match spot {
                Spot::Token(place) => place.send_token(service, Some(&proof), false).await,
                Spot::Elsewhere(elsewhere) => show(service, elsewhere, &proof).await,
            };
            check_answer(&(kind, spot), expected(*kind, spot), Some(&proof), &answer)
        })
        .await;
        let told: StatusAndCode = token_location::send_refresh(&inside, Some(&shared), false).await;
        let spot = Spot::Token(TokenLocation::Refresh);
        assert!(
            told.1.is_empty() || matches_expected(expected(*kind, spot), &told),
            "{kind:?} × {spot:?}: {told:?}"
        );
        assert_eq!(told.1.is_empty(), expected(*kind, spot).is_none(), "{kind:?} × {spot:?}: {told:?}");
        count += 1;
        inside.leave().await;
    }
    assert_eq!(count, 8 * (43 + 9), "rows");
}

#[tokio::test]
async fn each_kind_opens_its_own_places_and_no_other_in_memory() {
    each_kind_opens_its_own_places_and_no_other(Store::Memory).await;
}

#[tokio::test]
async fn each_kind_opens_its_own_places_and_no_other_over_redis() {
    each_kind_opens_its_own_places_and_no_other(Store::Redis(2)).await;
}
