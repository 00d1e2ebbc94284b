//! The text of a file that an editor or a shell has written.
//!
//! Owns: what such programs add to a text. Must not: know what the text means.

/// Why bytes are no such text: the end of a sentence about the file.
pub const NOT_UTF8: &str = "is not text in UTF-8; save the file as UTF-8, without a byte order mark";

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text without the byte order marks and the white space around it.
pub fn trim_marks(text: &str) -> &str {
    text.trim_matches(|c: char| c == BYTE_ORDER_MARK || c.is_whitespace())
}

/// The text of a file, without the byte order marks and the white space around it.
///
/// # Errors
/// [`NOT_UTF8`]
pub fn file_text(bytes: &[u8]) -> Result<&str, &'static str> {
    // NUL is every second byte of UTF-16, which some shells write.
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.map(trim_marks).ok_or(NOT_UTF8)
}
