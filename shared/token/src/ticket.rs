//! Tickets: single-use codes that a URL may contain (docs/PROTOCOL.md, section 1).
//!
//! A ticket stands for one room token that was verified. The store keeps the signed token under the
//! digest of the ticket. A ticket is valid once, within [`TICKET_LIFE`]. It is redeemed in one atomic
//! step: in Redis, `SET key used XX GET KEEPTTL` returns the previous value. That is nothing
//! ([`TicketRedemption::Unknown`]), `used` ([`TicketRedemption::Used`]), or the token.
//!
//! Must not: trust the token. The caller verifies it as a token that it got from the client, because
//! the store is not an authority.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{OpaqueToken, OpaqueTokenKind};

/// The time within which a ticket can be redeemed.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// The stored value of a ticket that was redeemed; it replaces the token until the ticket expires.
pub const USED_TICKET_VALUE: &str = "used";

/// The maximum of tickets in the memory of one process.
const MAX_TICKETS: usize = 10_000;

/// The result of a redeemed ticket. `Debug` is not derived, because it would show the token.
#[derive(Clone, PartialEq, Eq)]
pub enum TicketRedemption {
    /// The ticket was valid, and is used from now on. Holds the signed token, unverified.
    Token(Box<str>),
    /// The ticket was used before: 401 `ticket_used`.
    Used,
    /// The ticket was never issued, or it has expired: 401 `ticket_invalid`.
    Unknown,
}

impl TicketRedemption {
    /// The result for the value that the store had for the ticket.
    pub fn from_stored(value: Option<&str>) -> Self {
        match value {
            Some(USED_TICKET_VALUE) => Self::Used,
            Some(token) => Self::Token(token.into()),
            None => Self::Unknown,
        }
    }
}

/// The digest under which a ticket is stored. None if the text is not a ticket.
pub fn parse_ticket_digest(text: &str) -> Option<String> {
    OpaqueToken::parse(OpaqueTokenKind::Ticket, text).map(|ticket| ticket.digest())
}

/// The store holds its maximum of tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tickets are not redeemed yet; try again later")]
pub struct TooManyTickets;

/// The tickets of one process in which both services run. Clones share the tickets.
#[derive(Clone, Default)]
pub struct MemoryTicketStore {
    // A std mutex: held for one map operation, or for one pass over a full map.
    tickets: Arc<Mutex<HashMap<String, StoredTicket>>>,
}

struct StoredTicket {
    value: Box<str>,
    expires_ms: u64,
}

impl MemoryTicketStore {
    /// Stores a signed token under a digest from `now_ms` (milliseconds since 1970) for [`TICKET_LIFE`].
    ///
    /// # Errors
    /// [`TooManyTickets`].
    pub fn store_ticket(&self, digest: String, token: String, now_ms: u64) -> Result<(), TooManyTickets> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= MAX_TICKETS {
            tickets.retain(|_, ticket| ticket.expires_ms > now_ms);
        }
        if tickets.len() >= MAX_TICKETS {
            return Err(TooManyTickets);
        }
        let expires_ms = now_ms + TICKET_LIFE.as_millis() as u64;
        tickets.insert(digest, StoredTicket { value: token.into(), expires_ms });
        Ok(())
    }

    /// Redeems a ticket.
    pub fn redeem_ticket(&self, digest: &str, now_ms: u64) -> TicketRedemption {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ticket) = tickets.get_mut(digest).filter(|ticket| ticket.expires_ms > now_ms) else {
            return TicketRedemption::Unknown;
        };
        TicketRedemption::from_stored(Some(&std::mem::replace(&mut ticket.value, USED_TICKET_VALUE.into())))
    }

    /// The result that [`MemoryTicketStore::redeem_ticket`] would return. The ticket stays unused.
    pub fn peek_ticket(&self, digest: &str, now_ms: u64) -> TicketRedemption {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = tickets.get(digest).filter(|ticket| ticket.expires_ms > now_ms);
        TicketRedemption::from_stored(ticket.map(|ticket| &*ticket.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "header.claims.signature";

    #[test]
    fn a_ticket_can_be_redeemed_once_within_its_life() {
        let store = MemoryTicketStore::default();
        store.store_ticket("a".to_owned(), TOKEN.to_owned(), 1_000).unwrap();
        let is_token = |redemption| redemption == TicketRedemption::Token(TOKEN.into());
        assert!(is_token(store.peek_ticket("a", 1_000)));
        assert!(is_token(store.clone().redeem_ticket("a", 30_999)));
        assert!(matches!(store.peek_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(store.redeem_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(store.redeem_ticket("a", 31_000), TicketRedemption::Unknown));
        assert!(matches!(store.redeem_ticket("b", 1_000), TicketRedemption::Unknown));
    }

    #[test]
    fn a_full_store_rejects_tickets_until_old_ones_expire() {
        let store = MemoryTicketStore::default();
        for n in 0..MAX_TICKETS {
            store.store_ticket(n.to_string(), TOKEN.to_owned(), 0).unwrap();
        }
        assert_eq!(store.store_ticket("x".to_owned(), TOKEN.to_owned(), 29_999), Err(TooManyTickets));
        assert_eq!(store.store_ticket("x".to_owned(), TOKEN.to_owned(), 30_000), Ok(()));
    }
}
