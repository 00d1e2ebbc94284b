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
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use signalbox_protocol::CredentialRoot;

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

/// The root and the grant of the token of a ticket. The ticket takes a place of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TicketHolder {
    /// The root.
    pub root: CredentialRoot,
    /// The grant.
    pub grant: Box<str>,
}

/// The tickets of one process in which both services run. Clones share the tickets.
#[derive(Clone, Default)]
pub struct MemoryTicketStore {
    // A std mutex: held for one map operation, or for one pass over a full map.
    tickets: Arc<Mutex<HashMap<String, StoredTicket>>>,
}

struct StoredTicket {
    value: Box<str>,
    holder: TicketHolder,
    expires_ms: u64,
}

impl MemoryTicketStore {
    /// Stores a signed token under a digest from `now_ms` (milliseconds since 1970) for
    /// [`TICKET_LIFE`]. In a full store, the root that has most tickets loses one, of its grant that
    /// has most, so that no tenant and no peer takes the places of another.
    pub fn store_ticket(&self, digest: String, token: String, holder: TicketHolder, now_ms: u64) {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= MAX_TICKETS {
            tickets.retain(|_, ticket| ticket.expires_ms > now_ms);
        }
        if tickets.len() >= MAX_TICKETS {
            remove_ticket_of_largest(&mut tickets);
        }
        let expires_ms = now_ms + TICKET_LIFE.as_millis() as u64;
        tickets.insert(digest, StoredTicket { value: token.into(), holder, expires_ms });
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

/// Removes the oldest ticket of the grant that has most, of the root that has most.
fn remove_ticket_of_largest(tickets: &mut HashMap<String, StoredTicket>) {
    let (mut of_root, mut of_holder) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
    for StoredTicket { holder, .. } in tickets.values() {
        *of_root.entry(&holder.root).or_default() += 1;
        *of_holder.entry(holder).or_default() += 1;
    }
    let oldest = tickets.iter().max_by_key(|(_, StoredTicket { holder, expires_ms, .. })| {
        (of_root[&holder.root], of_holder[holder], Reverse(*expires_ms))
    });
    if let Some(digest) = oldest.map(|(digest, _)| digest.clone()) {
        tickets.remove(&digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "header.claims.signature";

    fn holder(root: &str, grant: &str) -> TicketHolder {
        TicketHolder { root: CredentialRoot::parse(root).unwrap(), grant: grant.into() }
    }

    #[test]
    fn a_ticket_can_be_redeemed_once_within_its_life() {
        let store = MemoryTicketStore::default();
        store.store_ticket("a".to_owned(), TOKEN.to_owned(), holder("key:backend", "g"), 1_000);
        let is_token = |redemption| redemption == TicketRedemption::Token(TOKEN.into());
        assert!(is_token(store.peek_ticket("a", 1_000)));
        assert!(is_token(store.clone().redeem_ticket("a", 30_999)));
        assert!(matches!(store.peek_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(store.redeem_ticket("a", 30_999), TicketRedemption::Used));
        assert!(matches!(store.redeem_ticket("a", 31_000), TicketRedemption::Unknown));
        assert!(matches!(store.redeem_ticket("b", 1_000), TicketRedemption::Unknown));
    }

    #[test]
    fn a_flood_of_tickets_replaces_those_of_its_own_root_and_grant() {
        let store = MemoryTicketStore::default();
        let put = |digest: String, root: &str, grant: &str, now_ms| {
            store.store_ticket(digest, TOKEN.to_owned(), holder(root, grant), now_ms);
        };
        put("globex".to_owned(), "key:globex", "g", 0);
        put("acme".to_owned(), "key:acme", "other", 0);
        for n in 0..MAX_TICKETS + 2 {
            put(n.to_string(), "key:acme", "flood", 1 + n as u64);
        }
        let is_kept = |digest: &str| store.peek_ticket(digest, 29_999) != TicketRedemption::Unknown;
        assert!(is_kept("globex") && is_kept("acme"));
        let kept = (0..MAX_TICKETS + 2).filter(|n| is_kept(&n.to_string()));
        assert_eq!(kept.min(), Some(4), "the oldest tickets of the flood are replaced");
    }
}
