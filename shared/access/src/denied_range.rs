//! Ranges of addresses that may be denied.

use ipnet::IpNet;
use signalbox_config::address_ranges::parse_range;

/// Why a range cannot be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeniedRangeError {
    /// The text is no address or range.
    #[error(transparent)]
    InvalidRange(#[from] signalbox_config::address_ranges::InvalidRange),
    /// The range is so wide that it is likely a mistake.
    #[error("is too wide: at most an IPv4 /8 or an IPv6 /16; to refuse all clients, use a shutdown")]
    TooWide,
}

/// Parses a range to deny. It must not cover most of the Internet.
///
/// # Errors
/// [`DeniedRangeError`].
pub fn parse_denied_range(text: &str) -> Result<IpNet, DeniedRangeError> {
    let range = parse_range(text)?;
    let widest = if range.addr().is_ipv4() { 8 } else { 16 };
    if range.prefix_len() < widest { Err(DeniedRangeError::TooWide) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_too_wide_cannot_be_denied() {
        for text in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/3", "::ffff:0.0.0.0/96"] {
            assert_eq!(parse_denied_range(text), Err(DeniedRangeError::TooWide), "{text}");
        }
        assert!(parse_denied_range("10.0.0.0/8").is_ok() && parse_denied_range("2001::/16").is_ok());
        assert!(matches!(parse_denied_range("x"), Err(DeniedRangeError::InvalidRange(_))));
    }
}
