//! What a peer is and may do now, whatever its token said.
//!
//! Owns: what is judged of it (`Standing`), its role and permissions as its client was last told, and whether it waits in the lobby.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use serde::Deserialize;
use signalbox_protocol::id::Role;

use super::LocalPeer;
use crate::standing::Standing;
use signalbox_rooms::room::{Member, Permission};

/// What a peer is and may do now, whatever its token said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Powers {
    /// Its role.
    pub role: Role,
    /// What it may do.
    pub permissions: Arc<[Arc<str>]>,
}

impl LocalPeer {
    /// What is judged of it.
    pub fn standing(&self) -> Arc<Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is judged of it.
    pub fn set_standing(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    /// What it is and may do now; none before it is in.
    pub fn powers(&self) -> Option<Arc<Powers>> {
        self.powers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has a permission now.
    pub fn may(&self, permission: Permission) -> bool {
        let powers = self.powers.lock().unwrap_or_else(PoisonError::into_inner);
        let names = powers.as_ref().map(|powers| &powers.permissions[..]).unwrap_or_default();
        names.iter().any(|name| &**name == permission.as_str())
    }

    pub(super) fn grant(&self, powers: Powers) {
        *self.powers.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(powers));
    }

    /// As [`LocalPeer::follow`], if nobody else has changed what it may do since `seen`. What it may do now.
    pub fn grant_after(&self, seen: Option<&Arc<Powers>>, powers: Powers) -> Option<Arc<Powers>> {
        let mut held = self.powers.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().map(Arc::as_ptr) == seen.map(Arc::as_ptr) {
            *held = Some(Arc::new(powers));
        }
        held.clone()
    }

    /// It is this member now, in the room or in its lobby.
    pub fn follow(&self, member: &Member) {
        self.grant(Powers { role: member.role.clone(), permissions: member.permissions.clone() });
        self.waits.store(member.waiting, Ordering::Relaxed);
    }

    /// Whether it waits in the lobby.
    pub fn waits(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }
}
