//! Which folder may import which: ARCHITECTURE.md, the manifests and the code say the same.
//!
//! The first table of ARCHITECTURE.md has a row for each package. Its last cell lists folders in
//! backticks, separated by commas, or says `nothing`:
//!
//! ```text
//! | folder | owns | may import |
//! |---|---|---|
//! | `shared/rooms` | the rules of a room | `shared/protocol`, `shared/redis` |
//! | `shared/protocol` | the messages | nothing |
//! ```
//!
//! The table is about the product: it leaves out dev-dependencies, unit tests and integration
//! tests. Rows of other folders, such as `deploy`, only have to name folders that exist.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    crate_tree::CrateTree,
    markdown, repository,
    workspace::{self, Package},
};

const HEADER: [&str; 3] = ["folder", "owns", "may import"];

type Folders = BTreeSet<String>;

/// Imported folders, each with the places in the code as `file:line`.
type Places = BTreeMap<String, Vec<String>>;

#[test]
fn every_package_has_a_row_in_the_architecture() {
    let rows = rows();
    let folders = workspace::packages().into_iter().map(|package| package.folder);
    let missing: Vec<_> = folders.filter(|folder| !rows.contains_key(folder)).collect();
    assert!(
        missing.is_empty(),
        "Add a row for each of these folders to the first table of ARCHITECTURE.md: {missing:?}"
    );
}

#[test]
fn every_row_of_the_architecture_names_folders_that_exist() {
    let rows = rows();
    let named: BTreeSet<_> =
        rows.iter().flat_map(|(folder, allowed)| allowed.iter().chain([folder])).collect();
    let missing: Vec<_> = named.into_iter().filter(|folder| !repository::exists(folder)).collect();
    assert!(
        missing.is_empty(),
        "The first table of ARCHITECTURE.md names folders that do not exist: {missing:?}"
    );
}

#[test]
fn every_folder_imports_what_its_row_allows_and_nothing_else() {
    let packages = workspace::packages();
    let rows = rows();
    let mut problems = Vec::new();
    for package in &packages {
        let allowed = rows.get(&package.folder).cloned().unwrap_or_default();
        let in_manifest = manifest_imports(package, &packages);
        let in_code = code_imports(package, &packages);
        println!("{} imports {}", package.folder, in_code.keys().cloned().collect::<Vec<_>>().join(", "));
        problems.extend(differences(&package.folder, &allowed, &in_manifest, &in_code));
    }
    assert!(
        problems.is_empty(),
        "\nThe rows are those of the first table of ARCHITECTURE.md.\n- {}",
        problems.join("\n- ")
    );
}

/// The problems of a folder whose row, manifest and code differ.
fn differences(folder: &str, allowed: &Folders, in_manifest: &Folders, in_code: &Places) -> Vec<String> {
    let mut problems = Vec::new();
    for (other, places) in in_code.iter().filter(|(other, _)| !allowed.contains(*other)) {
        let first: Vec<_> = places.iter().take(5).map(String::as_str).collect();
        problems.push(format!(
            "`{folder}` imports `{other}`, and its row does not allow it. Remove the imports, or add \
             `{other}` to the row. There are {}, the first in {}",
            places.len(),
            first.join(", ")
        ));
    }
    for other in in_manifest.iter().filter(|other| !in_code.contains_key(*other)) {
        problems.push(format!(
            "{folder}/Cargo.toml depends on `{other}`, and no code in `{folder}` imports it. Remove \
             the dependency."
        ));
    }
    for other in allowed.iter().filter(|other| !in_code.contains_key(*other)) {
        problems.push(format!(
            "The row of `{folder}` allows `{other}`, and no code in `{folder}` imports it. Remove \
             `{other}` from the row."
        ));
    }
    problems
}

/// Each folder of ARCHITECTURE.md with the folders that it may import.
fn rows() -> BTreeMap<String, Folders> {
    let rows = markdown::table(&repository::read("ARCHITECTURE.md"), &HEADER);
    let rows = rows.expect("ARCHITECTURE.md needs a table with the header `| folder | owns | may import |`");
    let (good, bad): (Vec<_>, Vec<_>) = rows.iter().map(|cells| read_row(cells)).partition(Result::is_ok);
    let problems: Vec<_> = bad.into_iter().filter_map(Result::err).collect();
    assert!(
        problems.is_empty(),
        "\nCorrect the first table of ARCHITECTURE.md:\n- {}",
        problems.join("\n- ")
    );
    good.into_iter().flatten().collect()
}

fn read_row(cells: &[String]) -> Result<(String, Folders), String> {
    let [folder, _, may_import] = cells else {
        return Err(format!("write three cells instead of {}: {}", cells.len(), cells.join(" | ")));
    };
    let folder = read_folder(folder).ok_or(format!("write a folder in backticks instead of: {folder}"))?;
    let allowed = match may_import.as_str() {
        "nothing" => Some(BTreeSet::new()),
        list => list.split(", ").map(read_folder).collect(),
    };
    let advice = "write `nothing`, or folders in backticks with commas between them, instead of:";
    Ok((folder.clone(), allowed.ok_or(format!("row of `{folder}`: {advice} {may_import}"))?))
}

/// `` `shared/rooms` `` or `` `shared/rooms/` ``.
fn read_folder(cell: &str) -> Option<String> {
    let name = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!name.contains('`')).then(|| name.trim_end_matches('/').to_owned())
}

/// The folders of the packages that a manifest depends on.
fn manifest_imports(package: &Package, packages: &[Package]) -> Folders {
    let others = packages.iter().filter(|other| package.dependencies.contains(&other.name));
    others.map(|other| other.folder.clone()).collect()
}

/// The folders of the packages that the code of a package names.
fn code_imports(package: &Package, packages: &[Package]) -> Places {
    // A binary names the library of its own package, which is no import.
    let others = packages.iter().filter(|other| other.folder != package.folder);
    let folders: BTreeMap<_, _> = others.map(|other| (other.crate_name(), &other.folder)).collect();
    let mut imports = Places::new();
    for root in &package.product_roots {
        for (word, place) in CrateTree::read(root, &repository::try_read).first_words() {
            let Some(folder) = folders.get(word) else { continue };
            let places = imports.entry((*folder).clone()).or_default();
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    imports
}

fn folders(names: &[&str]) -> Folders {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_row_lists_folders_in_backticks_or_says_nothing() {
    let read = |cells: [&str; 3]| read_row(&cells.map(str::to_owned));
    assert_eq!(read(["`a/`", "x", "`b`, `c/d`"]), Ok(("a".to_owned(), folders(&["b", "c/d"]))));
    assert_eq!(read(["`a`", "x", "nothing"]), Ok(("a".to_owned(), folders(&[]))));
    for wrong in [["a", "x", "nothing"], ["`a`", "x", "all"], ["`a`", "x", ""], ["`a`", "x", "`b` and `c`"]] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn every_difference_of_row_manifest_and_code_is_a_problem() {
    let (none, b) = (folders(&[]), folders(&["b"]));
    let (no_code, code) =
        (Places::new(), Places::from([("b".to_owned(), vec!["a/src/lib.rs:1".to_owned()])]));
    assert!(differences("a", &b, &b, &code).is_empty());
    for (allowed, in_manifest, in_code, problem) in [
        (&none, &b, &code, "`a` imports `b`, and its row does not allow it."),
        (&none, &b, &no_code, "a/Cargo.toml depends on `b`, and no code"),
        (&b, &none, &no_code, "The row of `a` allows `b`, and no code"),
    ] {
        let problems = differences("a", allowed, in_manifest, in_code);
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problems:?}");
    }
}
