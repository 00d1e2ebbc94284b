//! What an operator can do about a refusal that a setting decides: the log of a refusal has it.

/// The remedy for a problem code. `None` if no setting decides about the refusal.
pub fn remedy_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "origin_not_allowed" => "add the web site to server.allowed_origins",
        "host_not_allowed" => "add the host to server.allowed_hosts",
        "guests_off" => "send an API key, or set auth.guests = true",
        "caller_unknown" => "compare the API key of the caller with SIGNALBOX_API_KEYS",
        "scope_missing" => "add the scope to the key in api_keys",
        "room_limited" => "the key is limited to rooms in api_keys; use a key without that limit",
        "ticket_required" => "exchange the token for a ticket, or set auth.tickets_only = false",
        "exchange_refused" => "compare the token with its provider in auth.providers",
        "rate_limited" => "find the client, or raise limits.burst and limits.rate",
        "room_limit" => "raise rooms.per_user or rooms.per_key",
        "feed_limit" => "close a reader of the feed, or raise limits.feed_readers",
        "rule_limit" => "lift rules, or raise limits.rules",
        "key_rule_limit" => "lift rules of the key, or raise limits.key_rules",
        "room_rule_limit" => "lift rules of the room, or raise limits.room_rules",
        "sanction_limit" => "lift sanctions of the room, or raise limits.room_sanctions",
        "refresh_limit" => "raise limits.root_families",
        "invite_limit" => "delete invites of the key, or raise limits.key_invites",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = include_str!("../../../docs/PROTOCOL.md");

    /// The codes of the document: each is in backquotes.
    fn documented_codes() -> Vec<&'static str> {
        let words = PROTOCOL.split('`').skip(1).step_by(2);
        words.filter(|word| word.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')).collect()
    }

    #[test]
    fn every_remedy_belongs_to_a_documented_code_and_names_settings_that_exist() {
        let settings = signalbox_config::setting_names();
        let codes: std::collections::BTreeSet<_> = documented_codes().into_iter().collect();
        let remedies: Vec<_> = codes.iter().filter_map(|code| Some((*code, remedy_of(code)?))).collect();
        assert_eq!(
            remedies.len(),
            17,
            "a remedy has a code that docs/PROTOCOL.md does not have: {remedies:?}"
        );
        for (code, remedy) in remedies {
            let is_setting = |word: &&str| word.contains('.') || word.contains('_');
            for name in remedy.split([' ', ',', ';']).filter(is_setting) {
                let is_known = settings.iter().any(|known| known == name)
                    || signalbox_config::SECRET_VARIABLES.contains(&name);
                assert!(is_known, "{code}: {name} is no setting");
            }
        }
    }
}
