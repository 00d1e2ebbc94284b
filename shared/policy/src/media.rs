//! What a role may send: audio and video, a second video, a data channel.
//!
//! Owns: reading m-lines (by `sdp-types`) and the rules of a role. Must not: pass what it cannot tell. Next: `direction`.

use std::collections::HashSet;

use sdp_types::{Media, Session};

use crate::{Refused, Section, direction::Direction, lines::Line};

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

    pub(crate) fn restrict(self) -> bool {
        self != Self::ALL
    }

    /// Judges a description whose lines have been read.
    pub(crate) fn judge(self, sdp: &str, lines: &[Line<'_>]) -> Result<(), Refused> {
        let session =
            Session::parse(sdp.as_bytes()).map_err(|_| Refused::malformed("not an SDP (RFC 8866)"))?;
        let m_lines: Vec<_> = lines.iter().filter(|line| line.kind == b'm').map(|line| line.value).collect();
        if m_lines.len() != session.medias.len() {
            return Err(Refused::malformed("its m-lines cannot be told apart"));
        }
        let bundled = bundled(&session)?;
        let (mut mids, mut videos) = (HashSet::new(), 0);
        for (index, (media, m_line)) in session.medias.iter().zip(m_lines).enumerate() {
            let mid = mid(media);
            let place = Section::new(index, mid.as_ref().ok().copied().flatten());
            let at = |refused: Refused| refused.at(place.clone());
            let mid = mid.map_err(at)?;
            if mid.is_some_and(|mid| !mids.insert(mid)) {
                return Err(at(Refused::malformed("another section has the same mid")));
            }
            let section = read(media, m_line, mid.is_some_and(|mid| bundled.contains(mid))).map_err(at)?;
            videos += usize::from(section.live && section.sends && section.kind == MediaKind::Video);
            self.allow(media, &section, videos).map_err(at)?;
        }
        Ok(())
    }

    fn allow(self, media: &Media, section: &ReadSection, videos: usize) -> Result<(), Refused> {
        if !section.live {
            return Ok(());
        }
        match section.kind {
            MediaKind::Data if self.data => Ok(()),
            MediaKind::Data => Err(Refused::not_permitted("the role may not open data channels (data)")),
            _ if !section.sends => receives_only(media),
            _ if !self.publish => Err(Refused::not_permitted(
                "the role may not send audio or video (publish); the section must say recvonly or inactive",
            )),
            _ if self.share => Ok(()),
            MediaKind::Video if videos > 1 => {
                Err(Refused::not_permitted("the role may send one video only (share)"))
            }
            _ => one_source(media),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MediaKind {
    Audio,
    Video,
    Data,
}

struct ReadSection {
    kind: MediaKind,
    live: bool,
    sends: bool,
}

fn read(media: &Media, m_line: &str, bundled: bool) -> Result<ReadSection, Refused> {
    let port = m_line.split(' ').nth(1).unwrap_or_default();
    let plain = port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
    if !plain || media.port.to_string() != port {
        // Chromium takes `00` and `-0` for a live section.
        return Err(Refused::malformed("the port of the m-line is not a plain number"));
    }
    // Port 0 is a refused section, but not with `bundle-only` (RFC 9143, section 6), and a refused one is in no BUNDLE group.
    let live = port != "0" || bundled || has(media, "bundle-only");
    let direction = Direction::of(media)?;
    let data = media.proto.split('/').any(|part| part == "SCTP");
    let kind = match media.media.as_str() {
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "application" if data => MediaKind::Data,
        // Firefox takes m=image for audio.
        _ if live => return Err(Refused::malformed("neither audio, video nor a data channel")),
        _ => MediaKind::Data,
    };
    Ok(ReadSection { kind, live, sends: direction.sends() })
}

/// A section that does not send says nothing of streams it would send.
fn receives_only(media: &Media) -> Result<(), Refused> {
    let sends = values(media, "simulcast")
        .any(|value| value.split(' ').any(|word| word.eq_ignore_ascii_case("send")))
        || values(media, "rid")
            .any(|value| value.split(' ').nth(1).is_some_and(|word| !word.eq_ignore_ascii_case("recv")));
    if sends { Err(Refused::malformed("sends layers (simulcast, rid) and is not to send")) } else { Ok(()) }
}

/// One source in one section: neither slides nor the several tracks of "Plan B", which Firefox still shows.
fn one_source(media: &Media) -> Result<(), Refused> {
    if values(media, "content").any(|value| value.to_ascii_lowercase().contains("slides")) {
        return Err(Refused::not_permitted("the role may not send slides (share)"));
    }
    let by_ssrc = values(media, "ssrc").filter_map(|value| value.split_once(" msid:")).map(|(_, msid)| msid);
    let tracks: HashSet<_> = by_ssrc
        .chain(values(media, "msid"))
        .map(|msid| msid.split_once(' ').map_or("", |(_, track)| track.trim_end()))
        .filter(|track| !track.is_empty())
        .collect();
    if tracks.len() > 1 {
        return Err(Refused::not_permitted("the role may send one track in a section (share)"));
    }
    Ok(())
}

/// The `mid`s of the BUNDLE groups.
fn bundled(session: &Session) -> Result<HashSet<&str>, Refused> {
    let mut mids = HashSet::new();
    if session.attributes.iter().any(|attribute| attribute.attribute == "bundle-only") {
        return Err(Refused::malformed("bundle-only stands before the m-lines"));
    }
    for attribute in session.attributes.iter().filter(|attribute| attribute.attribute == "group") {
        let mut words = attribute.value.as_deref().unwrap_or_default().split(' ');
        if words.next().is_some_and(|semantics| semantics.eq_ignore_ascii_case("BUNDLE")) {
            mids.extend(words.filter(|word| !word.is_empty()));
        }
    }
    Ok(mids)
}

fn mid(media: &Media) -> Result<Option<&str>, Refused> {
    let mut found = values(media, "mid");
    let mid = found.next();
    if found.next().is_some() { Err(Refused::malformed("has more than one mid")) } else { Ok(mid) }
}

fn values<'a>(media: &'a Media, name: &str) -> impl Iterator<Item = &'a str> {
    media.attributes.iter().filter(move |a| a.attribute == name).filter_map(|a| a.value.as_deref())
}

fn has(media: &Media, name: &str) -> bool {
    media.attributes.iter().any(|attribute| attribute.attribute == name)
}
