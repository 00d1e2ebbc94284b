//! All locations where the services read a token.

use std::net::SocketAddr;

use serde_json::{Value, json};
use signalbox_tests::{
    http::{Request, Response},
    peer::TestPeer,
};
use signalbox_token::TokenKind;

use super::StatusAndCode;

all_of!(
    /// A place in a request or message that holds a token. A path that accepts two kinds of token
    /// has two locations.
    pub(crate) TokenLocation {
        // Room tokens.
        Query, Subprotocol, ValidateQuery, ValidateBearer, AuthValidateBearer, AuthValidateBody, TicketPost, Ice, Refresh,
        // User tokens.
        UserCreatesRoom, UserReadsRoom, UserJoinsRoom,
        // Management tokens: rooms.
        RoomCreate, RoomList, RoomRead, RoomChange, RoomDelete, RoomAction, RoomEnd, RoomToken, RoomMessage, RoomBan,
        Sanctions, SanctionLift,
        Timeline, Participants, ParticipantsRemove, ParticipantChange, ParticipantRemove, LobbyDecision,
        InviteCreate, InviteList, InviteDelete,
        // Management tokens: access rules, usage, webhooks.
        AccessRules, RuleDelete, Revoke, Ban, Deny, Notice, ShutDown, ShutDownDelete, Limits, LimitsDelete,
        Usage, DeadLetters, DeadLetterReplay,
    }
);

/// The code that reads the token. Locations with the same reader give the same answer to a missing
/// or repeated token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenReader {
    /// A signaling node, for an upgrade or a validation.
    Node,
    /// `Authorization: Bearer` with a room token.
    Bearer,
    /// A member of a JSON body.
    Body,
    /// A frame on an open connection.
    Frame,
    /// `Authorization: Bearer` with a user token.
    User,
    /// `Authorization` with a token or an API key.
    Principal,
}

/// The addresses of a signaling node and of the auth service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceAddresses {
    pub(crate) node: SocketAddr,
    pub(crate) auth: SocketAddr,
}

/// A room that exists.
const ROOM: &str = "r";

impl TokenLocation {
    /// The kind of token that the location accepts.
    pub(crate) fn kind(self) -> TokenKind {
        match self.reader() {
            TokenReader::Node | TokenReader::Bearer | TokenReader::Body | TokenReader::Frame => {
                TokenKind::Room
            }
            TokenReader::User => TokenKind::User,
            TokenReader::Principal if matches!(self, Self::UserCreatesRoom | Self::UserReadsRoom) => {
                TokenKind::User
            }
            TokenReader::Principal => TokenKind::Management,
        }
    }

    /// Whether the location accepts this kind. Two paths accept user and management tokens.
    pub(crate) fn accepts(self, kind: TokenKind) -> bool {
        let accepts_both =
            matches!(self, Self::UserCreatesRoom | Self::UserReadsRoom | Self::RoomCreate | Self::RoomRead);
        kind == self.kind() || (accepts_both && kind != TokenKind::Room)
    }

    /// The code that reads the token here.
    pub(crate) fn reader(self) -> TokenReader {
        match self {
            Self::Query | Self::Subprotocol | Self::ValidateQuery | Self::ValidateBearer => TokenReader::Node,
            Self::AuthValidateBearer | Self::TicketPost | Self::Ice => TokenReader::Bearer,
            Self::AuthValidateBody => TokenReader::Body,
            Self::Refresh => TokenReader::Frame,
            Self::UserJoinsRoom => TokenReader::User,
            _ => TokenReader::Principal,
        }
    }

    /// Method and path as in the OpenAPI document.
    pub(crate) fn operation(self) -> (&'static str, &'static str) {
        match self {
            Self::Query | Self::Subprotocol | Self::Refresh => ("GET", "/ws/signal"),
            Self::ValidateQuery | Self::ValidateBearer => ("GET", "/ws/validate"),
            Self::AuthValidateBearer => ("GET", "/auth/validate"),
            Self::AuthValidateBody => ("POST", "/auth/validate"),
            Self::TicketPost => ("POST", "/auth/ticket"),
            Self::Ice => ("GET", "/auth/ice"),
            Self::UserCreatesRoom | Self::RoomCreate => ("POST", "/api/rooms"),
            Self::UserReadsRoom | Self::RoomRead => ("GET", "/api/rooms/{room}"),
            Self::UserJoinsRoom => ("POST", "/api/rooms/{room}/join"),
            Self::RoomList => ("GET", "/api/rooms"),
            Self::RoomChange => ("PATCH", "/api/rooms/{room}"),
            Self::RoomDelete => ("DELETE", "/api/rooms/{room}"),
            Self::RoomAction => ("POST", "/api/rooms/{room}/{verb}"),
            Self::RoomEnd => ("POST", "/api/rooms/{room}/end"),
            Self::RoomToken => ("POST", "/api/rooms/{room}/token"),
            Self::RoomMessage => ("POST", "/api/rooms/{room}/messages"),
            Self::RoomBan => ("POST", "/api/rooms/{room}/bans"),
            Self::Sanctions => ("GET", "/api/rooms/{room}/sanctions"),
            Self::SanctionLift => ("DELETE", "/api/rooms/{room}/sanctions/{user}"),
            Self::Timeline => ("GET", "/api/rooms/{room}/timeline"),
            Self::Participants => ("GET", "/api/rooms/{room}/participants"),
            Self::ParticipantsRemove => ("DELETE", "/api/rooms/{room}/participants"),
            Self::ParticipantChange => ("PATCH", "/api/rooms/{room}/participants/{peer}"),
            Self::ParticipantRemove => ("DELETE", "/api/rooms/{room}/participants/{peer}"),
            Self::LobbyDecision => ("POST", "/api/rooms/{room}/participants/{peer}/{verb}"),
            Self::InviteCreate => ("POST", "/api/rooms/{room}/invites"),
            Self::InviteList => ("GET", "/api/rooms/{room}/invites"),
            Self::InviteDelete => ("DELETE", "/api/rooms/{room}/invites/{invite}"),
            Self::AccessRules => ("GET", "/api/rules"),
            Self::RuleDelete => ("DELETE", "/api/rules/{key}"),
            Self::Revoke => ("POST", "/api/revocations"),
            Self::Ban => ("POST", "/api/bans"),
            Self::Deny => ("POST", "/api/denials"),
            Self::Notice => ("POST", "/api/notices"),
            Self::ShutDown => ("PUT", "/api/shutdown"),
            Self::ShutDownDelete => ("DELETE", "/api/shutdown"),
            Self::Limits => ("PUT", "/api/limits"),
            Self::LimitsDelete => ("DELETE", "/api/limits"),
            Self::Usage => ("GET", "/api/usage"),
            Self::DeadLetters => ("GET", "/api/webhooks/dead"),
            Self::DeadLetterReplay => ("POST", "/api/webhooks/replay"),
        }
    }

    /// A path whose room, rule, peer and invite do not exist, so that an accepted request changes
    /// nothing.
    fn path(self) -> String {
        let (_, path) = self.operation();
        let room = if self.kind() == TokenKind::User { ROOM } else { "nowhere" };
        let verb = if self == Self::RoomAction { "unlock" } else { "admit" };
        let filled = path.replace("{room}", room).replace("{verb}", verb).replace("{key}", "ban:*:unknown");
        filled.replace("{peer}", &"0".repeat(32)).replace("{invite}", &"0".repeat(32))
    }

    /// A body without an effect: the room exists already, or the member is unknown.
    fn body(self) -> Value {
        match (self, self.operation().0) {
            (_, "GET" | "DELETE") => Value::Null,
            (Self::UserCreatesRoom, _) => json!({ "id": ROOM }),
            (Self::UserJoinsRoom | Self::TicketPost, _) => json!({}),
            _ => json!({ "unknown": true }),
        }
    }

    /// A request with the token in this location, or twice with the same token.
    ///
    /// # Panics
    /// For [`TokenLocation::Refresh`], which is not a request.
    pub(crate) fn request(self, token: Option<&str>, is_repeated: bool) -> Request {
        let repeated = token.filter(|_| is_repeated);
        let mut query = token.map_or(String::new(), |token| format!("?token={token}"));
        match self {
            Self::Query => {
                let request = Request::upgrade(format!("/ws/signal{query}"));
                repeated.map_or(request.clone(), |token| with_subprotocols(request, Some(token)))
            }
            Self::Subprotocol => {
                let request = with_subprotocols(Request::upgrade("/ws/signal"), token);
                repeated.map_or(request.clone(), |token| {
                    request.header("Sec-WebSocket-Protocol", format!("token.{token}"))
                })
            }
            Self::ValidateQuery => {
                query += &repeated.map_or(String::new(), |token| format!("&token={token}"));
                Request::get(format!("/ws/validate{query}"))
            }
            Self::ValidateBearer => {
                let query = if is_repeated { query } else { String::new() };
                with_bearer(Request::get(format!("/ws/validate{query}")), token, None)
            }
            Self::AuthValidateBody => {
                let member = |token: &str| format!(r#""token":"{token}""#);
                let members: Vec<_> = token.into_iter().chain(repeated).map(member).collect();
                Request::post_text("/auth/validate", format!("{{{}}}", members.join(",")))
            }
            Self::Refresh => unreachable!("not a request"),
            _ => with_bearer(Request::call(self.operation().0, self.path(), &self.body()), token, repeated),
        }
    }

    /// Sends a request with the token in this location.
    pub(crate) async fn send_token(
        self,
        service: ServiceAddresses,
        token: Option<&str>,
        is_repeated: bool,
    ) -> Response {
        let at_node = self.reader() == TokenReader::Node;
        let address = if at_node { service.node } else { service.auth };
        self.request(token, is_repeated).send(address).await
    }
}

fn with_subprotocols(request: Request, token: Option<&str>) -> Request {
    let token = token.map_or(String::new(), |token| format!(", token.{token}"));
    request.header("Sec-WebSocket-Protocol", format!("signalbox.v1{token}"))
}

fn with_bearer(request: Request, token: Option<&str>, repeated: Option<&str>) -> Request {
    let header = |request: Request, token| request.header("Authorization", format!("Bearer {token}"));
    token.into_iter().chain(repeated).fold(request, header)
}

/// Sends a token on an open connection.
pub(crate) async fn send_refresh(peer: &TestPeer, token: Option<&str>, is_repeated: bool) -> StatusAndCode {
    let member = token.map_or(String::new(), |token| format!(r#","token":"{token}""#));
    let repeated = if is_repeated { member.clone() } else { String::new() };
    let id = peer.next_id();
    peer.send_text(&format!(r#"{{"type":"refresh","id":{id}{member}{repeated}}}"#)).await;
    let is_answer = |frame: &Value| match &*frame["type"].to_string() {
        r#""ack""# => frame["id"] == id,
        kind => kind == r#""error""#,
    };
    let answer = peer.next_where("the answer to a refresh", is_answer).await;
    (0, answer["code"].as_str().unwrap_or_default().to_owned())
}

/// Operations of the OpenAPI document that accept a token, as `kind method path`.
fn documented_operations(document: &Value) -> Vec<String> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schemes = operation["security"].as_array().into_iter().flatten();
            for scheme in schemes.flat_map(|scheme| scheme.as_object().unwrap().keys()) {
                if scheme != "key" {
                    operations.push(format!("{scheme} {} {path}", method.to_uppercase()));
                }
            }
        }
    }
    operations
}

/// Checks that this list has each operation of the OpenAPI document that accepts a token.
///
/// # Panics
/// If an operation is missing.
pub(crate) async fn assert_all_operations_listed(auth: SocketAddr) {
    let document = Request::get("/api/openapi.json").send(auth).await.json();
    let name = |kind| match kind {
        TokenKind::Room => "token",
        TokenKind::User => "user",
        TokenKind::Management => "management",
    };
    let listed: Vec<_> = TokenLocation::ALL
        .iter()
        .map(|location| {
            let (method, path) = location.operation();
            format!("{} {method} {path}", name(location.kind()))
        })
        .collect();
    let documented = documented_operations(&document);
    assert!(documented.len() > 30, "{documented:?}");
    let missing: Vec<_> = documented.iter().filter(|operation| !listed.contains(operation)).collect();
    assert!(missing.is_empty(), "operations without a location: {missing:?}");
}
