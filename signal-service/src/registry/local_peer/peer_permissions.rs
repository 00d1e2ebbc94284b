//! What a peer is and may do now, whatever its token said.
//!
//! Owns: what is judged of it (`ConnectionSubject`), its role and permissions as its client was last told, and whether it waits in the lobby.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use serde::Deserialize;
use signalbox_protocol::id::Role;

use super::LocalPeer;
use crate::connection_subject::ConnectionSubject;
use signalbox_rooms::room::{Member, Permission};

/// What a peer is and may do now, whatever its token said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PeerPermissions {
    /// Its role.
    pub role: Role,
    /// What it may do.
    pub permissions: Arc<[Arc<str>]>,
}

impl LocalPeer {
    /// What is judged of it.
    pub fn access_subject(&self) -> Arc<ConnectionSubject> {
        self.subject.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is judged of it.
    pub fn set_access_subject(&self, standing: ConnectionSubject) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    /// What it is and may do now; none before it is in.
    pub fn permissions(&self) -> Option<Arc<PeerPermissions>> {
        self.permissions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has a permission now.
    pub fn has_permission(&self, permission: Permission) -> bool {
        let powers = self.permissions.lock().unwrap_or_else(PoisonError::into_inner);
        let names = powers.as_ref().map(|powers| &powers.permissions[..]).unwrap_or_default();
        names.iter().any(|name| &**name == permission.as_str())
    }

    pub(super) fn set_permissions(&self, powers: PeerPermissions) {
        *self.permissions.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(powers));
    }

    /// As [`LocalPeer::apply_member`], if nobody else has changed what it may do since `seen`. What it may do now.
    pub fn set_permissions_if_unchanged(
        &self,
        seen: Option<&Arc<PeerPermissions>>,
        powers: PeerPermissions,
    ) -> Option<Arc<PeerPermissions>> {
        let mut held = self.permissions.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().map(Arc::as_ptr) == seen.map(Arc::as_ptr) {
            *held = Some(Arc::new(powers));
        }
        held.clone()
    }

    /// It is this member now, in the room or in its lobby.
    pub fn apply_member(&self, member: &Member) {
        self.set_permissions(PeerPermissions {
            role: member.role.clone(),
            permissions: member.permissions.clone(),
        });
        self.is_in_lobby.store(member.waiting, Ordering::Relaxed);
    }

    /// Whether it waits in the lobby.
    pub fn is_in_lobby(&self) -> bool {
        self.is_in_lobby.load(Ordering::Relaxed)
    }
}
