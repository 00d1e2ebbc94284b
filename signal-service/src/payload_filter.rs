//! What a role may say, and be told, in descriptions and candidates.
//!
//! Owns: the rules that a role has by the configuration, for what it sends ([`of_sender`]) and for what it is sent ([`RelayOnlyRoles`]), and
//! what they make of one payload ([`judge`]). Must not: read SDP or candidates itself (`signalbox_policy`), or know who is in a room.
//! Next: `connection::policy` asks for every message of a sender, `registry::forward` for every target.

use std::borrow::Cow;

use signalbox_config::ServiceSettings;
use signalbox_policy::{
    CandidateOutcome, CandidateRules, MediaRules, PolicyRefusal, RefusalKind, RolePolicy,
};
use signalbox_protocol::{ErrorCode, ForwardKind, IcePolicy, id::Role};

use crate::registry::PeerPermissions;

/// What becomes of a payload.
pub(crate) enum FilteredPayload<'a> {
    /// It goes on, as it came or without what must not be told.
    Forward(Cow<'a, str>),
    /// It goes nowhere, and its sender need not know.
    Drop,
}

/// Why a message does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRefusal {
    /// The stable code.
    pub code: ErrorCode,
    /// The member at fault.
    pub field: &'static str,
    /// For a person; repeats nothing of what was sent.
    pub reason: String,
}

/// The rules for what a role with these permissions sends, and what the role's template says of candidates. None where nothing is ruled.
pub(crate) fn build_sender_rules(settings: &ServiceSettings, powers: &PeerPermissions) -> Option<RolePolicy> {
    let may = |wanted: &str| powers.permissions.iter().any(|permission| &**permission == wanted);
    let media = MediaRules { publish: may("publish"), share: may("share"), data: may("data") };
    // A role that the configuration has no more: its permissions stand in the token.
    let template = settings.roles.0.get(&powers.role);
    let table = template.map(|template| template.candidates.clone()).unwrap_or_default();
    let candidates = CandidateRules {
        relay_only: ice_policy_of_role(settings, &powers.role) == IcePolicy::Relay,
        drop_private: table.drop_private,
        deny: table.deny,
        allow: table.allow,
    };
    RolePolicy::new(media, candidates)
}

fn ice_policy_of_role(settings: &ServiceSettings, role: &Role) -> IcePolicy {
    settings.roles.0.get(role).and_then(|template| template.ice).unwrap_or(settings.ice.policy)
}

/// Whether descriptions and candidates are sent in this kind of message.
pub(crate) fn is_filtered_kind(kind: ForwardKind) -> bool {
    !matches!(kind, ForwardKind::Rollback | ForwardKind::Message)
}

/// What rules make of the payload of a message: `json` as it stands there.
pub(crate) fn filter_payload<'a>(
    rules: &RolePolicy,
    kind: ForwardKind,
    json: &'a str,
) -> Result<FilteredPayload<'a>, MessageRefusal> {
    let field = if kind == ForwardKind::Candidate { "candidate" } else { "sdp" };
    let refuse = |refused: PolicyRefusal| MessageRefusal {
        code: match refused.kind {
            RefusalKind::Malformed => ErrorCode::BadMessage,
            RefusalKind::NotPermitted => ErrorCode::NotPermitted,
        },
        field,
        reason: refused.to_string(),
    };
    match kind {
        ForwardKind::Offer | ForwardKind::Answer | ForwardKind::Pranswer => {
            rules.filter_description_json(json).map(FilteredPayload::Forward).map_err(refuse)
        }
        ForwardKind::Candidate => match rules.filter_candidate(json).map_err(refuse)? {
            CandidateOutcome::Forward(json) => Ok(FilteredPayload::Forward(json)),
            CandidateOutcome::Drop => Ok(FilteredPayload::Drop),
        },
        ForwardKind::Rollback | ForwardKind::Message => Ok(FilteredPayload::Forward(json.into())),
    }
}

/// The roles whose peers are told of relayed candidates only.
///
/// Their policy is for them, not for one direction: one who sees the address of another could reach it, and would show its own.
/// `drop_private`, `deny` and `allow` keep addresses of their own role from others and say nothing of what the role may know.
#[derive(Debug)]
pub struct RelayOnlyRoles {
    /// The policy of a role that does not say.
    default_policy: IcePolicy,
    roles: Vec<(Role, IcePolicy)>,
    relay_only_rules: RolePolicy,
}

impl RelayOnlyRoles {
    /// None where the configuration has no such role: then nothing need be looked at.
    pub(crate) fn new(settings: &ServiceSettings) -> Option<Self> {
        let say = settings.roles.0.iter().filter_map(|(role, template)| Some((role.clone(), template.ice?)));
        let (usual, roles) = (settings.ice.policy, say.collect::<Vec<_>>());
        let any = usual == IcePolicy::Relay || roles.iter().any(|(_, ice)| *ice == IcePolicy::Relay);
        let rules = RolePolicy::new(
            MediaRules { publish: true, share: true, data: true },
            CandidateRules { relay_only: true, ..CandidateRules::default() },
        );
        rules.filter(|_| any).map(|rules| Self { default_policy: usual, roles, relay_only_rules: rules })
    }

    /// Whether a role is one of them.
    pub(crate) fn contains_role(&self, role: &Role) -> bool {
        let said = self.roles.iter().find(|(known, _)| known == role);
        said.map_or(self.default_policy, |(_, ice)| *ice) == IcePolicy::Relay
    }

    /// What of a payload they are told.
    pub(crate) fn redact_payload<'a>(
        &self,
        kind: ForwardKind,
        json: &'a str,
    ) -> Result<FilteredPayload<'a>, MessageRefusal> {
        filter_payload(&self.relay_only_rules, kind, json)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use signalbox_protocol::id::Role;
    use signalbox_rooms::room::RoomRolePolicy;

    use super::*;

    /// A room that demands encryption end to end rests on it.
    #[test]
    fn room_and_node_agree_which_messages_the_server_reads() {
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
            let settings: ServiceSettings = serde_json::from_str(configuration).unwrap();
            let book = RoomRolePolicy::new(&settings);
            for role in ["host", "guest", "speaker", "unknown"] {
                for permissions in permissions {
                    let permissions = permissions.iter().map(|name| Arc::from(*name)).collect();
                    let powers = PeerPermissions { role: Role::parse(role).unwrap(), permissions };
                    let (is_read, known) = (
                        build_sender_rules(&settings, &powers).is_some(),
                        book.inspection_reason(&powers.role, &powers.permissions),
                    );
                    assert_eq!(is_read, known.is_some(), "{configuration} {powers:?} {known:?}");
                }
            }
        }
    }
}
