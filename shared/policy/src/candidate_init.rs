//! The filter for a trickled candidate: the JSON object that contains the attribute.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    PolicyRefusal,
    candidate::Candidate,
    candidate_rules::{AttributeOutcome, CandidateOutcome, CandidateRules},
};

/// `RTCIceCandidateInit` (webrtc-pc, section 4.8.1.1). Other members, such as `address` and
/// `relatedAddress` of an `RTCIceCandidate`, are not forwarded.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct CandidateInitJson<'a> {
    #[serde(borrow)]
    candidate: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sdp_mid: Option<Cow<'a, str>>,
    #[serde(default, rename = "sdpMLineIndex", skip_serializing_if = "Option::is_none")]
    sdp_m_line_index: Option<u16>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    username_fragment: Option<Cow<'a, str>>,
    #[serde(flatten, skip_serializing)]
    extra_members: ExtraMembers,
}

/// Whether the object has other members.
#[derive(Default)]
struct ExtraMembers(bool);

impl<'de> Deserialize<'de> for ExtraMembers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExtraMembersVisitor;
        impl<'de> serde::de::Visitor<'de> for ExtraMembersVisitor {
            type Value = ExtraMembers;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<ExtraMembers, A::Error> {
                let mut has_any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    has_any = true;
                }
                Ok(ExtraMembers(has_any))
            }
        }
        deserializer.deserialize_map(ExtraMembersVisitor)
    }
}

pub(crate) fn filter_init<'a>(
    rules: &CandidateRules,
    json: &'a str,
) -> Result<CandidateOutcome<'a>, PolicyRefusal> {
    let malformed =
        || PolicyRefusal::malformed("must be an RTCIceCandidateInit object with a candidate string");
    if !json.starts_with('{') {
        return Err(malformed());
    }
    let mut init: CandidateInitJson<'_> = serde_json::from_str(json).map_err(|_| malformed())?;
    let rewritten = match &*init.candidate {
        // The end-of-candidates indication (RFC 8838, section 14.1).
        "" => None,
        text => {
            let candidate = Candidate::parse(text).map_err(|error| PolicyRefusal::malformed(error.0))?;
            match rules.filter_parsed(&candidate) {
                AttributeOutcome::Drop => return Ok(CandidateOutcome::Drop),
                AttributeOutcome::Keep => None,
                AttributeOutcome::Rewrite(candidate) => Some(candidate.to_string()),
            }
        }
    };
    if rewritten.is_none() && !init.extra_members.0 {
        return Ok(CandidateOutcome::Forward(json.into()));
    }
    if let Some(text) = rewritten {
        init.candidate = text.into();
    }
    serde_json::to_string(&init).map(|text| CandidateOutcome::Forward(text.into())).map_err(|_| malformed())
}
