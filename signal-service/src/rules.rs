//! What a role may say, and be told, in descriptions and candidates.
//!
//! Owns: the rules that a role has by the configuration, for what it sends ([`of_sender`]) and for what it is sent ([`RelayRoles`]), and
//! what they make of one payload ([`judge`]). Must not: read SDP or candidates itself (`signalbox_policy`), or know who is in a room.
//! Next: `connection::policy` asks for every message of a sender, `registry::forward` for every target.

use std::borrow::Cow;

use signalbox_config::Settings;
use signalbox_policy::{CandidateRules, Kind, MediaRules, Refused, Rules, Verdict};
use signalbox_protocol::{ErrorCode, ForwardKind, IcePolicy, id::Role};

use crate::registry::Powers;

/// What becomes of a payload.
pub(crate) enum Judged<'a> {
    /// It goes on, as it came or without what must not be told.
    Send(Cow<'a, str>),
    /// It goes nowhere, and its sender need not know.
    Drop,
}

/// Why a message does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAllowed {
    /// The stable code.
    pub code: ErrorCode,
    /// The member at fault.
    pub field: &'static str,
    /// For a person; repeats nothing of what was sent.
    pub why: String,
}

/// The rules for what a role with these permissions sends, and what the role's template says of candidates. None where nothing is ruled.
pub(crate) fn of_sender(settings: &Settings, powers: &Powers) -> Option<Rules> {
    let may = |wanted: &str| powers.permissions.iter().any(|permission| &**permission == wanted);
    let media = MediaRules { publish: may("publish"), share: may("share"), data: may("data") };
    // A role that the configuration has no more: its permissions stand in the token.
    let template = settings.roles.0.get(&powers.role);
    let table = template.map(|template| template.candidates.clone()).unwrap_or_default();
    let candidates = CandidateRules {
        relay_only: ice_policy(settings, &powers.role) == IcePolicy::Relay,
        drop_private: table.drop_private,
        deny: table.deny,
        allow: table.allow,
    };
    Rules::new(media, candidates)
}

fn ice_policy(settings: &Settings, role: &Role) -> IcePolicy {
    settings.roles.0.get(role).and_then(|template| template.ice).unwrap_or(settings.ice.policy)
}

/// Whether descriptions and candidates are sent in this kind of message.
pub(crate) fn is_judged(kind: ForwardKind) -> bool {
    !matches!(kind, ForwardKind::Rollback | ForwardKind::Message)
}

/// What rules make of the payload of a message: `json` as it stands there.
pub(crate) fn judge<'a>(rules: &Rules, kind: ForwardKind, json: &'a str) -> Result<Judged<'a>, NotAllowed> {
    let field = if kind == ForwardKind::Candidate { "candidate" } else { "sdp" };
    let refuse = |refused: Refused| NotAllowed {
        code: match refused.kind {
            Kind::Malformed => ErrorCode::BadMessage,
            Kind::NotPermitted => ErrorCode::NotPermitted,
        },
        field,
        why: refused.to_string(),
    };
    match kind {
        ForwardKind::Offer | ForwardKind::Answer | ForwardKind::Pranswer => {
            rules.description_json(json).map(Judged::Send).map_err(refuse)
        }
        ForwardKind::Candidate => match rules.candidate(json).map_err(refuse)? {
            Verdict::Pass(json) => Ok(Judged::Send(json)),
            Verdict::Drop => Ok(Judged::Drop),
        },
        ForwardKind::Rollback | ForwardKind::Message => Ok(Judged::Send(json.into())),
    }
}

/// The roles whose peers are told of relayed candidates only.
///
/// Their policy is for them, not for one direction: one who sees the address of another could reach it, and would show its own.
/// `drop_private`, `deny` and `allow` keep addresses of their own role from others and say nothing of what the role may know.
#[derive(Debug)]
pub struct RelayRoles {
    /// The policy of a role that does not say.
    usual: IcePolicy,
    roles: Vec<(Role, IcePolicy)>,
    rules: Rules,
}

impl RelayRoles {
    /// None where the configuration has no such role: then nothing need be looked at.
    pub(crate) fn new(settings: &Settings) -> Option<Self> {
        let say = settings.roles.0.iter().filter_map(|(role, template)| Some((role.clone(), template.ice?)));
        let (usual, roles) = (settings.ice.policy, say.collect::<Vec<_>>());
        let any = usual == IcePolicy::Relay || roles.iter().any(|(_, ice)| *ice == IcePolicy::Relay);
        let rules = Rules::new(
            MediaRules { publish: true, share: true, data: true },
            CandidateRules { relay_only: true, ..CandidateRules::default() },
        );
        rules.filter(|_| any).map(|rules| Self { usual, roles, rules })
    }

    /// Whether a role is one of them.
    pub(crate) fn has(&self, role: &Role) -> bool {
        let said = self.roles.iter().find(|(known, _)| known == role);
        said.map_or(self.usual, |(_, ice)| *ice) == IcePolicy::Relay
    }

    /// What of a payload they are told.
    pub(crate) fn judge<'a>(&self, kind: ForwardKind, json: &'a str) -> Result<Judged<'a>, NotAllowed> {
        judge(&self.rules, kind, json)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_protocol::id::Role;
    use signalbox_rooms::room::RoleBook;

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
                    let (is_read, known) = (
                        of_sender(&settings, &powers).is_some(),
                        book.reads(&powers.role, &powers.permissions),
                    );
                    assert_eq!(is_read, known.is_some(), "{configuration} {powers:?} {known:?}");
                }
            }
        }
    }
}
