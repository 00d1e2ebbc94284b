//! Who is let in: judged before the `101`, so that a refused request never becomes a WebSocket (docs/PROTOCOL.md, section 2).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use actix_web::{
    http::header::{self, HeaderMap},
    web::Query,
};
use signalbox_config::ServiceSettings;
use signalbox_http::{check_host, check_origin};
use signalbox_protocol::{
    SUBPROTOCOL, clock,
    id::{PeerId, RoomId},
    problem::Problem,
};
use signalbox_token::{MemoryTicketStore, OpaqueTokenKind, RoomClaims, TokenError};

use crate::{
    resume_handle::{HandleKeys, ResumeHandle},
    ticket_store::{TicketDigest, TicketStore},
    token_keys::TokenKeys,
};

/// Where a request may carry its token or handle.
#[derive(Debug, Clone, Copy)]
pub enum CredentialSource<'a> {
    /// An upgrade: `?token=` or the subprotocol `token.T`.
    Upgrade(&'a str, &'a HeaderMap),
    /// A question about one: `?token=` or `Authorization: Bearer`.
    Validate(&'a str, &'a HeaderMap),
}

/// What a connection is for.
#[derive(Debug)]
pub enum ConnectIntent {
    /// A token: a new peer joins.
    Join {
        /// What the token says.
        claims: Box<RoomClaims>,
        /// The peer it will be.
        peer: PeerId,
    },
    /// A handle and how far its client has come: the peer is back.
    Resume {
        /// What the handle says.
        handle: Box<ResumeHandle>,
        /// The last entry that the client has.
        since: u64,
    },
    /// A handle without more, from a reloaded page: a new peer takes the place of the old one.
    Replace {
        /// What the handle says.
        handle: Box<ResumeHandle>,
        /// The peer it will be.
        peer: PeerId,
    },
}

impl ConnectIntent {
    /// Whether nobody has counted the peer as joined: it comes for the first time, or was in the lobby when it was last heard of. (Should
    /// its `joined` be lost with its socket, it counts twice; that it was let in while it was away looks the same.)
    pub fn is_first_join(&self) -> bool {
        match self {
            Self::Join { .. } => true,
            Self::Resume { handle, .. } | Self::Replace { handle, .. } => handle.member.waiting,
        }
    }

    /// The room.
    pub fn room_id(&self) -> &RoomId {
        match self {
            Self::Join { claims, .. } => &claims.room,
            Self::Resume { handle, .. } | Self::Replace { handle, .. } => &handle.room,
        }
    }

    /// The peer that the connection will serve.
    pub fn peer_id(&self) -> PeerId {
        match self {
            Self::Join { peer, .. } | Self::Replace { peer, .. } => peer.clone(),
            Self::Resume { handle, .. } => handle.peer.clone(),
        }
    }
}

/// A request that may become a connection.
#[derive(Debug)]
pub struct VerifiedRequest {
    /// What it is for.
    pub intent: ConnectIntent,
    /// The ticket it came with, to be used as the last step.
    pub ticket: Option<TicketDigest>,
    /// Whether `signalbox.v1` is to be echoed.
    pub echo_subprotocol: bool,
}

/// The door of one node.
pub struct AdmissionControl {
    token_keys: TokenKeys,
    ticket_store: TicketStore,
    tickets_only: bool,
    handle_keys: Arc<HandleKeys>,
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
    max_connections: AtomicUsize,
    open_connections: AtomicUsize,
    is_draining: AtomicBool,
}

/// A place inside, given back when it is dropped.
pub struct ConnectionPermit(Arc<AdmissionControl>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdmissionControl {
    /// A door that lets at most `most` connections in at a time.
    pub fn new(
        keys: TokenKeys,
        tickets: TicketStore,
        handles: Arc<HandleKeys>,
        allowed_hosts: Vec<String>,
        settings: &ServiceSettings,
    ) -> Arc<Self> {
        let (tickets_only, allowed_origins) =
            (settings.auth.tickets_only, settings.server.allowed_origins.clone());
        let most = settings.limits.connections;
        let (most, inside, draining) = (AtomicUsize::new(most), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self {
            token_keys: keys,
            ticket_store: tickets,
            tickets_only,
            handle_keys: handles,
            allowed_origins,
            allowed_hosts,
            max_connections: most,
            open_connections: inside,
            is_draining: draining,
        })
    }

    /// From now on at most so many connections; who is inside stays.
    pub fn set_max_connections(&self, most: usize) {
        self.max_connections.store(most, Ordering::Relaxed);
    }

    /// Lets nobody in any more.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node stops.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// What tokens are checked with.
    pub fn token_keys(&self) -> &TokenKeys {
        &self.token_keys
    }

    /// Takes a place inside.
    ///
    /// # Errors
    /// 503 `draining` or `overloaded`.
    pub fn acquire_permit(self: &Arc<Self>) -> Result<ConnectionPermit, Problem> {
        if self.is_draining() {
            return Err(Problem::new(
                503,
                "draining",
                "this node is stopping; come back to the same address",
            ));
        }
        if self.open_connections.fetch_add(1, Ordering::Relaxed)
            >= self.max_connections.load(Ordering::Relaxed)
        {
            self.open_connections.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::new(503, "overloaded", "this node has no place left; try again shortly"));
        }
        Ok(ConnectionPermit(self.clone()))
    }

    /// Judges a request; consumes nothing.
    ///
    /// # Errors
    /// The status and code of docs/PROTOCOL.md, section 1.
    pub async fn verify_request(&self, knock: &CredentialSource<'_>) -> Result<VerifiedRequest, Problem> {
        let (CredentialSource::Upgrade(query, headers) | CredentialSource::Validate(query, headers)) = *knock;
        check_host(headers, &self.allowed_hosts)?;
        let mut found = RequestCredentials::from_query(query)?;
        match knock {
            CredentialSource::Upgrade(..) => found.read_subprotocols(headers)?,
            CredentialSource::Validate(..) => found.read_authorization(headers),
        }
        let (wish, ticket) = match found.take_handle()? {
            Some(text) => (self.verify_handle(&text, found.since)?, None),
            None => self.verify_join(&found.take_token()?).await?,
        };
        check_origin(headers, &self.allowed_origins)?;
        Ok(VerifiedRequest { intent: wish, ticket, echo_subprotocol: found.offers_protocol })
    }

    /// Uses a ticket up. Nothing may stand between this and the `101`.
    ///
    /// # Errors
    /// 401 `ticket_used` or `ticket_invalid`, 503 `unavailable`.
    pub async fn redeem_ticket(&self, ticket: &TicketDigest) -> Result<(), Problem> {
        self.ticket_store.redeem_digest(ticket).await
    }

    /// The tickets of this process, where they are kept in it.
    pub fn ticket_shelf(&self) -> Option<MemoryTicketStore> {
        match &self.ticket_store {
            TicketStore::Memory(shelf) => Some(shelf.clone()),
            TicketStore::Redis(_) => None,
        }
    }

    /// A new peer, with a token or a ticket in its place.
    async fn verify_join(&self, text: &str) -> Result<(ConnectIntent, Option<TicketDigest>), Problem> {
        let (claims, ticket) = if OpaqueTokenKind::Ticket.has_prefix(text) {
            let (ticket, claims) = self.ticket_store.look_up_ticket(text).await?;
            (claims, Some(ticket))
        } else if self.tickets_only && !text.is_empty() {
            let detail = "only a ticket opens a connection here; get one from POST /auth/ticket";
            return Err(Problem::new(401, "ticket_required", detail));
        } else {
            (self.token_keys.verify_room_token(text, clock::now_s()).await?, None)
        };
        Ok((ConnectIntent::Join { claims: Box::new(claims), peer: PeerId::random() }, ticket))
    }

    fn verify_handle(&self, text: &str, since: Option<u64>) -> Result<ConnectIntent, Problem> {
        let invalid =
            || Problem::new(401, "resume_invalid", "the handle is not one of ours; join with a token");
        let handle = Box::new(self.handle_keys.open_handle(text).ok_or_else(invalid)?);
        match since {
            Some(since) => Ok(ConnectIntent::Resume { handle, since }),
            None => Ok(ConnectIntent::Replace { handle, peer: PeerId::random() }),
        }
    }
}

/// What a request carries.
struct RequestCredentials {
    tokens: Vec<String>,
    handles: Vec<String>,
    since: Option<u64>,
    offers_protocol: bool,
}

impl RequestCredentials {
    fn from_query(query: &str) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| Problem::new(400, "bad_request", "the query string does not parse"))?
            .into_inner();
        let values = |name: &str| {
            pairs
                .iter()
                .filter(|(found, _)| found == name)
                .map(|(_, value)| value.clone())
                .collect::<Vec<_>>()
        };
        let since = match values("since").as_slice() {
            [] => None,
            [one] => Some(parse_seq(one).ok_or_else(|| {
                Problem::new(400, "bad_request", "`since` must be the last seq, a whole number")
                    .with_field("since")
            })?),
            _ => {
                return Err(
                    Problem::new(400, "bad_request", "`since` stands there twice").with_field("since")
                );
            }
        };
        Ok(Self { tokens: values("token"), handles: values("resume"), since, offers_protocol: false })
    }

    fn read_subprotocols(&mut self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut offered = false;
        let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
        for protocol in lines.flat_map(|line| line.split(',')).map(str::trim) {
            offered = true;
            if protocol == SUBPROTOCOL {
                self.offers_protocol = true;
            } else if let Some(token) = protocol.strip_prefix("token.") {
                self.tokens.push(token.to_owned());
            } else if let Some(handle) = protocol.strip_prefix("resume.") {
                self.handles.push(handle.to_owned());
            }
        }
        if offered && !self.offers_protocol {
            let detail = "none of the offered subprotocols is served here; offer signalbox.v1";
            return Err(Problem::new(400, "bad_request", detail).with_field("Sec-WebSocket-Protocol"));
        }
        Ok(())
    }

    fn read_authorization(&mut self, headers: &HeaderMap) {
        let values = headers.get_all(header::AUTHORIZATION).filter_map(|value| value.to_str().ok());
        self.tokens.extend(values.filter_map(|value| value.strip_prefix("Bearer ")).map(str::to_owned));
    }

    /// The one handle, if there is one.
    fn take_handle(&mut self) -> Result<Option<String>, Problem> {
        let twice = |text| Problem::new(400, "bad_request", text);
        match (self.handles.len(), self.tokens.is_empty()) {
            (0, _) => Ok(None),
            (1, true) => Ok(self.handles.pop()),
            (1, false) => Err(twice("a token and a handle are given; keep one")),
            _ => Err(twice("the handle stands in more than one place; keep one")),
        }
    }

    /// The one token.
    fn take_token(&mut self) -> Result<String, Problem> {
        match self.tokens.len() {
            0 => Err(TokenError::Missing.to_problem()),
            1 => Ok(self.tokens.remove(0)),
            _ => Err(Problem::new(400, "token_twice", "the token stands in more than one place; keep one")),
        }
    }
}

/// A number as the protocol writes it: digits, at most 2^53−1.
fn parse_seq(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|seq| digits && *seq < 1 << 53)
}
