//! Bounds of numbers, texts and JSON that the server forwards without parsing their content.

/// The largest integer that every JSON implementation reads exactly (RFC 8259, section 6).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The longest token that is read, bytes. A token with the longest metadata has less than 8 KiB.
pub const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// The depth to which forwarded JSON may nest: more than any application needs, and safe for a
/// recursive parser on the other side.
pub(crate) const MAX_DEPTH: usize = 64;

/// Whether arrays and objects of a valid JSON text nest no deeper than the bound.
fn is_depth_bounded(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    true
}

/// Whether a valid JSON text may be metadata: an object of at most `max` bytes that nests no deeper
/// than 64.
pub fn is_bounded_object(json: &str, max: usize) -> bool {
    json.starts_with('{') && json.len() <= max && is_depth_bounded(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count_as_nesting() {
        assert!(is_depth_bounded(&format!(r#"["{}\"{}"]"#, "[".repeat(100), "{".repeat(100))));
    }

    #[test]
    fn json_that_nests_too_deep_is_rejected() {
        let tower = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(is_depth_bounded(&tower(64)));
        assert!(!is_depth_bounded(&tower(65)));
    }
}
