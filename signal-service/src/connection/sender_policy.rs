//! What a role may send, applied to what a peer is about to send.
//!
//! Owns: which rules a member has now, and whether its target's role counts too. Must not: know the rules (`rules`) or the target
//! (`registry::forward`), or cost anything where no role has rules. Next: `reader` asks for every message.

use std::{borrow::Cow, sync::Arc};

use signalbox_policy::RolePolicy;
use signalbox_protocol::ForwardMessage;

use crate::{
    node::SignalNode,
    payload_filter::{self, FilteredPayload, MessageRefusal},
    peer_permissions::PeerPermissions,
    registry::LocalPeer,
};

/// What becomes of a message.
pub(super) enum FilteredMessage {
    /// It goes on, perhaps without what must not be told; whether its target may have to be told less.
    Forward {
        /// See `Forward`.
        redact_for_target: bool,
    },
    /// It goes nowhere, and its sender need not know.
    Drop,
}

/// The rules of one peer, made anew when what it may do has changed.
#[derive(Default)]
pub(super) struct SenderPolicy {
    permissions: Option<Arc<PeerPermissions>>,
    rules: Option<RolePolicy>,
    /// Whether what it sends holds relayed candidates only, whoever hears it.
    sends_relay_only: bool,
}

impl SenderPolicy {
    /// Judges a message, and takes out of it what must not be told.
    pub(super) fn filter_message(
        &mut self,
        signal: &SignalNode,
        peer: &LocalPeer,
        forward: &mut ForwardMessage<'_>,
    ) -> Result<FilteredMessage, MessageRefusal> {
        if !forward.kind.carries_sdp_or_candidate() {
            return Ok(FilteredMessage::Forward { redact_for_target: false });
        }
        self.update_rules(signal, peer);
        let relays = signal.registry.context().relay_only_roles.as_ref();
        let mind_target = relays.is_some() && !self.sends_relay_only;
        let (Some(rules), Some(json)) = (&self.rules, forward.payload()) else {
            return Ok(FilteredMessage::Forward { redact_for_target: mind_target });
        };
        match payload_filter::filter_payload(rules, forward.kind, json)? {
            FilteredPayload::Drop => return Ok(FilteredMessage::Drop),
            FilteredPayload::Forward(Cow::Owned(json)) => forward.replace_payload(json),
            FilteredPayload::Forward(Cow::Borrowed(_)) => {}
        }
        Ok(FilteredMessage::Forward { redact_for_target: mind_target })
    }

    fn update_rules(&mut self, signal: &SignalNode, peer: &LocalPeer) {
        let powers = peer.permissions();
        if self.permissions.as_ref().map(Arc::as_ptr) == powers.as_ref().map(Arc::as_ptr) {
            return;
        }
        let relays = signal.registry.context().relay_only_roles.as_ref();
        let told =
            |powers: &Arc<PeerPermissions>| relays.is_some_and(|relays| relays.contains_role(&powers.role));
        self.rules = powers.as_ref().and_then(|powers| {
            payload_filter::build_sender_rules(&signal.settings, &powers.role, &powers.permissions)
        });
        self.sends_relay_only = powers.as_ref().is_some_and(told);
        self.permissions = powers;
    }
}
