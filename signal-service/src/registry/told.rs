//! What of a message its target is told, by the role that the target has now.
//!
//! Owns: the choice, made on this node's view of the room, right before the store is asked. It is right whatever the view lacks: what is
//! chosen goes with the version it was chosen on, and the store takes it at that version only. So a role that is changed meanwhile, on
//! whatever node, is known before the message is written; and one whose target this node does not know is written to nobody. While
//! the store is away there is nobody to ask: the last known role counts, or the one that the target itself has been told of.

use std::sync::Arc;

use signalbox_protocol::id::PeerId;
use signalbox_rooms::{
    room::RoomState,
    store::{Item, Members, Target},
};

use super::{
    forward::{Addresses, Outgoing},
    room::LocalRoom,
};
use crate::rules::{Judged, NotAllowed, RelayRoles};

/// What goes to the store for a message.
pub(super) type Choice = Result<Item, NotAllowed>;

impl LocalRoom {
    /// Chooses for each message, all at one version.
    pub(super) fn choose(&self, messages: &[Outgoing]) -> (Arc<Members>, Vec<Choice>) {
        let (members, view) = self.members_and_view();
        let choose = |message: &Outgoing| {
            let Outgoing { id, to, body, .. } = message.clone();
            match (&message.addresses, &message.to, &self.hub.relays) {
                (Some(addresses), Target::Peer(peer), Some(relays)) => {
                    let relayed_only = self.is_told_relayed_only(relays, view.as_deref(), peer);
                    let told = if relayed_only { relays.told(message, addresses)? } else { Some(body) };
                    Ok(match told {
                        Some(body) => Item { id, to, body, judged: true },
                        None => Item { id, to: Target::Nobody, body: "".into(), judged: true },
                    })
                }
                _ => Ok(Item { id, to, body, judged: false }),
            }
        };
        (members, messages.iter().map(choose).collect())
    }

    fn is_told_relayed_only(&self, relays: &RelayRoles, view: Option<&RoomState>, peer: &PeerId) -> bool {
        let member = view.and_then(|view| view.members.get(peer));
        if member.is_some_and(|member| relays.has(&member.role)) {
            return true;
        }
        let powers = self.peer(peer).filter(|_| !self.is_open()).and_then(|peer| peer.powers());
        powers.is_some_and(|powers| relays.has(&powers.role))
    }
}

impl RelayRoles {
    /// The frame as such a target is told it; none where it is told nothing.
    fn told(&self, message: &Outgoing, addresses: &Addresses) -> Result<Option<Arc<str>>, NotAllowed> {
        let (kind, at) = (addresses.kind, addresses.at.clone());
        let Some(json) = message.body.get(at.clone()) else { return Ok(None) };
        Ok(match self.judge(kind, json)? {
            Judged::Drop => None,
            Judged::Send(told) if *told == *json => Some(message.body.clone()),
            Judged::Send(told) => {
                Some([&message.body[..at.start], &told, &message.body[at.end..]].concat().into())
            }
        })
    }
}
