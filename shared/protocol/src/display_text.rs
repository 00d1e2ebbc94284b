//! Rules for text that other users will read.

/// The rule of [`is_display_name`] in words, for error messages.
pub const DISPLAY_NAME_RULE: &str = "must be at most 64 characters without control characters";

/// Whether a text may be the display name of a peer: at most 64 characters, no control character
/// and no bidirectional override. An override could make one name look like another.
pub fn is_display_name(text: &str) -> bool {
    text.is_empty() || is_plain_text(text, 64)
}

/// Whether a text has 1 to `max_chars` characters, no control character and no bidirectional
/// override.
pub fn is_plain_text(text: &str, max_chars: usize) -> bool {
    let bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (1..=max_chars).contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || bidi(c))
}
