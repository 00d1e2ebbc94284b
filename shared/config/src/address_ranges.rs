//! Ranges of addresses: how one is written, and whether an address is in one of many.
//!
//! An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is the IPv4 address: a socket that listens for both shows it that way.

use std::{collections::HashMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};

/// A text that is not a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a range like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48")]
pub struct InvalidRange;

/// Reads an address or a range; bits beyond the prefix are cut off, so that one range has one spelling.
///
/// # Errors
/// [`InvalidRange`].
pub fn parse_range(text: &str) -> Result<IpNet, InvalidRange> {
    let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    Ok(canonical_range(range.map_err(|_| InvalidRange)?))
}

fn canonical_range(range: IpNet) -> IpNet {
    let range = range.trunc();
    let IpNet::V6(wide) = range else { return range };
    match (wide.addr().to_ipv4_mapped(), wide.prefix_len().checked_sub(96)) {
        (Some(address), Some(prefix)) => {
            Ipv4Net::new(address, prefix).map_or(range, |range| IpNet::V4(range.trunc()))
        }
        _ => range,
    }
}

/// Ranges, each with a value, by the length of their prefix: a question is one lookup for each length there is.
#[derive(Debug, Clone, Default)]
pub struct AddressRanges<T = ()> {
    v4: Vec<(u32, HashMap<u32, T>)>,
    v6: Vec<(u128, HashMap<u128, T>)>,
}

impl<T> AddressRanges<T> {
    /// Adds one.
    pub fn insert(&mut self, range: IpNet, value: T) {
        match canonical_range(range) {
            IpNet::V4(range) => {
                insert_range(&mut self.v4, range.netmask().into(), range.network().into(), value)
            }
            IpNet::V6(range) => {
                insert_range(&mut self.v6, range.netmask().into(), range.network().into(), value)
            }
        }
    }

    /// The values of those that hold the address.
    pub fn values_for(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let (v4, v6) = match address.to_canonical() {
            IpAddr::V4(address) => (Some(u32::from(address)), None),
            IpAddr::V6(address) => (None, Some(u128::from(address))),
        };
        let v4 = v4
            .into_iter()
            .flat_map(|bits| self.v4.iter().filter_map(move |(mask, ranges)| ranges.get(&(bits & mask))));
        let v6 = v6
            .into_iter()
            .flat_map(|bits| self.v6.iter().filter_map(move |(mask, ranges)| ranges.get(&(bits & mask))));
        v4.chain(v6)
    }

    /// Whether one of them holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.values_for(address).next().is_some()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl FromIterator<IpNet> for AddressRanges<()> {
    fn from_iter<I: IntoIterator<Item = IpNet>>(ranges: I) -> Self {
        let mut all = Self::default();
        ranges.into_iter().for_each(|range| all.insert(range, ()));
        all
    }
}

fn insert_range<B: Copy + Eq + std::hash::Hash, T>(
    lengths: &mut Vec<(B, HashMap<B, T>)>,
    mask: B,
    bits: B,
    value: T,
) {
    let place = lengths.iter().position(|(of, _)| *of == mask).unwrap_or_else(|| {
        lengths.push((mask, HashMap::new()));
        lengths.len() - 1
    });
    if let Some((_, ranges)) = lengths.get_mut(place) {
        ranges.insert(bits, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ranges_have_one_spelling() {
        for (text, expected) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("2001:db8:1:2:3::/64", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(parse_range(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "x", "10.0.0.0/33", "10.0.0", "::/129", "10.0.0.0/8/8", " 10.0.0.1"] {
            assert_eq!(parse_range(text), Err(InvalidRange), "{text}");
        }
    }

    #[test]
    fn an_ipv4_mapped_address_matches_its_ipv4_range() {
        let ranges: AddressRanges<()> =
            ["203.0.113.0/24", "2001:db8::/48"].iter().map(|text| parse_range(text).unwrap()).collect();
        for (address, expected) in [
            ("203.0.113.255", true),
            ("::ffff:203.0.113.1", true),
            ("203.0.114.0", false),
            ("2001:db8:0:ffff::1", true),
            ("2001:db8:1::1", false),
            ("::203.0.113.1", false),
        ] {
            assert_eq!(ranges.contains(address.parse().unwrap()), expected, "{address}");
        }
    }
}
