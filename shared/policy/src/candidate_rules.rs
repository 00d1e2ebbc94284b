//! Which candidates of a role are forwarded.
//!
//! Owns: the rules for one candidate. Must not: parse text (`candidate`). Next: `candidate_init`
//! applies the rules to trickled candidates, `description_rewriter` to the candidates of a
//! description.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;

use crate::{
    address::{contains_address, contains_any_form, is_private},
    candidate::{Candidate, CandidateHost, CandidateType},
};

/// Which candidates may be forwarded. [`CandidateRules::default`] allows all.
///
/// The type of a candidate is a claim of its sender. These rules hide the addresses of an honest
/// client. Only `allow` and `deny` limit a dishonest client: to make sure that a `relay` candidate
/// is at a TURN server, `allow` must contain only the networks of the TURN servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CandidateRules {
    /// Only `relay` candidates with an IP address are forwarded, without their related address.
    pub relay_only: bool,
    /// Candidates with a private address are dropped, except `relay` candidates, because a TURN
    /// server may be in a private network. Private related addresses are hidden. mDNS names are
    /// forwarded. Other names are dropped, because they may mean any address.
    pub drop_private: bool,
    /// Candidates in these networks are dropped, in every form of their address, also if `allow`
    /// contains them. If not empty, names other than mDNS are dropped too.
    pub deny: Vec<IpNet>,
    /// If not empty, candidates outside these networks are dropped, and all names.
    pub allow: Vec<IpNet>,
}

/// The result for a trickled candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateOutcome<'a> {
    /// Forward this JSON object: the same object, or one without the parts that the rules exclude.
    Forward(Cow<'a, str>),
    /// Do not forward it; the sender gets the same answer as for a forwarded candidate.
    Drop,
}

/// The result for one `candidate-attribute`.
pub(crate) enum AttributeOutcome<'a> {
    Keep,
    Rewrite(Candidate<'a>),
    Drop,
}

impl CandidateRules {
    pub(crate) fn is_restrictive(&self) -> bool {
        self.relay_only || self.drop_private || !self.deny.is_empty() || !self.allow.is_empty()
    }

    pub(crate) fn filter_parsed<'a>(&self, candidate: &Candidate<'a>) -> AttributeOutcome<'a> {
        let is_relay = candidate.candidate_type == CandidateType::Relay;
        let is_allowed = match candidate.host {
            CandidateHost::Ip(_) | CandidateHost::Mdns(_) if self.relay_only && !is_relay => false,
            CandidateHost::Ip(address) => {
                self.is_network_allowed(address) && (is_relay || !self.drop_private || !is_private(address))
            }
            CandidateHost::Mdns(_) => !self.relay_only && self.allow.is_empty(),
            CandidateHost::DnsName(_) => false,
        };
        if !is_allowed {
            return AttributeOutcome::Drop;
        }
        let must_hide_related = match candidate.related_host {
            _ if self.relay_only => true,
            Some(CandidateHost::Ip(address)) => {
                !address.is_unspecified()
                    && (!self.is_network_allowed(address) || (self.drop_private && is_private(address)))
            }
            Some(_) => true,
            None => false,
        };
        let mut rewritten = candidate.clone().without_address_extensions();
        if must_hide_related {
            rewritten = rewritten.with_hidden_related();
        }
        if rewritten == *candidate { AttributeOutcome::Keep } else { AttributeOutcome::Rewrite(rewritten) }
    }

    /// Whether neither `deny` nor `allow` excludes the address.
    fn is_network_allowed(&self, address: IpAddr) -> bool {
        !contains_any_form(&self.deny, address)
            && (self.allow.is_empty() || contains_address(&self.allow, address))
    }
}
