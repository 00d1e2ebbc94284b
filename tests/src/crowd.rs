//! Many peers, each with everything that lets somebody in, and every way in that they may try.
//!
//! Owns: how it is issued, and how it is tried. Must not: know what should come of a try; the scenario does.

use std::net::SocketAddr;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use signalbox_token::TokenKind;

use crate::{
    cluster::TestCluster,
    http::{Request, Response},
    net::DEADLINE,
    peer::{Link, TestPeer},
    socket::{self, Refusal},
    token::Forgery,
};

/// So many are busy at a time.
const AT_ONCE: usize = 48;

/// Where a crowd is.
#[derive(Debug, Clone)]
pub struct Places {
    /// The signaling nodes.
    pub nodes: Vec<SocketAddr>,
    /// The auth service.
    pub auth: SocketAddr,
    basic: String,
}

/// One of them, connected, and what it holds.
pub struct Held {
    /// Which of them.
    pub number: usize,
    /// Its user.
    pub user: String,
    /// Its room.
    pub room: String,
    /// Its connection.
    pub peer: TestPeer,
    token: String,
    user_token: String,
    refresh: String,
    ticket: String,
    handle: String,
    since: u64,
}

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Way {
    Ticket,
    Token,
    Resume,
    Takeover,
    NewTicket,
    Refresh,
    UserToken,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It is in, or was given what lets it in; the type of the first frame, or the status.
    In(String),
    /// Refused with this problem.
    Refused(u16, String),
    /// Upgraded, and closed without having been in.
    Closed,
    /// No answer.
    Lost,
}

impl Way {
    /// Every way. A ticket comes first: it ends by itself after half a minute.
    pub const ALL: [Self; 7] = [
        Self::Ticket,
        Self::Token,
        Self::Resume,
        Self::Takeover,
        Self::NewTicket,
        Self::Refresh,
        Self::UserToken,
    ];

    /// Whether it is tried at each node, not at the auth service.
    pub fn is_of_nodes(self) -> bool {
        matches!(self, Self::Ticket | Self::Token | Self::Resume | Self::Takeover)
    }
}

/// Does this for each, many at a time; what came of it, in any order.
pub async fn each<I: IntoIterator, T>(items: I, work: impl AsyncFn(I::Item) -> T) -> Vec<T> {
    let work = &work;
    stream::iter(items).map(move |item| work(item)).buffer_unordered(AT_ONCE).collect().await
}

/// Lets so many in, `room` to a room, on the nodes in turn, each with a token that was issued to it. Tickets come last, so that they are
/// fresh.
pub async fn gather(cluster: &TestCluster, size: usize, room: usize) -> (Places, Vec<Held>) {
    let nodes = cluster.nodes.iter().map(|node| node.address).collect();
    let places = Places { nodes, auth: cluster.auth_address(), basic: cluster.basic() };
    let mut crowd = each(0..size, async |number| places.admit(cluster, number, room).await).await;
    crowd.sort_by_key(|held| held.number);
    each(&mut crowd, async |held| {
        let answer = places.new_ticket(held).await.expect("an answer");
        held.ticket = text(&answer, "ticket");
        (held.handle, held.since) = held.peer.handle().await;
    })
    .await;
    (places, crowd)
}

fn text(answer: &Response, name: &str) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()[name].as_str().unwrap_or_else(|| panic!("no {name}: {}", answer.text)).to_owned()
}

impl Places {
    async fn admit(&self, cluster: &TestCluster, number: usize, room: usize) -> Held {
        let (user, room) = (format!("u{number}"), format!("r{}", number / room));
        let wish = json!({ "room": room, "user": user, "refresh": true });
        let request = Request::post("/auth/token", &wish).header("Authorization", self.basic.clone());
        let issued = request.send(self.auth).await;
        let token = text(&issued, "token");
        let peer = Link::open(self.nodes[number % self.nodes.len()], &token).await.into_peer().await;
        let user_token = Forgery::good(&room, &user)
            .typ(Some(TokenKind::User.typ()))
            .claim("aud", TokenKind::User.aud())
            .sign(&cluster.secret);
        let refresh = text(&issued, "refreshToken");
        let (ticket, handle) = (String::new(), String::new());
        Held { number, user, room, peer, token, user_token, refresh, ticket, handle, since: 0 }
    }

    async fn new_ticket(&self, held: &Held) -> Option<Response> {
        let bearer = format!("Bearer {}", held.token);
        Request::post("/auth/ticket", &json!({})).header("Authorization", bearer).try_send(self.auth).await
    }

    /// Tries one way in: at every node, or at the auth service.
    pub async fn try_way(&self, held: &Held, way: Way) -> Vec<Outcome> {
        let query = match way {
            Way::Ticket => format!("token={}", held.ticket),
            Way::Token => format!("token={}", held.token),
            Way::Resume => format!("resume={}&since={}", held.handle, held.since),
            Way::Takeover => format!("resume={}", held.handle),
            Way::NewTicket => return vec![Outcome::of(self.new_ticket(held).await)],
            Way::Refresh => {
                let request = Request::post("/auth/refresh", &json!({ "refreshToken": held.refresh }));
                return vec![Outcome::of(request.try_send(self.auth).await)];
            }
            Way::UserToken => {
                let request = Request::post(format!("/api/rooms/{}/join", held.room), &json!({}))
                    .header("Authorization", format!("Bearer {}", held.user_token));
                return vec![Outcome::of(request.try_send(self.auth).await)];
            }
        };
        let mut outcomes = Vec::new();
        for node in &self.nodes {
            outcomes.push(knock(*node, &query).await);
        }
        outcomes
    }
}

impl Outcome {
    fn of(answer: Option<Response>) -> Self {
        let Some(answer) = answer else { return Self::Lost };
        match answer.status {
            200 | 201 => Self::In(answer.status.to_string()),
            status => {
                let body: Value = serde_json::from_str(answer.body()).unwrap_or_default();
                Self::Refused(status, body["code"].as_str().unwrap_or_default().to_owned())
            }
        }
    }

    /// Whether it got somebody in.
    pub fn is_in(&self) -> bool {
        matches!(self, Self::In(_))
    }
}

/// An upgrade, and what is said first on it: to be upgraded is not to be in yet.
async fn knock(node: SocketAddr, query: &str) -> Outcome {
    let mut socket = match socket::open(node, query, DEADLINE).await {
        Ok(socket) => socket,
        Err(Refusal::Answered(answer)) => return Outcome::of(Some(answer)),
        Err(Refusal::Lost(_)) => return Outcome::Lost,
    };
    while let Ok(Some(Ok(message))) = tokio::time::timeout(DEADLINE, socket.next()).await {
        let Ok(text) = message.to_text() else { continue };
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        match frame["type"].as_str() {
            Some("error") | None => {}
            Some(first) => return Outcome::In(first.to_owned()),
        }
    }
    Outcome::Closed
}
