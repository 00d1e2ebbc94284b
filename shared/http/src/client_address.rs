//! The address of a client behind proxies.
//!
//! It is the other end of the socket, unless that is a trusted proxy. Then it is the last address in
//! `X-Forwarded-For` that is not the address of a trusted proxy. A client may have written the
//! addresses before that one.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName};
use signalbox_config::{ServerSettings, address_ranges::AddressRanges};

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose `X-Forwarded-For` is trusted.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(AddressRanges<()>);

impl TrustedProxies {
    /// The proxies of the configuration.
    pub(crate) fn new(server: &ServerSettings) -> Self {
        Self(server.trusted_proxies.iter().copied().collect())
    }

    /// The address of a client. None if the socket has none, or if a trusted proxy sends no
    /// readable address: the address of the proxy would stand for all of its clients.
    pub(crate) fn client_address(&self, socket: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let socket = socket?.to_canonical();
        if !self.0.contains(socket) {
            return Some(socket);
        }
        let lines: Vec<&str> =
            headers.get_all(FORWARDED_FOR).map(|line| line.to_str().unwrap_or("?")).collect();
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let address = parse_address(hop.trim())?;
            if !self.0.contains(address) {
                return Some(address);
            }
        }
        // Every hop is a trusted proxy, so a proxy made the request itself.
        None
    }
}

/// An address, with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(inside, _)| inside);
    let address =
        bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|with| with.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use signalbox_config::address_ranges::parse_range;

    use super::*;

    #[test]
    fn only_a_trusted_proxy_sets_the_client_address() {
        let server = ServerSettings {
            trusted_proxies: ["10.0.0.0/8", "::1"].map(|text| parse_range(text).unwrap()).to_vec(),
            ..ServerSettings::default()
        };
        let proxies = TrustedProxies::new(&server);
        for (socket, lines, expected) in [
            ("203.0.113.7", &["198.51.100.1"][..], Some("203.0.113.7")),
            ("203.0.113.7", &[], Some("203.0.113.7")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::ffff:10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("::1", &["198.51.100.1, 203.0.113.9"], Some("203.0.113.9")),
            // What a client claims stands before what the proxy adds.
            ("10.0.0.1", &["127.0.0.1, 198.51.100.1, 10.0.0.2"], Some("198.51.100.1")),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["198.51.100.1:4711"], Some("198.51.100.1")),
            ("10.0.0.1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("10.0.0.1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["198.51.100.1, unknown"], None),
            ("10.0.0.1", &["10.0.0.3"], None),
            ("10.0.0.1", &[], None),
            ("10.0.0.1", &[""], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            let found = proxies.client_address(Some(socket.parse().unwrap()), &headers);
            assert_eq!(found.map(|address| address.to_string()).as_deref(), expected, "{socket} {lines:?}");
        }
        assert_eq!(proxies.client_address(None, &HeaderMap::new()), None);
        assert!(
            TrustedProxies::default()
                .client_address(Some("10.0.0.1".parse().unwrap()), &HeaderMap::new())
                .is_some()
        );
    }
}
