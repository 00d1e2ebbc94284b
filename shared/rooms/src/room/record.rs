//! A member changes what others are told of it.

use std::sync::Arc;

use serde_json::value::RawValue;
use signalbox_protocol::id::PeerId;

use super::{
    decide::Batch,
    outcome::{EventKind, Outcome},
};

impl Batch<'_> {
    pub(super) fn update(
        &mut self,
        peer: &PeerId,
        epoch: u64,
        name: Option<&Arc<str>>,
        metadata: Option<&Arc<RawValue>>,
    ) -> Outcome {
        let Some(member) = self.owned(peer, epoch) else { return Outcome::Gone };
        let same_name = name.is_none_or(|name| *name == member.name);
        let same_metadata = metadata.is_none_or(|metadata| metadata.get() == member.metadata.get());
        if same_name && same_metadata {
            return Outcome::Done;
        }
        if let Some(name) = name {
            member.name = name.clone();
        }
        if let Some(metadata) = metadata {
            member.metadata = metadata.clone();
        }
        let member = Box::new(member.clone());
        self.decision.put.insert(peer.clone());
        if !member.waiting {
            self.tell(peer, EventKind::Updated(member));
        }
        Outcome::Done
    }
}
