//! The last look over a rewritten description: what was taken out must not stand in some other line.

use std::{collections::HashSet, net::IpAddr};

use crate::{
    PolicyRefusal,
    candidate::{Candidate, CandidateHost},
};

/// The addresses and names that were taken out.
#[derive(Default)]
pub(crate) struct HiddenAddresses {
    addresses: HashSet<IpAddr>,
    names: HashSet<String>,
}

impl HiddenAddresses {
    pub(crate) fn add_candidate(&mut self, candidate: &Candidate<'_>) {
        self.add_host(candidate.host);
        self.add_related(candidate);
    }

    pub(crate) fn add_related(&mut self, candidate: &Candidate<'_>) {
        if let Some(host) = candidate.related_host {
            self.add_host(host);
        }
    }

    pub(crate) fn add_text(&mut self, address: &str) {
        match address.parse() {
            Ok(address) => self.add_host(CandidateHost::Ip(address)),
            Err(_) => self.add_host(CandidateHost::DnsName(address)),
        }
    }

    fn add_host(&mut self, host: CandidateHost<'_>) {
        match host {
            CandidateHost::Ip(address) => {
                self.addresses.insert(address.to_canonical());
            }
            CandidateHost::Mdns(name) | CandidateHost::DnsName(name) => {
                self.names.insert(name.to_ascii_lowercase());
            }
        }
    }

    /// Looks through every line but candidates, which were judged one by one: a TURN server may have the address of a host.
    pub(crate) fn check_absent(&self, text: &str) -> Result<(), PolicyRefusal> {
        for line in text.lines().filter(|line| !line.starts_with("a=candidate:")) {
            let v4 = line.split(|c: char| !c.is_ascii_digit() && c != '.');
            let v6 = line.split(|c: char| !c.is_ascii_hexdigit() && c != '.' && c != ':');
            let known = v4.chain(v6).filter_map(|word| word.parse::<IpAddr>().ok());
            let address =
                known.filter(|ip| !ip.is_unspecified()).any(|ip| self.addresses.contains(&ip.to_canonical()));
            let mut names = line.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c));
            // A name of one label may be any word; those that lead somewhere have a dot.
            let name =
                names.any(|word| word.contains('.') && self.names.contains(&word.to_ascii_lowercase()));
            if address || name {
                return Err(PolicyRefusal::malformed(
                    "an address that is kept back stands in a line that is not for addresses",
                ));
            }
        }
        Ok(())
    }
}
