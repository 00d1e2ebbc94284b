//! The credential store of one process without Redis.
//!
//! Owns: the same rules as the scripts in `lua/`, in Rust. Must not: read a clock; the caller
//! passes the time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use signalbox_protocol::id::{CallerId, RoomId};
use signalbox_redis::redis_keys;
use signalbox_token::{MemoryTicketStore, TicketHolder};

use super::{
    contract::{
        CredentialLimits, CredentialStoreError, EXPIRED_RETENTION_MS, FamilyHolder, Invite, InviteUse,
        MAX_ROOM_INVITES, NewInvite, NewRefreshFamily, RefreshFamily, RefreshRotation, RefreshRotationResult,
    },
    place_table::PlaceTable,
};

/// See the module.
pub struct MemoryCredentialStore {
    tickets: MemoryTicketStore,
    limits: CredentialLimits,
    // Std mutexes: held for some map operations.
    families: Mutex<FamilyTable>,
    invites: Mutex<InviteTable>,
}

#[derive(Default)]
struct FamilyTable {
    families: HashMap<String, StoredFamily>,
    places: PlaceTable,
}

#[derive(Default)]
struct InviteTable {
    rooms: HashMap<RoomId, Vec<Invite>>,
    places: PlaceTable,
}

struct StoredFamily {
    family: RefreshFamily,
    current_digest: String,
    /// The digest before, and when its token was used, ms since 1970.
    previous: Option<(String, u64)>,
    token_ends_ms: u64,
    uses: u64,
    revoked: bool,
}

impl StoredFamily {
    fn retained_until_ms(&self) -> u64 {
        let last = if self.revoked { self.family.ends_ms } else { self.token_ends_ms };
        last + EXPIRED_RETENTION_MS
    }

    fn is_past_retention(&self, now_ms: u64) -> bool {
        now_ms >= self.retained_until_ms()
    }
}

/// The lists of a root and of its user.
fn family_lists(holder: &FamilyHolder) -> [String; 2] {
    let root = holder.root.to_string();
    [redis_keys::root_families_key(&root), redis_keys::user_families_key(&root, &holder.user)]
}

impl FamilyTable {
    /// Removes the families of a root whose retention has ended.
    fn remove_expired(&mut self, root_list: &str, now_ms: u64) {
        for id in self.places.expired(root_list, now_ms) {
            self.places.release(root_list, &id);
            if let Some(stored) = self.families.remove(&id) {
                let [_, user_list] = family_lists(&stored.family.holder);
                self.places.release(&user_list, &id);
            }
        }
    }
}

/// The name of an invite in the list of its API key.
fn invite_record(room: &RoomId, id: &str) -> String {
    format!("{room} {id}")
}

impl InviteTable {
    fn remove(&mut self, room: &RoomId, id: &str) -> bool {
        let Some(invites) = self.rooms.get_mut(room) else { return false };
        let Some(position) = invites.iter().position(|invite| invite.id == id) else { return false };
        let Invite { key, .. } = invites.remove(position);
        if invites.is_empty() {
            self.rooms.remove(room);
        }
        self.places.release(&redis_keys::key_invites_key(&key), &invite_record(room, id));
        true
    }

    /// Removes the invites of an API key whose retention has ended.
    fn remove_expired(&mut self, key: &CallerId, now_ms: u64) {
        for record in self.places.expired(&redis_keys::key_invites_key(key), now_ms) {
            let (room, id) = record.split_once(' ').unwrap_or_default();
            if let Ok(room) = RoomId::parse(room) {
                self.remove(&room, id);
            }
        }
    }
}

impl MemoryCredentialStore {
    /// An empty store.
    pub fn new(tickets: MemoryTicketStore, limits: CredentialLimits) -> Self {
        Self { tickets, limits, families: Mutex::default(), invites: Mutex::default() }
    }

    pub(super) fn put_ticket(&self, digest: &str, token: String, holder: TicketHolder, now_ms: u64) {
        self.tickets.store_ticket(digest.to_owned(), token, holder, now_ms);
    }

    pub(super) fn start_family(
        &self,
        new: NewRefreshFamily,
        now_ms: u64,
    ) -> Result<usize, CredentialStoreError> {
        let mut table = self.lock_families();
        if table.families.contains_key(&new.family_id) {
            return Err(CredentialStoreError::Full);
        }
        let stored = StoredFamily {
            family: RefreshFamily {
                salt: new.salt,
                terms_json: new.terms_json,
                grant: new.grant,
                holder: new.holder,
                created_ms: now_ms,
                ends_ms: now_ms + new.family_life_ms,
            },
            current_digest: new.first_digest,
            previous: None,
            token_ends_ms: now_ms + new.token_life_ms.min(new.family_life_ms),
            uses: 0,
            revoked: false,
        };
        let [root_list, user_list] = family_lists(&stored.family.holder);
        table.remove_expired(&root_list, now_ms);
        let share = (&*root_list, self.limits.root_families);
        let user_share = Some((&*user_list, self.limits.user_families));
        let retained_until_ms = stored.retained_until_ms();
        let taken = table.places.take_place(&new.family_id, retained_until_ms, share, user_share);
        let replaced = taken.ok_or(CredentialStoreError::NoPlace)?;
        replaced.iter().for_each(|family| _ = table.families.remove(family));
        table.families.insert(new.family_id, stored);
        Ok(replaced.len())
    }

    pub(super) fn load_family(&self, family_id: &str, now_ms: u64) -> Option<RefreshFamily> {
        let table = self.lock_families();
        let stored = table.families.get(family_id).filter(|stored| !stored.is_past_retention(now_ms))?;
        Some(stored.family.clone())
    }

    pub(super) fn rotate_refresh_token(
        &self,
        rotation: &RefreshRotation,
        now_ms: u64,
    ) -> RefreshRotationResult {
        let mut table = self.lock_families();
        let FamilyTable { families, places } = &mut *table;
        match families.get_mut(&rotation.family_id).filter(|stored| !stored.is_past_retention(now_ms)) {
            Some(stored) => {
                let result = stored.rotate(rotation, now_ms);
                let lists = family_lists(&stored.family.holder);
                places.extend(&lists, &rotation.family_id, stored.retained_until_ms());
                result
            }
            None => RefreshRotationResult::Unknown,
        }
    }

    pub(super) fn put_invite(&self, new: NewInvite, now_ms: u64) -> Result<u64, CredentialStoreError> {
        let mut table = self.lock_invites();
        table.remove_expired(&new.key, now_ms);
        let invites = table.rooms.get(&new.room).map(Vec::as_slice).unwrap_or_default();
        let is_kept = |invite: &&Invite| invite.ends_ms + EXPIRED_RETENTION_MS > now_ms;
        if invites.iter().filter(is_kept).count() >= MAX_ROOM_INVITES {
            return Err(CredentialStoreError::Full);
        }
        let ends_ms = now_ms + new.life_ms;
        let (list, record) = (redis_keys::key_invites_key(&new.key), invite_record(&new.room, &new.id));
        let share = (&*list, self.limits.key_invites);
        let taken = table.places.take_place(&record, ends_ms + EXPIRED_RETENTION_MS, share, None);
        taken.ok_or(CredentialStoreError::NoPlace)?;
        table.rooms.entry(new.room).or_default().push(Invite {
            id: new.id,
            key: new.key,
            terms_json: new.terms_json,
            max_uses: new.max_uses,
            uses: 0,
            ends_ms,
        });
        Ok(ends_ms)
    }

    pub(super) fn use_invite(&self, room: &RoomId, id: &str, now_ms: u64) -> InviteUse {
        let mut table = self.lock_invites();
        let invites = table.rooms.get_mut(room).into_iter().flatten();
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
        self.lock_invites().rooms.get(room).cloned().unwrap_or_default()
    }

    pub(super) fn delete_invite(&self, room: &RoomId, id: &str) -> bool {
        self.lock_invites().remove(room, id)
    }

    pub(super) fn delete_room_invites(&self, room: &RoomId) {
        let mut table = self.lock_invites();
        let invites = table.rooms.get(room).cloned().unwrap_or_default();
        invites.iter().for_each(|invite| _ = table.remove(room, &invite.id));
    }

    fn lock_families(&self) -> MutexGuard<'_, FamilyTable> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_invites(&self) -> MutexGuard<'_, InviteTable> {
        self.invites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredFamily {
    /// The same steps as `rotate_refresh_token.lua`.
    fn rotate(&mut self, rotation: &RefreshRotation, now_ms: u64) -> RefreshRotationResult {
        let left_ms = self.family.ends_ms.saturating_sub(now_ms);
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
