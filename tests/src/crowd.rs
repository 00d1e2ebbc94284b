//! Many peers, and every credential with which each of them may try to return.
//!
//! Owns: how credentials are issued and tried. Must not: know the expected result of an attempt;
//! the scenario does.

use std::net::SocketAddr;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use signalbox_token::TokenKind;

use crate::{
    cluster::TestCluster,
    http::{Request, Response},
    net::DEADLINE,
    peer::{TestConnection, TestPeer},
    socket::{self, UpgradeError},
    token::TokenBuilder,
};

/// How many peers are handled at the same time.
const CONCURRENCY: usize = 48;

/// The servers of a crowd.
#[derive(Debug, Clone)]
pub struct CrowdServers {
    /// The signaling nodes.
    pub nodes: Vec<SocketAddr>,
    /// The auth service.
    pub auth: SocketAddr,
    basic: String,
}

/// One connected peer and its credentials.
pub struct CrowdMember {
    /// The number of the peer in its crowd.
    pub number: usize,
    /// The user of the peer.
    pub user: String,
    /// The room of the peer.
    pub room: String,
    /// The connection of the peer.
    pub peer: TestPeer,
    token: String,
    user_token: String,
    refresh: String,
    ticket: String,
    handle: String,
    since: u64,
}

/// A way to get access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AccessMethod {
    Ticket,
    Token,
    Resume,
    Takeover,
    NewTicket,
    Refresh,
    UserToken,
}

/// The result of an access attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessOutcome {
    /// Access was granted. Holds the type of the first frame, or the HTTP status.
    Admitted(String),
    /// Rejected with this status and problem code.
    Rejected(u16, String),
    /// The upgrade succeeded, and the connection closed before a first frame.
    Closed,
    /// No response.
    NoAnswer,
}

impl AccessMethod {
    /// Every method. The ticket is first, because it expires after 30 s.
    pub const ALL: [Self; 7] = [
        Self::Ticket,
        Self::Token,
        Self::Resume,
        Self::Takeover,
        Self::NewTicket,
        Self::Refresh,
        Self::UserToken,
    ];

    /// Whether the method is tried at each signaling node, not at the auth service.
    pub fn uses_signaling_node(self) -> bool {
        matches!(self, Self::Ticket | Self::Token | Self::Resume | Self::Takeover)
    }
}

/// Runs `work` for each item, many at the same time. The results are in no order.
pub async fn for_each_concurrent<I: IntoIterator, T>(items: I, work: impl AsyncFn(I::Item) -> T) -> Vec<T> {
    let work = &work;
    stream::iter(items).map(move |item| work(item)).buffer_unordered(CONCURRENCY).collect().await
}

/// Joins `size` peers, `room` peers in each room. The nodes take turns; each peer has its own
/// token. Tickets are issued last, so that they have not expired.
pub async fn join_crowd(cluster: &TestCluster, size: usize, room: usize) -> (CrowdServers, Vec<CrowdMember>) {
    let nodes = cluster.nodes.iter().map(|node| node.address).collect();
    let servers = CrowdServers { nodes, auth: cluster.auth_address(), basic: cluster.basic_auth() };
    let mut crowd =
        for_each_concurrent(0..size, async |number| servers.admit(cluster, number, room).await).await;
    crowd.sort_by_key(|member| member.number);
    for_each_concurrent(&mut crowd, async |member| {
        let response = servers.request_ticket(member).await.expect("a response");
        member.ticket = string_member(&response, "ticket");
        (member.handle, member.since) = member.peer.handle().await;
    })
    .await;
    (servers, crowd)
}

fn string_member(response: &Response, name: &str) -> String {
    assert_eq!(response.status, 200, "{}", response.text);
    response.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", response.text)).to_owned()
}

impl CrowdServers {
    async fn admit(&self, cluster: &TestCluster, number: usize, room: usize) -> CrowdMember {
        let (user, room) = (format!("u{number}"), format!("r{}", number / room));
        let request_body = json!({ "room": room, "user": user, "refresh": true });
        let request = Request::post("/auth/token", &request_body).header("Authorization", self.basic.clone());
        let issued = request.send(self.auth).await;
        let token = string_member(&issued, "token");
        let peer =
            TestConnection::open(self.nodes[number % self.nodes.len()], &token).await.into_peer().await;
        let user_token = TokenBuilder::valid(&room, &user)
            .typ(Some(TokenKind::User.typ()))
            .claim("aud", TokenKind::User.aud())
            .sign(&cluster.secret);
        let refresh = string_member(&issued, "refreshToken");
        let (ticket, handle) = (String::new(), String::new());
        CrowdMember { number, user, room, peer, token, user_token, refresh, ticket, handle, since: 0 }
    }

    async fn request_ticket(&self, member: &CrowdMember) -> Option<Response> {
        let bearer = format!("Bearer {}", member.token);
        Request::post("/auth/ticket", &json!({})).header("Authorization", bearer).try_send(self.auth).await
    }

    /// Tries one method: at every node, or at the auth service.
    pub async fn try_access(&self, member: &CrowdMember, method: AccessMethod) -> Vec<AccessOutcome> {
        let query = match method {
            AccessMethod::Ticket => format!("token={}", member.ticket),
            AccessMethod::Token => format!("token={}", member.token),
            AccessMethod::Resume => format!("resume={}&since={}", member.handle, member.since),
            AccessMethod::Takeover => format!("resume={}", member.handle),
            AccessMethod::NewTicket => {
                return vec![AccessOutcome::from_response(self.request_ticket(member).await)];
            }
            AccessMethod::Refresh => {
                let request = Request::post("/auth/refresh", &json!({ "refreshToken": member.refresh }));
                return vec![AccessOutcome::from_response(request.try_send(self.auth).await)];
            }
            AccessMethod::UserToken => {
                let request = Request::post(format!("/api/rooms/{}/join", member.room), &json!({}))
                    .header("Authorization", format!("Bearer {}", member.user_token));
                return vec![AccessOutcome::from_response(request.try_send(self.auth).await)];
            }
        };
        let mut outcomes = Vec::new();
        for node in &self.nodes {
            outcomes.push(try_connect(*node, &query).await);
        }
        outcomes
    }
}

impl AccessOutcome {
    fn from_response(response: Option<Response>) -> Self {
        let Some(response) = response else { return Self::NoAnswer };
        match response.status {
            200 | 201 => Self::Admitted(response.status.to_string()),
            status => {
                let body: Value = serde_json::from_str(response.body()).unwrap_or_default();
                Self::Rejected(status, body["code"].as_str().unwrap_or_default().to_owned())
            }
        }
    }

    /// Whether access was granted.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Self::Admitted(_))
    }
}

/// Opens a connection and waits for its first frame: an upgrade alone grants no access yet.
async fn try_connect(node: SocketAddr, query: &str) -> AccessOutcome {
    let mut socket = match socket::open(node, query, DEADLINE).await {
        Ok(socket) => socket,
        Err(UpgradeError::Rejected(response)) => return AccessOutcome::from_response(Some(response)),
        Err(UpgradeError::Connection(_)) => return AccessOutcome::NoAnswer,
    };
    while let Ok(Some(Ok(message))) = tokio::time::timeout(DEADLINE, socket.next()).await {
        let Ok(text) = message.to_text() else { continue };
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        match frame["type"].as_str() {
            Some("error") | None => {}
            Some(first) => return AccessOutcome::Admitted(first.to_owned()),
        }
    }
    AccessOutcome::Closed
}
