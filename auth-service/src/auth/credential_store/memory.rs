//! The credential store of one process without Redis.
//!
//! Owns: the same rules as the scripts in `lua/`, in Rust. Must not: read a clock; the caller
//! passes the time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::id::RoomId;
use signalbox_token::MemoryTicketStore;

use super::contract::{
    CredentialStoreError, EXPIRED_RETENTION_MS, Invite, InviteUse, MAX_ROOM_INVITES, NewInvite,
    NewRefreshFamily, RefreshFamily, RefreshRotation, RefreshRotationResult,
};

/// The most refresh families at once.
const MAX_FAMILIES: usize = 20_000;

/// The most rooms with invites at once.
const MAX_ROOMS_WITH_INVITES: usize = 10_000;

/// See the module.
pub struct MemoryCredentialStore {
    tickets: MemoryTicketStore,
    // Std mutexes: held for one map operation, or one sweep of a full map.
    families: Mutex<HashMap<String, StoredFamily>>,
    invites: Mutex<HashMap<RoomId, Vec<Invite>>>,
}

struct StoredFamily {
    family: RefreshFamily,
    current_digest: String,
    /// The digest before, and when its token was used, ms since 1970.
    previous: Option<(String, u64)>,
    token_ends_ms: u64,
    family_ends_ms: u64,
    uses: u64,
    revoked: bool,
}

impl StoredFamily {
    fn is_past_retention(&self, now_ms: u64) -> bool {
        let last = if self.revoked { self.family_ends_ms } else { self.token_ends_ms };
        now_ms >= last + EXPIRED_RETENTION_MS
    }
}

impl MemoryCredentialStore {
    /// An empty store.
    pub fn new(tickets: MemoryTicketStore) -> Self {
        Self { tickets, families: Mutex::default(), invites: Mutex::default() }
    }

    pub(super) fn put_ticket(
        &self,
        digest: &str,
        token: String,
        now_ms: u64,
    ) -> Result<(), CredentialStoreError> {
        self.tickets.store_ticket(digest.to_owned(), token, now_ms).map_err(|_| CredentialStoreError::Full)
    }

    pub(super) fn start_family(
        &self,
        new: NewRefreshFamily,
        now_ms: u64,
    ) -> Result<(), CredentialStoreError> {
        let mut families = self.lock_families();
        if families.len() >= MAX_FAMILIES {
            families.retain(|_, stored| !stored.is_past_retention(now_ms));
        }
        if families.len() >= MAX_FAMILIES || families.contains_key(&new.family_id) {
            return Err(CredentialStoreError::Full);
        }
        let stored = StoredFamily {
            family: RefreshFamily {
                salt: new.salt,
                terms_json: new.terms_json,
                grant: new.grant,
                created_ms: now_ms,
            },
            current_digest: new.first_digest,
            previous: None,
            token_ends_ms: now_ms + new.token_life_ms.min(new.family_life_ms),
            family_ends_ms: now_ms + new.family_life_ms,
            uses: 0,
            revoked: false,
        };
        families.insert(new.family_id, stored);
        Ok(())
    }

    pub(super) fn load_family(&self, family_id: &str, now_ms: u64) -> Option<RefreshFamily> {
        let families = self.lock_families();
        let stored = families.get(family_id).filter(|stored| !stored.is_past_retention(now_ms))?;
        Some(stored.family.clone())
    }

    pub(super) fn rotate_refresh_token(
        &self,
        rotation: &RefreshRotation,
        now_ms: u64,
    ) -> RefreshRotationResult {
        let mut families = self.lock_families();
        match families.get_mut(&rotation.family_id).filter(|stored| !stored.is_past_retention(now_ms)) {
            Some(stored) => stored.rotate(rotation, now_ms),
            None => RefreshRotationResult::Unknown,
        }
    }

    pub(super) fn put_invite(&self, new: NewInvite, now_ms: u64) -> Result<u64, CredentialStoreError> {
        let mut rooms = self.invites.lock().unwrap_or_else(PoisonError::into_inner);
        let is_past_retention = |invite: &Invite| invite.ends_ms + EXPIRED_RETENTION_MS < now_ms;
        if rooms.len() >= MAX_ROOMS_WITH_INVITES {
            rooms.retain(|_, invites| !invites.iter().all(is_past_retention));
        }
        if rooms.len() >= MAX_ROOMS_WITH_INVITES && !rooms.contains_key(&new.room) {
            return Err(CredentialStoreError::Full);
        }
        let invites = rooms.entry(new.room).or_default();
        invites.retain(|invite| !is_past_retention(invite));
        if invites.len() >= MAX_ROOM_INVITES {
            return Err(CredentialStoreError::Full);
        }
        let ends_ms = now_ms + new.life_ms;
        invites.push(Invite {
            id: new.id,
            terms_json: new.terms_json,
            max_uses: new.max_uses,
            uses: 0,
            ends_ms,
        });
        Ok(ends_ms)
    }

    pub(super) fn use_invite(&self, room: &RoomId, id: &str, now_ms: u64) -> InviteUse {
        let mut rooms = self.invites.lock().unwrap_or_else(PoisonError::into_inner);
        let invites = rooms.get_mut(room).into_iter().flatten();
        match invites.into_iter().find(|invite| invite.id == id) {
            None => InviteUse::Unknown,
            Some(invite) if now_ms >= invite.ends_ms => InviteUse::Expired,
            Some(invite) if invite.uses >= invite.max_uses => InviteUse::UsedUp,
            Some(invite) => {
                invite.uses += 1;
                InviteUse::Accepted(invite.terms_json.clone())
            }
        }
    }

    pub(super) fn list_invites(&self, room: &RoomId) -> Vec<Invite> {
        self.invites.lock().unwrap_or_else(PoisonError::into_inner).get(room).cloned().unwrap_or_default()
    }

    pub(super) fn delete_invite(&self, room: &RoomId, id: &str) -> bool {
        let mut rooms = self.invites.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(invites) = rooms.get_mut(room) else { return false };
        let before = invites.len();
        invites.retain(|invite| invite.id != id);
        let was_deleted = invites.len() < before;
        if invites.is_empty() {
            rooms.remove(room);
        }
        was_deleted
    }

    pub(super) fn delete_room_invites(&self, room: &RoomId) {
        self.invites.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
    }

    fn lock_families(&self) -> MutexGuard<'_, HashMap<String, StoredFamily>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredFamily {
    /// The same steps as `rotate_refresh_token.lua`.
    fn rotate(&mut self, rotation: &RefreshRotation, now_ms: u64) -> RefreshRotationResult {
        let left_ms = self.family_ends_ms.saturating_sub(now_ms);
        if self.revoked {
            return RefreshRotationResult::Reused { first: false, left_ms };
        }
        let is_repeat = self.current_digest == rotation.successor_digest
            && self.previous.as_ref().is_some_and(|(before, at)| {
                *before == rotation.presented_digest && now_ms - at <= rotation.repeat_ms
            });
        if self.current_digest != rotation.presented_digest && !is_repeat {
            self.revoked = true;
            self.family.terms_json.clear();
            return RefreshRotationResult::Reused { first: true, left_ms };
        }
        if now_ms >= self.token_ends_ms {
            return RefreshRotationResult::Expired;
        }
        self.uses += 1;
        if !is_repeat {
            self.previous = Some((rotation.presented_digest.clone(), now_ms));
            self.current_digest.clone_from(&rotation.successor_digest);
            self.token_ends_ms = now_ms + rotation.successor_life_ms.min(left_ms);
        }
        RefreshRotationResult::Rotated { number: self.uses, left_ms: self.token_ends_ms - now_ms }
    }
}
