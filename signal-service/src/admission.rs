//! Admission of a connection before its `101`, so that a refused request never becomes a WebSocket
//! (docs/PROTOCOL.md, section 2).
//!
//! Owns: the permits, the credentials of a request and what they stand for, the checks of address,
//! access rules and room. Must not: change a room: a join or resume may still fail after the `101`.
//! Next: `connection::upgrade` and `app` call it in order: permit, credentials, authorization,
//! ticket.
//!
//! A rule that changes is published first; then `access_enforcer` checks the connections. A
//! connection is registered first; then it is checked, here and again after its commit
//! (`connection::join`). So the rule or the connection finds the other. On another node the rule
//! holds as soon as that node has read it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{
    http::header::{self, HeaderMap},
    web::Query,
};
use signalbox_access::{AccessControl, AccessRefusal};
use signalbox_config::ServiceSettings;
use signalbox_http::RequestGate;
use signalbox_protocol::{
    SUBPROTOCOL, clock,
    id::{PeerId, RoomId},
    problem::Problem,
};
use signalbox_rooms::{
    room::{InputOutcome, PeerClaim, RoomInput},
    store::StoreUnavailable,
};
use signalbox_token::{MemoryTicketStore, OpaqueTokenKind, RoomClaims, TokenError, TokenVerifier};

use tokio::time::Instant;

use crate::{
    connection_subject::ConnectionSubject,
    peer_rate::{AttachKind, FrameRate, PeerRate, PeerRates},
    registry::RoomRegistry,
    resume_handle::{HandleKeys, ResumeHandle},
    room_token::{HandleToken, RoomToken, decode_token},
    ticket_store::{TicketDigest, TicketStore},
    token_keys::TokenKeys,
};

/// The place of the credentials: the query and the headers of a request.
#[derive(Debug, Clone, Copy)]
pub enum CredentialSource<'a> {
    /// An upgrade: `?token=` or the subprotocol `token.T`.
    Upgrade(&'a str, &'a HeaderMap),
    /// `GET /ws/validate`: `Authorization`, or the query.
    Validate(&'a str, &'a HeaderMap),
}

/// The intent of a connection.
#[derive(Debug)]
pub enum ConnectIntent {
    /// With a token: a new peer joins.
    Join {
        /// The token.
        token: Box<RoomToken>,
        /// The id of the new peer.
        peer: PeerId,
    },
    /// With a handle and a seq: a peer resumes.
    Resume {
        /// The handle.
        handle: Box<ResumeHandle>,
        /// The last entry that the client has.
        since: u64,
    },
    /// With a handle only, from a reloaded page: a new peer replaces the old one.
    Replace {
        /// The handle.
        handle: Box<ResumeHandle>,
        /// The id of the new peer.
        peer: PeerId,
    },
}

impl ConnectIntent {
    /// Whether the peer was never counted as joined: it is new, or it was in the lobby when its
    /// handle was created. It counts twice if its `joined` was lost with its socket, or if a
    /// moderator admitted it while it was detached.
    pub fn is_first_join(&self) -> bool {
        match self {
            Self::Join { .. } => true,
            Self::Resume { handle, .. } | Self::Replace { handle, .. } => handle.member.waiting,
        }
    }

    /// The room that the peer joins or resumes in.
    pub fn room_id(&self) -> &RoomId {
        &self.token().claims.room
    }

    /// The token of the peer.
    pub fn token(&self) -> &RoomToken {
        match self {
            Self::Join { token, .. } => token,
            Self::Resume { handle, .. } | Self::Replace { handle, .. } => &handle.token,
        }
    }

    /// The peer that the connection will serve.
    pub fn peer_id(&self) -> PeerId {
        match self {
            Self::Join { peer, .. } | Self::Replace { peer, .. } => peer.clone(),
            Self::Resume { handle, .. } => handle.peer.clone(),
        }
    }

    fn to_subject(&self, address: Option<IpAddr>) -> ConnectionSubject {
        let claims = &self.token().claims;
        ConnectionSubject {
            room: claims.room.clone(),
            user: claims.sub.clone(),
            token: claims.jti.clone(),
            issued_s: claims.iat,
            root: claims.credential_root(),
            address,
        }
    }
}

/// A request whose credentials are valid.
#[derive(Debug)]
pub struct VerifiedRequest {
    /// The intent.
    pub intent: ConnectIntent,
    /// The ticket of the request, which the last step before the `101` redeems.
    pub ticket: Option<TicketDigest>,
    /// Whether the answer must name the subprotocol `signalbox.v1`.
    pub echo_subprotocol: bool,
}

/// The admission control of one node.
pub struct AdmissionControl {
    token_keys: TokenKeys,
    verifier: TokenVerifier,
    peer_rates: PeerRates,
    ticket_store: TicketStore,
    tickets_only: bool,
    handle_keys: Arc<HandleKeys>,
    access_control: Arc<AccessControl>,
    registry: Arc<RoomRegistry>,
    gate: RequestGate,
    max_connections: AtomicUsize,
    open_connections: AtomicUsize,
    is_draining: AtomicBool,
}

/// The permit of one connection. A drop returns it.
pub struct ConnectionPermit(Arc<AdmissionControl>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdmissionControl {
    /// An admission control with the settings of the node.
    pub fn new(
        token_keys: TokenKeys,
        ticket_store: TicketStore,
        handle_keys: Arc<HandleKeys>,
        access_control: Arc<AccessControl>,
        registry: Arc<RoomRegistry>,
        gate: RequestGate,
        settings: &ServiceSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            verifier: token_keys.verifier().clone(),
            peer_rates: PeerRates::default(),
            token_keys,
            ticket_store,
            tickets_only: settings.auth.tickets_only,
            handle_keys,
            access_control,
            registry,
            gate,
            max_connections: AtomicUsize::new(settings.limits.connections),
            open_connections: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
        })
    }

    /// Changes the number of connections; open connections stay.
    pub fn set_max_connections(&self, max_connections: usize) {
        self.max_connections.store(max_connections, Ordering::Relaxed);
    }

    /// Admits no more connections.
    pub fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node drains.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// The hosts, web sites and proxies of the configuration.
    pub fn gate(&self) -> &RequestGate {
        &self.gate
    }

    /// The keys that verify tokens.
    pub fn token_keys(&self) -> &TokenKeys {
        &self.token_keys
    }

    /// The tickets of this process, if it keeps them itself.
    pub fn ticket_shelf(&self) -> Option<MemoryTicketStore> {
        match &self.ticket_store {
            TicketStore::Memory(tickets) => Some(tickets.clone()),
            TicketStore::Redis(_) => None,
        }
    }

    /// Takes a permit for one connection.
    ///
    /// # Errors
    /// 503 `draining` or `overloaded`.
    pub fn acquire_permit(self: &Arc<Self>) -> Result<ConnectionPermit, Problem> {
        if self.is_draining() {
            return Err(Problem::new(
                503,
                "draining",
                "this node is draining; connect to the same address again",
            ));
        }
        if self.open_connections.fetch_add(1, Ordering::Relaxed)
            >= self.max_connections.load(Ordering::Relaxed)
        {
            self.open_connections.fetch_sub(1, Ordering::Relaxed);
            let detail = "this node has reached its maximum of connections; try again later";
            return Err(Problem::new(503, "overloaded", detail));
        }
        Ok(ConnectionPermit(self.clone()))
    }

    /// Verifies host, credentials and origin of a request. A ticket stays valid.
    ///
    /// # Errors
    /// The status and code of docs/PROTOCOL.md, section 1.
    pub async fn verify_request(&self, source: &CredentialSource<'_>) -> Result<VerifiedRequest, Problem> {
        let (CredentialSource::Upgrade(query, headers) | CredentialSource::Validate(query, headers)) =
            *source;
        self.gate.check_host(headers)?;
        let mut credentials = RequestCredentials::from_query(query)?;
        match source {
            CredentialSource::Upgrade(..) => credentials.read_subprotocols(headers)?,
            CredentialSource::Validate(..) => credentials.read_authorization(headers),
        }
        let (intent, ticket) = match credentials.take_handle()? {
            Some(text) => (self.verify_handle(&text, credentials.since).await?, None),
            None => self.verify_join(&credentials.take_token()?).await?,
        };
        self.gate.check_origin(headers)?;
        Ok(VerifiedRequest { intent, ticket, echo_subprotocol: credentials.offers_protocol })
    }

    /// Checks a verified request against the access rules and the room. `socket_address` is the
    /// other end of the socket, perhaps a proxy. Also returns the cost of the connection in frames.
    ///
    /// # Errors
    /// 401 `token_revoked`, `resume_expired`, `resume_replaced` or `token_expired`, 403 `banned` or
    /// `address_denied`, 429 `rate_limited`, 503 `shut_down` or `unavailable`.
    pub async fn authorize_request(
        &self,
        request: &VerifiedRequest,
        headers: &HeaderMap,
        socket_address: Option<IpAddr>,
    ) -> Result<(ConnectionSubject, u32), Problem> {
        let address = self.gate.client_address(socket_address, headers);
        let subject = request.intent.to_subject(address);
        self.check_access(&subject)?;
        // A request that is refused in any case must not cost a call of the store.
        self.check_connection_rate(&subject, AttachKind::Resume.cost(0))?;
        let members = self.check_room(&request.intent).await?;
        let kind = match request.intent {
            ConnectIntent::Resume { .. } => AttachKind::Resume,
            ConnectIntent::Join { .. } | ConnectIntent::Replace { .. } => AttachKind::NewPeer,
        };
        Ok((subject, kind.cost(members)))
    }

    /// Whether the rate limit of the peer allows another connection of this cost now. A peer that
    /// is new to this node has no bucket, and its first connection is free.
    ///
    /// # Errors
    /// 429 `rate_limited`.
    pub fn check_connection_rate(&self, subject: &ConnectionSubject, cost: u32) -> Result<(), Problem> {
        let Some(bucket) = self.peer_rates.find(subject) else { return Ok(()) };
        bucket.check_attach(self.frame_rate(), cost, Instant::now()).map_err(rate_limited)
    }

    /// As [`AdmissionControl::check_connection_rate`], and charges the cost. Returns the bucket.
    ///
    /// # Errors
    /// 429 `rate_limited`.
    pub fn charge_connection(
        &self,
        subject: &ConnectionSubject,
        cost: u32,
    ) -> Result<Arc<PeerRate>, Problem> {
        let (rate, now) = (self.frame_rate(), Instant::now());
        let Some(bucket) = self.peer_rates.find(subject) else {
            return Ok(self.peer_rates.find_or_create(subject, rate, now));
        };
        bucket.check_attach(rate, cost, now).map_err(rate_limited)?;
        bucket.charge_extra(rate, cost);
        Ok(bucket)
    }

    /// The rate limits of the peers of this node.
    pub fn peer_rates(&self) -> &PeerRates {
        &self.peer_rates
    }

    fn frame_rate(&self) -> FrameRate {
        self.registry.context().limits.burst_and_rate().into()
    }

    /// Redeems a ticket. Nothing may come between this and the `101`.
    ///
    /// # Errors
    /// 401 `ticket_used` or `ticket_invalid`, 503 `unavailable`.
    pub async fn redeem_ticket(&self, ticket: &TicketDigest) -> Result<(), Problem> {
        self.ticket_store.redeem_digest(ticket).await
    }

    /// Verifies a room token. A token whose key is unknown waits for the published keys.
    ///
    /// # Errors
    /// 401 with the code of the defect; 503 `unavailable` if its key is unknown and the keys cannot be
    /// fetched.
    pub async fn verify_room_token(&self, token: &str) -> Result<RoomToken, Problem> {
        let claims = self.verify_with(token, TokenVerifier::verify_room_token).await?;
        let bytes = decode_token(token).ok_or_else(|| TokenError::Malformed.to_problem())?;
        let handle_token = HandleToken::new(bytes, &claims).into();
        Ok(RoomToken { claims, handle_token })
    }

    async fn verify_with(
        &self,
        token: &str,
        verify: fn(&TokenVerifier, &str, u64) -> Result<RoomClaims, TokenError>,
    ) -> Result<RoomClaims, Problem> {
        let mut verified = verify(&self.verifier, token, clock::now_s());
        if let Err(refusal @ (TokenError::BadSignature | TokenError::KeysUnavailable)) = verified {
            self.token_keys.fetch_missing_key(token, refusal).await?;
            verified = verify(&self.verifier, token, clock::now_s());
        }
        verified.map_err(TokenError::to_problem)
    }

    /// A new peer, with a token or a ticket.
    async fn verify_join(&self, text: &str) -> Result<(ConnectIntent, Option<TicketDigest>), Problem> {
        let (token, ticket) = if OpaqueTokenKind::Ticket.has_prefix(text) {
            let (ticket, token) = self.ticket_store.look_up_ticket(text).await?;
            (self.verify_room_token(&token).await?, Some(ticket))
        } else if self.tickets_only && !text.is_empty() {
            let detail = "this server accepts only tickets here; get one from POST /auth/ticket";
            return Err(Problem::new(401, "ticket_required", detail));
        } else {
            (self.verify_room_token(text).await?, None)
        };
        Ok((ConnectIntent::Join { token: Box::new(token), peer: PeerId::random() }, ticket))
    }

    /// Opens a handle and verifies its token. The token may have expired: the room may know a newer
    /// token of the peer.
    async fn verify_handle(&self, text: &str, since: Option<u64>) -> Result<ConnectIntent, Problem> {
        let invalid =
            || Problem::new(401, "resume_invalid", "this server did not issue the handle; join with a token");
        let opened = self.handle_keys.open_handle(text).ok_or_else(invalid)?;
        let claims = self
            .verify_with(&opened.token, TokenVerifier::verify_expired_room_token)
            .await
            .map_err(|problem| if problem.status == 401 { invalid() } else { problem })?;
        let handle = Box::new(opened.into_handle(claims));
        match since {
            Some(since) => Ok(ConnectIntent::Resume { handle, since }),
            None => Ok(ConnectIntent::Replace { handle, peer: PeerId::random() }),
        }
    }

    /// Checks a connection against the access rules. Rules that may be old admit no new connection.
    fn check_access(&self, subject: &ConnectionSubject) -> Result<(), Problem> {
        let rules = self.access_control.rules();
        rules
            .check_access(&subject.access_subject(), self.access_control.now_ms())
            .map_err(AccessRefusal::to_problem)?;
        if self.access_control.is_current() {
            return Ok(());
        }
        let detail = "this node has not loaded the access rules yet; keep the token or handle and try again";
        Err(Problem::new(503, "unavailable", detail))
    }

    /// Checks that the store answers, and for a handle that the room would accept it. It changes
    /// nothing, so a join or resume may still fail later. Returns the number of members that this
    /// node knows.
    async fn check_room(&self, intent: &ConnectIntent) -> Result<usize, Problem> {
        let unavailable = |StoreUnavailable| {
            let detail = "the store does not answer; keep the token or handle and try again";
            Problem::new(503, "unavailable", detail)
        };
        if !self.registry.context().store.is_room_available(intent.room_id()) {
            return Err(unavailable(StoreUnavailable));
        }
        let input = match intent {
            ConnectIntent::Join { .. } => return Ok(self.registry.member_count(intent.room_id())),
            ConnectIntent::Resume { handle, .. } => RoomInput::Attach(Box::new(self.build_claim(handle))),
            ConnectIntent::Replace { handle, peer } => RoomInput::Replace {
                old_peer: Box::new(self.build_claim(handle)),
                new_peer: peer.clone(),
                mailbox_version: 1,
            },
        };
        let room = self.registry.get_or_create_room(intent.room_id());
        match room.preview_outcome(input).await.map_err(unavailable)? {
            InputOutcome::TokenExpired => Err(TokenError::Expired.to_problem()),
            outcome => outcome.resume_problem().map_or(Ok(room.member_count()), Err),
        }
    }

    fn build_claim(&self, handle: &ResumeHandle) -> PeerClaim {
        let context = self.registry.context();
        handle.to_claim(&context.node_id, context.store.now_ms(), clock::now_s())
    }
}

fn rate_limited(wait: Duration) -> Problem {
    let detail = "this peer connects or sends too often; keep the token or handle and try again later";
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let mut problem = Problem::new(429, "rate_limited", detail);
    problem.retry_after = Some(seconds);
    problem
}

/// The credentials that a request carries.
struct RequestCredentials {
    tokens: Vec<String>,
    handles: Vec<String>,
    since: Option<u64>,
    offers_protocol: bool,
}

impl RequestCredentials {
    fn from_query(query: &str) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| Problem::new(400, "bad_request", "the query string could not be parsed"))?
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
                Problem::new(400, "bad_request", "`since` must be the last seq, an integer")
                    .with_field("since")
            })?),
            _ => {
                return Err(Problem::new(400, "bad_request", "`since` occurs twice").with_field("since"));
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
            let detail = "this server serves none of the offered subprotocols; offer signalbox.v1";
            return Err(Problem::new(400, "bad_request", detail).with_field("Sec-WebSocket-Protocol"));
        }
        Ok(())
    }

    /// A token after `Bearer`, or a handle after `Resume`.
    fn read_authorization(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(header::AUTHORIZATION).filter_map(|value| value.to_str().ok()) {
            if let Some(token) = value.strip_prefix("Bearer ") {
                self.tokens.push(token.to_owned());
            } else if let Some(handle) = value.strip_prefix("Resume ") {
                self.handles.push(handle.to_owned());
            }
        }
    }

    /// The only handle, if there is one.
    fn take_handle(&mut self) -> Result<Option<String>, Problem> {
        let bad_request = |text| Problem::new(400, "bad_request", text);
        match (self.handles.len(), self.tokens.is_empty()) {
            (0, _) => Ok(None),
            (1, true) => Ok(self.handles.pop()),
            (1, false) => Err(bad_request("the request has a token and a handle; send only one of them")),
            _ => Err(bad_request("the request has more than one handle; send only one")),
        }
    }

    /// The only token.
    fn take_token(&mut self) -> Result<String, Problem> {
        match self.tokens.len() {
            0 => Err(TokenError::Missing.to_problem()),
            1 => Ok(self.tokens.remove(0)),
            _ => Err(Problem::new(400, "token_twice", "the request has more than one token; send only one")),
        }
    }
}

/// A seq as the protocol writes it: digits, at most 2^53−1.
fn parse_seq(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|seq| digits && *seq < 1 << 53)
}
