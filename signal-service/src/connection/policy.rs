//! What a role may send, applied to what a peer is about to send.
//!
//! Owns: which rules a member has, and what they make of one message. Must not: read SDP or candidates itself
//! (`signalbox_policy`), or cost anything where a role has no rules. Next: `reader` asks for every message.

use std::{borrow::Cow, sync::Arc};

use signalbox_policy::{CandidateRules, Kind, MediaRules, Refused, Rules, Verdict};
use signalbox_shared::{
    config::Settings,
    protocol::{ErrorCode, Forward, ForwardKind, IcePolicy},
};

use crate::{
    node::Signal,
    registry::{LocalPeer, Powers},
};

/// What becomes of a message.
pub(super) enum Fate {
    /// It goes on, perhaps without what must not be told.
    Send,
    /// It goes nowhere, and its sender need not know.
    Drop,
}

/// Why a message does not go on.
pub(super) struct NotAllowed {
    pub(super) code: ErrorCode,
    pub(super) field: &'static str,
    pub(super) why: String,
}

/// The rules of one peer, made anew when what it may do has changed.
#[derive(Default)]
pub(super) struct Policy {
    powers: Option<Arc<Powers>>,
    rules: Option<Rules>,
}

impl Policy {
    /// Judges a message, and takes out of it what must not be told.
    pub(super) fn judge(
        &mut self,
        signal: &Signal,
        peer: &LocalPeer,
        forward: &mut Forward<'_>,
    ) -> Result<Fate, NotAllowed> {
        if matches!(forward.kind, ForwardKind::Rollback | ForwardKind::Message) {
            return Ok(Fate::Send);
        }
        let powers = peer.powers();
        if self.powers.as_ref().map(Arc::as_ptr) != powers.as_ref().map(Arc::as_ptr) {
            self.rules = powers.as_ref().and_then(|powers| rules(&signal.settings, powers));
            self.powers = powers;
        }
        self.rules.as_ref().map_or(Ok(Fate::Send), |rules| apply(rules, forward))
    }
}

/// The rules of a role and its permissions, and what the role's template says of candidates. None where nothing is ruled.
fn rules(settings: &Settings, powers: &Powers) -> Option<Rules> {
    let may = |wanted: &str| powers.permissions.iter().any(|permission| &**permission == wanted);
    let media = MediaRules { publish: may("publish"), share: may("share"), data: may("data") };
    // A role that the configuration has no more: its permissions stand in the token.
    let template = settings.roles.0.get(&powers.role);
    let ice = template.and_then(|template| template.ice).unwrap_or(settings.ice.policy);
    let table = template.map(|template| template.candidates.clone()).unwrap_or_default();
    let candidates = CandidateRules {
        relay_only: ice == IcePolicy::Relay,
        drop_private: table.drop_private,
        deny: table.deny,
        allow: table.allow,
    };
    Rules::new(media, candidates)
}

fn apply(rules: &Rules, forward: &mut Forward<'_>) -> Result<Fate, NotAllowed> {
    let kind = forward.kind;
    let field = if kind == ForwardKind::Candidate { "candidate" } else { "sdp" };
    let refuse = |refused: Refused| NotAllowed {
        code: match refused.kind {
            Kind::Malformed => ErrorCode::BadMessage,
            Kind::NotPermitted => ErrorCode::NotPermitted,
        },
        field,
        why: refused.to_string(),
    };
    let Some(json) = forward.payload() else { return Ok(Fate::Send) };
    let rewritten = match kind {
        ForwardKind::Offer | ForwardKind::Answer | ForwardKind::Pranswer => {
            rules.description_json(json).map_err(refuse)?
        }
        ForwardKind::Candidate => match rules.candidate(json).map_err(refuse)? {
            Verdict::Pass(json) => json,
            Verdict::Drop => return Ok(Fate::Drop),
        },
        ForwardKind::Rollback | ForwardKind::Message => return Ok(Fate::Send),
    };
    if let Cow::Owned(json) = rewritten {
        forward.replace_payload(json);
    }
    Ok(Fate::Send)
}

#[cfg(test)]
mod tests {
    use signalbox_rooms::room::RoleBook;
    use signalbox_shared::id::Role;

    use super::*;

    /// A room that demands encryption end to end rests on it.
    #[test]
    fn the_room_knows_exactly_whose_messages_are_read() {
        let configurations = [
            r#"{}"#,
            r#"{"ice": {"policy": "relay"}}"#,
            r#"{"roles": {"guest": {"ice": "relay"}, "host": {"candidates": {"drop_private": true}}, "speaker": {"ice": "all"}}}"#,
            r#"{"ice": {"policy": "relay"}, "roles": {"guest": {"candidates": {"deny": ["10.0.0.0/8"]}}, "speaker": {"ice": "all"}}}"#,
            r#"{"roles": {"guest": {"candidates": {"allow": ["10.0.0.0/8"]}}}}"#,
        ];
        let permissions = [
            &["publish", "share", "data"][..],
            &["publish", "share"],
            &["share", "data"],
            &["publish", "data"],
            &[],
        ];
        for configuration in configurations {
            let settings: Settings = serde_json::from_str(configuration).unwrap();
            let book = RoleBook::new(&settings);
            for role in ["host", "guest", "speaker", "unknown"] {
                for permissions in permissions {
                    let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
                    let powers = Powers { role: Role::parse(role).unwrap(), permissions };
                    let (is_read, known) =
                        (rules(&settings, &powers).is_some(), book.reads(&powers.role, &powers.permissions));
                    assert_eq!(is_read, known.is_some(), "{configuration} {powers:?} {known:?}");
                }
            }
        }
    }
}
