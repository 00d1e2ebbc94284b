//! Rules for text that other people will read.

/// The rule of [`is_display_name`] in words, for error messages.
pub const DISPLAY_NAME_RULE: &str = "must be at most 64 characters without control characters";

/// Whether a text may be shown as a peer's name: at most 64 characters, none of them a control or a bidirectional
/// override (which would let one name pose as another).
pub fn is_display_name(text: &str) -> bool {
    text.is_empty() || is_plain_text(text, 64)
}

/// Whether a text is one of at most so many characters, none of them a control or a bidirectional override.
pub fn is_plain_text(text: &str, most: usize) -> bool {
    let bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (1..=most).contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || bidi(c))
}
