//! The store of one process without Redis. Time is handed in.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::id::RoomId;
use signalbox_token::TicketShelf;

use super::contract::{
    Family, Invite, Invited, MOST_INVITES, NewFamily, NewInvite, Refusal, SLACK_MS, Turn, Turned,
};

/// The most families of refresh tokens at once.
const MOST_FAMILIES: usize = 20_000;

/// The most rooms with invites at once.
const MOST_INVITED_ROOMS: usize = 10_000;

/// See the module.
pub struct MemoryStore {
    tickets: TicketShelf,
    // Std mutexes: held for one map operation, or one sweep of a full map.
    families: Mutex<HashMap<String, Kept>>,
    invites: Mutex<HashMap<RoomId, Vec<Invite>>>,
}

struct Kept {
    family: Family,
    now: String,
    /// The one before, and when it was used.
    before: Option<(String, u64)>,
    till_ms: u64,
    end_ms: u64,
    uses: u64,
    dead: bool,
}

impl Kept {
    fn is_forgotten(&self, now_ms: u64) -> bool {
        let last = if self.dead { self.end_ms } else { self.till_ms };
        now_ms >= last + SLACK_MS
    }
}

impl MemoryStore {
    /// An empty one.
    pub fn new(tickets: TicketShelf) -> Self {
        Self { tickets, families: Mutex::default(), invites: Mutex::default() }
    }

    pub(super) fn put_ticket(&self, digest: &str, claims: String, now_ms: u64) -> Result<(), Refusal> {
        self.tickets.put(digest.to_owned(), claims, now_ms).map_err(|_| Refusal::Full)
    }

    pub(super) fn start_family(&self, new: NewFamily, now_ms: u64) -> Result<(), Refusal> {
        let mut families = self.families();
        if families.len() >= MOST_FAMILIES {
            families.retain(|_, kept| !kept.is_forgotten(now_ms));
        }
        if families.len() >= MOST_FAMILIES || families.contains_key(&new.name) {
            return Err(Refusal::Full);
        }
        let kept = Kept {
            family: Family { salt: new.salt, what: new.what, grant: new.grant, born_ms: now_ms },
            now: new.digest,
            before: None,
            till_ms: now_ms + new.life_ms.min(new.longest_ms),
            end_ms: now_ms + new.longest_ms,
            uses: 0,
            dead: false,
        };
        families.insert(new.name, kept);
        Ok(())
    }

    pub(super) fn family(&self, name: &str, now_ms: u64) -> Option<Family> {
        let families = self.families();
        families.get(name).filter(|kept| !kept.is_forgotten(now_ms)).map(|kept| kept.family.clone())
    }

    pub(super) fn turn(&self, turn: &Turn, now_ms: u64) -> Turned {
        let mut families = self.families();
        match families.get_mut(&turn.name).filter(|kept| !kept.is_forgotten(now_ms)) {
            Some(kept) => kept.turn(turn, now_ms),
            None => Turned::Unknown,
        }
    }

    pub(super) fn put_invite(&self, new: NewInvite, now_ms: u64) -> Result<u64, Refusal> {
        let mut rooms = self.invites.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |invite: &Invite| invite.ends_ms + SLACK_MS < now_ms;
        if rooms.len() >= MOST_INVITED_ROOMS {
            rooms.retain(|_, invites| !invites.iter().all(over));
        }
        if rooms.len() >= MOST_INVITED_ROOMS && !rooms.contains_key(&new.room) {
            return Err(Refusal::Full);
        }
        let invites = rooms.entry(new.room).or_default();
        invites.retain(|invite| !over(invite));
        if invites.len() >= MOST_INVITES {
            return Err(Refusal::Full);
        }
        let ends_ms = now_ms + new.life_ms;
        invites.push(Invite { id: new.id, what: new.what, max_uses: new.max_uses, uses: 0, ends_ms });
        Ok(ends_ms)
    }

    pub(super) fn use_invite(&self, room: &RoomId, id: &str, now_ms: u64) -> Invited {
        let mut rooms = self.invites.lock().unwrap_or_else(PoisonError::into_inner);
        let invites = rooms.get_mut(room).into_iter().flatten();
        match invites.into_iter().find(|invite| invite.id == id) {
            None => Invited::Unknown,
            Some(invite) if now_ms >= invite.ends_ms => Invited::Expired,
            Some(invite) if invite.uses >= invite.max_uses => Invited::UsedUp,
            Some(invite) => {
                invite.uses += 1;
                Invited::Good(invite.what.clone())
            }
        }
    }

    pub(super) fn invites(&self, room: &RoomId) -> Vec<Invite> {
        self.invites.lock().unwrap_or_else(PoisonError::into_inner).get(room).cloned().unwrap_or_default()
    }

    pub(super) fn drop_invite(&self, room: &RoomId, id: &str) -> bool {
        let mut rooms = self.invites.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(invites) = rooms.get_mut(room) else { return false };
        let before = invites.len();
        invites.retain(|invite| invite.id != id);
        let dropped = invites.len() < before;
        if invites.is_empty() {
            rooms.remove(room);
        }
        dropped
    }

    pub(super) fn drop_invites(&self, room: &RoomId) {
        self.invites.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
    }

    fn families(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// `rotate.lua`, in Rust.
    fn turn(&mut self, turn: &Turn, now_ms: u64) -> Turned {
        let left_ms = self.end_ms.saturating_sub(now_ms);
        if self.dead {
            return Turned::Reused { first: false, left_ms };
        }
        let again = self.now == turn.successor
            && self
                .before
                .as_ref()
                .is_some_and(|(before, at)| *before == turn.shown && now_ms - at <= turn.grace_ms);
        if self.now != turn.shown && !again {
            self.dead = true;
            self.family.what.clear();
            return Turned::Reused { first: true, left_ms };
        }
        if now_ms >= self.till_ms {
            return Turned::Expired;
        }
        self.uses += 1;
        if !again {
            self.before = Some((turn.shown.clone(), now_ms));
            self.now.clone_from(&turn.successor);
            self.till_ms = now_ms + turn.life_ms.min(left_ms);
        }
        Turned::Next { number: self.uses, left_ms: self.till_ms - now_ms }
    }
}
