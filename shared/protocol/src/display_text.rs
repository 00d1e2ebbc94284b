//! Rules for text that other users will read.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, Script},
};

/// The rule of [`is_display_name`] in words, for error messages.
pub const DISPLAY_NAME_RULE: &str = "must be at most 64 characters, one of them visible; no invisible or control characters, and no pile of accents";

/// The most combining marks in a row that a script needs (UTS 39, section 5.4).
const MAX_MARKS: usize = 4;

/// The most marks in a row that fit every script, such as accents. More of them reach other lines.
const MAX_COMMON_MARKS: usize = 2;

/// Whether a text may be the display name of a peer. It may be empty. Otherwise it is a plain text
/// of at most 64 characters with a visible character, and two different names never look the same
/// because of invisible characters.
pub fn is_display_name(text: &str) -> bool {
    text.is_empty() || is_plain_text(text, 64) && is_visible(text) && !has_mark_pile(text)
}

/// Whether a text has 1 to `max_chars` characters, and no control character, no bidirectional
/// control and no separator of lines. These could make one text look like another.
pub fn is_plain_text(text: &str, max_chars: usize) -> bool {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    (1..=max_chars).contains(&text.chars().count()) && !text.chars().any(is_hidden)
}

/// Whether a text has a visible character and no invisible one except spaces.
fn is_visible(text: &str) -> bool {
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let categories = CodePointMapData::<GeneralCategory>::new();
    let mut has_visible = false;
    for c in text.chars() {
        match categories.get(c) {
            GeneralCategory::Format | GeneralCategory::PrivateUse => return false,
            _ if ignorable.contains(c) => return false,
            GeneralCategory::SpaceSeparator
            | GeneralCategory::NonspacingMark
            | GeneralCategory::EnclosingMark => {}
            // The blank pattern of Braille is a symbol without dots.
            _ => has_visible |= c != '\u{2800}',
        }
    }
    has_visible
}

/// Whether more combining marks follow each other than a script needs.
fn has_mark_pile(text: &str) -> bool {
    let categories = CodePointMapData::<GeneralCategory>::new();
    let scripts = CodePointMapData::<Script>::new();
    let (mut marks, mut common_marks) = (0, 0);
    for c in text.chars() {
        if matches!(categories.get(c), GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark) {
            marks += 1;
            common_marks += usize::from(scripts.get(c) == Script::Inherited);
        } else {
            (marks, common_marks) = (0, 0);
        }
        if marks > MAX_MARKS || common_marks > MAX_COMMON_MARKS {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_every_script_is_a_display_name() {
        for name in [
            "",
            "Alice",
            "Zoë O’Brien-Łukasz",
            "e\u{301}\u{323}",
            "Nguyễn Thị Hằng",
            "Иван",
            "राम कृष्ण",
            "ที่รัก",
            "မုံ့ ကြောင်း",
            "محمد",
            "יוסף",
            "田中 太郎",
            "김민수",
            "🦀 Ferris",
            "#1",
            "a\u{a0}b",
        ] {
            assert!(is_display_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_name_that_looks_like_another_or_like_none_is_refused() {
        let pile = format!("a{}", "\u{301}".repeat(3));
        for name in [
            " ",
            "\u{a0}\u{3000}",
            "\u{2800}",
            "\u{301}",
            "Bob\u{200b}",
            "B\u{200d}ob",
            "Bob\u{feff}",
            "Bob\u{ad}",
            "Bob\u{2060}",
            "Bob\u{34f}",
            "Bob\u{180e}",
            "Bob\u{fe0f}",
            "Bob\u{e0041}",
            "\u{3164}",
            "\u{115f}",
            "\u{ffa0}",
            "\u{202e}boB",
            "\u{2067}Bob",
            "Bob\u{200e}",
            "Bob\u{200f}",
            "Bob\u{61c}",
            "Bob\u{2028}admin",
            "Bob\u{2029}",
            "a\nb",
            "a\u{85}",
            "\u{e000}",
            "\u{fff9}a",
            &pile,
            "က\u{1037}\u{1037}\u{1037}\u{1037}\u{1037}",
            &"x".repeat(65),
        ] {
            assert!(!is_display_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_plain_text_may_have_emoji_and_no_control_of_direction_or_line() {
        assert!(is_plain_text("we restart in 5 min \u{2764}\u{fe0f}", 64));
        for text in ["", "a\u{2028}b", "a\u{2029}b", "a\u{202e}b", "a\u{200f}b", "a\tb"] {
            assert!(!is_plain_text(text, 64), "{text:?}");
        }
    }
}
