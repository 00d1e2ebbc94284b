//! The walkthroughs of ARCHITECTURE.md can be followed in the code, and they are short.
//!
//! A walkthrough is a numbered list below one of the headings in [`WALKTHROUGHS`]. Each step names
//! where it happens, in backticks: `` `signal-service/src/connection/frames.rs: next_frame` ``, or
//! `` `…/append.lua` `` for a script.

use std::collections::BTreeSet;

use crate::{markdown, repository, tokens::tokens};

/// Each heading, and how many different files its list may name.
const WALKTHROUGHS: [(&str, usize); 3] =
    [("## The way of an offer", 21), ("## The way of a join", 27), ("## The way of POST /auth/token", 15)];

#[test]
fn every_walkthrough_names_files_and_functions_that_exist() {
    let mut problems = Vec::new();
    for (heading, _) in WALKTHROUGHS {
        let steps = steps(heading);
        if steps.is_empty() {
            problems.push(format!(
                "ARCHITECTURE.md needs the heading `{heading}` with a numbered list below it."
            ));
        }
        for step in steps {
            let places: Vec<_> = places(&step).collect();
            if places.is_empty() {
                problems.push(format!("{heading}: name the file and the function of this step: {step}"));
            }
            let wrong = places.into_iter().filter_map(|place| problem_with(place, &repository::try_read));
            problems.extend(wrong.map(|problem| format!("{heading}: {problem}")));
        }
    }
    assert!(problems.is_empty(), "\nCorrect ARCHITECTURE.md:\n- {}", problems.join("\n- "));
}

#[test]
fn every_walkthrough_goes_through_few_files() {
    let mut problems = Vec::new();
    for (heading, most) in WALKTHROUGHS {
        let steps = steps(heading);
        let files: BTreeSet<_> = steps.iter().flat_map(|step| places(step)).map(|place| place.file).collect();
        println!("{heading}: {} files", files.len());
        if files.len() > most {
            let files: Vec<_> = files.iter().copied().collect();
            problems.push(format!(
                "{heading} names {} files instead of {most}: {}",
                files.len(),
                files.join(", ")
            ));
        }
    }
    assert!(
        problems.is_empty(),
        "\nA reader has to open too many files. Bring together in the code what belongs together:\n- {}",
        problems.join("\n- ")
    );
}

fn steps(heading: &str) -> Vec<String> {
    let document = repository::read("ARCHITECTURE.md");
    markdown::section(&document, heading).map(markdown::numbered_items).unwrap_or_default()
}

/// A file, and a function in it.
struct Place<'a> {
    file: &'a str,
    function: Option<&'a str>,
}

fn places(step: &str) -> impl Iterator<Item = Place<'_>> {
    markdown::code_spans(step).filter_map(|span| {
        let (file, function) = match span.split_once(": ") {
            Some((file, function)) => (file, Some(function)),
            None => (span, None),
        };
        (file.ends_with(".rs") || file.ends_with(".lua")).then_some(Place { file, function })
    })
}

fn problem_with(place: Place<'_>, read: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let Place { file, function } = place;
    let Some(code) = read(file) else {
        return Some(format!(
            "the file `{file}` does not exist; write its path from the root of the repository"
        ));
    };
    let is_rust = file.ends_with(".rs");
    match function {
        None if is_rust => Some(format!("name the function too: `{file}: function`")),
        Some(function) if is_rust && !defines(&code, function) => {
            Some(format!("the file `{file}` does not define `fn {function}`"))
        }
        _ => None,
    }
}

fn defines(code: &str, function: &str) -> bool {
    tokens(code).windows(2).any(|pair| pair[0].text == "fn" && pair[1].text == function)
}

#[test]
fn a_place_is_wrong_if_its_file_or_its_function_is_missing() {
    let read = |path: &str| (path != "c.rs").then(|| "// fn comment()\nasync fn run<T>() {}".to_owned());
    let step = "1. `a.rs: run` calls `a.rs: comment` and `b.lua`, then `c.rs: run`. `a.rs` lacks a function. \
                `x` is no file.";
    let problems: Vec<_> = places(step).filter_map(|place| problem_with(place, &read)).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems[0].contains("`fn comment`")
            && problems[1].contains("`c.rs`")
            && problems[2].contains("`a.rs: function`")
    );
}
