//! Splits Rust code into tokens and leaves comments out.

/// A token and the line on which it begins, counted from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    /// A word, a number, a literal with its quotes, `::`, or one sign.
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

impl Token<'_> {
    /// Is this a keyword or a name?
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_') && !self.text.ends_with(['"', '#'])
    }
}

pub(crate) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (code, 1);
    while let Some(first) = rest.chars().next() {
        let blank = if first.is_whitespace() { Some(first.len_utf8()) } else { comment_length(rest) };
        let length = blank
            .or_else(|| string_length(rest))
            .or_else(|| quote_length(rest))
            .or_else(|| word_length(rest))
            .unwrap_or(if rest.starts_with("::") { 2 } else { first.len_utf8() });
        let (text, after) = rest.split_at(length);
        if blank.is_none() {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (1, 2);
    while depth > 0 && at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
    }
    Some(at)
}

/// `"…"`, `b"…"`, `c"…"`, and the raw forms `r"…"`, `r#"…"#`, `br#"…"#`.
fn string_length(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let raw = rest[..prefix].ends_with('r');
    let marks = if raw { rest[prefix..].chars().take_while(|c| *c == '#').count() } else { 0 };
    let begin = prefix + marks + 1;
    if !rest[prefix + marks..].starts_with('"') {
        return None;
    }
    if raw {
        let end = format!("\"{}", "#".repeat(marks));
        return Some(begin + rest[begin..].find(&end)? + end.len());
    }
    let mut escaped = false;
    let end = rest[begin..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(begin + end + 1)
}

/// A character such as `'x'` or `'\n'`, or a lifetime such as `'a`.
fn quote_length(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    let content = if first == '\\' { 2 } else { first.len_utf8() };
    let is_character = first == '\\' || inner[content..].starts_with('\'');
    if is_character {
        return Some(1 + content + inner[content..].find('\'')? + 1);
    }
    Some(1 + word_length(inner).unwrap_or(0))
}

/// A keyword, a name, a raw name such as `r#type`, or a number.
fn word_length(rest: &str) -> Option<usize> {
    let prefix = if rest.starts_with("r#") { 2 } else { 0 };
    let length = rest[prefix..].find(|c: char| !c.is_alphanumeric() && c != '_');
    let length = length.unwrap_or(rest.len() - prefix);
    (length > 0).then_some(prefix + length)
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn texts(code: &str) -> Vec<&str> {
        tokens(code).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_are_left_out_and_lines_are_counted() {
        let tokens = tokens("a // use b;\n/* c /* d */ */ e\n/// f\n::g");
        let found: Vec<_> = tokens.iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(found, [("a", 1), ("e", 2), ("::", 4), ("g", 4)]);
    }

    #[test]
    fn a_literal_is_one_token() {
        assert_eq!(texts(r#"f("use \" x", b"y")"#), ["f", "(", r#""use \" x""#, ",", "b\"y\"", ")"]);
        assert_eq!(texts(r##"r#"a " b"# r#type"##), [r##"r#"a " b"#"##, "r#type"]);
        assert_eq!(texts(r"'x' '\'' '\u{1F}'"), ["'x'", r"'\''", r"'\u{1F}'"]);
        assert_eq!(texts("&'a str, b'\"', 'é'"), ["&", "'a", "str", ",", "b", "'\"'", ",", "'é'"]);
    }
}
