//! What the auth service must remember: families of refresh tokens, tickets, invites. Each has an
//! end; tokens carry all else they say.
//!
//! - [`CredentialStore`]: in Redis, or in this process where there is none
//! - [`contract`]: what it keeps and answers; `conformance`: the same as a test, over both
//!
//! Owns: one atomic step for each change. Must not: see a secret (digests only), or know the
//! meaning of a record. Every wait has a deadline.

#[cfg(test)]
mod conformance;
pub mod contract;
mod memory;
mod redis;

use std::sync::Arc;

use signalbox_protocol::{clock, id::RoomId};
use signalbox_token::MemoryTicketStore;

use contract::{
    CredentialStoreError, Invite, InviteUse, NewInvite, NewRefreshFamily, RefreshFamily, RefreshRotation,
    RefreshRotationResult,
};

pub use memory::MemoryCredentialStore;
pub use redis::RedisCredentialStore;

/// Where the auth service remembers. Cheap to clone.
#[derive(Clone)]
pub enum CredentialStore {
    /// In this process.
    Memory(Arc<MemoryCredentialStore>),
    /// In Redis.
    Redis(Arc<RedisCredentialStore>),
}

impl CredentialStore {
    /// A store in this process; tickets go where the signaling service of the process finds them.
    pub fn in_memory(tickets: MemoryTicketStore) -> Self {
        Self::Memory(Arc::new(MemoryCredentialStore::new(tickets)))
    }

    /// Keeps a ticket: the claims of the token that it stands for, under its digest.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn put_ticket(&self, digest: &str, claims: String) -> Result<(), CredentialStoreError> {
        match self {
            Self::Memory(store) => store.put_ticket(digest, claims, clock::now_ms()),
            Self::Redis(store) => store.put_ticket(digest, &claims).await,
        }
    }

    /// Begins a family of refresh tokens.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn start_family(&self, family: NewRefreshFamily) -> Result<(), CredentialStoreError> {
        match self {
            Self::Memory(store) => store.start_family(family, clock::now_ms()),
            Self::Redis(store) => store.start_family(&family).await,
        }
    }

    /// Looks a family up.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn load_family(&self, name: &str) -> Result<Option<RefreshFamily>, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.load_family(name, clock::now_ms())),
            Self::Redis(store) => store.load_family(name).await,
        }
    }

    /// Puts the successor of a refresh token in its place.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn rotate_refresh_token(
        &self,
        turn: &RefreshRotation,
    ) -> Result<RefreshRotationResult, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.rotate_refresh_token(turn, clock::now_ms())),
            Self::Redis(store) => store.rotate_refresh_token(turn).await,
        }
    }

    /// Keeps an invite; the moment it ends, ms since 1970.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn put_invite(&self, invite: NewInvite) -> Result<u64, CredentialStoreError> {
        match self {
            Self::Memory(store) => store.put_invite(invite, clock::now_ms()),
            Self::Redis(store) => store.put_invite(&invite).await,
        }
    }

    /// Uses an invite once.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn use_invite(&self, room: &RoomId, id: &str) -> Result<InviteUse, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.use_invite(room, id, clock::now_ms())),
            Self::Redis(store) => store.use_invite(room, id).await,
        }
    }

    /// The invites to a room that are not over, by when they end.
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

    /// Takes an invite back; whether there was one.
    ///
    /// # Errors
    /// [`CredentialStoreError`]
    pub async fn delete_invite(&self, room: &RoomId, id: &str) -> Result<bool, CredentialStoreError> {
        match self {
            Self::Memory(store) => Ok(store.delete_invite(room, id)),
            Self::Redis(store) => store.delete_invite(room, id).await,
        }
    }

    /// Takes all invites to a room back: it is gone.
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
