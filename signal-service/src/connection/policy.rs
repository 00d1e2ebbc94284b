//! What a role may send, applied to what a peer is about to send.
//!
//! Owns: which rules a member has now, and whether its target's role counts too. Must not: know the rules (`rules`) or the target
//! (`registry::forward`), or cost anything where no role has rules. Next: `reader` asks for every message.

use std::{borrow::Cow, sync::Arc};

use signalbox_policy::Rules;
use signalbox_protocol::Forward;

use crate::{
    node::Signal,
    registry::{LocalPeer, Powers},
    rules::{self, Judged, NotAllowed},
};

/// What becomes of a message.
pub(super) enum Fate {
    /// It goes on, perhaps without what must not be told; whether its target may have to be told less.
    Send {
        /// See `Send`.
        mind_target: bool,
    },
    /// It goes nowhere, and its sender need not know.
    Drop,
}

/// The rules of one peer, made anew when what it may do has changed.
#[derive(Default)]
pub(super) struct Policy {
    powers: Option<Arc<Powers>>,
    rules: Option<Rules>,
    /// Whether what it sends holds relayed candidates only, whoever hears it.
    tells_relayed_only: bool,
}

impl Policy {
    /// Judges a message, and takes out of it what must not be told.
    pub(super) fn judge(
        &mut self,
        signal: &Signal,
        peer: &LocalPeer,
        forward: &mut Forward<'_>,
    ) -> Result<Fate, NotAllowed> {
        if !rules::is_judged(forward.kind) {
            return Ok(Fate::Send { mind_target: false });
        }
        self.keep_up(signal, peer);
        let relays = signal.registry.hub().relays.as_ref();
        let mind_target = relays.is_some() && !self.tells_relayed_only;
        let (Some(rules), Some(json)) = (&self.rules, forward.payload()) else {
            return Ok(Fate::Send { mind_target });
        };
        match rules::judge(rules, forward.kind, json)? {
            Judged::Drop => return Ok(Fate::Drop),
            Judged::Send(Cow::Owned(json)) => forward.replace_payload(json),
            Judged::Send(Cow::Borrowed(_)) => {}
        }
        Ok(Fate::Send { mind_target })
    }

    fn keep_up(&mut self, signal: &Signal, peer: &LocalPeer) {
        let powers = peer.powers();
        if self.powers.as_ref().map(Arc::as_ptr) == powers.as_ref().map(Arc::as_ptr) {
            return;
        }
        let relays = signal.registry.hub().relays.as_ref();
        let told = |powers: &Arc<Powers>| relays.is_some_and(|relays| relays.has(&powers.role));
        self.rules = powers.as_ref().and_then(|powers| rules::of_sender(&signal.settings, powers));
        self.tells_relayed_only = powers.as_ref().is_some_and(told);
        self.powers = powers;
    }
}
