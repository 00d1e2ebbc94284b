//! Which candidates are forwarded: the grammar, the rules, descriptions.

use crate::{
    Candidate, CandidateHost, CandidateOutcome, CandidateRules, CandidateType, MediaRules, PolicyRefusal,
    RefusalKind, RolePolicy,
};

const VIEWER: &str = include_str!("../../sdp/viewer.sdp");
const FIREFOX_PUBLISHER: &str = include_str!("../../sdp/firefox-publisher.sdp");

const HOST: &str = "candidate:2868818822 1 udp 2122260223 192.168.1.5 42472 typ host generation 0 ufrag o5Kf network-id 1 network-cost 50";
const MDNS: &str =
    "candidate:1 1 udp 2113937151 3c6a7d7e-0c2f-4a40-8f0d-3d4f2d0f7a11.local 42472 typ host generation 0";
const SRFLX: &str = "candidate:842163049 1 udp 1677729535 203.0.113.9 42472 typ srflx raddr 192.168.1.5 rport 42472 generation 0";
const SRFLX_HIDDEN: &str =
    "candidate:842163049 1 udp 1677729535 203.0.113.9 42472 typ srflx raddr 0.0.0.0 rport 0 generation 0";
const RELAY: &str =
    "candidate:3 1 udp 41885439 198.51.100.7 50001 typ relay raddr 203.0.113.9 rport 42472 generation 0";
const RELAY_HIDDEN: &str =
    "candidate:3 1 udp 41885439 198.51.100.7 50001 typ relay raddr 0.0.0.0 rport 0 generation 0";

fn candidate_policy(candidates: CandidateRules) -> RolePolicy {
    RolePolicy::new(MediaRules::ALL, candidates).expect("a rule")
}

fn relay_only_rules() -> CandidateRules {
    CandidateRules { relay_only: true, ..CandidateRules::default() }
}

fn drop_private_rules() -> CandidateRules {
    CandidateRules { drop_private: true, ..CandidateRules::default() }
}

fn deny_rules(network: &str) -> CandidateRules {
    CandidateRules { deny: vec![network.parse().unwrap()], ..CandidateRules::default() }
}

fn allow_rules(network: &str) -> CandidateRules {
    CandidateRules { allow: vec![network.parse().unwrap()], ..CandidateRules::default() }
}

/// The candidate that is forwarded, if one is.
fn filtered_candidate(candidates: CandidateRules, candidate: &str) -> Option<String> {
    let json = serde_json::json!({ "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 }).to_string();
    match candidate_policy(candidates).filter_candidate(&json).unwrap() {
        CandidateOutcome::Forward(json) => {
            let init: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!((&init["sdpMid"], &init["sdpMLineIndex"]), (&"0".into(), &0.into()));
            Some(init["candidate"].as_str().unwrap().to_owned())
        }
        CandidateOutcome::Drop => None,
    }
}

fn candidate_at(address: &str, kind: &str) -> String {
    format!("candidate:1 1 udp 1 {address} 9 typ {kind}")
}

#[test]
fn relay_only_passes_relay_candidates_without_related_address() {
    for dropped in [
        HOST,
        MDNS,
        SRFLX,
        &candidate_at("203.0.113.9", "prflx"),
        &candidate_at("203.0.113.9", "later"),
        &candidate_at("turn.example", "relay"),
    ] {
        assert_eq!(filtered_candidate(relay_only_rules(), dropped), None, "{dropped}");
    }
    assert_eq!(filtered_candidate(relay_only_rules(), RELAY).unwrap(), RELAY_HIDDEN);
    assert_eq!(filtered_candidate(relay_only_rules(), RELAY_HIDDEN).unwrap(), RELAY_HIDDEN);
    assert_eq!(filtered_candidate(relay_only_rules(), "").unwrap(), "");
    let v6 = "candidate:3 1 udp 1 2001:db8::7 50001 typ relay raddr fe80::1 rport 5";
    assert_eq!(
        filtered_candidate(relay_only_rules(), v6).unwrap(),
        "candidate:3 1 udp 1 2001:db8::7 50001 typ relay raddr :: rport 0"
    );
    let named =
        "candidate:3 1 udp 1 2001:db8::7 50001 TYP RELAY RADDR my.host RPORT 5 x-at 10.0.0.1 generation 0";
    assert_eq!(
        filtered_candidate(relay_only_rules(), named).unwrap(),
        "candidate:3 1 udp 1 2001:db8::7 50001 typ RELAY raddr :: rport 0 generation 0"
    );
}

#[test]
fn private_addresses_are_dropped_and_mdns_names_pass() {
    assert_eq!(filtered_candidate(drop_private_rules(), HOST), None);
    assert_eq!(filtered_candidate(drop_private_rules(), MDNS).unwrap(), MDNS);
    assert_eq!(filtered_candidate(drop_private_rules(), SRFLX).unwrap(), SRFLX_HIDDEN);
    assert_eq!(filtered_candidate(drop_private_rules(), RELAY).unwrap(), RELAY);
    for address in [
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "fd00::1",
        "fe80::1",
        "100.64.0.1",
        "127.0.0.1",
        "::1",
    ] {
        assert_eq!(
            filtered_candidate(drop_private_rules(), &candidate_at(address, "host")),
            None,
            "{address}"
        );
        // The type `srflx` does not make an address public. A TURN server may be in a private
        // network.
        assert_eq!(
            filtered_candidate(drop_private_rules(), &candidate_at(address, "srflx")),
            None,
            "{address}"
        );
        assert!(
            filtered_candidate(drop_private_rules(), &candidate_at(address, "relay")).is_some(),
            "{address}"
        );
    }
    // A name may mean any address.
    for name in ["intranet.example", "host.corp.local", "localhost", "x.local."] {
        assert_eq!(filtered_candidate(drop_private_rules(), &candidate_at(name, "host")), None, "{name}");
    }
    assert!(filtered_candidate(drop_private_rules(), &candidate_at("203.0.113.9", "host")).is_some());
    assert!(filtered_candidate(drop_private_rules(), &candidate_at("2001:db8::1", "host")).is_some());
}

#[test]
fn a_denied_network_wins_over_an_allowed_one_in_every_form() {
    for address in ["203.0.113.9", "::ffff:203.0.113.9", "64:ff9b::203.0.113.9", "2002:cb00:7109::1"] {
        assert_eq!(
            filtered_candidate(deny_rules("203.0.113.0/24"), &candidate_at(address, "host")),
            None,
            "{address}"
        );
        assert_eq!(
            filtered_candidate(deny_rules("203.0.113.0/24"), &candidate_at(address, "relay")),
            None,
            "{address}"
        );
    }
    assert_eq!(filtered_candidate(deny_rules("192.168.0.0/16"), SRFLX).unwrap(), SRFLX_HIDDEN);
    assert!(filtered_candidate(deny_rules("203.0.113.0/24"), HOST).is_some());
    assert!(filtered_candidate(deny_rules("203.0.113.0/24"), MDNS).is_some());
    assert_eq!(filtered_candidate(deny_rules("203.0.113.0/24"), &candidate_at("any.example", "host")), None);

    assert!(
        filtered_candidate(allow_rules("203.0.113.0/24"), &candidate_at("203.0.113.9", "host")).is_some()
    );
    assert!(
        filtered_candidate(allow_rules("203.0.113.0/24"), &candidate_at("::ffff:203.0.113.9", "host"))
            .is_some()
    );
    assert_eq!(filtered_candidate(allow_rules("203.0.113.0/24"), SRFLX).unwrap(), SRFLX_HIDDEN);
    for other in [
        HOST,
        MDNS,
        RELAY,
        &candidate_at("64:ff9b::203.0.113.9", "host"),
        &candidate_at("any.example", "host"),
    ] {
        assert_eq!(filtered_candidate(allow_rules("203.0.113.0/24"), other), None, "{other}");
    }
    let both = CandidateRules { deny: deny_rules("203.0.113.9/32").deny, ..allow_rules("203.0.113.0/24") };
    assert_eq!(filtered_candidate(both, &candidate_at("203.0.113.9", "host")), None);
}

#[test]
fn only_the_four_dictionary_members_are_forwarded() {
    let json = format!(
        r#"{{"candidate":"{MDNS}","sdpMid":null,"usernameFragment":"o5Kf","address":"192.168.1.5","relatedAddress":"10.0.0.1","url":{{"a":[1]}}}}"#
    );
    let CandidateOutcome::Forward(output) =
        candidate_policy(drop_private_rules()).filter_candidate(&json).unwrap()
    else {
        panic!()
    };
    assert_eq!(output, format!(r#"{{"candidate":"{MDNS}","usernameFragment":"o5Kf"}}"#));
    let plain = format!(r#"{{ "candidate":"{MDNS}", "sdpMid":"0"}}"#);
    assert_eq!(
        candidate_policy(drop_private_rules()).filter_candidate(&plain).unwrap(),
        CandidateOutcome::Forward(plain.as_str().into())
    );
    let end = r#"{"candidate":"","sdpMid":"0"}"#;
    assert_eq!(
        candidate_policy(relay_only_rules()).filter_candidate(end).unwrap(),
        CandidateOutcome::Forward(end.into())
    );
}

#[test]
fn without_candidate_rules_a_candidate_is_not_parsed() {
    let rules = RolePolicy::new(MediaRules::default(), CandidateRules::default()).unwrap();
    assert_eq!(rules.filter_candidate("{whatever").unwrap(), CandidateOutcome::Forward("{whatever".into()));
}

#[test]
fn a_malformed_candidate_is_rejected_by_any_candidate_rule() {
    let good = "candidate:1 1 udp 1 203.0.113.9 9 typ host";
    assert!(Candidate::parse(good).is_ok());
    for bad in [
        "candidate",
        "candidate:",
        "Candidate:1 1 udp 1 203.0.113.9 9 typ host",
        "A=candidate:1 1 udp 1 203.0.113.9 9 typ host",
        "1 1 udp 1 203.0.113.9 9 typ host",
        " candidate:1 1 udp 1 203.0.113.9 9 typ host",
        "candidate: 1 1 udp 1 203.0.113.9 9 typ host",
        "candidate:1  1 udp 1 203.0.113.9 9 typ host",
        "candidate:1\t1 udp 1 203.0.113.9 9 typ host",
        "candidate:1 0 udp 1 203.0.113.9 9 typ host",
        "candidate:1 257 udp 1 203.0.113.9 9 typ host",
        "candidate:1 1 u=p 1 203.0.113.9 9 typ host",
        "candidate:1 1 udp -1 203.0.113.9 9 typ host",
        "candidate:1 1 udp 4294967296 203.0.113.9 9 typ host",
        "candidate:1 1 udp 1 203.0.113.9 65536 typ host",
        "candidate:1 1 udp 1 203.0.113.9 +9 typ host",
        "candidate:1 1 udp 1 203.0.113.9 9 type host",
        "candidate:1 1 udp 1 203.0.113.9 9 typ",
        "candidate:1 1 udp 1 203.0.113.9 9 typ ",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host ",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host raddr",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host raddr 1.2.3 rport 1",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host rport x",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host rport 1 raddr 1.2.3.4",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host generation 0 raddr 1.2.3.4",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host raddr 1.2.3.4 raddr 1.2.3.4",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host typ relay",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host generation 0 generation 1",
        "candidate:1 1 tcp 1 203.0.113.9 9 typ host tcptype open",
        "candidate:1 1 udp 1 fe80::1%eth0 9 typ host",
        "candidate:1 1 udp 1 [::1] 9 typ host",
        "candidate:1 1 udp 1 127.1 9 typ host",
        "candidate:1 1 udp 1 2130706433 9 typ host",
        "candidate:1 1 udp 1 0x7f000001 9 typ host",
        "candidate:1 1 udp 1 010.0.0.1 9 typ host",
        "candidate:1 1 udp 1 x..y 9 typ host",
        "candidate:1 1 udp 1 . 9 typ host",
        "candidate:1 1 udp 1 ex\u{e4}mple.de 9 typ host",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host\r\n",
        "candidate:1 1 udp 1 203.0.113.9 9 typ host\r\na=candidate:1 1 udp 1 10.0.0.1 9 typ host",
        "candidate:1 1 udp 1 203.0.113.9\0 9 typ host",
        "candidate:abcdefghijklmnopqrstuvwxyz0123456 1 udp 1 203.0.113.9 9 typ host",
        &format!("{good}{}", " a b".repeat(300)),
    ] {
        assert!(Candidate::parse(bad).is_err(), "{bad:?}");
        let json = serde_json::json!({ "candidate": bad }).to_string();
        let refusal = candidate_policy(relay_only_rules()).filter_candidate(&json).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Malformed, "{bad:?}");
    }
    for json in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"candidate":null}"#,
        r#"{"candidate":"","candidate":""}"#,
        r#"{"candidate":"","sdpMid":1}"#,
    ] {
        assert!(candidate_policy(relay_only_rules()).filter_candidate(json).is_err(), "{json}");
    }
}

#[test]
fn a_browser_candidate_is_parsed_and_printed_unchanged() {
    for text in [
        HOST,
        MDNS,
        SRFLX,
        RELAY,
        "a=candidate:0 1 UDP 2122252543 10.99.0.1 46686 typ host",
        "candidate:1 2 TCP 2105524478 10.99.0.1 9 typ host tcptype active",
        "candidate:Ha0a80101 1 UDP 2122252543 2001:db8::1 46686 typ host",
        "candidate:4+/ 1 ssltcp 1 2001:DB8:0:0::1 443 typ prflx raddr :: rport 0 tcptype so",
    ] {
        assert_eq!(Candidate::parse(text).unwrap().to_string(), text);
    }
    let relay = Candidate::parse(RELAY).unwrap();
    assert_eq!(
        (relay.candidate_type, relay.port, relay.related_port),
        (CandidateType::Relay, 50_001, Some(42_472))
    );
    assert_eq!(relay.related_host, Some(CandidateHost::Ip("203.0.113.9".parse().unwrap())));
}

fn rewrite_twice(candidates: CandidateRules, sdp: &str) -> Result<String, PolicyRefusal> {
    let rules = candidate_policy(candidates);
    let once = rules.filter_description(sdp)?.into_owned();
    assert_eq!(rules.filter_description(&once)?, once, "filtering twice is filtering once");
    Ok(once)
}

#[test]
fn relay_only_removes_every_sender_address_from_a_description() {
    let with_relay =
        VIEWER.replacen("a=candidate:", &format!("a={SRFLX}\r\na={RELAY}\r\na={MDNS}\r\na=candidate:"), 1);
    let with_relay = with_relay.replacen(
        "a=mid:0",
        "a=remote-candidates:1 10.1.2.3 99\r\na=rtcp:4711 IN IP6 fd00::9\r\na=mid:0",
        1,
    );
    let output = rewrite_twice(relay_only_rules(), &with_relay).unwrap();
    for removed in [
        "127.0.0.1",
        "192.168.1.5",
        "203.0.113.9",
        "10.1.2.3",
        "fd00::9",
        "42472",
        "4711",
        ".local",
        "typ host",
        "srflx",
    ] {
        assert!(!output.contains(removed), "{removed} in {output}");
    }
    for kept in [
        RELAY_HIDDEN,
        "m=audio 9 UDP",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP6 ::",
        " 2 IN IP4 0.0.0.0\r\n",
        "a=mid:2\r\n",
    ] {
        assert!(output.contains(kept), "{kept} not in {output}");
    }
    let firefox = rewrite_twice(relay_only_rules(), FIREFOX_PUBLISHER).unwrap();
    assert!(!firefox.contains("10.99.0.1"), "{firefox}");
    // Other lines are unchanged: a bundled section keeps its port 0, a Firefox description its
    // attributes.
    assert!(firefox.contains("m=video 0 UDP/TLS/RTP/SAVPF") && firefox.contains("a=end-of-candidates\r\n"));
}

#[test]
fn drop_private_removes_only_private_addresses_from_a_description() {
    let sdp = VIEWER.replacen("a=candidate:", &format!("a={SRFLX}\r\na={MDNS}\r\na=candidate:"), 1);
    let output = rewrite_twice(drop_private_rules(), &sdp).unwrap();
    assert!(output.contains(SRFLX_HIDDEN) && output.contains(MDNS));
    assert!(!output.contains("127.0.0.1") && !output.contains("192.168.1.5"), "{output}");
}

#[test]
fn a_removed_address_in_another_line_rejects_the_description() {
    for line in [
        "a=x-mine:192.168.1.5",
        "a=x-mine:udp,192.168.1.5:99",
        "a=fmtp:111 host=[::ffff:192.168.1.5]",
        "i=192.168.1.5",
    ] {
        let sdp = VIEWER.replacen("a=candidate:", &format!("a={HOST}\r\n{line}\r\na=candidate:"), 1);
        assert_eq!(
            rewrite_twice(relay_only_rules(), &sdp).unwrap_err().kind,
            RefusalKind::Malformed,
            "{line}"
        );
    }
}

#[test]
fn a_candidate_in_an_unusual_line_is_rejected_with_its_line() {
    for line in [
        "a=Candidate:1 1 udp 1 10.0.0.1 9 typ host",
        "a=candidate",
        "a=candidate 1 1 udp 1 10.0.0.1 9 typ host",
        "a=candidate:x",
    ] {
        let sdp = VIEWER.replacen("a=mid:1\r\n", &format!("{line}\r\na=mid:1\r\n"), 1);
        let refusal = rewrite_twice(relay_only_rules(), &sdp).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Malformed);
        assert!(refusal.line.is_some() && !refusal.to_string().contains("10.0.0.1"), "{refusal}");
    }
}
