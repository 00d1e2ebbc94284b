//! The parts of a Markdown document that a test reads: tables, sections, numbered lists, code
//! spans.

/// The rows of the first table whose header is `header`, each as its trimmed cells.
pub(crate) fn table(document: &str, header: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut lines = document.lines().skip_while(|line| cells(line) != header);
    lines.next()?;
    Some(lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect())
}

/// The rows of all tables whose header is `header`.
pub(crate) fn tables(document: &str, header: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (at, _) in document.match_indices(&format!("| {} |", header.join(" | "))) {
        rows.extend(table(&document[at..], header).unwrap_or_default());
    }
    rows
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The text below a heading, up to the next heading of any level.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> Option<&'a str> {
    let heading = format!("\n{heading}\n");
    let (_, text) = document.split_once(&heading)?;
    Some(text.find("\n#").map_or(text, |end| &text[..end]))
}

/// The items of the numbered lists in `text`. The lines of an item are joined.
pub(crate) fn numbered_items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let begins = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if begins {
            items.push(line.to_owned());
            inside = true;
        } else if line.trim().is_empty() {
            inside = false;
        } else if inside && let Some(item) = items.last_mut() {
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    items
}

/// The texts between backticks.
pub(crate) fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn a_table_ends_where_its_lines_end() {
    let document = "| a | b |\n|---|---|\n| `x/` | 1 |\n\n| other |\n";
    assert_eq!(table(document, &["a", "b"]), Some(vec![vec!["`x/`".to_owned(), "1".to_owned()]]));
    assert_eq!(table(document, &["b", "a"]), None);
}

#[test]
fn the_lines_of_a_numbered_item_are_joined() {
    let document = "# T\n\n## The way\n1. first `a`\n   goes on `b`\n2. second\n\nafter\n\n## Next\n3. no\n";
    let items = numbered_items(section(document, "## The way").unwrap());
    assert_eq!(items, ["1. first `a` goes on `b`", "2. second"]);
    assert_eq!(code_spans(&items[0]).collect::<Vec<_>>(), ["a", "b"]);
}
