//! The tickets of upgrade requests: looked up while a request is verified, redeemed as the last
//! step before the `101`.
//!
//! Owns: both calls; a redemption is one atomic step. Must not: issue a ticket (the auth service
//! does), or trust what the store has for it: `admission` verifies the token.

use std::sync::Arc;

use redis::Value;
use signalbox_protocol::{clock, problem::Problem};
use signalbox_redis::{KeyCommand, RedisCommand, redis_keys};
use signalbox_token::{MemoryTicketStore, TicketRedemption, USED_TICKET_VALUE, parse_ticket_digest};

/// The place where tickets are kept.
pub enum TicketStore {
    /// In this process, which the auth service shares.
    Memory(MemoryTicketStore),
    /// In Redis.
    Redis(Arc<signalbox_redis::RedisClient>),
}

/// The digest of a valid ticket that is not used yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketDigest(String);

impl TicketStore {
    /// The signed token of a ticket, which stays valid. The token is not verified yet.
    ///
    /// # Errors
    /// 401 `ticket_invalid` or `ticket_used`; 503 `unavailable`.
    pub async fn look_up_ticket(&self, text: &str) -> Result<(TicketDigest, Box<str>), Problem> {
        let digest = parse_ticket_digest(text).ok_or_else(ticket_invalid)?;
        let stored = match self {
            Self::Memory(tickets) => tickets.peek_ticket(&digest, clock::now_ms()),
            Self::Redis(client) => {
                let get = KeyCommand::new(RedisCommand::Get, redis_keys::ticket_key(&digest));
                call_ticket_key(client, &get).await?
            }
        };
        let token = require_token(stored)?;
        Ok((TicketDigest(digest), token))
    }

    /// Redeems a ticket. Of two requests at the same time only one succeeds.
    ///
    /// # Errors
    /// As [`TicketStore::look_up_ticket`]. After a 503 the ticket may be used or not.
    pub async fn redeem_digest(&self, TicketDigest(digest): &TicketDigest) -> Result<(), Problem> {
        let stored = match self {
            Self::Memory(tickets) => tickets.redeem_ticket(digest, clock::now_ms()),
            Self::Redis(client) => {
                let set = KeyCommand::new(RedisCommand::Set, redis_keys::ticket_key(digest));
                let set = set.arg(USED_TICKET_VALUE).arg(&["XX", "GET", "KEEPTTL"]);
                call_ticket_key(client, &set).await?
            }
        };
        require_token(stored).map(drop)
    }
}

async fn call_ticket_key(
    client: &signalbox_redis::RedisClient,
    command: &KeyCommand,
) -> Result<TicketRedemption, Problem> {
    let unavailable = |_: signalbox_redis::RedisUnavailable| {
        Problem::new(503, "unavailable", "the store does not answer; keep the ticket and try again")
    };
    Ok(match client.run_command(command).await.map_err(unavailable)? {
        Value::BulkString(bytes) => TicketRedemption::from_stored(std::str::from_utf8(&bytes).ok()),
        Value::Nil => TicketRedemption::Unknown,
        // A reply that this release does not understand says nothing about the ticket.
        _ => return Err(unavailable(signalbox_redis::RedisUnavailable)),
    })
}

fn require_token(redemption: TicketRedemption) -> Result<Box<str>, Problem> {
    match redemption {
        TicketRedemption::Token(token) => Ok(token),
        TicketRedemption::Used => Err(Problem::new(
            401,
            "ticket_used",
            "the ticket was used before; get another one from POST /auth/ticket",
        )),
        TicketRedemption::Unknown => Err(ticket_invalid()),
    }
}

fn ticket_invalid() -> Problem {
    let detail = "the ticket is unknown or has expired; get another one from POST /auth/ticket";
    Problem::new(401, "ticket_invalid", detail)
}
