//! One parsed ICE candidate: the `candidate-attribute` of RFC 8839, section 5.1, with `tcptype`
//! (RFC 6544) and mDNS names (draft-ietf-mmusic-mdns-ice-candidates).
//!
//! Owns: the grammar and its bounds. It reads every word of a candidate, so that nothing is
//! forwarded unread. Must not: decide whether a candidate may be forwarded (`candidate_rules`).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

const MAX_CANDIDATE_BYTES: usize = 1_024;
const MAX_EXTENSIONS: usize = 16;

/// The connection address or the related address of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateHost<'a> {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A multicast DNS name: one label, followed by `.local`.
    Mdns(&'a str),
    /// Any other name.
    DnsName(&'a str),
}

/// The type of a candidate: `cand-type` of RFC 8839, section 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateType {
    /// `host`: the address of an interface.
    Host,
    /// `srflx`: the address that a STUN server saw.
    ServerReflexive,
    /// `prflx`: the address that a peer saw.
    PeerReflexive,
    /// `relay`: an address at a TURN server.
    Relay,
    /// Any other token.
    Other,
}

/// A text is not a candidate; the value names the wrong part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a candidate (RFC 8839, section 5.1): {0}")]
pub struct CandidateError(pub &'static str);

/// A parsed candidate. [`Display`](fmt::Display) writes the same text again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The text up to the foundation, with `candidate:` or `a=candidate:`; the component; the
    /// transport.
    leading_fields: [&'a str; 3],
    priority_text: &'a str,
    /// The connection address, parsed.
    pub host: CandidateHost<'a>,
    /// The connection address as written.
    address_text: &'a str,
    /// The connection port.
    pub port: u16,
    /// The type, parsed.
    pub candidate_type: CandidateType,
    type_text: &'a str,
    /// The related address, `raddr`.
    pub related_host: Option<CandidateHost<'a>>,
    related_text: Option<&'a str>,
    /// The related port, `rport`.
    pub related_port: Option<u16>,
    /// Name and value of each extension, in order.
    pub extensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Candidate<'a> {
    /// Parses `candidate:…` or `a=candidate:…`, at most 1 024 bytes with at most 16 extensions.
    /// Words are separated by single spaces. `typ`, the type, `raddr`, `rport` and `tcptype` may
    /// have any case, as in the grammar.
    ///
    /// # Errors
    /// [`CandidateError`] names the wrong part and does not repeat it.
    pub fn parse(text: &'a str) -> Result<Self, CandidateError> {
        if text.len() > MAX_CANDIDATE_BYTES || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(CandidateError("more than 1024 bytes, or not printable ASCII"));
        }
        let bare = text.strip_prefix("a=").unwrap_or(text);
        let foundation =
            bare.strip_prefix("candidate:").ok_or(CandidateError("does not begin with candidate:"))?;
        let mut words = foundation.split(' ');
        let mut word = |part| words.next().filter(|word| !word.is_empty()).ok_or(CandidateError(part));
        let foundation =
            check_word(word("foundation")?, "foundation", |w| w.len() <= 32 && w.bytes().all(is_ice_char))?;
        let head_end = text.len() - bare.len() + "candidate:".len() + foundation.len();
        let component = word("component")?;
        parse_number(component, 256, "component")
            .and_then(|n| if n == 0 { Err(CandidateError("component")) } else { Ok(n) })?;
        let transport = check_word(word("transport")?, "transport", |w| {
            w.len() <= 16 && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })?;
        let priority = word("priority")?;
        parse_number(priority, u32::MAX, "priority")?;
        let address = word("address")?;
        let host = parse_candidate_host(address)?;
        let port = parse_port(word("port")?)?;
        check_word(word("typ")?, "typ", |w| w.eq_ignore_ascii_case("typ"))?;
        let type_text = check_word(word("type")?, "type", is_token)?;
        let mut candidate = Self {
            leading_fields: [&text[..head_end], component, transport],
            priority_text: priority,
            host,
            address_text: address,
            port,
            candidate_type: parse_type(type_text),
            type_text,
            related_host: None,
            related_text: None,
            related_port: None,
            extensions: Vec::new(),
        };
        candidate.parse_attributes(words)?;
        Ok(candidate)
    }

    /// Parses `raddr` and `rport`, in this order and each at most once, then the extensions.
    fn parse_attributes(&mut self, mut words: std::str::Split<'a, char>) -> Result<(), CandidateError> {
        while let Some(name) = words.next() {
            let value = words
                .next()
                .filter(|value| !value.is_empty())
                .ok_or(CandidateError("a name without a value"))?;
            if name.eq_ignore_ascii_case("raddr") {
                if self.related_host.is_some() || self.related_port.is_some() || !self.extensions.is_empty() {
                    return Err(CandidateError("raddr in a wrong place"));
                }
                (self.related_host, self.related_text) = (Some(parse_candidate_host(value)?), Some(value));
            } else if name.eq_ignore_ascii_case("rport") {
                if self.related_port.is_some() || !self.extensions.is_empty() {
                    return Err(CandidateError("rport in a wrong place"));
                }
                self.related_port = Some(parse_port(value)?);
            } else {
                self.add_extension(name, value)?;
            }
        }
        Ok(())
    }

    fn add_extension(&mut self, name: &'a str, value: &'a str) -> Result<(), CandidateError> {
        check_word(name, "extension", is_token)?;
        let types = ["active", "passive", "so"];
        if name.eq_ignore_ascii_case("tcptype")
            && !types.iter().any(|tcptype| tcptype.eq_ignore_ascii_case(value))
        {
            return Err(CandidateError("tcptype"));
        }
        let is_duplicate = self.extensions.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let is_reserved = ["typ", "candidate"].iter().any(|word| word.eq_ignore_ascii_case(name));
        if is_duplicate || is_reserved || self.extensions.len() == MAX_EXTENSIONS {
            return Err(CandidateError("a duplicate or reserved extension, or more than 16"));
        }
        self.extensions.push((name, value));
        Ok(())
    }

    /// Removes the extensions that could contain an address.
    pub(crate) fn without_address_extensions(mut self) -> Self {
        self.extensions.retain(|(name, value)| !(may_contain_address(name) || may_contain_address(value)));
        self
    }

    /// Replaces the related address and port by `0.0.0.0` or `::` and port 0 (RFC 8839, section
    /// 5.1).
    pub(crate) fn with_hidden_related(mut self) -> Self {
        let related = match self.related_host {
            Some(CandidateHost::Ip(address)) => address,
            _ => self.address_text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        if self.related_host.is_some() {
            let unspecified =
                if related.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            self.related_host = Some(CandidateHost::Ip(unspecified));
            self.related_text = Some(crate::address::unspecified_address(related.is_ipv6()));
        }
        self.related_port = self.related_port.map(|_| 0);
        self
    }
}

/// Whether a word could contain an address or a host name. No extension of a browser does.
fn may_contain_address(word: &str) -> bool {
    word.bytes().any(|byte| byte == b'.' || byte == b':')
}

impl fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [foundation, component, transport] = self.leading_fields;
        let (priority, address, type_text) = (self.priority_text, self.address_text, self.type_text);
        write!(f, "{foundation} {component} {transport} {priority} {address} {} typ {type_text}", self.port)?;
        if let Some(related) = self.related_text {
            write!(f, " raddr {related}")?;
        }
        if let Some(port) = self.related_port {
            write!(f, " rport {port}")?;
        }
        self.extensions.iter().try_for_each(|(name, value)| write!(f, " {name} {value}"))
    }
}

fn parse_type(word: &str) -> CandidateType {
    let types = [
        ("host", CandidateType::Host),
        ("srflx", CandidateType::ServerReflexive),
        ("prflx", CandidateType::PeerReflexive),
        ("relay", CandidateType::Relay),
    ];
    types
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map_or(CandidateType::Other, |(_, candidate_type)| candidate_type)
}

fn check_word<'a>(
    word: &'a str,
    part: &'static str,
    is_valid: impl Fn(&str) -> bool,
) -> Result<&'a str, CandidateError> {
    if is_valid(word) { Ok(word) } else { Err(CandidateError(part)) }
}

fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 32
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn parse_number(word: &str, max: u32, part: &'static str) -> Result<u32, CandidateError> {
    let is_digits = !word.is_empty() && word.len() <= 10 && word.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_digits.then(|| word.parse::<u32>().ok()).flatten();
    number.filter(|number| *number <= max).ok_or(CandidateError(part))
}

fn parse_port(word: &str) -> Result<u16, CandidateError> {
    let port = if word.len() <= 5 {
        parse_number(word, u32::from(u16::MAX), "port")?
    } else {
        return Err(CandidateError("port"));
    };
    u16::try_from(port).map_err(|_| CandidateError("port"))
}

/// Parses an address or a DNS name. `127.1`, `0x7f000001` and `010.0.0.1` are rejected, because a
/// resolver would read them as addresses.
fn parse_candidate_host(word: &str) -> Result<CandidateHost<'_>, CandidateError> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(CandidateHost::Ip(address));
    }
    let labels: Vec<_> = word.strip_suffix('.').unwrap_or(word).split('.').collect();
    let has_valid_labels = word.len() <= 253
        && labels.iter().all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
    let has_letter_at_top =
        labels.last().is_some_and(|top| top.starts_with(|c: char| c.is_ascii_alphabetic()));
    match labels.as_slice() {
        _ if !has_valid_labels || !has_letter_at_top => Err(CandidateError("address")),
        [_, top] if top.eq_ignore_ascii_case("local") && !word.ends_with('.') => {
            Ok(CandidateHost::Mdns(word))
        }
        _ => Ok(CandidateHost::DnsName(word)),
    }
}
