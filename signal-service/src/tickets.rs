//! Tickets at the door: looked at while an upgrade is judged, used as the last step before its `101`.
//!
//! Owns: the two questions, and that using one is a single atomic step. Must not: make tickets (the auth service does), or judge the
//! claims they stand for (`door`, `standing`).

use std::sync::Arc;

use redis::Value;
use signalbox_protocol::{clock, problem::Problem};
use signalbox_redis::keys;
use signalbox_token::{Redeemed, RoomClaims, TICKET_USED, TicketShelf, TokenError, ticket_digest};

/// Where tickets are.
pub enum Tickets {
    /// In this process, which the auth service shares.
    Here(TicketShelf),
    /// In Redis.
    Shared(Arc<signalbox_redis::Link>),
}

/// A good ticket that is not used yet: its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Tickets {
    /// What a ticket stands for; it stays good.
    ///
    /// # Errors
    /// 401 `ticket_invalid`, `ticket_used` or `token_expired`; 503 `unavailable`.
    pub async fn look(&self, text: &str) -> Result<(Ticket, RoomClaims), Problem> {
        let digest = ticket_digest(text).ok_or_else(invalid)?;
        let found = match self {
            Self::Here(shelf) => shelf.look(&digest, clock::now_ms()),
            Self::Shared(link) => {
                let mut get = redis::cmd("GET");
                let key = keys::ticket(&digest);
                get.arg(&key);
                stored(link, &key, &get).await?
            }
        };
        let claims = claims(found)?;
        Ok((Ticket(digest), claims))
    }

    /// Uses a ticket. One of two who do so at once gets it.
    ///
    /// # Errors
    /// As [`Tickets::look`]. After a 503 it may be used or not, if the store went away in this very step.
    pub async fn redeem(&self, Ticket(digest): &Ticket) -> Result<(), Problem> {
        let found = match self {
            Self::Here(shelf) => shelf.redeem(digest, clock::now_ms()),
            Self::Shared(link) => {
                let mut set = redis::cmd("SET");
                let key = keys::ticket(digest);
                set.arg(&key).arg(TICKET_USED).arg("XX").arg("GET").arg("KEEPTTL");
                stored(link, &key, &set).await?
            }
        };
        claims(found).map(drop)
    }
}

async fn stored(link: &signalbox_redis::Link, key: &str, cmd: &redis::Cmd) -> Result<Redeemed, Problem> {
    let away =
        |_| Problem::new(503, "unavailable", "the store does not answer; keep the ticket and try again");
    Ok(match link.call_key(key, cmd).await.map_err(away)? {
        Value::BulkString(bytes) => Redeemed::from_stored(std::str::from_utf8(&bytes).ok()),
        _ => Redeemed::Unknown,
    })
}

fn claims(found: Redeemed) -> Result<RoomClaims, Problem> {
    match found {
        Redeemed::Claims(claims) if claims.exp <= clock::now_s() => Err(TokenError::Expired.problem()),
        Redeemed::Claims(claims) => Ok(*claims),
        Redeemed::Used => Err(Problem::new(
            401,
            "ticket_used",
            "the ticket has been used; get another from POST /auth/ticket",
        )),
        Redeemed::Unknown => Err(invalid()),
    }
}

fn invalid() -> Problem {
    let detail = "the ticket is not one of ours, or its life is over; get another from POST /auth/ticket";
    Problem::new(401, "ticket_invalid", detail)
}
