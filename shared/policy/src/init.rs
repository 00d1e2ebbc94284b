//! A trickled candidate: the JSON object around the attribute.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    Refused,
    candidate::Candidate,
    filter::{CandidateRules, Fate, Verdict},
};

/// `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1). Other members, such as `address` and `relatedAddress` of an
/// `RTCIceCandidate`, are read over and not forwarded.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Init<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sdp_mid: Option<Cow<'a, str>>,
    #[serde(default, rename = "sdpMLineIndex", skip_serializing_if = "Option::is_none")]
    sdp_m_line_index: Option<u16>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    username_fragment: Option<Cow<'a, str>>,
    #[serde(flatten, skip_serializing)]
    others: Others,
}

/// Whether there were other members.
#[derive(Default)]
struct Others(bool);

impl<'de> Deserialize<'de> for Others {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Others;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Others, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Others(any))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

pub(crate) fn judge<'a>(rules: &CandidateRules, json: &'a str) -> Result<Verdict<'a>, Refused> {
    let bad = || Refused::malformed("must be an RTCIceCandidateInit object with a candidate string");
    if !json.starts_with('{') {
        return Err(bad());
    }
    let mut init: Init<'_> = serde_json::from_str(json).map_err(|_| bad())?;
    let rewritten = match &*init.candidate {
        // The end of candidates (RFC 8838, section 14.1).
        "" => None,
        text => {
            let candidate = Candidate::parse(text).map_err(|error| Refused::malformed(error.0))?;
            match rules.fate(&candidate) {
                Fate::Drop => return Ok(Verdict::Drop),
                Fate::Keep => None,
                Fate::Rewrite(candidate) => Some(candidate.to_string()),
            }
        }
    };
    if rewritten.is_none() && !init.others.0 {
        return Ok(Verdict::Pass(json.into()));
    }
    if let Some(text) = rewritten {
        init.candidate = text.into();
    }
    serde_json::to_string(&init).map(|text| Verdict::Pass(text.into())).map_err(|_| bad())
}
