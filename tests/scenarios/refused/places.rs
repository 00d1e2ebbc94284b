//! Every place where a token is read.

use std::net::SocketAddr;

use serde_json::{Value, json};
use signalbox_tests::{
    http::{Request, Response},
    peer::TestPeer,
};
use signalbox_token::TokenKind;

use super::Told;

all_of!(
    /// Where a token is read. A path that takes two kinds is a place for each.
    pub(crate) Place {
        // Room tokens.
        Query, Subprotocol, ValidateQuery, ValidateBearer, AuthValidateBearer, AuthValidateBody, TicketPost, Ice, Refresh,
        // User tokens.
        UserMakes, UserReads, UserJoins,
        // Management tokens: rooms.
        RoomMake, RoomList, RoomRead, RoomChange, RoomDelete, RoomAct, RoomEnd, RoomToken, RoomMessage, RoomBan,
        Participants, ParticipantsRemove, ParticipantChange, ParticipantRemove, ParticipantDecide,
        InviteMake, InviteList, InviteDelete,
        // Management tokens: control.
        Rules, RuleLift, Revoke, Ban, Deny, Notice, ShutDown, ShutDownLift, Limits, LimitsLift,
        Usage, DeadHooks, ReplayHooks,
    }
);

/// How a place reads. Those of one kind say the same of a token that is not there, or stands there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A signaling node, before an upgrade or a verdict.
    Node,
    /// `Authorization: Bearer`, where room tokens are read.
    Bearer,
    /// A member of a body.
    Body,
    /// A frame on an open connection.
    Frame,
    /// `Authorization: Bearer`, where only a user may come.
    User,
    /// `Authorization`, where an API key may stand too.
    Caller,
}

/// Where the two services are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    pub(crate) node: SocketAddr,
    pub(crate) auth: SocketAddr,
}

/// The room where somebody is.
const ROOM: &str = "r";

impl Place {
    /// The kind of token it takes.
    pub(crate) fn kind(self) -> TokenKind {
        match self.reader() {
            Reader::Node | Reader::Bearer | Reader::Body | Reader::Frame => TokenKind::Room,
            Reader::User => TokenKind::User,
            Reader::Caller if matches!(self, Self::UserMakes | Self::UserReads) => TokenKind::User,
            Reader::Caller => TokenKind::Management,
        }
    }

    /// Whether it takes this kind. Two paths are open to users and backends.
    pub(crate) fn takes(self, kind: TokenKind) -> bool {
        let both = matches!(self, Self::UserMakes | Self::UserReads | Self::RoomMake | Self::RoomRead);
        kind == self.kind() || (both && kind != TokenKind::Room)
    }

    /// How it reads.
    pub(crate) fn reader(self) -> Reader {
        match self {
            Self::Query | Self::Subprotocol | Self::ValidateQuery | Self::ValidateBearer => Reader::Node,
            Self::AuthValidateBearer | Self::TicketPost | Self::Ice => Reader::Bearer,
            Self::AuthValidateBody => Reader::Body,
            Self::Refresh => Reader::Frame,
            Self::UserJoins => Reader::User,
            _ => Reader::Caller,
        }
    }

    /// Method and path, as the server's document names them; none where they are not in it.
    pub(crate) fn operation(self) -> (&'static str, &'static str) {
        match self {
            Self::Query | Self::Subprotocol | Self::Refresh => ("GET", "/ws/signal"),
            Self::ValidateQuery | Self::ValidateBearer => ("GET", "/ws/validate"),
            Self::AuthValidateBearer => ("GET", "/auth/validate"),
            Self::AuthValidateBody => ("POST", "/auth/validate"),
            Self::TicketPost => ("POST", "/auth/ticket"),
            Self::Ice => ("GET", "/auth/ice"),
            Self::UserMakes | Self::RoomMake => ("POST", "/api/rooms"),
            Self::UserReads | Self::RoomRead => ("GET", "/api/rooms/{room}"),
            Self::UserJoins => ("POST", "/api/rooms/{room}/join"),
            Self::RoomList => ("GET", "/api/rooms"),
            Self::RoomChange => ("PATCH", "/api/rooms/{room}"),
            Self::RoomDelete => ("DELETE", "/api/rooms/{room}"),
            Self::RoomAct => ("POST", "/api/rooms/{room}/{verb}"),
            Self::RoomEnd => ("POST", "/api/rooms/{room}/end"),
            Self::RoomToken => ("POST", "/api/rooms/{room}/token"),
            Self::RoomMessage => ("POST", "/api/rooms/{room}/messages"),
            Self::RoomBan => ("POST", "/api/rooms/{room}/bans"),
            Self::Participants => ("GET", "/api/rooms/{room}/participants"),
            Self::ParticipantsRemove => ("DELETE", "/api/rooms/{room}/participants"),
            Self::ParticipantChange => ("PATCH", "/api/rooms/{room}/participants/{peer}"),
            Self::ParticipantRemove => ("DELETE", "/api/rooms/{room}/participants/{peer}"),
            Self::ParticipantDecide => ("POST", "/api/rooms/{room}/participants/{peer}/{verb}"),
            Self::InviteMake => ("POST", "/api/rooms/{room}/invites"),
            Self::InviteList => ("GET", "/api/rooms/{room}/invites"),
            Self::InviteDelete => ("DELETE", "/api/rooms/{room}/invites/{invite}"),
            Self::Rules => ("GET", "/api/rules"),
            Self::RuleLift => ("DELETE", "/api/rules/{key}"),
            Self::Revoke => ("POST", "/api/revocations"),
            Self::Ban => ("POST", "/api/bans"),
            Self::Deny => ("POST", "/api/denials"),
            Self::Notice => ("POST", "/api/notices"),
            Self::ShutDown => ("PUT", "/api/shutdown"),
            Self::ShutDownLift => ("DELETE", "/api/shutdown"),
            Self::Limits => ("PUT", "/api/limits"),
            Self::LimitsLift => ("DELETE", "/api/limits"),
            Self::Usage => ("GET", "/api/usage"),
            Self::DeadHooks => ("GET", "/api/webhooks/dead"),
            Self::ReplayHooks => ("POST", "/api/webhooks/replay"),
        }
    }

    /// A path with something in its places that is not there: whoever gets past the door changes nothing.
    fn path(self) -> String {
        let (_, path) = self.operation();
        let room = if self.kind() == TokenKind::User { ROOM } else { "nowhere" };
        let verb = if self == Self::RoomAct { "unlock" } else { "admit" };
        let filled = path.replace("{room}", room).replace("{verb}", verb).replace("{key}", "ban:*:nobody");
        filled.replace("{peer}", &"0".repeat(32)).replace("{invite}", &"0".repeat(32))
    }

    /// A body that nobody acts on: the room is there, or the member is unknown.
    fn body(self) -> Value {
        match (self, self.operation().0) {
            (_, "GET" | "DELETE") => Value::Null,
            (Self::UserMakes, _) => json!({ "id": ROOM }),
            (Self::UserJoins | Self::TicketPost, _) => json!({}),
            _ => json!({ "unknown": true }),
        }
    }

    /// A request with the token in this place, or with the same one twice.
    ///
    /// # Panics
    /// For [`Place::Refresh`], which is none.
    pub(crate) fn request(self, token: Option<&str>, twice: bool) -> Request {
        let again = token.filter(|_| twice);
        let mut query = token.map_or(String::new(), |token| format!("?token={token}"));
        match self {
            Self::Query => {
                let request = Request::upgrade(format!("/ws/signal{query}"));
                again.map_or(request.clone(), |token| protocols(request, Some(token)))
            }
            Self::Subprotocol => {
                let request = protocols(Request::upgrade("/ws/signal"), token);
                again.map_or(request.clone(), |token| {
                    request.header("Sec-WebSocket-Protocol", format!("token.{token}"))
                })
            }
            Self::ValidateQuery => {
                query += &again.map_or(String::new(), |token| format!("&token={token}"));
                Request::get(format!("/ws/validate{query}"))
            }
            Self::ValidateBearer => {
                let query = if twice { query } else { String::new() };
                bearer(Request::get(format!("/ws/validate{query}")), token, None)
            }
            Self::AuthValidateBody => {
                let member = |token: &str| format!(r#""token":"{token}""#);
                let members: Vec<_> = token.into_iter().chain(again).map(member).collect();
                Request::post_text("/auth/validate", format!("{{{}}}", members.join(",")))
            }
            Self::Refresh => unreachable!("no request"),
            _ => bearer(Request::call(self.operation().0, self.path(), &self.body()), token, again),
        }
    }

    /// Shows a token here.
    pub(crate) async fn show(self, service: Service, token: Option<&str>, twice: bool) -> Response {
        let at_node = self.reader() == Reader::Node;
        let address = if at_node { service.node } else { service.auth };
        self.request(token, twice).send(address).await
    }
}

fn protocols(request: Request, token: Option<&str>) -> Request {
    let token = token.map_or(String::new(), |token| format!(", token.{token}"));
    request.header("Sec-WebSocket-Protocol", format!("signalbox.v1{token}"))
}

fn bearer(request: Request, token: Option<&str>, again: Option<&str>) -> Request {
    let header = |request: Request, token| request.header("Authorization", format!("Bearer {token}"));
    token.into_iter().chain(again).fold(request, header)
}

/// Shows a token on an open connection.
pub(crate) async fn refresh(peer: &TestPeer, token: Option<&str>, twice: bool) -> Told {
    let member = token.map_or(String::new(), |token| format!(r#","token":"{token}""#));
    let again = if twice { member.clone() } else { String::new() };
    let id = peer.next_id();
    peer.send_text(&format!(r#"{{"type":"refresh","id":{id}{member}{again}}}"#)).await;
    let of_it = |frame: &Value| match &*frame["type"].to_string() {
        r#""ack""# => frame["id"] == id,
        kind => kind == r#""error""#,
    };
    let answer = peer.next_where("the answer to a refresh", of_it).await;
    (0, answer["code"].as_str().unwrap_or_default().to_owned())
}

/// Operations of the server's document that take a token, as `kind method path`.
fn documented(document: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schemes = operation["security"].as_array().into_iter().flatten();
            for scheme in schemes.flat_map(|scheme| scheme.as_object().unwrap().keys()) {
                if scheme != "key" {
                    all.push(format!("{scheme} {} {path}", method.to_uppercase()));
                }
            }
        }
    }
    all
}

/// What the server says of itself: no operation that takes a token is missing here.
///
/// # Panics
/// If one is.
pub(crate) async fn assert_complete(auth: SocketAddr) {
    let document = Request::get("/api/openapi.json").send(auth).await.json();
    let name = |kind| match kind {
        TokenKind::Room => "token",
        TokenKind::User => "user",
        TokenKind::Management => "management",
    };
    let known: Vec<_> = Place::ALL
        .iter()
        .map(|place| {
            let (method, path) = place.operation();
            format!("{} {method} {path}", name(place.kind()))
        })
        .collect();
    let documented = documented(&document);
    assert!(documented.len() > 30, "{documented:?}");
    let missing: Vec<_> = documented.iter().filter(|operation| !known.contains(operation)).collect();
    assert!(missing.is_empty(), "operations that no table has: {missing:?}");
}
