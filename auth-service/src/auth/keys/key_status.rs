//! When a key does what. Nothing of this is stored: it follows from when each key begins to sign.

use signalbox_config::AuthSettings;
use signalbox_token::TokenKind;

/// More than it takes until a process has looked into the folder, and clocks differ, seconds.
const PROPAGATION_S: u64 = 2;

/// How far ahead of its making a token's `iat` may lie, and how long requests are on their way, seconds.
const MARGIN_S: u64 = 60;

/// The times that a rotation keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTiming {
    /// From the making of a key to its first signature: nobody then holds a set that lacks it.
    pub lead_s: u64,
    /// How long it is published after its successor began: the longest life of what signaling nodes check.
    pub publish_after_rotation_s: u64,
    /// How long this service takes it after that: the longest life of any token.
    pub retained_s: u64,
}

impl KeyTiming {
    /// Those of the configuration.
    pub fn new(auth: &AuthSettings) -> Self {
        let cached_s = auth.jwks_ttl.0.as_millis().div_ceil(1000) as u64;
        let longest = TokenKind::ALL.map(TokenKind::max_life_s).into_iter().max().unwrap_or_default();
        Self {
            lead_s: cached_s + PROPAGATION_S,
            publish_after_rotation_s: auth.token_ttl_max.0.as_secs() + cached_s + MARGIN_S,
            retained_s: longest + cached_s + MARGIN_S,
        }
    }
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is published and does not sign yet.
    Publishing,
    /// It signs.
    Signing,
    /// It signs no more; what it has signed is still good.
    Retiring,
    /// Nothing that it has signed can be good. It can go.
    Expired,
}

impl KeyState {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Expired => "over",
        }
    }
}

/// A key's state, since when, until when if that is known (seconds since 1970), and whether it is in the published set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyStatus {
    /// What it does.
    pub state: KeyState,
    /// Since when. None for what is only published: since it was made.
    pub since_s: Option<u64>,
    /// Until when, where that is decided.
    pub until_s: Option<u64>,
    /// Whether others get to see it.
    pub published: bool,
}

/// The state of each key at `now_s`. `begins` are the times when they begin to sign, oldest first; of equal ones the later in
/// the list is the newer.
pub fn key_statuses(begins: &[u64], now_s: u64, times: KeyTiming) -> Vec<KeyStatus> {
    debug_assert!(begins.is_sorted());
    let place = |(index, begin): (usize, &u64)| {
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
    begins.iter().enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use KeyState::{Expired, Publishing, Retiring, Signing};
    use signalbox_config::ServiceSettings;

    use super::*;

    const TIMES: KeyTiming = KeyTiming { lead_s: 10, publish_after_rotation_s: 100, retained_s: 1000 };

    fn states(begins: &[u64], now_s: u64) -> Vec<(KeyState, bool)> {
        key_statuses(begins, now_s, TIMES).iter().map(|place| (place.state, place.published)).collect()
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
    }
}
