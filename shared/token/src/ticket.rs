//! Tickets: single-use codes that a URL may contain (docs/PROTOCOL.md, section 1).
//!
//! A ticket stands for one room token that was verified. The store keeps the claims of the token
//! under the digest of the ticket, so no signature is checked when the ticket is redeemed. A ticket
//! is valid once, within [`TICKET_LIFE`]. It is redeemed in one atomic step: in Redis,
//! `SET key used XX GET KEEPTTL` returns the previous value. That is nothing
//! ([`TicketRedemption::Unknown`]), `used` ([`TicketRedemption::Used`]), or the claims.
//!
//! Must not: check the claims. The caller checks `exp` and the access rules.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{OpaqueToken, OpaqueTokenKind, RoomClaims};

/// The time within which a ticket can be redeemed.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// The stored value of a ticket that was redeemed; it replaces the claims until the ticket expires.
pub const USED_TICKET_VALUE: &str = "used";

/// The maximum of tickets in the memory of one process.
const MAX_TICKETS: usize = 10_000;

/// The result of a redeemed ticket.
#[derive(Debug, Clone)]
pub enum TicketRedemption {
    /// The ticket was valid, and is used from now on.
    Claims(Box<RoomClaims>),
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
            Some(json) => {
                serde_json::from_str(json).map_or(Self::Unknown, |claims| Self::Claims(Box::new(claims)))
            }
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
    /// Stores the claims under a digest from `now_ms` (milliseconds since 1970) for [`TICKET_LIFE`].
    ///
    /// # Errors
    /// [`TooManyTickets`].
    pub fn store_ticket(&self, digest: String, claims: String, now_ms: u64) -> Result<(), TooManyTickets> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= MAX_TICKETS {
            tickets.retain(|_, ticket| ticket.expires_ms > now_ms);
        }
        if tickets.len() >= MAX_TICKETS {
            return Err(TooManyTickets);
        }
        let expires_ms = now_ms + TICKET_LIFE.as_millis() as u64;
        tickets.insert(digest, StoredTicket { value: claims.into(), expires_ms });
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

    const CLAIMS: &str = r#"{"iss":"signalbox","aud":"signalbox-signal","sub":"u","room":"r","role":"guest",
        "permissions":[],"metadata":{"a": 1},"iat":1,"nbf":1,"exp":2,"jti":"g.1"}"#;

    #[test]
    fn a_ticket_can_be_redeemed_once_within_its_life() {
        let store = MemoryTicketStore::default();
        store.store_ticket("a".to_owned(), CLAIMS.to_owned(), 1_000).unwrap();
        assert!(matches!(store.peek_ticket("a", 1_000), TicketRedemption::Claims(_)));
        let TicketRedemption::Claims(claims) = store.clone().redeem_ticket("a", 30_999) else {
            panic!("the ticket is not valid")
        };
        assert_eq!((claims.grant(), claims.metadata.as_ref().unwrap().get()), ("g", r#"{"a": 1}"#));
        assert!(matches!(store.peek_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(store.redeem_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(store.redeem_ticket("a", 31_000), TicketRedemption::Unknown));
        assert!(matches!(store.redeem_ticket("b", 1_000), TicketRedemption::Unknown));
    }

    #[test]
    fn a_full_store_rejects_tickets_until_old_ones_expire() {
        let store = MemoryTicketStore::default();
        for n in 0..MAX_TICKETS {
            store.store_ticket(n.to_string(), CLAIMS.to_owned(), 0).unwrap();
        }
        assert_eq!(store.store_ticket("x".to_owned(), CLAIMS.to_owned(), 29_999), Err(TooManyTickets));
        assert_eq!(store.store_ticket("x".to_owned(), CLAIMS.to_owned(), 30_000), Ok(()));
    }
}
