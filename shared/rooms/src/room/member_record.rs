//! A member changes its public record.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::id::PeerId;

use super::{decision::RoomEventKind, decision_batch::DecisionBatch, outcome::InputOutcome};

impl DecisionBatch<'_> {
    pub(super) fn update_record(
        &mut self,
        peer: &PeerId,
        epoch: u64,
        name: Option<&Arc<str>>,
        metadata: Option<&Arc<RawValue>>,
    ) -> InputOutcome {
        let Some(member) = self.owned_member(peer, epoch) else { return InputOutcome::PeerGone };
        let same_name = name.is_none_or(|name| *name == member.name);
        let same_metadata = metadata.is_none_or(|metadata| metadata.get() == member.metadata.get());
        if same_name && same_metadata {
            return InputOutcome::Done;
        }
        if let Some(name) = name {
            member.name = name.clone();
        }
        if let Some(metadata) = metadata {
            member.metadata = metadata.clone();
        }
        let member = Box::new(member.clone());
        self.decision.written_peers.insert(peer.clone());
        if !member.waiting {
            self.notify_others(peer, RoomEventKind::Updated(member));
        }
        InputOutcome::Done
    }
}
