//! The tickets of upgrade requests: looked up while a request is verified, redeemed as the last
//! step before the `101`.
//!
//! Owns: both calls; a redemption is one atomic step. Must not: make a ticket (the auth service
//! does), or check the claims of a ticket (`admission`).

use std::sync::Arc;

use redis::Value;
use signalbox_protocol::{clock, problem::Problem};
use signalbox_redis::redis_keys;
use signalbox_token::{
    MemoryTicketStore, RoomClaims, TicketRedemption, TokenError, USED_TICKET_VALUE, parse_ticket_digest,
};

/// The place where tickets are kept.
pub enum TicketStore {
    /// In this process, which the auth service shares.
    Memory(MemoryTicketStore),
    /// In Redis.
    Redis(Arc<signalbox_redis::RedisClient>),
}

/// A good ticket that is not used yet: its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketDigest(String);

impl TicketStore {
    /// What a ticket stands for; it stays good.
    ///
    /// # Errors
    /// 401 `ticket_invalid`, `ticket_used` or `token_expired`; 503 `unavailable`.
    pub async fn look_up_ticket(&self, text: &str) -> Result<(TicketDigest, RoomClaims), Problem> {
        let digest = parse_ticket_digest(text).ok_or_else(ticket_invalid)?;
        let found = match self {
            Self::Memory(shelf) => shelf.peek_ticket(&digest, clock::now_ms()),
            Self::Redis(link) => {
                let mut get = redis::cmd("GET");
                let key = redis_keys::ticket_key(&digest);
                get.arg(&key);
                call_ticket_key(link, &key, &get).await?
            }
        };
        let claims = require_claims(found)?;
        Ok((TicketDigest(digest), claims))
    }

    /// Uses a ticket. One of two who do so at once gets it.
    ///
    /// # Errors
    /// As [`TicketStore::look_up_ticket`]. After a 503 it may be used or not, if the store went
    /// away in this very step.
    pub async fn redeem_digest(&self, TicketDigest(digest): &TicketDigest) -> Result<(), Problem> {
        let found = match self {
            Self::Memory(shelf) => shelf.redeem_ticket(digest, clock::now_ms()),
            Self::Redis(link) => {
                let mut set = redis::cmd("SET");
                let key = redis_keys::ticket_key(digest);
                set.arg(&key).arg(USED_TICKET_VALUE).arg("XX").arg("GET").arg("KEEPTTL");
                call_ticket_key(link, &key, &set).await?
            }
        };
        require_claims(found).map(drop)
    }
}

async fn call_ticket_key(
    link: &signalbox_redis::RedisClient,
    key: &str,
    cmd: &redis::Cmd,
) -> Result<TicketRedemption, Problem> {
    let away =
        |_| Problem::new(503, "unavailable", "the store does not answer; keep the ticket and try again");
    Ok(match link.run_key_command(key, cmd).await.map_err(away)? {
        Value::BulkString(bytes) => TicketRedemption::from_stored(std::str::from_utf8(&bytes).ok()),
        _ => TicketRedemption::Unknown,
    })
}

fn require_claims(found: TicketRedemption) -> Result<RoomClaims, Problem> {
    match found {
        TicketRedemption::Claims(claims) if claims.exp <= clock::now_s() => {
            Err(TokenError::Expired.to_problem())
        }
        TicketRedemption::Claims(claims) => Ok(*claims),
        TicketRedemption::Used => Err(Problem::new(
            401,
            "ticket_used",
            "the ticket has been used; get another from POST /auth/ticket",
        )),
        TicketRedemption::Unknown => Err(ticket_invalid()),
    }
}

fn ticket_invalid() -> Problem {
    let detail = "the ticket is not one of ours, or its life is over; get another from POST /auth/ticket";
    Problem::new(401, "ticket_invalid", detail)
}
