//! Reads one Rust file: the modules in it, the names that they define, and what they import.
//!
//! Code below `#[cfg(test)]` is skipped. This reader only collects imports;
//! [`crate_tree`](crate::crate_tree) finds out which module each of them means.

use std::collections::BTreeSet;

use crate::tokens::{Token, tokens};

/// The keywords before the name of an item.
const ITEM_KEYWORDS: [&str; 10] =
    ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "mod", "macro_rules"];

/// A module without its children: a whole file, or an inline `mod name { … }`.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// The inline modules around this one, and its own name. Empty for the module that is the file
    /// itself.
    pub(crate) inline_path: Vec<String>,
    /// The children that have files of their own: `mod name;`.
    pub(crate) file_children: Vec<String>,
    /// The items that the module defines. Inline modules are among them.
    pub(crate) items: BTreeSet<String>,
    /// The names that `use` declarations bring into the module.
    pub(crate) bindings: Vec<Binding>,
    /// Every path in the module, in `use` declarations and in other code.
    pub(crate) paths: Vec<Path>,
}

/// A path such as `crate::room::decide`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Does the path belong to a `use` declaration?
    pub(crate) is_in_use: bool,
}

impl Path {
    /// Does the path say where it leads, without the help of a `use` declaration?
    pub(crate) fn is_complete(&self) -> bool {
        self.is_in_use || matches!(self.segments[0].as_str(), "crate" | "self" | "super")
    }
}

/// A name that a `use` declaration brings into its module.
#[derive(Debug)]
pub(crate) struct Binding {
    /// `None` for all names of a module: `use path::*`.
    pub(crate) name: Option<String>,
    pub(crate) path: Path,
}

/// The modules of a file. The first is the file itself, the others are inline modules.
pub(crate) fn read_modules(code: &str) -> Vec<Module> {
    let tokens = tokens(code);
    let mut reader =
        Reader { tokens: &tokens, at: 0, modules: vec![Module::default()], scopes: vec![Scope::Module(0)] };
    while reader.at < tokens.len() {
        reader.read_next();
    }
    reader.modules
}

/// The part of the code that a `{` begins.
#[derive(Clone, Copy)]
enum Scope {
    /// A module, by its index.
    Module(usize),
    /// Anything else: the body of a function, a block, a list of fields.
    Block,
}

struct Reader<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    modules: Vec<Module>,
    scopes: Vec<Scope>,
}

impl Reader<'_> {
    /// The text of the token that lies `distance` after the current one; empty behind the last
    /// token.
    fn peek(&self, distance: usize) -> &str {
        self.tokens.get(self.at + distance).map_or("", |token| token.text)
    }

    fn before(&self, distance: usize) -> &str {
        self.at.checked_sub(distance).map_or("", |at| self.tokens[at].text)
    }

    fn is_word(&self, distance: usize) -> bool {
        self.tokens.get(self.at + distance).is_some_and(Token::is_word)
    }

    fn module(&mut self) -> &mut Module {
        let innermost = self.scopes.iter().rev().find_map(|scope| match scope {
            Scope::Module(index) => Some(*index),
            Scope::Block => None,
        });
        &mut self.modules[innermost.unwrap_or(0)]
    }

    fn is_in_block(&self) -> bool {
        matches!(self.scopes.last(), Some(Scope::Block))
    }

    fn read_next(&mut self) {
        match self.peek(0) {
            "#" if self.peek(1) == "[" => self.read_attribute(),
            // `impl Trait + use<'a>` imports nothing.
            "use" if self.peek(1) != "<" => self.read_use(),
            "mod" => self.read_module_item(),
            "{" => self.open(Scope::Block),
            "}" => self.close(),
            keyword if ITEM_KEYWORDS.contains(&keyword) => self.read_item(),
            _ if self.is_word(0) && self.peek(1) == "::" && self.before(1) != "::" => self.read_path(),
            _ => self.at += 1,
        }
    }

    fn open(&mut self, scope: Scope) {
        self.scopes.push(scope);
        self.at += 1;
    }

    fn close(&mut self) {
        if self.scopes.len() > 1 {
            self.scopes.pop();
        }
        self.at += 1;
    }

    /// Skips code for tests. Other attributes are read as code, because they can hold paths.
    fn read_attribute(&mut self) {
        let begin = self.at;
        self.at += 1;
        self.skip_group();
        let attribute: Vec<_> = self.tokens[begin..self.at].iter().map(|token| token.text).collect();
        let is_for_tests =
            attribute[2] == "cfg" && attribute.contains(&"test") && !attribute.contains(&"not");
        if is_for_tests {
            self.skip_item();
        } else {
            self.at = begin + 1;
        }
    }

    /// Skips from an opening bracket to the token behind its closing bracket.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips an item, a field, a variant or a statement, together with its attributes.
    fn skip_item(&mut self) {
        let mut is_item = false;
        let mut is_use = false;
        while self.at < self.tokens.len() {
            match self.peek(0) {
                ";" => return self.at += 1,
                // A field or a variant ends here; in an item a comma separates generic parameters.
                "," if !is_item => return self.at += 1,
                "}" | ")" | "]" => return,
                "{" => {
                    self.skip_group();
                    if !is_use {
                        return;
                    }
                }
                "(" | "[" => self.skip_group(),
                word => {
                    is_use |= word == "use";
                    is_item |= is_use || word == "impl" || ITEM_KEYWORDS.contains(&word);
                    self.at += 1;
                }
            }
        }
    }

    /// `mod name;` or `mod name {`. In a macro the name may be `$name`.
    fn read_module_item(&mut self) {
        self.at += if self.peek(1) == "$" { 2 } else { 1 };
        let name = self.peek(0).to_owned();
        match self.peek(1) {
            ";" => self.module().file_children.push(name),
            "{" => {
                self.module().items.insert(name.clone());
                let mut inline_path = self.module().inline_path.clone();
                inline_path.push(name);
                let index = self.inline_module(inline_path);
                self.at += 1;
                return self.open(Scope::Module(index));
            }
            _ => {}
        }
        self.at += 1;
    }

    /// The index of an inline module. Two that have one name, for two platforms, count as one.
    fn inline_module(&mut self, inline_path: Vec<String>) -> usize {
        let known = self.modules.iter().position(|module| module.inline_path == inline_path);
        known.unwrap_or_else(|| {
            self.modules.push(Module { inline_path, ..Module::default() });
            self.modules.len() - 1
        })
    }

    fn read_item(&mut self) {
        self.at += if self.peek(1) == "!" { 2 } else { 1 };
        if self.is_word(0) && !self.is_in_block() {
            let name = self.peek(0).to_owned();
            self.module().items.insert(name);
        }
    }

    fn read_path(&mut self) {
        let is_visibility = self.before(1) == "in" && self.before(2) == "(" && self.before(3) == "pub";
        let line = self.tokens[self.at].line;
        let mut segments = vec![self.peek(0).to_owned()];
        while self.peek(1) == "::" && self.is_word(2) {
            segments.push(self.peek(2).to_owned());
            self.at += 2;
        }
        self.at += 1;
        if segments.len() > 1 && !is_visibility {
            self.module().paths.push(Path { segments, line, is_in_use: false });
        }
    }

    fn read_use(&mut self) {
        self.at += 1;
        let mut bindings = Vec::new();
        self.read_use_tree(&[], &mut bindings);
        let is_in_block = self.is_in_block();
        let module = self.module();
        module.paths.extend(bindings.iter().map(|binding| binding.path.clone()));
        if !is_in_block {
            module.bindings.extend(bindings);
        }
    }

    /// Reads `a::b`, `a::b as c`, `a::*` or `a::{…}`, and stops at the `,`, `}` or `;` behind it.
    fn read_use_tree(&mut self, prefix: &[String], bindings: &mut Vec<Binding>) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut segments = prefix.to_vec();
        let mut name = None;
        loop {
            match self.peek(0) {
                "{" => return self.read_use_list(&segments, bindings),
                "::" => {}
                "*" => name = None,
                "as" => {
                    self.at += 1;
                    name = Some(self.peek(0).to_owned());
                }
                // `room::{self}` names `room`.
                "self" if !prefix.is_empty() => name = prefix.last().cloned(),
                _ if self.is_word(0) => {
                    segments.push(self.peek(0).to_owned());
                    name = segments.last().cloned();
                }
                _ => break,
            }
            self.at += 1;
        }
        if !segments.is_empty() {
            bindings.push(Binding { name, path: Path { segments, line, is_in_use: true } });
        }
    }

    fn read_use_list(&mut self, prefix: &[String], bindings: &mut Vec<Binding>) {
        self.at += 1;
        while !matches!(self.peek(0), "}" | ";" | "") {
            self.read_use_tree(prefix, bindings);
            if self.peek(0) != "}" {
                self.at += 1;
            }
        }
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{Module, read_modules};

    fn paths(module: &Module) -> Vec<String> {
        module.paths.iter().map(|path| format!("{}:{}", path.line, path.segments.join("::"))).collect()
    }

    #[test]
    fn a_use_tree_is_one_path_for_each_name() {
        let [module] = &read_modules("use a::{b, c::{self, D as E}, f::*};\nuse super::g;")[..] else {
            panic!()
        };
        assert_eq!(paths(module), ["1:a::b", "1:a::c", "1:a::c::D", "1:a::f", "2:super::g"]);
        let names: Vec<_> = module.bindings.iter().map(|binding| binding.name.as_deref()).collect();
        assert_eq!(names, [Some("b"), Some("c"), Some("E"), None, Some("g")]);
    }

    #[test]
    fn paths_in_code_are_read_and_those_in_comments_and_strings_are_not() {
        let code =
            "pub(in crate::a) fn f(b: crate::b::B) {\n// crate::c::C\n\"crate::d::D\"; super::e::<T>() }";
        let [module] = &read_modules(code)[..] else { panic!() };
        assert_eq!(paths(module), ["1:crate::b::B", "3:super::e"]);
    }

    #[test]
    fn code_for_tests_is_skipped() {
        let code = "#[cfg(test)] use crate::{a, b};\n#[cfg(all(test, unix))] #[path = \"x\"] mod tests;
            struct S { #[cfg(test)] a: crate::A, b: crate::B }
            #[cfg(test)] fn f<A, B>(x: [u8; 3]) { crate::c(); }
            #[cfg(not(test))] fn g() { crate::d(); }";
        let [module] = &read_modules(code)[..] else { panic!() };
        assert_eq!(paths(module), ["3:crate::B", "5:crate::d"]);
        assert!(module.file_children.is_empty() && module.items.iter().eq(["S", "g"]));
    }

    #[test]
    fn an_inline_module_has_its_own_names_and_a_local_import_binds_none() {
        let code = "mod a;\nmod b { fn g() {} mod c { use super::g; } }\nfn f() { use crate::x; fn h() {} }";
        let [file, b, c] = &read_modules(code)[..] else { panic!() };
        assert_eq!(
            (file.file_children.clone(), paths(file)),
            (vec!["a".to_owned()], vec!["3:crate::x".to_owned()])
        );
        assert!(
            file.bindings.is_empty() && file.items.iter().eq(["b", "f"]) && b.items.iter().eq(["c", "g"])
        );
        assert_eq!((c.inline_path.join("::"), paths(c)), ("b::c".to_owned(), vec!["2:super::g".to_owned()]));
    }
}
