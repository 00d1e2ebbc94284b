//! The words of the repository: forbidden words, names of files, and the terms of the glossary.

use std::collections::BTreeSet;

use crate::{markdown, repository, tokens::tokens};

/// Words that the style forbids, because they do not name the person or the program that acts. Each
/// is cut in two, so that this file does not hold it.
const FORBIDDEN_WORDS: [[&str; 2]; 4] = [["some", "body"], ["who", "ever"], ["no", "body"], ["any", "body"]];

/// Pairs of words that the style forbids. Say `revoke`, `reclaim` or `notify` instead.
const FORBIDDEN_PAIRS: [[&str; 2]; 5] =
    [["taken", "back"], ["take", "back"], ["takes", "back"], ["took", "back"], ["told", "of"]];

/// Words that no name of a code file may have, because a file is named after the noun that it
/// holds.
const NOT_NOUNS: [&str; 13] = [
    "told", "untold", "said", "taken", "given", "known", "shown", "again", "look", "standing", "who",
    "which", "about",
];

const MOST_TERMS: usize = 60;

const CODE: [&str; 6] = ["rs", "js", "mjs", "ts", "lua", "sh"];
/// The last one is for files such as `Dockerfile`, which have no extension.
const TEXT: [&str; 9] = ["toml", "yml", "yaml", "html", "css", "md", "conf", "template", ""];

/// Files and folders with text that is not ours, or that a fuzzer made.
const EXCLUDED: [&str; 5] =
    ["LICENSE", "clients/js/LICENSE", "fuzz/seeds/", "fuzz/corpus/", "fuzz/artifacts/"];

fn files_with_extension(extensions: &[&str]) -> Vec<String> {
    let mut files = repository::files_below("");
    files.retain(|file| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        extensions.contains(&extension) && !EXCLUDED.iter().any(|excluded| file.starts_with(excluded))
    });
    files
}

#[test]
fn no_file_holds_a_forbidden_word() {
    let mut places = Vec::new();
    for file in files_with_extension(&[&CODE[..], &TEXT[..]].concat()) {
        places.extend(
            forbidden(&file).into_iter().map(|(_, found)| format!("{file}: rename the file: {found}")),
        );
        let text = repository::read(&file);
        places.extend(forbidden(&text).into_iter().map(|(line, found)| format!("{file}:{line}: {found}")));
    }
    println!("{} forbidden words", places.len());
    assert!(
        places.is_empty(),
        "\n{}\nName the peer, the node or the operator that acts, and use the terms of docs/GLOSSARY.md.",
        places.join("\n")
    );
}

/// Only Rust files would not compile with such a line.
#[test]
fn no_file_holds_an_unresolved_conflict() {
    let marks = ["<".repeat(7) + " ", ">".repeat(7) + " "];
    for file in files_with_extension(&[&CODE[..], &TEXT[..]].concat()) {
        let text = repository::read(&file);
        let conflict = text.lines().position(|line| marks.iter().any(|mark| line.starts_with(mark)));
        assert_eq!(conflict.map(|line| line + 1), None, "{file} has an unresolved conflict at this line");
    }
}

#[test]
fn every_decision_has_a_number_of_its_own() {
    let files = repository::files_below("docs/decisions");
    let mut numbers: Vec<&str> = files.iter().filter_map(|file| file.rsplit('/').next()?.get(..4)).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), files.len(), "two decisions have one number: {files:?}");
}

#[test]
fn every_code_file_is_named_after_a_noun() {
    let mut files = files_with_extension(&CODE);
    files.retain(|file| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let stem = name.split('.').next().unwrap_or(name);
        stem.split(['_', '-']).any(|word| NOT_NOUNS.contains(&word))
    });
    println!("{} files with names that are no nouns", files.len());
    assert!(
        files.is_empty(),
        "\nRename each file after the type or the noun that it holds:\n{}",
        files.join("\n")
    );
}

#[test]
fn the_glossary_is_short() {
    let count = terms().len();
    println!("{count} terms in docs/GLOSSARY.md");
    assert!(count > 0, "docs/GLOSSARY.md needs tables with the header `| term | meaning |`");
    assert!(
        count <= MOST_TERMS,
        "docs/GLOSSARY.md has {count} terms; remove some, so that {MOST_TERMS} are left"
    );
}

#[test]
fn every_term_of_the_glossary_is_in_use() {
    let mut used = phrases(&repository::read("docs/PROTOCOL.md"));
    for file in files_with_extension(&["rs"]) {
        used.extend(phrases(&code_without_comments(&repository::read(&file))));
    }
    let is_used = |term: &String| used.contains(term) || used.contains(&plural(term));
    let unused: Vec<_> = terms().into_iter().filter(|term| !is_used(term)).collect();
    println!("{} unused terms in docs/GLOSSARY.md", unused.len());
    assert!(
        unused.is_empty(),
        "\nNeither the Rust code (without comments) nor docs/PROTOCOL.md uses these terms. Remove them from \
         docs/GLOSSARY.md, or name things in the code by them: {}",
        unused.join(", ")
    );
}

/// The terms of the glossary. A row may have several, separated by commas.
fn terms() -> Vec<String> {
    let rows = markdown::tables(&repository::read("docs/GLOSSARY.md"), &["term", "meaning"]);
    rows.iter().flat_map(|cells| cells[0].split(", ").map(str::to_lowercase)).collect()
}

fn code_without_comments(code: &str) -> String {
    let tokens: Vec<_> = tokens(code).iter().map(|token| token.text).collect();
    tokens.join(" . ")
}

/// All sequences of one, two or three words in a text.
fn phrases(text: &str) -> BTreeSet<String> {
    let words = words(text);
    (1..=3).flat_map(|length| words.windows(length).filter(|words| are_together(words)).map(phrase)).collect()
}

fn plural(term: &str) -> String {
    term.strip_suffix('y').map_or_else(|| format!("{term}s"), |stem| format!("{stem}ies"))
}

fn phrase(words: &[Word<'_>]) -> String {
    words.iter().map(|word| word.text.to_lowercase()).collect::<Vec<_>>().join(" ")
}

/// The forbidden words in a text, each with its line.
fn forbidden(text: &str) -> Vec<(usize, String)> {
    let words = words(text);
    let singles =
        words.windows(1).filter(|word| FORBIDDEN_WORDS.iter().any(|parts| phrase(word) == parts.concat()));
    let pairs = words.windows(2).filter(|pair| are_together(pair) && is_forbidden_pair(pair));
    let mut found: Vec<_> = singles.chain(pairs).map(|words| (words[0].line, phrase(words))).collect();
    found.sort();
    found
}

fn is_forbidden_pair(pair: &[Word<'_>]) -> bool {
    FORBIDDEN_PAIRS.iter().any(|parts| phrase(pair) == parts.join(" "))
}

/// Letters and digits that belong together. `taskCount`, `task_count` and `TaskCount` have two
/// words each.
struct Word<'a> {
    text: &'a str,
    line: usize,
    /// The text between the word before and this one.
    gap: &'a str,
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(begin) = rest.find(|c: char| c.is_alphanumeric()) {
        let (gap, after) = rest.split_at(begin);
        // The letter in `\n` belongs to no word.
        let escape = if gap.ends_with('\\') { after.chars().next().map_or(0, char::len_utf8) } else { 0 };
        let (gap, after) = (&rest[..begin + escape], &after[escape..]);
        line += gap.matches('\n').count();
        let length = word_length(after);
        if length > 0 {
            words.push(Word { text: &after[..length], line, gap });
        }
        rest = &after[length..];
    }
    words
}

/// A word ends before a sign, and before a capital letter behind a small one.
fn word_length(text: &str) -> usize {
    let mut was_small = false;
    let end = text.find(|c: char| {
        let ends = !c.is_alphanumeric() || c.is_uppercase() && was_small;
        was_small = c.is_lowercase();
        ends
    });
    end.unwrap_or(text.len())
}

/// Are the words parts of one identifier, or of one sentence, which may go on in the next line of a
/// comment?
fn are_together(words: &[Word<'_>]) -> bool {
    words[1..].iter().all(|word| {
        let marks: &[_] =
            if word.gap.contains('\n') { &['/', '!', '*', '#', '-', '>', '\\', '|'] } else { &['_', '-'] };
        word.gap.chars().all(|c| c.is_whitespace() || marks.contains(&c))
    })
}

#[test]
fn forbidden_words_are_found_in_every_spelling() {
    let pair = FORBIDDEN_PAIRS[0];
    let [taken, back] = pair;
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let single = FORBIDDEN_WORDS[0].concat();
    for text in [
        single.clone(),
        format!("({}_else)", single.to_uppercase()),
        format!("{}Else", capital(&single)),
        format!("\\n{single}"),
        pair.join(" "),
        pair.join("_").to_uppercase(),
        format!("is_{taken}{}", capital(back)),
        format!("{}{}", capital(taken), capital(back)),
        format!("/// was {taken}\n    /// {back}."),
        format!("-- {taken}\n-- {back}"),
        format!("# {}\n# {back}", capital(taken)),
    ] {
        assert_eq!(forbidden(&text).len(), 1, "{text}");
    }
    let text = format!("\n\n{single} told\n * of");
    assert_eq!(forbidden(&text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn words_that_only_look_like_forbidden_ones_are_not_found() {
    let [taken, back] = FORBIDDEN_PAIRS[0];
    for text in [
        format!("{taken}. {back}"),
        format!("{taken}, {back}"),
        format!("mis{taken} {back}"),
        format!("{taken} {back}log"),
    ] {
        assert!(forbidden(&text).is_empty(), "{text}");
    }
}
