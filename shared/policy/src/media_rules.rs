//! What a role may send: audio and video, a second video, a data channel.
//!
//! Owns: reading m-lines (by `sdp-types`) and the rules of a role. Must not: pass what it cannot tell. Next: `direction`.

use std::collections::HashSet;

use sdp_types::{Media, Session};

use crate::{PolicyRefusal, SdpSection, media_direction::MediaDirection, sdp_line::SdpLine};

/// What a role may put into a description. [`MediaRules::default`] forbids all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaRules {
    /// Audio and video may be sent. Without it each live audio or video section is `recvonly` or `inactive`.
    pub publish: bool,
    /// More than one video, and slides (`a=content:slides`, RFC 4796). A part of `publish`.
    pub share: bool,
    /// `m=application` over SCTP: a data channel.
    pub data: bool,
}

impl MediaRules {
    /// Everything is allowed: nothing is read.
    pub const ALL: Self = Self { publish: true, share: true, data: true };

    pub(crate) fn is_restrictive(self) -> bool {
        self != Self::ALL
    }

    /// Judges a description whose lines have been read.
    pub(crate) fn check_description(self, sdp: &str, lines: &[SdpLine<'_>]) -> Result<(), PolicyRefusal> {
        let session =
            Session::parse(sdp.as_bytes()).map_err(|_| PolicyRefusal::malformed("not an SDP (RFC 8866)"))?;
        let m_lines: Vec<_> = lines.iter().filter(|line| line.kind == b'm').map(|line| line.value).collect();
        if m_lines.len() != session.medias.len() {
            return Err(PolicyRefusal::malformed("its m-lines cannot be told apart"));
        }
        let bundled = bundled_mids(&session)?;
        let (mut mids, mut videos) = (HashSet::new(), 0);
        for (index, (media, m_line)) in session.medias.iter().zip(m_lines).enumerate() {
            let mid = section_mid(media);
            let place = SdpSection::new(index, mid.as_ref().ok().copied().flatten());
            let at = |refused: PolicyRefusal| refused.in_section(place.clone());
            let mid = mid.map_err(at)?;
            if mid.is_some_and(|mid| !mids.insert(mid)) {
                return Err(at(PolicyRefusal::malformed("another section has the same mid")));
            }
            let section =
                read_section(media, m_line, mid.is_some_and(|mid| bundled.contains(mid))).map_err(at)?;
            videos += usize::from(section.is_live && section.is_sending && section.kind == MediaKind::Video);
            self.check_section(media, &section, videos).map_err(at)?;
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
                "the role may not send audio or video (publish); the section must say recvonly or inactive",
            )),
            _ if self.share => Ok(()),
            MediaKind::Video if videos > 1 => {
                Err(PolicyRefusal::not_permitted("the role may send one video only (share)"))
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

fn read_section(media: &Media, m_line: &str, bundled: bool) -> Result<MediaSection, PolicyRefusal> {
    let port = m_line.split(' ').nth(1).unwrap_or_default();
    let plain = port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    if !plain || media.port.to_string() != port {
        // Chromium takes `00` and `-0` for a live section.
        return Err(PolicyRefusal::malformed("the port of the m-line is not a plain number"));
    }
    // Port 0 is a refused section, but not with `bundle-only` (RFC 9143, section 6), and a refused one is in no BUNDLE group.
    let live = port != "0" || bundled || has_attribute(media, "bundle-only");
    let direction = MediaDirection::from_media(media)?;
    let data = media.proto.split('/').any(|part| part == "SCTP");
    let kind = match media.media.as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "application" if data => MediaKind::Data,
        // Firefox takes m=image for audio.
        _ if live => return Err(PolicyRefusal::malformed("neither audio, video nor a data channel")),
        _ => MediaKind::Data,
    };
    Ok(MediaSection { kind, is_live: live, is_sending: direction.is_sending() })
}

/// A section that does not send says nothing of streams it would send.
fn check_receive_only(media: &Media) -> Result<(), PolicyRefusal> {
    let sends = attribute_values(media, "simulcast")
        .any(|value| value.split(' ').any(|word| word.eq_ignore_ascii_case("send")))
        || attribute_values(media, "rid")
            .any(|value| value.split(' ').nth(1).is_some_and(|word| !word.eq_ignore_ascii_case("recv")));
    if sends {
        Err(PolicyRefusal::malformed("sends layers (simulcast, rid) and is not to send"))
    } else {
        Ok(())
    }
}

/// One source in one section: neither slides nor the several tracks of "Plan B", which Firefox still shows.
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
        return Err(PolicyRefusal::not_permitted("the role may send one track in a section (share)"));
    }
    Ok(())
}

/// The `mid`s of the BUNDLE groups.
fn bundled_mids(session: &Session) -> Result<HashSet<&str>, PolicyRefusal> {
    let mut mids = HashSet::new();
    if session.attributes.iter().any(|attribute| attribute.attribute == "bundle-only") {
        return Err(PolicyRefusal::malformed("bundle-only stands before the m-lines"));
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
    let mut found = attribute_values(media, "mid");
    let mid = found.next();
    if found.next().is_some() { Err(PolicyRefusal::malformed("has more than one mid")) } else { Ok(mid) }
}

fn attribute_values<'a>(media: &'a Media, name: &str) -> impl Iterator<Item = &'a str> {
    media.attributes.iter().filter(move |a| a.attribute == name).filter_map(|a| a.value.as_deref())
}

fn has_attribute(media: &Media, name: &str) -> bool {
    media.attributes.iter().any(|attribute| attribute.attribute == name)
}
