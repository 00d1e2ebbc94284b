//! Which roles may send which media: descriptions of Chromium and Firefox, and attempts of a
//! dishonest client without `publish`.

use crate::{CandidateRules, MediaRules, PolicyRefusal, RefusalKind, RolePolicy};

const VIEWER: &str = include_str!("../../sdp/viewer.sdp");
const PUBLISHER: &str = include_str!("../../sdp/publisher.sdp");
const ANSWER: &str = include_str!("../../sdp/answer.sdp");
const STOPPED: &str = include_str!("../../sdp/stopped.sdp");
const DATA: &str = include_str!("../../sdp/data.sdp");
const FIREFOX_VIEWER: &str = include_str!("../../sdp/firefox-viewer.sdp");
const FIREFOX_PUBLISHER: &str = include_str!("../../sdp/firefox-publisher.sdp");
const FIREFOX_ANSWER: &str = include_str!("../../sdp/firefox-answer.sdp");

const WATCH_RULES: MediaRules = MediaRules { publish: false, share: false, data: true };
const SPEAK_RULES: MediaRules = MediaRules { publish: true, share: false, data: true };
const RECVONLY: &str = "a=recvonly\r\n";

fn filter_unchanged(media: MediaRules, sdp: &str) -> Result<(), PolicyRefusal> {
    let rules = RolePolicy::new(media, CandidateRules::default()).expect("a rule");
    rules.filter_description(sdp).map(|output| assert_eq!(output, sdp, "the description was changed"))
}

fn refused_section(media: MediaRules, sdp: &str) -> usize {
    let refusal = filter_unchanged(media, sdp).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotPermitted, "{refusal}");
    refusal.section.expect("an m-line").index
}

/// The viewer's offer with every `recvonly` replaced.
fn with_direction(lines: &str) -> String {
    VIEWER.replace(RECVONLY, lines)
}

/// The viewer's offer whose second section sends.
fn offer_that_sends_video() -> String {
    let (before, video) = VIEWER.split_at(VIEWER.find("m=video").unwrap());
    format!("{before}{}", video.replacen("a=recvonly", "a=sendrecv", 1))
}

fn with_session_lines(lines: &str, sdp: &str) -> String {
    sdp.replacen("t=0 0\r\n", &format!("t=0 0\r\n{lines}"), 1)
}

#[test]
fn a_receive_only_description_passes_in_both_browsers() {
    for sdp in [VIEWER, FIREFOX_VIEWER, FIREFOX_ANSWER, ANSWER, DATA] {
        filter_unchanged(WATCH_RULES, sdp).unwrap();
        filter_unchanged(WATCH_RULES, &sdp.replace("\r\n", "\n")).unwrap();
        filter_unchanged(WATCH_RULES, sdp.trim_end()).unwrap();
        filter_unchanged(WATCH_RULES, &format!("{sdp}\r\n\r\n")).unwrap();
    }
    filter_unchanged(WATCH_RULES, &with_direction("a=inactive\r\n")).unwrap();
}

#[test]
fn sending_without_publish_is_rejected_with_its_m_line() {
    assert_eq!(refused_section(WATCH_RULES, PUBLISHER), 0);
    assert_eq!(refused_section(WATCH_RULES, FIREFOX_PUBLISHER), 0);
    let refusal = filter_unchanged(WATCH_RULES, &offer_that_sends_video()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "m-line 1 (mid 1): the role may not send audio or video (publish); the section must be recvonly or inactive"
    );
}

#[test]
fn an_unusual_mid_is_not_repeated() {
    let sdp = PUBLISHER.replace("a=mid:0", "a=mid:<script>alert(1)</script>");
    assert!(filter_unchanged(WATCH_RULES, &sdp).unwrap_err().to_string().starts_with("m-line 0: "));
}

#[test]
fn a_missing_direction_counts_as_sendrecv() {
    assert_eq!(refused_section(WATCH_RULES, &with_direction("")), 0);
}

#[test]
fn a_session_level_direction_is_ignored_as_in_browsers() {
    for direction in [RECVONLY, "a=inactive\r\n"] {
        assert_eq!(refused_section(WATCH_RULES, &with_session_lines(direction, &with_direction(""))), 0);
    }
    // Firefox writes `a=sendrecv` there, whatever its sections say.
    filter_unchanged(WATCH_RULES, &with_session_lines("a=sendrecv\r\n", VIEWER)).unwrap();
}

#[test]
fn a_bundle_only_section_with_port_0_is_live() {
    let sdp = FIREFOX_PUBLISHER.replacen("a=sendrecv\r\na=end", "a=recvonly\r\na=end", 1);
    assert_eq!(refused_section(WATCH_RULES, &sdp), 1);
    let no_data = MediaRules { data: false, ..SPEAK_RULES };
    assert_eq!(refused_section(no_data, FIREFOX_PUBLISHER), 2);
}

#[test]
fn a_rejected_section_is_ignored_outside_a_bundle() {
    let sends = offer_that_sends_video();
    let refused = sends.replace("m=video 9", "m=video 0");
    assert_eq!(refused_section(WATCH_RULES, &refused), 1);
    filter_unchanged(WATCH_RULES, &refused.replace("BUNDLE 0 1 2", "BUNDLE 0 2")).unwrap();
    filter_unchanged(SPEAK_RULES, STOPPED).unwrap();
}

#[test]
fn a_data_channel_needs_its_own_permission() {
    let rules = MediaRules { data: false, ..SPEAK_RULES };
    assert_eq!(refused_section(rules, DATA), 0);
    assert_eq!(refused_section(rules, VIEWER), 2);
    let closed = VIEWER.replace("m=application 9", "m=application 0").replace("BUNDLE 0 1 2", "BUNDLE 0 1");
    filter_unchanged(rules, &closed).unwrap();
}

#[test]
fn without_share_only_one_video_and_no_slides_are_allowed() {
    assert_eq!(refused_section(SPEAK_RULES, PUBLISHER), 2);
    filter_unchanged(
        MediaRules { data: false, ..MediaRules::ALL },
        &PUBLISHER[..PUBLISHER.find("m=application").unwrap()],
    )
    .unwrap();
    filter_unchanged(SPEAK_RULES, FIREFOX_PUBLISHER).unwrap();
    let one = PUBLISHER.replacen("a=mid:2\r\n", "a=mid:2\r\na=x\r\n", 1).replacen(
        "a=sendrecv\r\n",
        "a=inactive\r\n",
        2,
    );
    let one = one.replace("a=rid:h send\r\na=rid:q send\r\na=simulcast:send h;q\r\n", "");
    filter_unchanged(SPEAK_RULES, &one).unwrap();
    for content in ["slides", "main,slides", "SLIDES"] {
        let sdp = one.replace("a=x\r\n", &format!("a=content:{content}\r\n"));
        assert_eq!(refused_section(SPEAK_RULES, &sdp), 2, "{content}");
    }
    // Two tracks in one section, which Firefox accepts: in the form of "Plan B", and with two msid.
    for lines in ["a=ssrc:11 msid:s t\r\na=ssrc:12 msid:u w\r\n", "a=msid:s t\r\na=msid:u w\r\n"] {
        assert_eq!(refused_section(SPEAK_RULES, &one.replace("a=x\r\n", lines)), 2, "{lines}");
    }
}

/// Chromium 156 or Firefox 153 accepts each of these lines somewhere, or they read it in different
/// ways.
#[test]
fn no_attribute_spelling_bypasses_the_rule() {
    for line in [
        "a=SendRecv",
        "a=RECVONLY",
        "a=recvonly ",
        "a=recvonly:x",
        "a=recvonly\r\na=:sendrecv",
        "a=recvonly\r\na=::sendrecv",
        "a=recvonly\r\na=x sendrecv",
        "a=recvonly\r\na=sendrecvx",
        "a=recvonly\r\na=SENDRECV-x",
        "a=recvonly x",
        "a= recvonly",
        "a=\trecvonly",
        "A=recvonly",
        " a=recvonly",
        "a =recvonly",
        "a=recvonly\u{a0}",
        "a=recvonly\0",
        "a=recvonly\ra=sendrecv",
        "a=x\0y",
        "a=x\r",
        "a=x\u{2028}",
        "a=x\u{85}",
        "a=x\u{b}",
        "a=x\u{c}",
        "a=recvonly\r\n sendrecv",
        "a=recvonly\r\na=recvonly",
        "a=recvonly\r\na=sendrecv",
        "a=sendrecv\r\na=recvonly",
        "a=recvonly\r\na=sendrecv:x",
        "a=recvonly\r\na=sendrecv ",
        "a=recvonly\r\na=sendrecv x",
        "a=recvonly\r\na=SENDONLY",
        "a=recvonly\r\n\r\na=sendrecv",
        "a=recvonly\r\n\na=sendrecv",
        "a=recvonly\r\nx",
        "a=recvonly\r\n=",
        "a=recvonly\r\na=",
        "a=recvonly\r\nv=0",
        "a=recvonly\r\ns=x",
        "a=recvonly\r\nt=0 0",
        "a=recvonly\r\nx=y",
        "a=recvonly\r\na=simulcast:send h",
        "a=recvonly\r\na=simulcast:recv a send h",
        "a=recvonly\r\na=rid:h send",
        "a=recvonly\r\na=rid:h SEND",
        "a=recvonly\r\na=Bundle-Only",
        "a=recvonly\r\na=mid:7",
    ] {
        let sdp = with_direction(&format!("{line}\r\n"));
        assert!(filter_unchanged(WATCH_RULES, &sdp).is_err(), "{line:?}");
    }
}

#[test]
fn no_m_line_spelling_bypasses_the_rule() {
    let sends = offer_that_sends_video().replace("BUNDLE 0 1 2", "BUNDLE 0 2");
    let video = &VIEWER[VIEWER.find("m=video").unwrap()..VIEWER.find("m=application").unwrap()];
    for m in [
        "m=video 9",
        "m=video 00",
        "m=video -0",
        "m=video +0",
        "m=video 0x0",
        "m=video 0/2",
        "m=video 65536",
        "m=video 0 9",
        "m=Video 9",
        "m=VIDEO 0",
        "M=video 9",
        "m= video 9",
        "m=video  9",
        "m=text 9",
        "m=image 9",
        "m=message 9",
        "m=application 9",
        "m=videox 9",
        "m=video\t9",
        "m=",
        "m=video",
        "m =video 9",
    ] {
        // Port `0` means a rejected section, whatever follows it.
        let is_port_zero = m == "m=video 0 9" || m == "m=VIDEO 0";
        let sdp = sends.replace("m=video 9", m);
        assert_eq!(filter_unchanged(WATCH_RULES, &sdp).is_err(), !is_port_zero, "{m:?}");
    }
    let sending = video.replace("a=recvonly", "a=sendrecv");
    for sdp in [
        format!("{VIEWER}{sending}"),
        format!("{VIEWER}{}", sending.replace("a=mid:1\r\n", "")),
        format!("{VIEWER}{video}"),
        VIEWER.replace("m=video 9 UDP/TLS/RTP/SAVPF", "m=application 9 UDP/TLS/RTP/SAVPF"),
        VIEWER.replace("m=application 9 UDP/DTLS/SCTP", "m=application 9 UDP/TLS/RTP/SAVPF"),
        VIEWER.replace("m=video 9", "v=0\r\nm=video 9"),
        VIEWER.replace("a=mid:1", "a=mid:0"),
        with_session_lines("a=bundle-only\r\n", VIEWER),
        format!("{VIEWER}garbage\r\n"),
        format!("\u{feff}{VIEWER}"),
        format!("\r\n{VIEWER}"),
        VIEWER.replace("\r\n", "\r"),
        VIEWER.replace("\r\n", "\r\r\n"),
        VIEWER.replace("v=0", "v=1"),
        VIEWER[5..].to_owned(),
        String::new(),
        "v=0".repeat(2),
    ] {
        assert!(filter_unchanged(WATCH_RULES, &sdp).is_err(), "{sdp}");
    }
}

#[test]
fn a_description_is_bounded() {
    let lines = format!("v=0\r\n{}", "a=x\r\n".repeat(4_096));
    assert_eq!(filter_unchanged(WATCH_RULES, &lines).unwrap_err().kind, RefusalKind::Malformed);
    let section = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\n";
    assert!(filter_unchanged(WATCH_RULES, &format!("v=0\r\n{}", section.repeat(128))).is_ok());
    assert!(filter_unchanged(WATCH_RULES, &format!("v=0\r\n{}", section.repeat(129))).is_err());
}

#[test]
fn a_description_in_a_message_is_a_json_string() {
    let rules = RolePolicy::new(WATCH_RULES, CandidateRules::default()).unwrap();
    let json = serde_json::to_string(VIEWER).unwrap();
    assert_eq!(rules.filter_description_json(&json).unwrap(), json);
    assert!(rules.filter_description_json(&serde_json::to_string(PUBLISHER).unwrap()).is_err());
    // A JSON escape is decoded before the check.
    assert!(rules.filter_description_json(&json.replacen("a=recvonly", r"a=\u0073endrecv", 1)).is_err());
    for text in ["", "null", "{}", "\"", r#""\ud800""#] {
        assert!(rules.filter_description_json(text).is_err(), "{text}");
    }
}

#[test]
fn a_role_with_all_permissions_has_no_policy() {
    assert!(RolePolicy::new(MediaRules::ALL, CandidateRules::default()).is_none());
}
