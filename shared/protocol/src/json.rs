//! Bounds on JSON that is forwarded without being understood.

/// How deep forwarded JSON may nest: far more than anyone needs, far less than a recursive parser on the other side bears.
const MAX_DEPTH: usize = 64;

/// Whether arrays and objects of a valid JSON text nest no deeper than the bound.
pub(super) fn depth_within_bound(json: &str) -> bool {
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

/// Whether a valid JSON text is an object, at most `max` bytes long and not too deep: what metadata must be.
pub fn object_within(json: &str, max: usize) -> bool {
    json.starts_with('{') && json.len() <= max && depth_within_bound(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_inside_strings_do_not_nest() {
        assert!(depth_within_bound(&format!(r#"["{}\"{}"]"#, "[".repeat(100), "{".repeat(100))));
    }

    #[test]
    fn a_tower_of_brackets_is_refused() {
        let tower = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(depth_within_bound(&tower(64)));
        assert!(!depth_within_bound(&tower(65)));
    }
}
