//! Who is let in: judged before the `101`, so that a refused request never becomes a WebSocket (docs/PROTOCOL.md, section 2).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use actix_web::{
    http::header::{self, HeaderMap},
    web::Query,
};
use signalbox_http::{check_host, check_origin};
use signalbox_shared::{
    clock,
    problem::Problem,
    protocol::SUBPROTOCOL,
    token::{RoomClaims, TokenError, Verifier},
};

/// Where a request may carry its token.
#[derive(Debug, Clone, Copy)]
pub enum Knock<'a> {
    /// An upgrade: `?token=` or the subprotocol `token.T`.
    Upgrade(&'a str, &'a HeaderMap),
    /// A question about one: `?token=` or `Authorization: Bearer`.
    Question(&'a str, &'a HeaderMap),
}

/// A request that may become a connection.
#[derive(Debug)]
pub struct Admission {
    /// What its token says.
    pub claims: RoomClaims,
    /// Whether `signalbox.v1` is to be echoed.
    pub echo_subprotocol: bool,
}

/// The door of one node.
pub struct Door {
    verifier: Verifier,
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
    most: usize,
    inside: AtomicUsize,
    draining: AtomicBool,
}

/// A place inside, given back when it is dropped.
pub struct Place(Arc<Door>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// A door that lets at most `most` connections in at a time.
    pub fn new(
        verifier: Verifier,
        allowed_origins: Vec<String>,
        allowed_hosts: Vec<String>,
        most: usize,
    ) -> Arc<Self> {
        let (inside, draining) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { verifier, allowed_origins, allowed_hosts, most, inside, draining })
    }

    /// Lets nobody in any more.
    pub fn close(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node stops.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Takes a place inside.
    ///
    /// # Errors
    /// 503 `draining` or `overloaded`.
    pub fn enter(self: &Arc<Self>) -> Result<Place, Problem> {
        if self.is_draining() {
            return Err(Problem::new(
                503,
                "draining",
                "this node is stopping; come back to the same address",
            ));
        }
        if self.inside.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.inside.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::new(503, "overloaded", "this node has no place left; try again shortly"));
        }
        Ok(Place(self.clone()))
    }

    /// Judges a request; consumes nothing.
    ///
    /// # Errors
    /// The status and code of docs/PROTOCOL.md, section 1.
    pub fn judge(&self, knock: &Knock<'_>) -> Result<Admission, Problem> {
        let (Knock::Upgrade(query, headers) | Knock::Question(query, headers)) = *knock;
        check_host(headers, &self.allowed_hosts)?;
        let mut found = Found::in_query(query)?;
        match knock {
            Knock::Upgrade(..) => found.in_subprotocols(headers)?,
            Knock::Question(..) => found.in_authorization(headers),
        }
        let claims = self.verifier.room(&found.token()?, clock::now_s()).map_err(TokenError::problem)?;
        check_origin(headers, &self.allowed_origins)?;
        Ok(Admission { claims, echo_subprotocol: found.versioned })
    }
}

/// What a request carries.
struct Found {
    tokens: Vec<String>,
    resumes: usize,
    versioned: bool,
}

impl Found {
    fn in_query(query: &str) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| Problem::new(400, "bad_request", "the query string does not parse"))?
            .into_inner();
        let resumes = pairs.iter().filter(|(name, _)| name == "resume").count();
        let tokens = pairs.into_iter().filter(|(name, _)| name == "token").map(|(_, value)| value).collect();
        Ok(Self { tokens, resumes, versioned: false })
    }

    fn in_subprotocols(&mut self, headers: &HeaderMap) -> Result<(), Problem> {
        let mut offered = false;
        let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
        for protocol in lines.flat_map(|line| line.split(',')).map(str::trim) {
            offered = true;
            if protocol == SUBPROTOCOL {
                self.versioned = true;
            } else if let Some(token) = protocol.strip_prefix("token.") {
                self.tokens.push(token.to_owned());
            } else if protocol.starts_with("resume.") {
                self.resumes += 1;
            }
        }
        if offered && !self.versioned {
            let detail = "none of the offered subprotocols is served here; offer signalbox.v1";
            return Err(Problem::new(400, "bad_request", detail).field("Sec-WebSocket-Protocol"));
        }
        Ok(())
    }

    fn in_authorization(&mut self, headers: &HeaderMap) {
        let values = headers.get_all(header::AUTHORIZATION).filter_map(|value| value.to_str().ok());
        self.tokens.extend(values.filter_map(|value| value.strip_prefix("Bearer ")).map(str::to_owned));
    }

    /// The one token.
    fn token(&mut self) -> Result<String, Problem> {
        if self.resumes > 0 {
            let detail = "coming back to a peer is not offered here; connect with a token";
            return Err(Problem::new(401, "resume_invalid", detail));
        }
        match self.tokens.len() {
            0 => Err(TokenError::Missing.problem()),
            1 => Ok(self.tokens.remove(0)),
            _ => Err(Problem::new(400, "token_twice", "the token stands in more than one place; keep one")),
        }
    }
}
