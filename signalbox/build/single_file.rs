//! Joins the modules of the client, or their types, into one file.
//!
//! Each module becomes a scope of its own, so names in different modules cannot collide. Only the
//! forms of `import` and `export` that the client uses are known; any other is an error of the
//! build.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

type Modules = BTreeMap<String, String>;

/// The start of `name = import('./x.js')`, the promise of a module that is loaded later. In the joined
/// file the module is there already.
const LAZY_IMPORT: &str = "= import('";

const HEADER: &str =
    "// The client of Signalbox in one file, made of the modules of clients/js/src. License: Apache-2.0.\n";

/// A module as a function that returns its exports. The modules are in the order of their imports,
/// and the file exports what the entry exports.
pub(crate) fn join_modules(modules: &Modules, entry: &str) -> Result<String, String> {
    let mut joined = HEADER.to_owned();
    for name in sort_by_imports(modules, entry)? {
        let module = &modules[&name];
        if name == entry {
            for (line, source) in re_exports(&name, module)? {
                let _ = writeln!(
                    joined,
                    "export const {{ {} }} = {};",
                    line.replace(" as ", ": "),
                    variable_of(&source)
                );
            }
            continue;
        }
        write_scope(&mut joined, &name, module)?;
    }
    Ok(joined)
}

/// The modules that the entries need, as scopes, without comments. The file imports the names of
/// `elsewhere` from another file that this function made, and exports the modules of its entries.
pub(crate) fn join_for_page(
    modules: &Modules,
    entries: &[&str],
    elsewhere: Option<(&[&str], &str)>,
) -> Result<(String, BTreeSet<String>), String> {
    let mut sorted = Vec::new();
    let variables =
        |names: &[&str]| names.iter().map(|name| variable_of(name)).collect::<Vec<_>>().join(", ");
    let mut joined = String::new();
    if let Some((names, file)) = elsewhere {
        sorted.extend(names.iter().map(|name| (*name).to_owned()));
        let _ = writeln!(joined, "import {{ {} }} from './{file}';", variables(names));
    }
    let first = sorted.len();
    for entry in entries {
        visit(modules, entry, &mut Vec::new(), &mut sorted)?;
    }
    for name in &sorted[first..] {
        write_scope(&mut joined, name, &modules[name])?;
    }
    let _ = writeln!(joined, "export {{ {} }};", variables(entries));
    Ok((without_comments(&joined)?, sorted.drain(first..).collect()))
}

/// A module as a function that returns its exports.
fn write_scope(joined: &mut String, name: &str, module: &str) -> Result<(), String> {
    let mut exports = Vec::new();
    let _ = writeln!(joined, "\n// {name}.js\nconst {} = /* @__PURE__ */ (() => {{", variable_of(name));
    for line in module.lines() {
        if let Some((names, source)) = parse_import(name, line)? {
            let _ =
                writeln!(joined, "const {{ {} }} = {};", names.replace(" as ", ": "), variable_of(&source));
        } else if let Some(declaration) = line.strip_prefix("export ") {
            exports.push(declared_name(name, declaration)?);
            let _ = writeln!(joined, "{declaration}");
        } else if let Some((before, source, behind)) = parse_lazy_import(name, line) {
            let _ = writeln!(joined, "{before}= Promise.resolve({}){behind}", variable_of(&source));
        } else {
            let _ = writeln!(joined, "{line}");
        }
    }
    let _ = writeln!(joined, "return {{ {} }};\n}})();", exports.join(", "));
    Ok(())
}

/// The text without indentation, empty lines, and the comments at the start of a line. A comment in
/// the middle of a line stays.
fn without_comments(text: &str) -> Result<String, String> {
    let mut kept = String::new();
    let mut in_comment = false;
    for line in text.lines() {
        let mut rest = line.trim();
        if rest.matches('`').count() % 2 == 1 {
            return Err(format!("write a template in one line: {line}"));
        }
        while in_comment || rest.starts_with("/*") {
            let end = rest.find("*/");
            in_comment = end.is_none();
            rest = end.map_or("", |end| rest[end + 2..].trim_start());
            if in_comment {
                break;
            }
        }
        if !rest.is_empty() && !rest.starts_with("//") {
            let _ = writeln!(kept, "{rest}");
        }
    }
    Ok(kept)
}

/// The declarations that `tsc` makes for each module, each module as a namespace.
pub(crate) fn join_types(modules: &Modules, entry: &str) -> Result<String, String> {
    let mut joined = HEADER.to_owned();
    for (name, module) in modules {
        if name != entry {
            let _ = writeln!(joined, "\ndeclare namespace {} {{", variable_of(name));
        }
        for line in module.lines().filter(|line| *line != "export {};") {
            let line = replace_type_imports(line);
            if let Some((names, source)) = parse_import(name, &line)? {
                for (own, theirs) in pairs_of(&names) {
                    let _ = writeln!(joined, "import {own} = {}.{theirs};", variable_of(&source));
                }
            } else if let Some((names, source)) = parse_re_export(name, &line)? {
                for (own, theirs) in pairs_of(&names) {
                    let _ = writeln!(joined, "export import {own} = {}.{theirs};", variable_of(&source));
                }
            } else if name == entry {
                let _ = writeln!(joined, "{line}");
            } else {
                let _ = writeln!(
                    joined,
                    "{}",
                    line.replacen("export declare ", "export ", 1).trim_start_matches("declare ")
                );
            }
        }
        if name != entry {
            joined.push_str("}\n");
        }
    }
    Ok(joined)
}

/// The modules that the entry needs, each after those that it imports.
fn sort_by_imports(modules: &Modules, entry: &str) -> Result<Vec<String>, String> {
    let mut sorted = Vec::new();
    visit(modules, entry, &mut Vec::new(), &mut sorted)?;
    Ok(sorted)
}

fn visit(
    modules: &Modules,
    name: &str,
    path: &mut Vec<String>,
    sorted: &mut Vec<String>,
) -> Result<(), String> {
    if sorted.iter().any(|done| done == name) {
        return Ok(());
    }
    path.push(name.to_owned());
    if path.iter().filter(|on_path| *on_path == name).count() > 1 {
        return Err(format!("modules import each other in a circle: {}", path.join(" → ")));
    }
    let module = modules.get(name).ok_or_else(|| format!("{} is missing", path.join(" → ")))?;
    for line in module.lines() {
        let lazy = parse_lazy_import(name, line).map(|(_, source, _)| source);
        let source = match parse_re_export(name, line)? {
            Some((_, source)) => Some(source),
            None => parse_import(name, line)?.map(|(_, source)| source).or(lazy),
        };
        if let Some(source) = source {
            visit(modules, &source, path, sorted)?;
        }
    }
    path.pop();
    sorted.push(name.to_owned());
    Ok(())
}

/// What the entry exports; it contains nothing else.
fn re_exports(name: &str, module: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for line in module.lines() {
        if let Some(re_export) = parse_re_export(name, line)? {
            found.push(re_export);
        } else if !line.is_empty() && !line.starts_with("/*") && !line.starts_with(" *") {
            return Err(format!("{name}: the entry may only export from other modules: {line}"));
        }
    }
    Ok(found)
}

/// The names and the module of `import { A, B as C } from './x.js';`.
fn parse_import(name: &str, line: &str) -> Result<Option<(String, String)>, String> {
    parse_from(name, line, "import ")
}

/// The names and the module of `export { A, B as C } from './x.js';`.
fn parse_re_export(name: &str, line: &str) -> Result<Option<(String, String)>, String> {
    if line.starts_with("export {") { parse_from(name, line, "export ") } else { Ok(None) }
}

fn parse_from(name: &str, line: &str, keyword: &str) -> Result<Option<(String, String)>, String> {
    let Some(rest) = line.strip_prefix(keyword) else { return Ok(None) };
    let parsed = rest.strip_prefix("{ ").and_then(|rest| {
        let (names, rest) = rest.split_once(" } from ")?;
        let path = rest.trim_end_matches(';').trim_matches(['\'', '"']);
        Some((names.to_owned(), resolve(name, path.strip_suffix(".js")?)?))
    });
    parsed
        .map(Some)
        .ok_or_else(|| format!("{name}: write {keyword}{{ … }} from './….js' in one line: {line}"))
}

/// The module that another module imports: `./b` stands in the folder of `name`, and `../call/dom` in a
/// folder beside it.
fn resolve(name: &str, path: &str) -> Option<String> {
    let folder = name.rfind('/').map_or("", |slash| &name[..=slash]);
    path.strip_prefix("./")
        .map(|file| format!("{folder}{file}"))
        .or_else(|| path.strip_prefix("../").map(str::to_owned))
}

/// The module of `= import('./x.js')` in a line, with the text before and behind this form.
fn parse_lazy_import<'a>(name: &str, line: &'a str) -> Option<(&'a str, String, &'a str)> {
    let (before, rest) = line.split_once(LAZY_IMPORT)?;
    let (path, behind) = rest.split_once(".js')")?;
    Some((before, resolve(name, path)?, behind))
}

/// The name that follows `export ` in a module.
fn declared_name(name: &str, declaration: &str) -> Result<String, String> {
    let declaration = declaration.strip_prefix("async ").unwrap_or(declaration);
    let identifier = ["class ", "function ", "const "]
        .iter()
        .find_map(|keyword| declaration.strip_prefix(keyword))
        .and_then(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next());
    match identifier {
        Some(identifier) if !identifier.is_empty() => Ok(identifier.to_owned()),
        _ => Err(format!("{name}: export a class, a function or a const: {declaration}")),
    }
}

/// `A, B as C` as pairs of the name here and the name in the other module.
fn pairs_of(names: &str) -> impl Iterator<Item = (&str, &str)> {
    names.split(", ").map(|name| name.split_once(" as ").map_or((name, name), |(theirs, own)| (own, theirs)))
}

/// `import("./x.js").Name` names a type of another module.
fn replace_type_imports(line: &str) -> String {
    let mut replaced = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("import(") {
        let path = after.split_once(')').map(|(path, behind)| (path.trim_matches(['\'', '"']), behind));
        let source =
            path.and_then(|(path, behind)| Some((path.strip_prefix("./")?.strip_suffix(".js")?, behind)));
        let Some((source, behind)) = source else { break };
        let _ = write!(replaced, "{before}{}", variable_of(source));
        rest = behind;
    }
    replaced + rest
}

/// The variable that stands for a module: `$send_queue`.
fn variable_of(name: &str) -> String {
    format!("${}", name.replace(['-', '/'], "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(texts: &[(&str, &str)]) -> Modules {
        texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn modules_keep_their_scope_and_come_after_their_imports() {
        let joined = join_modules(
            &modules(&[
                ("index", "/** The entry. */\nexport { A as Z } from './a.js';\n"),
                (
                    "a",
                    "import { limit as other } from './two-words.js';\nconst limit = 1;\nexport class A {}\n",
                ),
                ("two-words", "const own = 2;\nexport const limit = own;\nexport async function f() {}\n"),
                ("unused", "export const unused = 1;\n"),
            ]),
            "index",
        )
        .unwrap();
        let parts = [
            "const $two_words = /* @__PURE__ */ (() => {\nconst own = 2;\nconst limit = own;\nasync function f() {}\nreturn { limit, f };",
            "const { limit: other } = $two_words;\nconst limit = 1;\nclass A {}\nreturn { A };",
            "export const { A: Z } = $a;",
        ];
        let places: Vec<_> = parts.iter().map(|part| joined.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {joined}");
        assert!(!joined.contains("unused"), "{joined}");
    }

    #[test]
    fn a_module_that_is_loaded_later_is_in_the_same_file() {
        let texts = modules(&[
            ("index", "export { load } from './a.js';\n"),
            (
                "a",
                "export async function load() {\n  const later = import('./b-c.js').then(({ b }) => b);\n}\n",
            ),
            ("b-c", "export const b = 1;\n"),
        ]);
        let joined = join_modules(&texts, "index").unwrap();
        assert!(joined.contains("const later = Promise.resolve($b_c).then("), "{joined}");
        assert!(joined.find("const $b_c =") < joined.find("const $a ="), "{joined}");
    }

    #[test]
    fn the_files_of_a_page_share_modules_and_have_no_comments() {
        let page = modules(&[
            (
                "start",
                "/** Starts. */\nimport { A } from './client/a.js';\nimport { b } from './b.js';\n\n  /** @type {B} */ (b).run(A); // runs\n",
            ),
            ("b", "/*\n * Two lines.\n */\nexport const b = 1;\n"),
            ("unused", "export const unused = 1;\n"),
        ]);
        let (joined, used) = join_for_page(&page, &["start"], Some((&["client/a"], "client-0.js"))).unwrap();
        assert_eq!(
            joined,
            "import { $client_a } from './client-0.js';\nconst $b = /* @__PURE__ */ (() => {\nconst b = 1;\nreturn { b };\n})();\n\
             const $start = /* @__PURE__ */ (() => {\nconst { A } = $client_a;\nconst { b } = $b;\n(b).run(A); // runs\nreturn {  };\n})();\n\
             export { $start };\n"
        );
        assert_eq!(used, ["b", "start"].map(str::to_owned).into());
        let folders = modules(&[
            ("start", "import { a } from '../texts/a.js';\n"),
            ("texts/a", "import { b } from './b.js';\nexport const a = b;\n"),
            ("texts/b", "export const b = 1;\n"),
        ]);
        let (_, used) = join_for_page(&folders, &["start"], None).unwrap();
        assert_eq!(used, ["start", "texts/a", "texts/b"].map(str::to_owned).into());
        let template = modules(&[("start", "const text = `two\nlines`;\n")]);
        assert!(join_for_page(&template, &["start"], None).unwrap_err().contains("in one line"));
    }

    #[test]
    fn types_of_other_modules_are_found_in_their_namespaces() {
        let joined = join_types(
            &modules(&[
                ("index", "export { A } from './a.js';\nexport type B = import('./two-words.js').B;\nexport {};\n"),
                ("a", "import { B } from './two-words.js';\nexport declare class A extends B<import(\"./two-words.js\").C> {\n}\n"),
            ]),
            "index",
        )
        .unwrap();
        for part in [
            "declare namespace $a {\nimport B = $two_words.B;\nexport class A extends B<$two_words.C> {\n}\n}",
            "export import A = $a.A;\nexport type B = $two_words.B;",
        ] {
            assert!(joined.contains(part), "{part} is missing in {joined}");
        }
    }

    #[test]
    fn a_form_that_is_not_known_is_an_error() {
        for (text, expected) in [
            ("import x from './x.js';", "a: write import"),
            ("import * as x from './x.js';", "a: write import"),
            ("import './x.js';", "a: write import"),
            ("import { x } from 'x';", "a: write import"),
            ("import {\n  x,\n} from './x.js';", "a: write import"),
            ("import { x } from './x.js';", "index → a → x is missing"),
            ("import { a } from './a.js';", "circle: index → a → a"),
            ("export default 1;", "a: export a class"),
            ("export let x = 1;", "a: export a class"),
            ("export * from './x.js';", "a: export a class"),
        ] {
            let error =
                join_modules(&modules(&[("index", "export { a } from './a.js';"), ("a", text)]), "index");
            assert!(error.as_ref().is_err_and(|error| error.contains(expected)), "{text}: {error:?}");
        }
        let error = join_modules(&modules(&[("index", "const own = 1;")]), "index");
        assert!(error.is_err(), "{error:?}");
    }

    #[test]
    fn a_page_uses_modules_of_another_folder() {
        let texts = modules(&[
            ("check", "import { find } from '../call/dom.js';\nfind();\n"),
            ("call/dom", "export const find = () => 1;\n"),
        ]);
        let (joined, names) = join_for_page(&texts, &["check"], None).unwrap();
        assert!(joined.contains("const { find } = $call_dom;"), "{joined}");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["call/dom", "check"]);
    }
}
