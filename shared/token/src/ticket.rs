//! Tickets: what may stand in a URL, because it is worth nothing afterwards (docs/PROTOCOL.md, section 1).
//!
//! A ticket stands for one room token that has been checked: what is stored under its digest is the token's claims, so that who redeems it
//! checks no signature. It is good once, for [`TICKET_LIFE`]. Redeeming is one atomic step:
//!
//! `SET key used XX GET KEEPTTL` answers what was there: nothing ([`Redeemed::Unknown`]), `used` ([`Redeemed::Used`]), or the claims.
//!
//! The caller of either store still judges the claims: their `exp`, and what was taken back since.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Opaque, OpaqueKind, RoomClaims};

/// How long a ticket is good.
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// What stands in place of the claims of a ticket that was used, for the rest of its life.
pub const TICKET_USED: &str = "used";

/// The most tickets that wait in one process at once.
const MOST: usize = 10_000;

/// What redeeming a ticket gave.
#[derive(Debug, Clone)]
pub enum Redeemed {
    /// It was good, and is used now.
    Claims(Box<RoomClaims>),
    /// It had been used: 401 `ticket_used`.
    Used,
    /// Nobody made it, or its life is over: 401 `ticket_invalid`.
    Unknown,
}

impl Redeemed {
    /// Reads what the store held before.
    pub fn from_stored(before: Option<&str>) -> Self {
        match before {
            Some(TICKET_USED) => Self::Used,
            Some(json) => {
                serde_json::from_str(json).map_or(Self::Unknown, |claims| Self::Claims(Box::new(claims)))
            }
            None => Self::Unknown,
        }
    }
}

/// The digest under which a ticket is stored (`keys::ticket`). None where the text is none.
pub fn ticket_digest(text: &str) -> Option<String> {
    Opaque::parse(OpaqueKind::Ticket, text).map(|ticket| ticket.digest())
}

/// There is no place for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tickets wait to be used")]
pub struct TooManyTickets;

/// The tickets of one process, where the services share it. Clones are the same shelf.
#[derive(Clone, Default)]
pub struct TicketShelf {
    // A std mutex: held for one map operation, or one sweep of a full shelf.
    tickets: Arc<Mutex<HashMap<String, Kept>>>,
}

struct Kept {
    stored: Box<str>,
    until_ms: u64,
}

impl TicketShelf {
    /// Keeps the claims under a digest from `now_ms` on for [`TICKET_LIFE`].
    ///
    /// # Errors
    /// [`TooManyTickets`].
    pub fn put(&self, digest: String, claims: String, now_ms: u64) -> Result<(), TooManyTickets> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= MOST {
            tickets.retain(|_, kept| kept.until_ms > now_ms);
        }
        if tickets.len() >= MOST {
            return Err(TooManyTickets);
        }
        let until_ms = now_ms + TICKET_LIFE.as_millis() as u64;
        tickets.insert(digest, Kept { stored: claims.into(), until_ms });
        Ok(())
    }

    /// Uses a ticket.
    pub fn redeem(&self, digest: &str, now_ms: u64) -> Redeemed {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = tickets.get_mut(digest).filter(|kept| kept.until_ms > now_ms) else {
            return Redeemed::Unknown;
        };
        Redeemed::from_stored(Some(&std::mem::replace(&mut kept.stored, TICKET_USED.into())))
    }

    /// What redeeming it would give; nothing is changed.
    pub fn look(&self, digest: &str, now_ms: u64) -> Redeemed {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = tickets.get(digest).filter(|kept| kept.until_ms > now_ms);
        Redeemed::from_stored(kept.map(|kept| &*kept.stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: &str = r#"{"iss":"signalbox","aud":"signalbox-signal","sub":"u","room":"r","role":"guest",
        "permissions":[],"metadata":{"a": 1},"iat":1,"nbf":1,"exp":2,"jti":"g.1"}"#;

    #[test]
    fn a_ticket_is_good_once_and_for_its_life() {
        let shelf = TicketShelf::default();
        shelf.put("a".to_owned(), CLAIMS.to_owned(), 1_000).unwrap();
        assert!(matches!(shelf.look("a", 1_000), Redeemed::Claims(_)));
        let Redeemed::Claims(claims) = shelf.clone().redeem("a", 30_999) else { panic!("not good") };
        assert_eq!((claims.grant(), claims.metadata.as_ref().unwrap().get()), ("g", r#"{"a": 1}"#));
        assert!(matches!(shelf.look("a", 30_999), Redeemed::Used));
        assert!(matches!(shelf.redeem("a", 30_999), Redeemed::Used));
        assert!(matches!(shelf.redeem("a", 31_000), Redeemed::Unknown));
        assert!(matches!(shelf.redeem("b", 1_000), Redeemed::Unknown));
    }

    #[test]
    fn a_full_shelf_refuses_and_makes_room_of_what_is_over() {
        let shelf = TicketShelf::default();
        for n in 0..MOST {
            shelf.put(n.to_string(), CLAIMS.to_owned(), 0).unwrap();
        }
        assert_eq!(shelf.put("x".to_owned(), CLAIMS.to_owned(), 29_999), Err(TooManyTickets));
        assert_eq!(shelf.put("x".to_owned(), CLAIMS.to_owned(), 30_000), Ok(()));
    }
}
