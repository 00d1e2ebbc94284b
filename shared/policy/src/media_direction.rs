//! Which way the media of a section goes.

use sdp_types::Media;

use crate::PolicyRefusal;

/// `a=sendrecv` and its kin (RFC 8866, section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaDirection {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl MediaDirection {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "sendrecv" => Self::SendRecv,
            "sendonly" => Self::SendOnly,
            "recvonly" => Self::RecvOnly,
            "inactive" => Self::Inactive,
            _ => return None,
        })
    }

    pub(crate) fn is_sending(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// The section's own direction; without one it is `sendrecv`. One at session level would count by RFC 8866, but neither
    /// Chromium nor Firefox heeds it: a session that says `recvonly` may not hide a section that sends.
    pub(crate) fn from_media(media: &Media) -> Result<Self, PolicyRefusal> {
        let mut found = media.attributes.iter().filter_map(|attribute| Self::parse(&attribute.attribute));
        let direction = found.next().unwrap_or(Self::SendRecv);
        if found.next().is_some() {
            return Err(PolicyRefusal::malformed("has more than one direction attribute"));
        }
        Ok(direction)
    }
}
