//! Ranges of addresses that may be denied.

use ipnet::IpNet;
use signalbox_config::address::parse_range;

/// Why a range cannot be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// Not an address or range.
    #[error(transparent)]
    NotOne(#[from] signalbox_config::address::BadRange),
    /// So wide that it is likely a mistake.
    #[error("is too wide: at most an IPv4 /8 or an IPv6 /16; to refuse everybody, shut down")]
    TooWide,
}

/// Reads a range that is denied: it must not be most of the Internet.
///
/// # Errors
/// [`BadRange`].
pub fn parse_denied(text: &str) -> Result<IpNet, BadRange> {
    let range = parse_range(text)?;
    let widest = if range.addr().is_ipv4() { 8 } else { 16 };
    if range.prefix_len() < widest { Err(BadRange::TooWide) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_internet_cannot_be_denied() {
        for text in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/3", "::ffff:0.0.0.0/96"] {
            assert_eq!(parse_denied(text), Err(BadRange::TooWide), "{text}");
        }
        assert!(parse_denied("10.0.0.0/8").is_ok() && parse_denied("2001::/16").is_ok());
        assert!(matches!(parse_denied("x"), Err(BadRange::NotOne(_))));
    }
}
