//! The role and the permissions of a peer, as its client knows them. A plain value: it refers to no
//! peer and no room.

use std::sync::Arc;

use serde::Deserialize;
use signalbox_protocol::id::Role;
use signalbox_rooms::room::Permission;

/// The role and the permissions that a peer has now. They may differ from those of its token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PeerPermissions {
    /// The role.
    pub role: Role,
    /// The names of the permissions.
    pub permissions: Arc<[Arc<str>]>,
}

impl PeerPermissions {
    /// Whether the peer has this permission.
    pub fn has_permission(&self, permission: Permission) -> bool {
        self.permissions.iter().any(|name| &**name == permission.as_str())
    }
}
