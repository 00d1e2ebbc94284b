//! Which media a role may send: audio and video, a second video, data channels.
//!
//! Owns: the rules for media, and how the sections of a description are read (`sdp-types` parses
//! them). Must not: accept a section that it cannot read with certainty.

use std::collections::HashSet;

use sdp_types::{Media, Session};

use crate::{PolicyRefusal, SdpSection, sdp_line::SdpLine};

/// Which media a description of the role may have. [`MediaRules::default`] forbids all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaRules {
    /// Audio and video may be sent. Without it, each live audio or video section must be `recvonly`
    /// or `inactive`.
    pub publish: bool,
    /// More than one video may be sent, and slides (`a=content:slides`, RFC 4796). It has no effect
    /// without `publish`.
    pub share: bool,
    /// Data channels may be opened: `m=application` over SCTP.
    pub data: bool,
}

impl MediaRules {
    /// Every medium is allowed, so that a description need not be read.
    pub const ALL: Self = Self { publish: true, share: true, data: true };

    pub(crate) fn is_restrictive(self) -> bool {
        self != Self::ALL
    }

    /// Checks a description; `lines` are the lines of `sdp`.
    pub(crate) fn check_description(self, sdp: &str, lines: &[SdpLine<'_>]) -> Result<(), PolicyRefusal> {
        let session =
            Session::parse(sdp.as_bytes()).map_err(|_| PolicyRefusal::malformed("not an SDP (RFC 8866)"))?;
        let m_lines: Vec<_> = lines.iter().filter(|line| line.kind == b'm').map(|line| line.value).collect();
        if m_lines.len() != session.medias.len() {
            return Err(PolicyRefusal::malformed("its m-lines cannot be distinguished"));
        }
        let bundled = bundled_mids(&session)?;
        let (mut mids, mut videos) = (HashSet::new(), 0);
        for (index, (media, m_line)) in session.medias.iter().zip(m_lines).enumerate() {
            let mid = section_mid(media);
            let sdp_section = SdpSection::new(index, mid.as_ref().ok().copied().flatten());
            let with_section = |refusal: PolicyRefusal| refusal.in_section(sdp_section.clone());
            let mid = mid.map_err(with_section)?;
            if mid.is_some_and(|mid| !mids.insert(mid)) {
                return Err(with_section(PolicyRefusal::malformed("another section has the same mid")));
            }
            let is_bundled = mid.is_some_and(|mid| bundled.contains(mid));
            let section = read_section(media, m_line, is_bundled).map_err(with_section)?;
            videos += usize::from(section.is_live && section.is_sending && section.kind == MediaKind::Video);
            self.check_section(media, &section, videos).map_err(with_section)?;
        }
        Ok(())
    }

    fn check_section(
        self,
        media: &Media,
        section: &MediaSection,
        videos: usize,
    ) -> Result<(), PolicyRefusal> {
        if !section.is_live {
            return Ok(());
        }
        match section.kind {
            MediaKind::Data if self.data => Ok(()),
            MediaKind::Data => {
                Err(PolicyRefusal::not_permitted("the role may not open data channels (data)"))
            }
            _ if !section.is_sending => check_receive_only(media),
            _ if !self.publish => Err(PolicyRefusal::not_permitted(
                "the role may not send audio or video (publish); the section must be recvonly or inactive",
            )),
            _ if self.share => Ok(()),
            MediaKind::Video if videos > 1 => {
                Err(PolicyRefusal::not_permitted("the role may send only one video (share)"))
            }
            _ => check_single_source(media),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaKind {
    Audio,
    Video,
    Data,
}

struct MediaSection {
    kind: MediaKind,
    is_live: bool,
    is_sending: bool,
}

fn read_section(media: &Media, m_line: &str, is_bundled: bool) -> Result<MediaSection, PolicyRefusal> {
    let port = m_line.split(' ').nth(1).unwrap_or_default();
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    if !is_plain || media.port.to_string() != port {
        // Chromium reads `00` and `-0` as a live section.
        return Err(PolicyRefusal::malformed("the port of the m-line is not a plain number"));
    }
    // Port 0 means a rejected section (RFC 3264), unless the section is in a BUNDLE group or
    // `bundle-only` (RFC 9143, section 6).
    let is_live = port != "0" || is_bundled || has_attribute(media, "bundle-only");
    let direction = MediaDirection::from_media(media)?;
    let is_sctp = media.proto.split('/').any(|part| part == "SCTP");
    let kind = match media.media.as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "application" if is_sctp => MediaKind::Data,
        // Firefox reads m=image as audio.
        _ if is_live => return Err(PolicyRefusal::malformed("neither audio, video nor a data channel")),
        _ => MediaKind::Data,
    };
    Ok(MediaSection { kind, is_live, is_sending: direction.is_sending() })
}

/// The direction attribute of a section (RFC 8866, section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaDirection {
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

    fn is_sending(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// The direction attribute of the section itself; without one, `sendrecv`. A direction at
    /// session level is ignored, although RFC 8866 gives it a meaning: Chromium and Firefox ignore
    /// it too, so `recvonly` there would hide a section that sends.
    fn from_media(media: &Media) -> Result<Self, PolicyRefusal> {
        let mut directions =
            media.attributes.iter().filter_map(|attribute| Self::parse(&attribute.attribute));
        let direction = directions.next().unwrap_or(Self::SendRecv);
        if directions.next().is_some() {
            return Err(PolicyRefusal::malformed("has more than one direction attribute"));
        }
        Ok(direction)
    }
}

/// A section that does not send must not describe layers to send.
fn check_receive_only(media: &Media) -> Result<(), PolicyRefusal> {
    let has_layers = attribute_values(media, "simulcast")
        .any(|value| value.split(' ').any(|word| word.eq_ignore_ascii_case("send")))
        || attribute_values(media, "rid")
            .any(|value| value.split(' ').nth(1).is_some_and(|word| !word.eq_ignore_ascii_case("recv")));
    if has_layers {
        Err(PolicyRefusal::malformed("describes layers to send (simulcast, rid), but does not send"))
    } else {
        Ok(())
    }
}

/// Rejects slides, and the several tracks in one section of "Plan B", which Firefox still shows.
fn check_single_source(media: &Media) -> Result<(), PolicyRefusal> {
    if attribute_values(media, "content").any(|value| value.to_ascii_lowercase().contains("slides")) {
        return Err(PolicyRefusal::not_permitted("the role may not send slides (share)"));
    }
    let by_ssrc =
        attribute_values(media, "ssrc").filter_map(|value| value.split_once(" msid:")).map(|(_, msid)| msid);
    let tracks: HashSet<_> = by_ssrc
        .chain(attribute_values(media, "msid"))
        .map(|msid| msid.split_once(' ').map_or("", |(_, track)| track.trim_end()))
        .filter(|track| !track.is_empty())
        .collect();
    if tracks.len() > 1 {
        return Err(PolicyRefusal::not_permitted("the role may send only one track in a section (share)"));
    }
    Ok(())
}

/// The `mid`s of the BUNDLE groups.
fn bundled_mids(session: &Session) -> Result<HashSet<&str>, PolicyRefusal> {
    let mut mids = HashSet::new();
    if session.attributes.iter().any(|attribute| attribute.attribute == "bundle-only") {
        return Err(PolicyRefusal::malformed("bundle-only is before the first m-line"));
    }
    for attribute in session.attributes.iter().filter(|attribute| attribute.attribute == "group") {
        let mut words = attribute.value.as_deref().unwrap_or_default().split(' ');
        if words.next().is_some_and(|semantics| semantics.eq_ignore_ascii_case("BUNDLE")) {
            mids.extend(words.filter(|word| !word.is_empty()));
        }
    }
    Ok(mids)
}

fn section_mid(media: &Media) -> Result<Option<&str>, PolicyRefusal> {
    let mut values = attribute_values(media, "mid");
    let mid = values.next();
    if values.next().is_some() { Err(PolicyRefusal::malformed("has more than one mid")) } else { Ok(mid) }
}

fn attribute_values<'a>(media: &'a Media, name: &str) -> impl Iterator<Item = &'a str> {
    media.attributes.iter().filter(move |a| a.attribute == name).filter_map(|a| a.value.as_deref())
}

fn has_attribute(media: &Media, name: &str) -> bool {
    media.attributes.iter().any(|attribute| attribute.attribute == name)
}
