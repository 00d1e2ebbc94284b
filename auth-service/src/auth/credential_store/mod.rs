//! The credentials that the auth service stores: refresh families, tickets and invites. Each of
//! them expires. A token carries all its claims, so no token is stored.
//!
//! - [`CredentialStore`]: in Redis, or in this process if there is no Redis
//! - [`contract`]: the records and results; `conformance`: the tests for both stores
//! - `place_table`: the places that the records of a caller take, in memory
//!
//! Redis is not an authority: a record is sealed with a key that no node holds (`keys::RecordSeal`).
//!
//! Owns: one atomic step for each change. Must not: see a secret (it gets digests only), or know
//! the meaning of the terms. Every wait has a deadline.

#[cfg(test)]
mod conformance;
pub mod contract;
mod memory;
mod place_table;
mod redis;

use std::sync::Arc;

use signalbox_protocol::{clock, id::RoomId};
use signalbox_token::{MemoryTicketStore, TicketHolder};

use contract::{
    CredentialLimits, CredentialStoreError, Invite, InviteUse, NewInvite, NewRefreshFamily, RefreshFamily,
    RefreshRotation, RefreshRotationResult,
};

pub use memory::MemoryCredentialStore;
pub use redis::RedisCredentialStore;

/// The store of refresh families, tickets and invites. Cheap to clone.
#[derive(Clone)]
pub enum CredentialStore {
    /// In the memory of this process.
    Memory(Arc<MemoryCredentialStore>),
    /// In Redis.
    Redis(Arc<RedisCredentialStore>),
}

impl CredentialStore {
    /// A store in this process. `tickets` is shared with the node of the process.
    pub fn in_memory(tickets: MemoryTicketStore, limits: CredentialLimits) -> Self {
        Self::Memory(Arc::new(MemoryCredentialStore::new(tickets, limits)))
    }

    /// Stores a ticket: the signed token that it stands for, under its digest. The holder takes a place
    /// in memory; in Redis a ticket only has its short life.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn put_ticket(
        &self,
        digest: &str,
        token: String,
        holder: TicketHolder,
    ) -> Result<(), CredentialStoreError> {
        match self {
            Self::Memory(store) => {
                store.put_ticket(digest, token, holder, clock::now_ms());
                Ok(())
            }
            Self::Redis(store) => store.put_ticket(digest, &token).await,
        }
    }

    /// Starts a refresh family. A user with the most families loses the family that would expire
    /// first; returns how many were lost.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn start_family(&self, family: NewRefreshFamily) -> Result<usize, CredentialStoreError> {
        match self {
            Self::Memory(store) => store.start_family(family, clock::now_ms()),
            Self::Redis(store) => store.start_family(&family).await,
        }
    }

    /// Loads a refresh family.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn load_family(&self, family_id: &str) -> Result<Option<RefreshFamily>, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.load_family(family_id, clock::now_ms())),
            Self::Redis(store) => store.load_family(family_id).await,
        }
    }

    /// Replaces a refresh token by its successor.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn rotate_refresh_token(
        &self,
        rotation: &RefreshRotation,
    ) -> Result<RefreshRotationResult, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.rotate_refresh_token(rotation, clock::now_ms())),
            Self::Redis(store) => store.rotate_refresh_token(rotation).await,
        }
    }

    /// Stores an invite and returns when it expires, ms since 1970.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn put_invite(&self, invite: NewInvite) -> Result<u64, CredentialStoreError> {
        match self {
            Self::Memory(store) => store.put_invite(invite, clock::now_ms()),
            Self::Redis(store) => store.put_invite(&invite).await,
        }
    }

    /// Uses an invite once, if it is valid and has uses left.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn use_invite(&self, room: &RoomId, id: &str) -> Result<InviteUse, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.use_invite(room, id, clock::now_ms())),
            Self::Redis(store) => store.use_invite(room, id).await,
        }
    }

    /// The valid invites of a room, the first to expire first.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn list_invites(&self, room: &RoomId) -> Result<Vec<Invite>, CredentialStoreError> {
        let now_ms = clock::now_ms();
        let mut invites = match self {
            Self::Memory(store) => store.list_invites(room),
            Self::Redis(store) => store.list_invites(room).await?,
        };
        invites.retain(|invite| invite.ends_ms > now_ms);
        invites.sort_by(|a, b| (a.ends_ms, &a.id).cmp(&(b.ends_ms, &b.id)));
        Ok(invites)
    }

    /// Deletes an invite and returns whether there was one.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn delete_invite(&self, room: &RoomId, id: &str) -> Result<bool, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.delete_invite(room, id)),
            Self::Redis(store) => store.delete_invite(room, id).await,
        }
    }

    /// Deletes all invites of a room that has ended.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn delete_room_invites(&self, room: &RoomId) -> Result<(), CredentialStoreError> {
        match self {
            Self::Memory(store) => store.delete_room_invites(room),
            Self::Redis(store) => return store.delete_room_invites(room).await,
        }
        Ok(())
    }
}
