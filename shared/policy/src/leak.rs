//! The last look over a rewritten description: what was taken out must not stand in some other line.

use std::{collections::HashSet, net::IpAddr};

use crate::{
    Refused,
    candidate::{Candidate, Host},
};

/// The addresses and names that were taken out.
#[derive(Default)]
pub(crate) struct Taken {
    addresses: HashSet<IpAddr>,
    names: HashSet<String>,
}

impl Taken {
    pub(crate) fn whole(&mut self, candidate: &Candidate<'_>) {
        self.host(candidate.host);
        self.related(candidate);
    }

    pub(crate) fn related(&mut self, candidate: &Candidate<'_>) {
        if let Some(host) = candidate.related {
            self.host(host);
        }
    }

    pub(crate) fn text(&mut self, address: &str) {
        match address.parse() {
            Ok(address) => self.host(Host::Ip(address)),
            Err(_) => self.host(Host::Name(address)),
        }
    }

    fn host(&mut self, host: Host<'_>) {
        match host {
            Host::Ip(address) => {
                self.addresses.insert(address.to_canonical());
            }
            Host::Mdns(name) | Host::Name(name) => {
                self.names.insert(name.to_ascii_lowercase());
            }
        }
    }

    /// Looks through every line but candidates, which were judged one by one: a TURN server may have the address of a host.
    pub(crate) fn check(&self, text: &str) -> Result<(), Refused> {
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
                return Err(Refused::malformed(
                    "an address that is kept back stands in a line that is not for addresses",
                ));
            }
        }
        Ok(())
    }
}
