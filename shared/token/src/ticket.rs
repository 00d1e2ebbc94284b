//! Tickets: what may stand in a URL, because it is worth nothing afterwards (docs/PROTOCOL.md, section 1).
//!
//! A ticket stands for one room token that has been checked: what is stored under its digest is the token's claims, so that who redeems it
//! checks no signature. It is good once, for [`TICKET_LIFE`]. Redeeming is one atomic step:
//!
//! `SET key used XX GET KEEPTTL` answers what was there: nothing ([`TicketRedemption::Unknown`]), `used` ([`TicketRedemption::Used`]), or the claims.
//!
//! The caller of either store still judges the claims: their `exp`, and what was taken back since.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{OpaqueToken, OpaqueTokenKind, RoomClaims};

/// How long a ticket is good.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// What stands in place of the claims of a ticket that was used, for the rest of its life.
pub const USED_TICKET_VALUE: &str = "used";

/// The most tickets that wait in one process at once.
const MAX_TICKETS: usize = 10_000;

/// What redeeming a ticket gave.
#[derive(Debug, Clone)]
pub enum TicketRedemption {
    /// It was good, and is used now.
    Claims(Box<RoomClaims>),
    /// It had been used: 401 `ticket_used`.
    Used,
    /// Nobody made it, or its life is over: 401 `ticket_invalid`.
    Unknown,
}

impl TicketRedemption {
    /// Reads what the store held before.
    pub fn from_stored(before: Option<&str>) -> Self {
        match before {
            Some(USED_TICKET_VALUE) => Self::Used,
            Some(json) => {
                serde_json::from_str(json).map_or(Self::Unknown, |claims| Self::Claims(Box::new(claims)))
            }
            None => Self::Unknown,
        }
    }
}

/// The digest under which a ticket is stored (`keys::ticket`). None where the text is none.
pub fn parse_ticket_digest(text: &str) -> Option<String> {
    OpaqueToken::parse(OpaqueTokenKind::Ticket, text).map(|ticket| ticket.digest())
}

/// There is no place for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tickets wait to be used")]
pub struct TooManyTickets;

/// The tickets of one process, where the services share it. Clones are the same shelf.
#[derive(Clone, Default)]
pub struct MemoryTicketStore {
    // A std mutex: held for one map operation, or one sweep of a full shelf.
    tickets: Arc<Mutex<HashMap<String, StoredTicket>>>,
}

struct StoredTicket {
    value: Box<str>,
    expires_ms: u64,
}

impl MemoryTicketStore {
    /// Keeps the claims under a digest from `now_ms` on for [`TICKET_LIFE`].
    ///
    /// # Errors
    /// [`TooManyTickets`].
    pub fn store_ticket(&self, digest: String, claims: String, now_ms: u64) -> Result<(), TooManyTickets> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= MAX_TICKETS {
            tickets.retain(|_, kept| kept.expires_ms > now_ms);
        }
        if tickets.len() >= MAX_TICKETS {
            return Err(TooManyTickets);
        }
        let until_ms = now_ms + TICKET_LIFE.as_millis() as u64;
        tickets.insert(digest, StoredTicket { value: claims.into(), expires_ms: until_ms });
        Ok(())
    }

    /// Uses a ticket.
    pub fn redeem_ticket(&self, digest: &str, now_ms: u64) -> TicketRedemption {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = tickets.get_mut(digest).filter(|kept| kept.expires_ms > now_ms) else {
            return TicketRedemption::Unknown;
        };
        TicketRedemption::from_stored(Some(&std::mem::replace(&mut kept.value, USED_TICKET_VALUE.into())))
    }

    /// What redeeming it would give; nothing is changed.
    pub fn peek_ticket(&self, digest: &str, now_ms: u64) -> TicketRedemption {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = tickets.get(digest).filter(|kept| kept.expires_ms > now_ms);
        TicketRedemption::from_stored(kept.map(|kept| &*kept.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: &str = r#"{"iss":"signalbox","aud":"signalbox-signal","sub":"u","room":"r","role":"guest",
        "permissions":[],"metadata":{"a": 1},"iat":1,"nbf":1,"exp":2,"jti":"g.1"}"#;

    #[test]
    fn a_ticket_can_be_redeemed_once_within_its_life() {
        let shelf = MemoryTicketStore::default();
        shelf.store_ticket("a".to_owned(), CLAIMS.to_owned(), 1_000).unwrap();
        assert!(matches!(shelf.peek_ticket("a", 1_000), TicketRedemption::Claims(_)));
        let TicketRedemption::Claims(claims) = shelf.clone().redeem_ticket("a", 30_999) else {
            panic!("not good")
        };
        assert_eq!((claims.grant(), claims.metadata.as_ref().unwrap().get()), ("g", r#"{"a": 1}"#));
        assert!(matches!(shelf.peek_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(shelf.redeem_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(shelf.redeem_ticket("a", 31_000), TicketRedemption::Unknown));
        assert!(matches!(shelf.redeem_ticket("b", 1_000), TicketRedemption::Unknown));
    }

    #[test]
    fn a_full_store_rejects_tickets_until_old_ones_expire() {
        let shelf = MemoryTicketStore::default();
        for n in 0..MAX_TICKETS {
            shelf.store_ticket(n.to_string(), CLAIMS.to_owned(), 0).unwrap();
        }
        assert_eq!(shelf.store_ticket("x".to_owned(), CLAIMS.to_owned(), 29_999), Err(TooManyTickets));
        assert_eq!(shelf.store_ticket("x".to_owned(), CLAIMS.to_owned(), 30_000), Ok(()));
    }
}
