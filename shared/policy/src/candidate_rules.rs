//! Which candidates of a role are told to others.
//!
//! Owns: the rules on one candidate. Must not: read texts (`candidate`). Next: `init` (trickled), `rewrite` (in descriptions).

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;

use crate::{
    address::{contains_address, contains_any_form, is_private},
    candidate::{Candidate, CandidateHost, CandidateType},
};

/// Which candidates may be told. [`CandidateRules::default`] allows all.
///
/// The type of a candidate is what its sender says. These rules keep the addresses of honest clients from others and keep
/// dishonest ones to the networks of `allow` and `deny`; that a `relay` candidate really is at a TURN server can only be had
/// with the networks of those servers in `allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CandidateRules {
    /// Only type `relay`, at an address, and without its related address.
    pub relay_only: bool,
    /// No address that is private, but `relay` (a TURN server of one's own network) and mDNS names. Private related
    /// addresses are taken out; names other than mDNS are dropped, since they may stand for any address.
    pub drop_private: bool,
    /// Never these networks, in whatever form an address is written, and no names but mDNS. Before `allow`.
    pub deny: Vec<IpNet>,
    /// If not empty: only these networks, and no names.
    pub allow: Vec<IpNet>,
}

/// What becomes of a trickled candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CandidateOutcome<'a> {
    /// To be forwarded: the JSON object as it came, or without what must not be told.
    Forward(Cow<'a, str>),
    /// Not to be forwarded; for its sender it was sent.
    Drop,
}

/// What becomes of one `candidate-attribute`.
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
        let relay = candidate.candidate_type == CandidateType::Relay;
        let told = match candidate.host {
            CandidateHost::Ip(_) | CandidateHost::Mdns(_) if self.relay_only && !relay => false,
            CandidateHost::Ip(address) => {
                self.is_network_allowed(address) && (relay || !self.drop_private || !is_private(address))
            }
            CandidateHost::Mdns(_) => !self.relay_only && self.allow.is_empty(),
            CandidateHost::DnsName(_) => false,
        };
        if !told {
            return AttributeOutcome::Drop;
        }
        let hide = match candidate.related_host {
            _ if self.relay_only => true,
            Some(CandidateHost::Ip(address)) => {
                !address.is_unspecified()
                    && (!self.is_network_allowed(address) || (self.drop_private && is_private(address)))
            }
            Some(_) => true,
            None => false,
        };
        let plain = candidate.clone().without_address_extensions();
        let plain = if hide { plain.with_hidden_related() } else { plain };
        if plain == *candidate { AttributeOutcome::Keep } else { AttributeOutcome::Rewrite(plain) }
    }

    /// What `deny` and `allow` say.
    fn is_network_allowed(&self, address: IpAddr) -> bool {
        !contains_any_form(&self.deny, address)
            && (self.allow.is_empty() || contains_address(&self.allow, address))
    }
}
