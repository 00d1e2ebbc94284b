//! Which addresses are private, and which are another form of the same address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The address as it is written, and the IPv4 address that it contains. An IPv6 address contains an
/// IPv4 address if it is IPv4-mapped, or if NAT64 (RFC 6052, RFC 8215) or 6to4 (RFC 3056) would
/// send to that address.
fn address_forms(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let embedded = match address {
        IpAddr::V6(v6) => embedded_ipv4(v6).map(IpAddr::V4),
        IpAddr::V4(_) => None,
    };
    std::iter::once(address).chain(embedded)
}

fn embedded_ipv4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match s {
        // ::ffff:a.b.c.d, the deprecated ::a.b.c.d, ::ffff:0:a.b.c.d (SIIT), 64:ff9b::a.b.c.d
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => {
            v4(high, low)
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// Whether an address has a meaning only inside its network.
/// - IPv4: 10/8, 172.16/12, 192.168/16, 100.64/10 (carrier NAT, RFC 6598), 169.254/16, 127/8, 0/8,
///   255.255.255.255.
/// - IPv6: fc00::/7 (ULA), fe80::/10, fec0::/10, ::1, ::, 64:ff9b:1::/48 (local NAT64), and every
///   address that contains a private IPv4 address.
pub(crate) fn is_private(address: IpAddr) -> bool {
    address_forms(address).any(|form| match form {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_broadcast()
                || a == 0
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => {
            let s = v6.segments();
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || s[0] & 0xffc0 == 0xfec0
                || s[..3] == [0x64, 0xff9b, 1]
        }
    })
}

/// Whether one of the networks contains the address, in any of its forms.
pub(crate) fn contains_any_form(networks: &[IpNet], address: IpAddr) -> bool {
    address_forms(address).any(|form| networks.iter().any(|network| network.contains(&form)))
}

/// Whether one of the networks contains the address itself; an IPv4-mapped address counts as IPv4.
pub(crate) fn contains_address(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// The text of the unspecified address, which means "no address".
pub(crate) fn unspecified_address(v6: bool) -> &'static str {
    if v6 { "::" } else { "0.0.0.0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_is_private_in_every_form() {
        for text in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "64:ff9b:1::1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::192.168.0.1",
            "2002:a00:1::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in [
            "9.255.255.255",
            "11.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2a00::1",
            "ff02::1",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
