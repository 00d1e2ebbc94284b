//! Address ranges: how a range is written, and which of many ranges contain an address.
//!
//! An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) counts as its IPv4 address, because a
//! socket that listens for both shows IPv4 clients in this form.

use std::{collections::HashMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net};

/// A text is neither an address nor a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a range like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48")]
pub struct InvalidRange;

/// Parses an address or a range. Bits beyond the prefix become zero, so that a range has one
/// spelling.
///
/// # Errors
/// [`InvalidRange`] for any other text.
pub fn parse_range(text: &str) -> Result<IpNet, InvalidRange> {
    let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    Ok(canonical_range(range.map_err(|_| InvalidRange)?))
}

fn canonical_range(range: IpNet) -> IpNet {
    let range = range.trunc();
    let IpNet::V6(v6) = range else { return range };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(prefix)) => {
            Ipv4Net::new(address, prefix).map_or(range, |range| IpNet::V4(range.trunc()))
        }
        _ => range,
    }
}

/// Ranges, each with a value, grouped by netmask. A lookup costs one hash lookup for each netmask
/// in use.
#[derive(Debug, Clone, Default)]
pub struct AddressRanges<T = ()> {
    // Netmask, and the values by network address.
    v4: Vec<(u32, HashMap<u32, T>)>,
    v6: Vec<(u128, HashMap<u128, T>)>,
}

impl<T> AddressRanges<T> {
    /// Adds a range, or replaces its value.
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

    /// The values of all ranges that contain the address.
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

    /// Whether a range contains the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.values_for(address).next().is_some()
    }

    /// Whether no range was added.
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
    by_mask: &mut Vec<(B, HashMap<B, T>)>,
    mask: B,
    network: B,
    value: T,
) {
    let index = by_mask.iter().position(|(other, _)| *other == mask).unwrap_or_else(|| {
        by_mask.push((mask, HashMap::new()));
        by_mask.len() - 1
    });
    if let Some((_, ranges)) = by_mask.get_mut(index) {
        ranges.insert(network, value);
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
