//! Each kind of proof opens its own places and no other. The table is kinds × places; a cell that is missing does not compile.

use serde_json::{Value, json};
use signalbox_shared::token::TokenKind;
use signalbox_tests::{
    cluster::{Store, TestCluster},
    http::{Request, Response},
    token::Forgery,
};

all_of!(
    /// What somebody may show.
    Kind { Room, User, Management, Ticket, Refresh, Invite, Handle, ApiKey }
);

all_of!(
    /// Where it may be shown.
    Place { Upgrade, Resume, WsValidate, AuthValidate, TicketPost, Ice, RefreshPost, InvitePost, Rules, Join }
);

/// Whether a kind opens a place; else what is said.
fn expected(kind: Kind, place: Place) -> Result<u16, (u16, &'static str)> {
    let is_jwt = matches!(kind, Kind::Room | Kind::User | Kind::Management);
    let other = (401, if is_jwt { "token_wrong_type" } else { "token_malformed" });
    match (place, kind) {
        (Place::Upgrade, Kind::Room | Kind::Ticket) | (Place::Resume, Kind::Handle) => Ok(101),
        (Place::Resume, _) => Err((401, "resume_invalid")),
        (Place::WsValidate, Kind::Room | Kind::Ticket) => Ok(200),
        (Place::AuthValidate | Place::TicketPost | Place::Ice, Kind::Room) => Ok(200),
        (Place::RefreshPost, Kind::Refresh) | (Place::InvitePost, Kind::Invite) => Ok(200),
        (Place::RefreshPost, _) => Err((401, "refresh_invalid")),
        (Place::InvitePost, _) => Err((401, "invite_invalid")),
        (Place::Rules, Kind::Management) | (Place::Join, Kind::User) => Ok(200),
        (
            Place::Upgrade
            | Place::WsValidate
            | Place::AuthValidate
            | Place::TicketPost
            | Place::Ice
            | Place::Rules
            | Place::Join,
            _,
        ) => Err(other),
    }
}

/// A fresh one of a kind.
async fn make(cluster: &TestCluster, kind: Kind) -> String {
    let signed = |kind: TokenKind| {
        let good = Forgery::good("r", "u").typ(Some(kind.typ())).claim("aud", kind.aud());
        // A management token is that of an API key.
        let good = if kind == TokenKind::Management { good.claim("sub", "backend") } else { good };
        good.claim("scopes", vec!["security"]).sign(&cluster.secret)
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

async fn show(cluster: &TestCluster, place: Place, proof: &str) -> Response {
    let bearer = |request: Request| request.header("Authorization", format!("Bearer {proof}"));
    let (request, at_node) = match place {
        Place::Upgrade => (Request::upgrade(format!("/ws/signal?token={proof}")), true),
        Place::Resume => (Request::upgrade(format!("/ws/signal?resume={proof}&since=0")), true),
        Place::WsValidate => (Request::get(format!("/ws/validate?token={proof}")), true),
        Place::AuthValidate => (Request::post("/auth/validate", &json!({ "token": proof })), false),
        Place::TicketPost => (bearer(Request::post("/auth/ticket", &json!({}))), false),
        Place::Ice => (bearer(Request::get("/auth/ice")), false),
        Place::RefreshPost => (Request::post("/auth/refresh", &json!({ "refreshToken": proof })), false),
        Place::InvitePost => (Request::post("/auth/token", &json!({ "invite": proof })), false),
        Place::Rules => (bearer(Request::get("/api/rules")), false),
        Place::Join => (bearer(Request::post("/api/rooms/r/join", &json!({}))), false),
    };
    let address = if at_node { cluster.next_node().address } else { cluster.auth_address() };
    request.send(address).await
}

async fn each_kind_opens_its_own_places_and_no_other(store: Store) {
    let cluster = TestCluster::start(store, &[("TIMING__RESUME_WINDOW", "10s")]).await;
    let mut wrong = Vec::new();
    for (kind, place) in Kind::ALL.iter().flat_map(|kind| Place::ALL.iter().map(move |place| (*kind, *place)))
    {
        let proof = make(&cluster, kind).await;
        let answer = show(&cluster, place, &proof).await;
        let told = match answer.status {
            good @ (101 | 200) => Ok(good),
            bad => Err((bad, answer.json()["code"].as_str().unwrap_or_default().to_owned())),
        };
        let should = expected(kind, place).map_err(|(status, code)| (status, code.to_owned()));
        if told != should {
            wrong.push(format!("{kind:?} × {place:?}: {told:?}"));
        }
        assert!(told.is_ok() || !answer.text.contains(&proof), "{kind:?} × {place:?} repeats what was shown");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn each_kind_opens_its_own_places_and_no_other_in_memory() {
    each_kind_opens_its_own_places_and_no_other(Store::Memory).await;
}

#[tokio::test]
async fn each_kind_opens_its_own_places_and_no_other_over_redis() {
    each_kind_opens_its_own_places_and_no_other(Store::Redis(2)).await;
}
