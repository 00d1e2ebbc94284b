//! The state of each key. It is not stored: it follows from the time at which each key begins to
//! sign.

use signalbox_access::MAX_RULE_LIFE_MS;
use signalbox_config::AuthSettings;
use signalbox_token::TokenKind;

/// The time until every process has read the folder, and the difference of clocks, seconds.
const PROPAGATION_S: u64 = 2;

/// How far a token's `iat` may lie in the future, and how long a request may take, seconds.
const MARGIN_S: u64 = 60;

/// The periods of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTiming {
    /// From the creation of a key to its first signature, seconds: every cached set holds it then.
    pub lead_s: u64,
    /// How long a key is published after its successor began to sign, seconds: the longest life of
    /// a token that nodes verify.
    pub publish_after_rotation_s: u64,
    /// How long this service accepts a key after its successor began to sign, seconds: the longest
    /// life of any token.
    pub retained_s: u64,
    /// How long the file of a key is kept after its successor began to sign, seconds: the longest
    /// life of a record that is sealed, and of an access rule that is signed, with the key.
    pub file_kept_s: u64,
}

impl KeyTiming {
    /// The periods that follow from the configuration.
    pub fn new(auth: &AuthSettings) -> Self {
        let cached_s = auth.jwks_ttl.0.as_millis().div_ceil(1000) as u64;
        let longest = TokenKind::ALL.map(TokenKind::max_life_s).into_iter().max().unwrap_or_default();
        let longest_record_s = auth.refresh_ttl_max.0.as_secs().max(MAX_RULE_LIFE_MS / 1_000);
        let retained_s = longest + cached_s + MARGIN_S;
        Self {
            lead_s: cached_s + PROPAGATION_S,
            publish_after_rotation_s: auth.token_ttl_max.0.as_secs() + cached_s + MARGIN_S,
            retained_s,
            file_kept_s: retained_s.max(longest_record_s + 2 * MARGIN_S),
        }
    }
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// The key is published and does not sign yet.
    Publishing,
    /// The key signs.
    Signing,
    /// The key signs no more; its tokens are still valid.
    Retiring,
    /// No token of the key can be valid any more. Its file still opens the records that it sealed.
    Expired,
}

impl KeyState {
    /// The word that operators read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Expired => "over",
        }
    }
}

/// The state of a key and its period, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStatus {
    /// The state at the time of the query.
    pub state: KeyState,
    /// When the state began; `None` for a key that does not sign yet.
    pub since_s: Option<u64>,
    /// When the state ends, if that is decided.
    pub until_s: Option<u64>,
    /// Whether the key is in the published set.
    pub published: bool,
}

/// The state of each key at `now_s`. `begins` are the times at which the keys begin to sign, oldest
/// first. Of two equal times the later in the list is the newer key.
pub fn key_statuses(begins: &[u64], now_s: u64, times: KeyTiming) -> Vec<KeyStatus> {
    debug_assert!(begins.is_sorted());
    let status_of = |(index, begin): (usize, &u64)| {
        let successor = begins.get(index + 1).copied();
        let (state, since_s, until_s, published) = match successor {
            _ if *begin > now_s => (KeyState::Publishing, None, Some(*begin), true),
            None => (KeyState::Signing, Some(*begin), None, true),
            Some(next) if next > now_s => (KeyState::Signing, Some(*begin), Some(next), true),
            Some(next) => {
                let end = next + times.retained_s;
                let published = now_s < next + times.publish_after_rotation_s;
                if now_s < end {
                    (KeyState::Retiring, Some(next), Some(end), published)
                } else {
                    (KeyState::Expired, Some(end), None, false)
                }
            }
        };
        KeyStatus { state, since_s, until_s, published }
    };
    begins.iter().enumerate().map(status_of).collect()
}

#[cfg(test)]
mod tests {
    use KeyState::{Expired, Publishing, Retiring, Signing};
    use signalbox_config::ServiceSettings;

    use super::*;

    const TIMES: KeyTiming =
        KeyTiming { lead_s: 10, publish_after_rotation_s: 100, retained_s: 1000, file_kept_s: 2000 };

    fn states(begins: &[u64], now_s: u64) -> Vec<(KeyState, bool)> {
        key_statuses(begins, now_s, TIMES).iter().map(|status| (status.state, status.published)).collect()
    }

    #[test]
    fn key_is_published_then_signs_then_retires_then_expires() {
        let begins = [50, 200];
        for (now_s, expected) in [
            (49, [(Publishing, true), (Publishing, true)]),
            (50, [(Signing, true), (Publishing, true)]),
            (199, [(Signing, true), (Publishing, true)]),
            (200, [(Retiring, true), (Signing, true)]),
            (299, [(Retiring, true), (Signing, true)]),
            (300, [(Retiring, false), (Signing, true)]),
            (1199, [(Retiring, false), (Signing, true)]),
            (1200, [(Expired, false), (Signing, true)]),
        ] {
            assert_eq!(states(&begins, now_s), expected, "{now_s}");
        }
    }

    #[test]
    fn exactly_one_key_signs_at_any_time() {
        let begins = [10, 20, 20, 21, 500];
        for now_s in 10..2000 {
            let signing = states(&begins, now_s).iter().filter(|(state, _)| *state == Signing).count();
            assert_eq!(signing, 1, "{now_s}");
        }
    }

    #[test]
    fn key_is_published_and_kept_longer_than_its_tokens_live() {
        let auth = ServiceSettings::default().auth;
        let times = KeyTiming::new(&auth);
        assert!(times.lead_s > auth.jwks_ttl.0.as_secs());
        assert!(times.publish_after_rotation_s >= auth.token_ttl_max.0.as_secs() + auth.jwks_ttl.0.as_secs());
        assert!(
            TokenKind::ALL
                .iter()
                .all(|kind| times.retained_s >= kind.max_life_s() + auth.jwks_ttl.0.as_secs())
        );
        assert!(times.retained_s >= times.publish_after_rotation_s);
        assert!(times.file_kept_s >= times.retained_s.max(auth.refresh_ttl_max.0.as_secs()));
    }
}
