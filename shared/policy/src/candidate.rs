//! Reading one `candidate-attribute` (RFC 8839, section 5.1; `tcptype` RFC 6544; mDNS names draft-ietf-mmusic-mdns-ice-candidates).
//!
//! Owns: the grammar and its bounds. Must not: judge (`filter`). Every text that it reads, it reads whole.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Longest candidate that is read, and most extensions in one.
const MAX_CANDIDATE_BYTES: usize = 1_024;
const MAX_EXTENSIONS: usize = 16;

/// Where a candidate is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateHost<'a> {
    /// An address.
    Ip(IpAddr),
    /// A multicast DNS name: one label and `.local`.
    Mdns(&'a str),
    /// Any other name.
    DnsName(&'a str),
}

/// `cand-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateType {
    /// An own interface.
    Host,
    /// What a STUN server saw.
    ServerReflexive,
    /// What a peer saw.
    PeerReflexive,
    /// At a TURN server.
    Relay,
    /// A token that no RFC has given a meaning.
    Other,
}

/// Why a text is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a candidate (RFC 8839, section 5.1): {0}")]
pub struct CandidateError(pub &'static str);

/// A parsed candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// `candidate:` or `a=candidate:`, foundation, component and transport: all before the priority.
    leading_fields: [&'a str; 3],
    priority_text: &'a str,
    /// The connection address.
    pub host: CandidateHost<'a>,
    /// The connection address as written.
    address_text: &'a str,
    /// Its port.
    pub port: u16,
    /// Its type.
    pub candidate_type: CandidateType,
    type_text: &'a str,
    /// `raddr`.
    pub related_host: Option<CandidateHost<'a>>,
    related_text: Option<&'a str>,
    /// `rport`.
    pub related_port: Option<u16>,
    /// Names and values of the extensions, in order.
    pub extensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Candidate<'a> {
    /// Reads `candidate:…` or `a=candidate:…`. Blanks are single, names of types and of `raddr` may be in any case, as the
    /// grammar says.
    ///
    /// # Errors
    /// [`CandidateError`] says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, CandidateError> {
        if text.len() > MAX_CANDIDATE_BYTES || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(CandidateError("over 1024 bytes, or not printable ASCII"));
        }
        let bare = text.strip_prefix("a=").unwrap_or(text);
        let foundation = bare.strip_prefix("candidate:").ok_or(CandidateError("no candidate: before it"))?;
        let mut words = foundation.split(' ');
        let mut word = |what| words.next().filter(|word| !word.is_empty()).ok_or(CandidateError(what));
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
        let kind_word = check_word(word("type")?, "type", is_token)?;
        let mut candidate = Self {
            leading_fields: [&text[..head_end], component, transport],
            priority_text: priority,
            host,
            address_text: address,
            port,
            candidate_type: parse_type(kind_word),
            type_text: kind_word,
            related_host: None,
            related_text: None,
            related_port: None,
            extensions: Vec::new(),
        };
        candidate.parse_attributes(words)?;
        Ok(candidate)
    }

    /// `raddr` and `rport`, in that order and once, then the extensions.
    fn parse_attributes(&mut self, mut words: std::str::Split<'a, char>) -> Result<(), CandidateError> {
        while let Some(name) = words.next() {
            let value = words
                .next()
                .filter(|value| !value.is_empty())
                .ok_or(CandidateError("a name without value"))?;
            if name.eq_ignore_ascii_case("raddr") {
                if self.related_host.is_some() || self.related_port.is_some() || !self.extensions.is_empty() {
                    return Err(CandidateError("raddr out of place"));
                }
                (self.related_host, self.related_text) = (Some(parse_candidate_host(value)?), Some(value));
            } else if name.eq_ignore_ascii_case("rport") {
                if self.related_port.is_some() || !self.extensions.is_empty() {
                    return Err(CandidateError("rport out of place"));
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
            && !types.iter().any(|known| known.eq_ignore_ascii_case(value))
        {
            return Err(CandidateError("tcptype"));
        }
        let twice = self.extensions.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let word = ["typ", "candidate"].iter().any(|word| word.eq_ignore_ascii_case(name));
        if twice || word || self.extensions.len() == MAX_EXTENSIONS {
            return Err(CandidateError("an extension twice, or more than 16"));
        }
        self.extensions.push((name, value));
        Ok(())
    }

    /// The same candidate without extensions that could hold an address.
    pub(crate) fn without_address_extensions(mut self) -> Self {
        self.extensions.retain(|(name, value)| !(may_contain_address(name) || may_contain_address(value)));
        self
    }

    /// The same candidate with `0.0.0.0` or `::` and port 0 for its related address (RFC 8839, section 5.1).
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

/// Whether a word could be, or hold, an address or a name: nothing that browsers write does.
fn may_contain_address(word: &str) -> bool {
    word.bytes().any(|byte| byte == b'.' || byte == b':')
}

/// Writes it as it was read.
impl fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, component, transport] = self.leading_fields;
        let (priority, address, kind) = (self.priority_text, self.address_text, self.type_text);
        write!(f, "{start} {component} {transport} {priority} {address} {} typ {kind}", self.port)?;
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
    let known = [
        ("host", CandidateType::Host),
        ("srflx", CandidateType::ServerReflexive),
        ("prflx", CandidateType::PeerReflexive),
        ("relay", CandidateType::Relay),
    ];
    known
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map_or(CandidateType::Other, |(_, kind)| kind)
}

fn check_word<'a>(
    word: &'a str,
    what: &'static str,
    good: impl Fn(&str) -> bool,
) -> Result<&'a str, CandidateError> {
    if good(word) { Ok(word) } else { Err(CandidateError(what)) }
}

fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_token(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 32
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn parse_number(word: &str, max: u32, what: &'static str) -> Result<u32, CandidateError> {
    let digits = !word.is_empty() && word.len() <= 10 && word.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| word.parse::<u32>().ok()).flatten();
    number.filter(|number| *number <= max).ok_or(CandidateError(what))
}

fn parse_port(word: &str) -> Result<u16, CandidateError> {
    let port = if word.len() <= 5 {
        parse_number(word, u32::from(u16::MAX), "port")?
    } else {
        return Err(CandidateError("port"));
    };
    u16::try_from(port).map_err(|_| CandidateError("port"))
}

/// An address, or a name of labels. `127.1`, `0x7f000001` and `010.0.0.1` are neither: a resolver would take them for addresses.
fn parse_candidate_host(word: &str) -> Result<CandidateHost<'_>, CandidateError> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(CandidateHost::Ip(address));
    }
    let labels: Vec<_> = word.strip_suffix('.').unwrap_or(word).split('.').collect();
    let good = word.len() <= 253
        && labels.iter().all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
    let letters = labels.last().is_some_and(|top| top.starts_with(|c: char| c.is_ascii_alphabetic()));
    match labels.as_slice() {
        _ if !good || !letters => Err(CandidateError("address")),
        [_, top] if top.eq_ignore_ascii_case("local") && !word.ends_with('.') => {
            Ok(CandidateHost::Mdns(word))
        }
        _ => Ok(CandidateHost::DnsName(word)),
    }
}
