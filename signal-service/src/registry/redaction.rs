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
    store::{MemberList, MessageTarget, OutgoingEntry},
};

use super::{
    forward::{OutgoingMessage, PayloadRange},
    local_room::LocalRoom,
};
use crate::payload_filter::{FilteredPayload, MessageRefusal, RelayOnlyRoles};

/// What goes to the store for a message.
pub(super) type RedactionResult = Result<OutgoingEntry, MessageRefusal>;

impl LocalRoom {
    /// Chooses for each message, all at one version.
    pub(super) fn redact_messages(
        &self,
        messages: &[OutgoingMessage],
    ) -> (Arc<MemberList>, Vec<RedactionResult>) {
        let (members, view) = self.members_and_state();
        let choose = |message: &OutgoingMessage| {
            let OutgoingMessage { id, target: to, body, .. } = message.clone();
            match (&message.redactable, &message.target, &self.context.relay_only_roles) {
                (Some(addresses), MessageTarget::Peer(peer), Some(relays)) => {
                    let relayed_only = self.is_relay_only_target(relays, view.as_deref(), peer);
                    let told =
                        if relayed_only { relays.redact_message(message, addresses)? } else { Some(body) };
                    Ok(match told {
                        Some(body) => OutgoingEntry { id, target: to, body, requires_room_version: true },
                        None => OutgoingEntry {
                            id,
                            target: MessageTarget::Withheld,
                            body: "".into(),
                            requires_room_version: true,
                        },
                    })
                }
                _ => Ok(OutgoingEntry { id, target: to, body, requires_room_version: false }),
            }
        };
        (members, messages.iter().map(choose).collect())
    }

    fn is_relay_only_target(&self, relays: &RelayOnlyRoles, view: Option<&RoomState>, peer: &PeerId) -> bool {
        let member = view.and_then(|view| view.members.get(peer));
        if member.is_some_and(|member| relays.contains_role(&member.role)) {
            return true;
        }
        let powers =
            self.find_peer(peer).filter(|_| !self.is_store_available()).and_then(|peer| peer.permissions());
        powers.is_some_and(|powers| relays.contains_role(&powers.role))
    }
}

impl RelayOnlyRoles {
    /// The frame as such a target is told it; none where it is told nothing.
    fn redact_message(
        &self,
        message: &OutgoingMessage,
        addresses: &PayloadRange,
    ) -> Result<Option<Arc<str>>, MessageRefusal> {
        let (kind, at) = (addresses.kind, addresses.range.clone());
        let Some(json) = message.body.get(at.clone()) else { return Ok(None) };
        Ok(match self.redact_payload(kind, json)? {
            FilteredPayload::Drop => None,
            FilteredPayload::Forward(told) if *told == *json => Some(message.body.clone()),
            FilteredPayload::Forward(told) => {
                Some([&message.body[..at.start], &told, &message.body[at.end..]].concat().into())
            }
        })
    }
}
