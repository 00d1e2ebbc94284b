//! Filters descriptions and candidates by the rules of a role.
//!
//! Owns: the rules for messages that a role sends (`build_sender_rules`) and for messages to a
//! relay-only role ([`RelayOnlyRoles`]), and their result for one payload (`filter_payload`).
//! Must not: parse SDP or candidates (`signalbox_policy`), or know the members of a room. Next:
//! `connection::dispatcher` filters for the sender, `registry::forward` redacts for the target.

use std::{borrow::Cow, sync::Arc};

use signalbox_config::ServiceSettings;
use signalbox_policy::{
    CandidateOutcome, CandidateRules, MediaRules, PolicyRefusal, RefusalKind, RolePolicy,
};
use signalbox_protocol::{ErrorCode, ForwardKind, IcePolicy, id::Role};

/// The result of a filter for one payload.
pub(crate) enum FilteredPayload<'a> {
    /// Forward this JSON, with or without changes.
    Forward(Cow<'a, str>),
    /// Drop the message; its sender gets an ack.
    Drop,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRefusal {
    /// The stable code.
    pub code: ErrorCode,
    /// The member of the message that is at fault.
    pub field: &'static str,
    /// The text for a person. It never repeats the message.
    pub reason: String,
}

/// The rules for messages that a peer with this role and these permissions sends. None if nothing
/// is restricted.
pub(crate) fn build_sender_rules(
    settings: &ServiceSettings,
    role: &Role,
    permissions: &[Arc<str>],
) -> Option<RolePolicy> {
    let may = |name: &str| permissions.iter().any(|permission| &**permission == name);
    let media = MediaRules { publish: may("publish"), share: may("share"), data: may("data") };
    // The configuration may have dropped the role; its permissions are in the token.
    let template = settings.roles.0.get(role);
    let table = template.map(|template| template.candidates.clone()).unwrap_or_default();
    let candidates = CandidateRules {
        relay_only: ice_policy_of_role(settings, role) == IcePolicy::Relay,
        drop_private: table.drop_private,
        deny: table.deny,
        allow: table.allow,
    };
    RolePolicy::new(media, candidates)
}

fn ice_policy_of_role(settings: &ServiceSettings, role: &Role) -> IcePolicy {
    settings.roles.0.get(role).and_then(|template| template.ice).unwrap_or(settings.ice.policy)
}

/// Applies rules to the payload of a message.
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

/// The roles whose peers may see relay candidates only.
///
/// The policy holds in both directions: a peer that sees the address of another one could connect
/// to it and would show its own address. `drop_private`, `deny` and `allow` hide the addresses of a
/// role from others. They do not restrict what the role may see.
#[derive(Debug)]
pub struct RelayOnlyRoles {
    /// The policy of a role without its own.
    default_policy: IcePolicy,
    roles: Vec<(Role, IcePolicy)>,
    relay_only_rules: RolePolicy,
}

impl RelayOnlyRoles {
    /// None if the configuration has no such role.
    pub(crate) fn new(settings: &ServiceSettings) -> Option<Self> {
        let configured =
            settings.roles.0.iter().filter_map(|(role, template)| Some((role.clone(), template.ice?)));
        let (default_policy, roles) = (settings.ice.policy, configured.collect::<Vec<_>>());
        let has_relay_only =
            default_policy == IcePolicy::Relay || roles.iter().any(|(_, ice)| *ice == IcePolicy::Relay);
        let rules = RolePolicy::new(
            MediaRules { publish: true, share: true, data: true },
            CandidateRules { relay_only: true, ..CandidateRules::default() },
        );
        rules.filter(|_| has_relay_only).map(|rules| Self { default_policy, roles, relay_only_rules: rules })
    }

    /// Whether a role is relay-only.
    pub(crate) fn contains_role(&self, role: &Role) -> bool {
        let own = self.roles.iter().find(|(configured, _)| configured == role);
        own.map_or(self.default_policy, |(_, ice)| *ice) == IcePolicy::Relay
    }

    /// The part of a payload that a relay-only role may see.
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
    use signalbox_rooms::room::RoomRolePolicy;

    use super::*;

    /// A room that requires end-to-end encryption refuses roles whose messages the node reads.
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
            let room_policy = RoomRolePolicy::new(&settings);
            for role in ["host", "guest", "speaker", "unknown"] {
                for permissions in permissions {
                    let permissions: Arc<[Arc<str>]> =
                        permissions.iter().map(|name| Arc::from(*name)).collect();
                    let role = Role::parse(role).unwrap();
                    let is_read = build_sender_rules(&settings, &role, &permissions).is_some();
                    let reason = room_policy.payload_inspection_reason(&role, &permissions);
                    assert_eq!(
                        is_read,
                        reason.is_some(),
                        "{configuration} {role} {permissions:?} {reason:?}"
                    );
                }
            }
        }
    }
}
